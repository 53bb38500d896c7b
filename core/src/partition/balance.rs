//! Which partitions are split and which end: pure, from figures alone.
//!
//! After LIRE (Xu et al., SPFresh, SOSP 2023): a partition that grew beyond a bound is split, one that shrank below another ends and
//! its rows go to those nearest to them. What is done waits until it is worth a segment, since each row of it is written anew.

use std::collections::BTreeSet;

/// Partitions of `partition_rows` that a memory has before their size begins to grow with it.
const SMALL: u64 = 320;

/// How many rows a partition should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) target: u64,
    /// One with fewer ends.
    pub(crate) least: u64,
    /// One with more is split.
    pub(crate) most: u64,
}

impl Bounds {
    /// The bounds for so many rows in all.
    ///
    /// A search ranks all partitions and then looks at the rows of a few. Both grow with the square root of the number of rows if
    /// partitions do: `partition_rows` is right for the first 320 of them, and for four times as many rows each holds twice as many.
    pub(crate) fn of(rows: u64, partition_rows: usize) -> Self {
        let least = partition_rows as f64;
        let target = least.max((rows as f64 * least / SMALL as f64).sqrt()) as u64;
        Self {
            target,
            least: (target / 4).max(1),
            most: target * 2,
        }
    }
}

/// What the choice needs to know of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) number: u32,
    /// Its live rows, as far as they may be moved.
    pub(crate) rows: u64,
    /// Live rows that must stay, since their segment cannot be read or written anew.
    pub(crate) fixed: u64,
    /// Live rows that it had when it was made or looked at last, where that is known.
    pub(crate) before: Option<u64>,
    /// Whether new rows go elsewhere already.
    pub(crate) retired: bool,
}

impl Cell {
    /// Whether it has grown since it was last looked at: what could not be split once is not tried at every turn.
    fn grew(&self) -> bool {
        self.before.is_none_or(|b| self.rows * 8 > b * 9)
    }

    fn shrank(&self) -> bool {
        self.rows + self.fixed == 0 || self.before.is_none_or(|b| self.rows * 8 < b * 7)
    }
}

/// How much there is to be done before anything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Everything that is out of bounds is put in order.
    Now,
    /// Only what is worth a step: see [`choose`]. Holds the points of the memory, hot ones included.
    WhenWorthIt { points: u64 },
}

/// What one step does to the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Partitions to split, and into how many parts.
    pub(crate) split: Vec<(u32, usize)>,
    /// Partitions that end, or have ended and still hold rows.
    pub(crate) leave: Vec<u32>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.split.is_empty() && self.leave.is_empty()
    }
}

