//! The policy's desk: what it has not heard yet, and the one lock under which it is asked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::shadow::Shadows;
use super::stats::Counts;
use crate::clock::Time;
use crate::flux::Reuse;
use crate::id::Row;
use crate::role::{Event, EvictionPolicy, Item, PREFETCH_MAX, TOGETHER_MAX};

/// What a policy is to hear.
#[derive(Debug)]
enum Heard {
    Event(Event),
    /// What was so already.
    Reminder(Event),
    /// Rows that answered one search.
    Together(Box<[Row]>),
}

impl Heard {
    /// The row that it is about; of rows used together, the nearest.
    fn row(&self) -> Row {
        match self {
            Self::Together(rows) => rows.first().copied().unwrap_or(Row(0)),
            Self::Event(event) | Self::Reminder(event) => match *event {
                Event::Inserted { item, .. }
                | Event::Missed { item }
                | Event::Moved { item, .. } => item.row,
                Event::Replaced { old: row, .. }
                | Event::Accessed { row }
                | Event::Feedback { row, .. }
                | Event::Pinned { row, .. }
                | Event::Removed { row } => row,
            },
        }
    }
}

/// What waits to be heard, in order.
#[derive(Debug, Default)]
struct Queue {
    heard: VecDeque<(Heard, Time)>,
    /// Rows in all `Together` of it.
    together: usize,
}

/// Who hears it.
#[derive(Debug)]
struct Seat {
    live: Box<dyn EvictionPolicy>,
    shadows: Shadows,
    /// How soon rows are used again, where the tier's size is derived from it.
    reuse: Option<Reuse>,
}

