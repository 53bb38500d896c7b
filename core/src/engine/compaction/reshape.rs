//! A step that splits and merges partitions.
//!
//! As LIRE does (Xu et al., SPFresh, SOSP 2023, section 4), for many partitions at once:
//!
//! 1. [`choose`] says which partitions are split and which end. Their live rows are read.
//! 2. Each split partition ends as well, and K-means over its rows gives the centroids that take its place.
//! 3. Rows of the partitions beside them, for which one of the new centroids is nearer than their own, are read too (the paper's second
//!    condition). Which they are, only the vectors tell: so the nearest partitions are looked at, as far as their radius reaches half the
//!    way to a new centroid.
//! 4. All these rows are sorted by the new index, wherever that leads them (which covers the paper's first condition), and written.
//! 5. One commit moves them, brings the new centroids and marks the others as retired.
//!
//! Rows that cannot be moved (their segment is damaged, or in a lossy codec that is no longer the memory's) stay in the retired partition,
//! which searches look at as before. A retired partition is forgotten once no segment names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::cold::{ColdView, Segment};
use super::super::inner::Inner;
use super::super::offload::offload;
use super::gather::{Gathered, Sieve, Taken};
use super::hands::Change;
use super::{CompactionState, Step};
use crate::error::{Error, Result};
use crate::id::{Row, SegmentId};
use crate::partition::balance::{Bounds, Cell, Plan, Urgency, choose};
use crate::partition::{Partition, Partitions};
use crate::segment::Centroids;

/// Partitions beside a new centroid whose rows are looked at. SPFresh looks at 64 of its smaller postings; what more would find is below a
/// hundredth of the rows.
const BESIDE: usize = 16;

/// Rows that a step may still take: its RAM and its commit are bounded, however large a partition has become.
#[derive(Debug)]
struct Room(AtomicUsize);