/// The next step, of about `room` rows. `nearest` names the partition nearest to one, other than those given.
///
/// When it is worth it: partitions beyond their bound are split when one of them has twice as many rows as that, or when together they
/// hold a fourth of all rows or half a step's worth; small ones end when on the average they are too small even for all points.
pub(crate) fn choose(
    cells: &[Cell],
    bounds: Bounds,
    room: u64,
    urgency: Urgency,
    nearest: impl Fn(u32, &BTreeSet<u32>) -> Option<u32>,
) -> Plan {
    let mut plan = Plan::default();
    let room = room.max(1);
    let mut taken = 0;
    let mut takes = |rows: u64| {
        let fits = taken == 0 || taken + rows <= room;
        taken += if fits { rows } else { 0 };
        fits
    };
    let active = || cells.iter().filter(|c| !c.retired);

    let stray: Vec<&Cell> = (cells.iter())
        .filter(|c| c.retired && c.rows > 0 && c.shrank())
        .collect();
    let strayed: u64 = stray.iter().map(|c| c.rows).sum();
    if urgency == Urgency::Now || strayed >= bounds.target {
        let fit = stray.into_iter().filter(|c| takes(c.rows));
        plan.leave.extend(fit.map(|c| c.number));
    }

    let mut large: Vec<&Cell> = active()
        .filter(|c| c.rows > bounds.most && c.grew())
        .collect();
    large.sort_unstable_by_key(|c| (std::cmp::Reverse(c.rows), c.number));
    let all: u64 = cells.iter().map(|c| c.rows).sum();
    let in_large: u64 = large.iter().map(|c| c.rows).sum();
    let largest = large.first().map_or(0, |c| c.rows);
    let worth = match urgency {
        Urgency::Now => true,
        Urgency::WhenWorthIt { .. } => {
            largest > bounds.most * 2 || in_large * 4 >= all || in_large * 2 >= room
        }
    };
    if worth {
        let fit = large.into_iter().filter(|c| takes(c.rows));
        let parts = |rows: u64| rows.div_ceil(bounds.target).clamp(2, 64) as usize;
        plan.split.extend(fit.map(|c| (c.number, parts(c.rows))));
    }

    let crowd = active().count() as u64;
    let worth = match urgency {
        Urgency::Now => true,
        Urgency::WhenWorthIt { points } => bounds.least * crowd > points,
    };
    if worth {
        let mut small: Vec<&Cell> = active()
            .filter(|c| c.rows + c.fixed < bounds.least && c.shrank())
            .collect();
        small.sort_unstable_by_key(|c| (c.rows, c.number));
        let mut leaving: BTreeSet<u32> = plan.split.iter().map(|(p, _)| *p).collect();
        // Where rows go must stay, or all small ones of a region would send theirs far away at once.
        let mut staying = BTreeSet::new();
        for cell in small.into_iter().filter(|c| !c.retired) {
            if staying.contains(&cell.number) {
                continue;
            }
            leaving.insert(cell.number);
            let heir = nearest(cell.number, &leaving);
            match heir {
                Some(heir) if takes(cell.rows) => {
                    staying.insert(heir);
                    plan.leave.push(cell.number);
                }
                _ => {
                    leaving.remove(&cell.number);
                }
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(number: u32, rows: u64) -> Cell {
        Cell {
            number,
            rows,
            fixed: 0,
            before: None,
            retired: false,
        }
    }

    /// Partitions along a line.
    fn beside(cells: &[Cell]) -> impl Fn(u32, &BTreeSet<u32>) -> Option<u32> {
        let numbers: Vec<u32> = cells
            .iter()
            .filter(|c| !c.retired)
            .map(|c| c.number)
            .collect();
        move |p, not| {
            let others = numbers.iter().filter(|q| **q != p && !not.contains(q));
            others.min_by_key(|q| q.abs_diff(p)).copied()
        }
    }

    fn now(cells: &[Cell], room: u64) -> Plan {
        choose(
            cells,
            Bounds::of(1_000, 64),
            room,
            Urgency::Now,
            beside(cells),
        )
    }

    #[test]
    fn partitions_grow_with_the_square_root_once_there_are_many() {
        assert_eq!(Bounds::of(0, 64).target, 64);
        assert_eq!(Bounds::of(20_000, 64).target, 64);
        let (a, b) = (Bounds::of(1_000_000, 64), Bounds::of(4_000_000, 64));
        assert!(a.target.abs_diff(447) <= 1, "{a:?}");
        assert!(b.target.abs_diff(a.target * 2) <= 2, "{b:?}");
    }

    #[test]
    fn large_ones_are_split_the_largest_first_as_far_as_a_step_goes() {
        let cells = [cell(0, 60), cell(1, 200), cell(2, 129), cell(3, 700)];
        assert_eq!(now(&cells, 10_000).split, [(3, 11), (1, 4), (2, 3)]);
        assert_eq!(now(&cells, 800).split, [(3, 11)]);
        assert_eq!(now(&cells, 10).split, [(3, 11)], "one in any case");
    }

    #[test]
    fn small_ones_end_but_never_two_that_would_take_each_others_rows() {
        let cells: Vec<Cell> = (0..4).map(|i| cell(i, 5)).collect();
        let plan = now(&cells, 1_000);
        assert!(plan.split.is_empty());
        assert_eq!(
            plan.leave,
            [0, 2, 3],
            "all but the one that takes their rows"
        );
        assert!(now(&cells[..1], 1_000).is_empty(), "the last one stays");
        let empty = [cell(0, 0), cell(1, 50), cell(2, 0)];
        assert_eq!(now(&empty, 1_000).leave, [0, 2]);
    }

    #[test]
    fn rows_that_must_stay_keep_their_partition() {
        let mut cells = [cell(0, 0), cell(1, 50), cell(2, 0)];
        cells[0].fixed = 60;
        assert_eq!(now(&cells, 1_000).leave, [2]);
        cells[0].fixed = 500;
        assert!(now(&cells, 1_000).split.is_empty());
    }

    #[test]
    fn what_did_not_help_is_not_tried_again_until_something_changed() {
        let mut cells = [cell(0, 200), cell(1, 3), cell(2, 60)];
        cells[0].before = Some(200);
        cells[1].before = Some(3);
        assert!(now(&cells, 1_000).is_empty());
        cells[0].rows = 250;
        cells[1].rows = 2;
        let plan = now(&cells, 1_000);
        assert_eq!((plan.split, plan.leave), (vec![(0, 4)], vec![1]));
    }

    #[test]
    fn in_the_background_little_things_wait_for_one_another() {
        let bounds = Bounds::of(1_000, 64);
        let at_leisure = |cells: &[Cell], points| {
            choose(
                cells,
                bounds,
                4_000,
                Urgency::WhenWorthIt { points },
                beside(cells),
            )
        };
        let mut cells: Vec<Cell> = (0..20).map(|i| cell(i, 60)).collect();
        cells[3].rows = 150;
        assert!(at_leisure(&cells, 1_300).is_empty());
        cells[3].rows = 300;
        assert_eq!(at_leisure(&cells, 1_400).split, [(3, 5)], "far too large");
        cells.iter_mut().take(4).for_each(|c| c.rows = 140);
        assert_eq!(at_leisure(&cells, 1_500).split.len(), 4, "a fourth of all");
        let small: Vec<Cell> = (0..20).map(|i| cell(i, 10)).collect();
        assert!(at_leisure(&small, 5_000).is_empty(), "hot rows may follow");
        assert!(!at_leisure(&small, 200).leave.is_empty());
    }

    #[test]
    fn rows_that_came_to_an_ended_partition_leave_it() {
        let mut cells = [cell(0, 60), cell(1, 9)];
        cells[1].retired = true;
        assert_eq!(now(&cells, 1_000).leave, [1]);
        let bounds = Bounds::of(1_000, 64);
        let later = Urgency::WhenWorthIt { points: 1_000 };
        assert!(choose(&cells, bounds, 1_000, later, beside(&cells)).is_empty());
    }
}