/// The policy, and the queue of what it has not heard yet.
pub(crate) struct Desk {
    queue: Mutex<Queue>,
    limit: usize,
    seat: Mutex<Seat>,
    /// Cold rows that were used since the last turn.
    missed: Mutex<BTreeMap<Row, Item>>,
    counts: Arc<Counts>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("queued", &self.queue.lock().heard.len())
            .finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(
        live: Box<dyn EvictionPolicy>,
        shadows: Shadows,
        reuse: Option<Reuse>,
        limit: usize,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            queue: Mutex::default(),
            limit,
            seat: Mutex::new(Seat {
                live,
                shadows,
                reuse,
            }),
            missed: Mutex::default(),
            counts,
        }
    }

    /// Notes an access; dropped, and counted, when the queue is full.
    pub(crate) fn access(&self, events: impl IntoIterator<Item = Event>, now: Time) {
        let mut queue = self.queue.lock();
        for event in events {
            if queue.heard.len() >= self.limit {
                self.dropped();
            } else {
                queue.heard.push_back((Heard::Event(event), now));
            }
        }
    }

    /// Notes rows that answered one search, nearest first; dropped, and counted, when the queue is full. A single row has no company.
    pub(crate) fn together(&self, rows: impl IntoIterator<Item = Row>, now: Time) {
        let rows: Box<[Row]> = rows.into_iter().take(TOGETHER_MAX).collect();
        if rows.len() < 2 {
            return;
        }
        let mut queue = self.queue.lock();
        if queue.heard.len() >= self.limit || queue.together + rows.len() > self.limit {
            self.dropped();
        } else {
            queue.together += rows.len();
            queue.heard.push_back((Heard::Together(rows), now));
        }
    }

    fn dropped(&self) {
        self.counts.events_dropped.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("aether_events_dropped_total").increment(1);
    }

    /// Notes what must not be lost; when the queue is full, the policy hears everything now.
    pub(crate) fn tell(&self, events: impl IntoIterator<Item = Event>, now: Time) {
        self.note(events.into_iter().map(Heard::Event), now);
    }

    /// As [`Desk::tell`], of what is no news: no shadow counts a move among it.
    pub(crate) fn remind(&self, events: impl IntoIterator<Item = Event>, now: Time) {
        self.note(events.into_iter().map(Heard::Reminder), now);
    }

    fn note(&self, heard: impl Iterator<Item = Heard>, now: Time) {
        let full = {
            let mut queue = self.queue.lock();
            queue.heard.extend(heard.map(|h| (h, now)));
            queue.heard.len() >= self.limit
        };
        if full {
            self.with(|_| ());
        }
    }

    /// Gives the policy all that is queued, then asks it.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&mut dyn EvictionPolicy) -> T) -> T {
        self.seated(|seat| ask(&mut *seat.live))
    }

    /// Gives the shadows all that is queued, then asks them.
    pub(crate) fn with_shadows<T>(&self, ask: impl FnOnce(&mut Shadows) -> T) -> T {
        self.seated(|seat| ask(&mut seat.shadows))
    }

    /// Counts all that is queued, then asks about the reuse of rows: nothing is known of it where the tier's size is set.
    pub(crate) fn with_reuse<T>(&self, ask: impl FnOnce(&mut Reuse) -> T) -> T {
        self.seated(|seat| ask(seat.reuse.get_or_insert_default()))
    }

    fn seated<T>(&self, ask: impl FnOnce(&mut Seat) -> T) -> T {
        let mut seat = self.seat.lock();
        // Taken under the policy's lock, so that events stay in order.
        let mut queued = std::mem::take(&mut *self.queue.lock());
        for heard in queued.heard.make_contiguous().chunks(PREFETCH_MAX) {
            let mut rows = [Row(0); PREFETCH_MAX];
            for (row, (heard, _)) in rows.iter_mut().zip(heard) {
                *row = heard.row();
            }
            seat.live.prefetch(&rows[..heard.len()]);
            heard
                .iter()
                .for_each(|(heard, at)| self.hear(&mut seat, heard, *at));
        }
        ask(&mut seat)
    }

    /// Lets live policy and shadows hear of one thing.
    fn hear(&self, seat: &mut Seat, heard: &Heard, at: Time) {
        let watched = !seat.shadows.is_empty();
        match heard {
            Heard::Together(rows) => {
                seat.live.on_together(rows, at);
                if watched {
                    seat.shadows.hear_together(rows, at);
                }
            }
            Heard::Event(event) | Heard::Reminder(event) => {
                if let Event::Missed { item } = event {
                    let mut missed = self.missed.lock();
                    if missed.len() < self.limit {
                        missed.insert(item.row, *item);
                    }
                }
                if let Some(reuse) = &mut seat.reuse {
                    watch(reuse, event, at);
                }
                seat.live.on_event(event, at);
                let moved = matches!(event, Event::Moved { .. });
                if watched && !(moved && matches!(heard, Heard::Reminder(_))) {
                    seat.shadows.hear(event, at);
                }
            }
        }
    }

    /// Takes the cold rows that were used since the last call.
    pub(crate) fn take_missed(&self) -> Vec<Item> {
        std::mem::take(&mut *self.missed.lock())
            .into_values()
            .collect()
    }
}