impl Room {
    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    fn is_full(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// New centroids, and the rows of the partitions that they are made from.
struct Splits {
    added: Vec<Partition>,
    /// For each added partition the one that it was cut from.
    parents: Vec<u32>,
    /// Partitions whose rows are all alike.
    whole: BTreeSet<u32>,
}

impl CompactionState {
    /// Notes the partitions that had ended before and were emptied: a row of theirs that counts as alive now was killed, and only
    /// waits for the searches that still see it.
    fn settle(&mut self, left: &[u32], active: &BTreeSet<u32>) {
        let ended = left.iter().filter(|p| !active.contains(p));
        self.before.extend(ended.map(|p| (*p, 0)));
    }
}

impl Inner {
    /// What is to be done about the partitions, if anything is.
    pub(super) fn choose_reshape(
        &self,
        state: &mut CompactionState,
        urgency: Urgency,
    ) -> Option<Plan> {
        let view = self.view();
        let live = view.live_rows();
        let last = view.segments.last_key_value().map(|(id, _)| *id);
        let now = Some((live, view.segments.len(), last));
        if urgency != Urgency::Now && state.looked == now {
            return None;
        }
        let index = &view.index;
        let known = index.active().iter().chain(index.retired());
        let known: BTreeSet<u32> = known.copied().collect();
        state.before.retain(|p, _| known.contains(p));
        let cell = |(retired, number): (bool, &u32)| {
            let (rows, fixed) = self.rows_of(&view, *number, &state.barred);
            Cell {
                number: *number,
                rows,
                fixed,
                before: state.before.get(number).copied(),
                retired,
            }
        };
        let active = index.active().iter().map(|p| (false, p));
        let retired = index.retired().iter().map(|p| (true, p));
        let cells: Vec<Cell> = active.chain(retired).map(cell).collect();
        let bounds = Bounds::of(live, self.config.search.partition_rows);
        let nearest = |p: u32, not: &BTreeSet<u32>| {
            let others = index.nearest_to(index.centroid(p)?, 1, not);
            others.first().map(|(_, heir)| *heir)
        };
        let mut plan = choose(&cells, bounds, self.segment_rows() as u64, urgency, nearest);
        // The commit holds the centroids as well.
        let most = self.meta_capability.batch_bytes_max / 4 / (self.dim * 4 + 64);
        let mut centroids = 0;
        plan.split.retain_mut(|(_, parts)| {
            *parts = (*parts).min(most.saturating_sub(1)).max(2);
            centroids += *parts + 1;
            centroids <= most.max(3)
        });
        plan.leave.truncate(most.saturating_sub(centroids).max(1));
        if plan.is_empty() {
            state.looked = now;
            return None;
        }
        Some(plan)
    }

    /// Live rows of a partition: those that may be moved, and those that must stay.
    fn rows_of(&self, view: &ColdView, partition: u32, barred: &BTreeSet<SegmentId>) -> (u64, u64) {
        let places = view.cell(partition).map_or(&[][..], |c| &c.places);
        let live = |segment: &Segment, block: usize| {
            let block = segment.directory.blocks.get(block);
            block.map_or(0, |b| segment.live_in(b))
        };
        let mut rows = (0, 0);
        for place in places.iter() {
            let live = live(&place.segment, place.block);
            if self.may_move(&place.segment, barred) {
                rows.0 += live;
            } else {
                rows.1 += live;
            }
        }
        rows
    }

    /// The blocks of partitions that may be moved, by segment.
    fn blocks_of(
        &self,
        view: &ColdView,
        partitions: impl IntoIterator<Item = u32>,
        barred: &BTreeSet<SegmentId>,
    ) -> Vec<Taken> {
        let mut parts: BTreeMap<SegmentId, Taken> = BTreeMap::new();
        for cell in partitions.into_iter().filter_map(|p| view.cell(p)) {
            for place in cell.places.iter() {
                let block = place.segment.directory.blocks.get(place.block);
                let lives = block.is_some_and(|b| place.segment.live_in(b) > 0);
                if lives && self.may_move(&place.segment, barred) {
                    let part = parts.entry(place.segment.id).or_insert_with(|| Taken {
                        segment: place.segment.clone(),
                        blocks: Vec::new(),
                        whole: false,
                    });
                    part.blocks.push(place.block);
                }
            }
        }
        let mut parts: Vec<Taken> = parts.into_values().collect();
        parts.iter_mut().for_each(|p| p.blocks.sort_unstable());
        parts
    }

    /// Carries out a plan.
    pub(super) async fn reshape(
        self: &Arc<Self>,
        state: &mut CompactionState,
        plan: Plan,
    ) -> Result<Step> {
        let view = self.view();
        let before = view.index.clone();
        let bounds = Bounds::of(view.live_rows(), self.config.search.partition_rows);
        let mut gathered = Gathered::default();
        let concerned = plan.split.iter().map(|(p, _)| *p);
        let concerned = concerned.chain(plan.leave.iter().copied());
        let mut taken = self.blocks_of(&view, concerned, &state.barred);
        let room = Arc::new(Room(AtomicUsize::new(self.segment_rows())));
        let own = room.clone();
        let fits: Sieve = Arc::new(move |_, left_out| {
            let live = left_out.iter_mut().filter(|out| !**out);
            live.for_each(|out| *out = !own.take());
        });
        let full = || room.is_full();
        let read = self
            .gather_rows(&taken, Some(&fits), full, &mut gathered)
            .await;
        read.map_err(|(place, e)| state.bar(&taken[place], e))?;
        self.drop_dead(&mut gathered).await?;
        // What did not fit stays in a partition that has ended, and leaves it by the next steps.
        let emptied = !room.is_full();

        let splits = self
            .split_rows(&before, &plan, bounds, &mut gathered)
            .await?;
        for number in &splits.whole {
            let (rows, _) = self.rows_of(&view, *number, &state.barred);
            state.before.insert(*number, rows);
        }
        let active: BTreeSet<u32> = before.active().iter().copied().collect();
        let ended = plan.leave.iter().filter(|p| active.contains(p));
        let mut retired: BTreeSet<u32> = ended.copied().collect();
        retired.extend(splits.parents.iter().copied());
        if retired.is_empty() && gathered.rows.is_empty() {
            state.settle(&plan.leave, &active);
            return Ok(Step {
                read: gathered.read,
                ..Step::default()
            });
        }
        let next = Arc::new(before.changed(&splits.added, &retired, &BTreeSet::new())?);
        let beside = self
            .gather_beside(state, &view, &splits, &retired, &room, &mut gathered)
            .await?;
        taken.extend(beside);
        let taken = touched(taken, &gathered.places);

        let (split, merged) = (
            splits.parents.iter().collect::<BTreeSet<_>>().len(),
            plan.leave.len(),
        );
        let change = Change {
            next,
            added: splits.added,
            retired,
        };
        let (added, ended): (Vec<u32>, BTreeSet<u32>) = (
            change.added.iter().map(|p| p.number).collect(),
            change.retired.clone(),
        );
        let step = self.carry_out(taken, gathered, Some(change)).await?;
        if emptied {
            state.settle(&plan.leave, &active);
        }
        for number in added {
            let rows = step.partitions.get(&number).copied().unwrap_or(0);
            // One that is still too large, because rows beside it came, is split once more; one that became too small stays so, or
            // it would come and go for ever.
            if rows <= bounds.most {
                state.before.insert(number, rows);
            }
        }
        state.superseded.push((Arc::downgrade(&before), ended));
        self.counts
            .partitions_split
            .fetch_add(split as u64, Relaxed);
        self.counts
            .partitions_ended
            .fetch_add(merged as u64, Relaxed);
        Ok(step)
    }

    /// New centroids for the partitions to be split. Rows of those that cannot be are left out of what was gathered. CPU on a blocking
    /// thread.
    async fn split_rows(
        self: &Arc<Self>,
        index: &Arc<Partitions>,
        plan: &Plan,
        bounds: Bounds,
        gathered: &mut Gathered,
    ) -> Result<Splits> {
        let (index, plan, seed) = (index.clone(), plan.split.clone(), self.config.memory.seed);
        let rows = std::mem::take(&mut gathered.rows);
        let work = offload(move || {
            let mut of: BTreeMap<u32, Vec<&[f32]>> = BTreeMap::new();
            for row in &rows {
                of.entry(row.partition).or_default().push(&row.vector);
            }
            let mut splits = Splits {
                added: Vec::new(),
                parents: Vec::new(),
                whole: BTreeSet::new(),
            };
            for (number, parts) in plan {
                let rows = of.get(&number).map_or(&[][..], Vec::as_slice);
                let seed = seed ^ (u64::from(number) << 20);
                let made = index.split(rows, parts, bounds.least as usize, seed);
                if made.len() < 2 {
                    splits.whole.insert(number);
                    continue;
                }
                for centroid in made {
                    let number_of = index.next_number().checked_add(splits.added.len() as u32);
                    let number_of = number_of
                        .filter(|n| *n < u32::MAX)
                        .ok_or_else(|| Error::capacity("partitions: all 2^32 numbers were used"))?;
                    splits.parents.push(number);
                    splits.added.push(Partition {
                        number: number_of,
                        retired: false,
                        centroid,
                    });
                }
            }
            Ok::<_, Error>((splits, rows))
        });
        let (splits, mut rows) = work.await??;
        if !splits.whole.is_empty() {
            rows.retain(|r| {
                let stays = splits.whole.contains(&r.partition);
                if stays {
                    gathered.places.remove(&r.row);
                }
                !stays
            });
        }
        gathered.rows = rows;
        Ok(splits)
    }

    /// Rows beside the new centroids that are nearer to one of them than to their own, as far as there is room; and where they are.
    async fn gather_beside(
        self: &Arc<Self>,
        state: &mut CompactionState,
        view: &ColdView,
        splits: &Splits,
        retired: &BTreeSet<u32>,
        room: &Arc<Room>,
        gathered: &mut Gathered,
    ) -> Result<Vec<Taken>> {
        let index = view.index.clone();
        let mut near: BTreeMap<u32, Vec<Vec<f32>>> = BTreeMap::new();
        for new in &splits.added {
            for (away2, number) in index.nearest_to(&new.centroid, BESIDE, retired) {
                let radius = view.cell(number).map_or(0.0, |c| c.radius);
                // Nobody within less than half the way is nearer to the other end.
                if away2 < 4.0 * radius * radius {
                    near.entry(number).or_default().push(new.centroid.clone());
                }
            }
        }
        let taken = self.blocks_of(view, near.keys().copied(), &state.barred);
        let own = room.clone();
        let strays: Sieve = Arc::new(move |rows, left_out| {
            let Some(number) = rows.first().map(|r| r.partition) else {
                return;
            };
            let others = near.get(&number).map_or(&[][..], Vec::as_slice);
            let others: Vec<&[f32]> = others.iter().map(Vec::as_slice).collect();
            let vectors: Vec<&[f32]> = rows.iter().map(|r| &r.vector[..]).collect();
            let strays = index.strays(number, &others, &vectors);
            for (out, strays) in left_out.iter_mut().zip(strays) {
                *out = *out || !strays || !own.take();
            }
        });
        let mut found = Gathered::default();
        let full = || room.is_full();
        let read = self
            .gather_rows(&taken, Some(&strays), full, &mut found)
            .await;
        read.map_err(|(place, e)| state.bar(&taken[place], e))?;
        self.drop_dead(&mut found).await?;
        let moved = found.rows.len() as u64;
        self.counts.border_rows.fetch_add(moved, Relaxed);
        gathered.read += found.read;
        gathered.rows.append(&mut found.rows);
        gathered.places.append(&mut found.places);
        gathered.ttl.append(&mut found.ttl);
        Ok(taken)
    }

    /// Forgets partitions that ended and that nobody can need any more.
    pub(super) async fn forget_partitions(&self, state: &mut CompactionState) -> Result<()> {
        let view = self.view();
        // What cannot be opened may name any of them.
        if view.index.retired().is_empty() || !view.lost.is_empty() {
            return Ok(());
        }
        state.superseded.retain(|(held, _)| held.strong_count() > 0);
        let last = view.segments.last_key_value().map(|(id, _)| *id);
        let now = Some((state.superseded.len(), view.segments.len(), last));
        if std::mem::replace(&mut state.forgot, now) == now {
            return Ok(());
        }
        let held = state.superseded.iter().flat_map(|(_, ended)| ended);
        let mut needed: BTreeSet<u32> = held.copied().collect();
        // Looked at after that: whoever held an index has shown its segment before it let go.
        let view = self.view();
        let segments = view.segments.values();
        needed.extend(segments.flat_map(|s| s.directory.blocks.iter().map(|b| b.partition)));
        // The last number stays, or it would be given out again after the next opening.
        needed.extend(view.index.next_number().checked_sub(1));
        let retired = view.index.retired().iter();
        let over: BTreeSet<u32> = retired.filter(|p| !needed.contains(p)).copied().collect();
        if over.is_empty() {
            return Ok(());
        }
        self.drop_partitions(&over).await
    }
}

/// One entry for each segment, with whether all that lives in it has been gathered.
fn touched(taken: Vec<Taken>, places: &BTreeMap<Row, (SegmentId, u32)>) -> Vec<Taken> {
    let mut gathered: BTreeMap<SegmentId, BTreeSet<u32>> = BTreeMap::new();
    for (segment, ordinal) in places.values() {
        gathered.entry(*segment).or_default().insert(*ordinal);
    }
    let mut merged: BTreeMap<SegmentId, Taken> = BTreeMap::new();
    for part in taken {
        let into = merged.entry(part.segment.id).or_insert_with(|| Taken {
            segment: part.segment.clone(),
            blocks: Vec::new(),
            whole: false,
        });
        into.blocks.extend(part.blocks);
    }
    let none = BTreeSet::new();
    for part in merged.values_mut() {
        let moved = gathered.get(&part.segment.id).unwrap_or(&none);
        let segment = &part.segment;
        part.whole = segment.live() <= moved.len() as u64
            && (0..segment.directory.rows).all(|o| moved.contains(&o) || segment.is_dead(o));
    }
    let some = |t: &Taken| gathered.contains_key(&t.segment.id);
    merged.into_values().filter(some).collect()
}
