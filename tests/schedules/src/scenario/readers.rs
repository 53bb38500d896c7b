//! Searches, and moves whose last step waits for them (`core: engine/readers.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use shuttle::future::{block_on, spawn};

use super::{Findings, part, together};
use crate::id::Row;
use crate::shuttled::readers::{Deferred, Readers};
use crate::shuttled::sync::{AtomicU64, Mutex, Ordering::SeqCst, yield_now};

const ROW: Row = Row(7);

/// The tiers of one memory, as far as moves go.
struct Tiers {
    readers: Readers,
    reaping: Mutex<()>,
    /// What a search that begins now goes by: how many of the rows' moves it sees.
    published: AtomicU64,
    hot: Mutex<BTreeMap<Row, u64>>,
    cold: Mutex<BTreeMap<Row, u64>>,
    findings: Findings,
}

impl Tiers {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            readers: Readers::default(),
            reaping: Mutex::default(),
            published: AtomicU64::new(0),
            hot: Mutex::default(),
            cold: Mutex::default(),
            findings: Findings::default(),
        })
    }

    fn with_hot(rows: u64) -> Arc<Self> {
        let tiers = Self::new();
        tiers.hot.lock().extend((0..rows).map(|n| (Row(n), n)));
        tiers
    }

    /// As the engine does it: one at a time, in order, each only when nobody can still need it.
    fn reap(&self) {
        let _one = self.reaping.lock();
        while let Some((ticket, work)) = self.readers.next() {
            if let Deferred::Demoted(rows) = work {
                for row in rows {
                    self.hot.lock().remove(&row);
                }
            }
            self.readers.finished(ticket);
        }
    }

    /// Moves a row: first it is in the cold tier, then searches see it there, then it leaves the hot one.
    fn demote(&self, row: Row) -> u64 {
        self.cold.lock().insert(row, row.0);
        self.published.fetch_add(1, SeqCst);
        self.readers.defer(Deferred::Demoted(vec![row]))
    }

    /// A search for all of so many rows, which are demoted from the first on: each must be found in the tier where the search looks for it.
    fn search(&self, rows: u64) {
        let ticket = self.readers.enter();
        let moved = self.published.load(SeqCst);
        for n in (0..rows).rev() {
            yield_now();
            let found = match n < moved {
                true => self.cold.lock().contains_key(&Row(n)),
                false => self.hot.lock().contains_key(&Row(n)),
            };
            self.findings.note(found, || {
                format!("row {n} of {rows} is out of sight, {moved} were moved")
            });
        }
        drop(ticket);
    }
}

/// Searches beside demotions: no row is out of sight at any moment.
pub fn a_search_finds_every_row_while_rows_move() {
    searches_beside_demotions(false);
}

/// A demotion that does not wait for the searches of before.
pub fn planted_a_row_leaves_under_a_search() {
    searches_beside_demotions(true);
}

fn searches_beside_demotions(planted: bool) {
    let tiers = Tiers::with_hot(3);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let tiers = tiers.clone();
        parts.push(part(move || tiers.search(3)));
    }
    let moves = tiers.clone();
    parts.push(part(move || {
        for n in 0..3 {
            moves.demote(Row(n));
            if planted {
                moves.hot.lock().remove(&Row(n));
            }
            moves.reap();
        }
    }));
    let reaps = tiers.clone();
    parts.push(part(move || (0..3).for_each(|_| reaps.reap())));
    together(parts);
    tiers.findings.say();
    // Nobody reads any more: nothing stays behind.
    tiers.reap();
    assert!(tiers.hot.lock().is_empty() && !tiers.readers.has_work());
}

/// Whoever waits for a move to be over is woken, whoever leaves last and whoever reaps.
pub fn waiting_for_a_move_ends() {
    let tiers = Tiers::with_hot(2);
    block_on(async {
        let mut tasks = Vec::new();
        for n in 0..2 {
            let tiers = tiers.clone();
            tasks.push(spawn(async move {
                let ticket = tiers.demote(Row(n));
                let reap = || async { tiers.reap() };
                tiers.readers.until_done(ticket, reap).await;
                assert!(
                    !tiers.hot.lock().contains_key(&Row(n)),
                    "it is said to be over"
                );
            }));
        }
        for _ in 0..2 {
            let tiers = tiers.clone();
            tasks.push(spawn(async move {
                let ticket = tiers.readers.enter();
                shuttle::future::yield_now().await;
                drop(ticket);
            }));
        }
        for task in tasks {
            task.await.expect("a task ended");
        }
    });
}

/// What is said to be done has been done, and all before it.
pub fn done_means_done_and_all_before_it() {
    let tiers = Tiers::new();
    tiers.hot.lock().insert(ROW, 1);
    let mut parts = Vec::new();
    let first = tiers.clone();
    parts.push(part(move || {
        let ticket = first.demote(ROW);
        let second = first.readers.defer(Deferred::Demoted(Vec::new()));
        first.reap();
        if first.readers.is_done(second) {
            assert!(first.readers.is_done(ticket));
            assert!(!first.hot.lock().contains_key(&ROW));
        }
    }));
    for _ in 0..2 {
        let tiers = tiers.clone();
        parts.push(part(move || {
            let ticket = tiers.readers.enter();
            yield_now();
            drop(ticket);
            tiers.reap();
        }));
    }
    together(parts);
    tiers.reap();
    assert!(!tiers.readers.has_work());
}