/// Counts an event as a use, or follows the row's number.
fn watch(reuse: &mut Reuse, event: &Event, at: Time) {
    match *event {
        Event::Accessed { row } => reuse.used(row, at),
        Event::Missed { item } => reuse.used(item.row, at),
        Event::Inserted { item, .. } => reuse.entered(item.row, at),
        Event::Replaced { old, item, .. } => {
            reuse.removed(old);
            reuse.entered(item.row, at);
        }
        Event::Removed { row } => reuse.removed(row),
        // Judging, pinning and moving a row is no use of it.
        Event::Feedback { .. } | Event::Pinned { .. } | Event::Moved { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ShadowConfig;
    use crate::error::Result;
    use crate::role::{Context, Explanation, Verdict, Want};

    /// Writes down what it hears.
    #[derive(Debug, Default)]
    struct Scribe(Arc<Mutex<Vec<String>>>);

    impl EvictionPolicy for Scribe {
        fn on_event(&mut self, event: &Event, _now: Time) {
            match event {
                Event::Accessed { row } => self.0.lock().push(format!("used {}", row.0)),
                Event::Moved { item, .. } => self.0.lock().push(format!("moved {}", item.row.0)),
                _ => {}
            }
        }
        fn on_together(&mut self, rows: &[Row], _now: Time) {
            let rows: Vec<u64> = rows.iter().map(|r| r.0).collect();
            self.0.lock().push(format!("together {rows:?}"));
        }
        fn victims(&mut self, _: Want, _: &Context) -> Vec<Verdict> {
            Vec::new()
        }
        fn admit(&mut self, candidate: &Item, _: &Context) -> Verdict {
            Verdict {
                row: candidate.row,
                keep: 0.0,
                certain: true,
                reason: "",
            }
        }
        fn explain(&self, row: Row, _: &Context) -> Explanation {
            Explanation {
                row,
                known: false,
                keep: None,
                figures: Vec::new(),
                words: String::new(),
            }
        }
        fn len(&self) -> usize {
            0
        }
        fn bytes(&self) -> u64 {
            0
        }
        fn bytes_after(&self, _: usize) -> u64 {
            0
        }
        fn save(&self, _: &mut Vec<u8>) {}
        fn load(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }
    }

    fn desk(told: &Arc<Mutex<Vec<String>>>, limit: usize, counts: &Arc<Counts>) -> Desk {
        let shadows = Shadows::new(&ShadowConfig::default(), 1, 1, Vec::new());
        Desk::new(
            Box::new(Scribe(told.clone())),
            shadows,
            None,
            limit,
            counts.clone(),
        )
    }

    #[test]
    fn rows_of_one_search_are_heard_together_after_their_accesses_within_the_limit() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let counts = Arc::new(Counts::default());
        let desk = desk(&told, 8, &counts);
        let rows = |of: std::ops::Range<u64>| of.map(Row);
        let used = |row| Event::Accessed { row };
        desk.access(rows(1..3).map(used), Time(1));
        desk.together(rows(1..3), Time(1));
        desk.together(rows(5..6), Time(1));
        desk.together(rows(10..16), Time(1));
        // Six and two are eight rows: three more are too many.
        desk.together(rows(20..23), Time(1));
        desk.with(|_| ());
        let expected = [
            "used 1",
            "used 2",
            "together [1, 2]",
            "together [10, 11, 12, 13, 14, 15]",
        ];
        assert_eq!(*told.lock(), expected);
        assert_eq!(counts.events_dropped.load(Ordering::Relaxed), 1);
        // Heard, so that there is room again; of many rows the nearest count.
        told.lock().clear();
        let desk = self::desk(&told, 1000, &counts);
        desk.together(rows(0..200), Time(2));
        desk.with(|_| ());
        assert_eq!(told.lock()[0].matches(',').count(), TOGETHER_MAX - 1);
    }

    /// A move that the policy is told of again was made once: it hears of it, and it is counted once beside the shadows.
    #[test]
    fn what_the_policy_is_reminded_of_is_not_counted_as_a_move() {
        let counts = Arc::new(Counts::default());
        let config = ShadowConfig {
            sample: 1.0,
            ..ShadowConfig::default()
        };
        let shadow: Box<dyn EvictionPolicy> = Box::new(Scribe::default());
        let shadows = Shadows::new(&config, 1, 1, vec![("scribe".to_owned(), shadow)]);
        let told = Arc::new(Mutex::new(Vec::new()));
        let live = Box::new(Scribe(told.clone()));
        let desk = Desk::new(live, shadows, None, 100, counts);
        let item = Item {
            row: Row(1),
            bytes: 1,
            restore_us: 0.0,
        };
        let to = crate::role::Tier::Cold;
        desk.tell([Event::Moved { item, to }], Time(1));
        desk.remind([Event::Moved { item, to }], Time(2));
        desk.remind([Event::Accessed { row: Row(1) }], Time(3));
        let stats = desk.with_shadows(|shadows| shadows.stats());
        assert_eq!((stats[0].live_demoted, stats[0].accesses), (1, 1));
        assert_eq!(*told.lock(), ["moved 1", "moved 1", "used 1"]);
    }
}
