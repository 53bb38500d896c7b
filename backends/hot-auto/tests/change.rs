//! The change from the scan to the graph, looked at from outside.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aether_core::config::RawConfig;
use aether_core::plugin::Factory;
use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{BuildContext, Metric, Row, SystemClock};
use aether_hot_auto::PLUGIN;
use aether_testkit::conformance::hot::Model;
use aether_testkit::conformance::{context, registry_of};

const DIM: usize = 24;

/// An index on a clock that stands still, where a row is taken to cost 24.6 ns, 40 of them a microsecond.
fn index(keys: &str, budget: Option<u64>) -> Arc<dyn HotIndex> {
    build(keys, budget, context(DIM, Metric::L2, None))
}

fn build(keys: &str, budget: Option<u64>, context: BuildContext) -> Arc<dyn HotIndex> {
    let plugins = [&aether_hot_flat::PLUGIN, &aether_hot_hnsw::PLUGIN];
    let context = BuildContext {
        hot_budget: budget,
        registry: Arc::new(registry_of(&plugins).unwrap()),
        ..context
    };
    let Factory::Hot(make) = PLUGIN.factory else {
        panic!("a hot index");
    };
    make(&RawConfig::from_toml("hot", keys).unwrap(), &context).unwrap()
}

fn vector_of(row: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(row ^ 0x5eed);
    (0..DIM).map(|_| rng.f32() - 0.5).collect()
}

fn insert(index: &dyn HotIndex, rows: std::ops::Range<u64>) {
    for row in rows {
        index.insert(Row(row), &vector_of(row)).unwrap();
    }
}

fn chosen(index: &dyn HotIndex) -> String {
    index.stats().choice.expect("it always says").to_string()
}

/// The scan takes as many rows as planned; from then on two old rows move with each new one, until the graph has all.
#[test]
fn rows_move_two_by_two_and_the_index_says_so() {
    let index = index("scan_max = \"10us\"", None);
    insert(index.as_ref(), 0..406);
    let text = chosen(index.as_ref());
    assert!(
        text.starts_with("flat: comparing a row takes 25 ns (assumed)"),
        "{text}"
    );
    assert!(
        text.contains("up to 406 rows stay within scan_max = 10us"),
        "{text}"
    );
    insert(index.as_ref(), 406..416);
    let text = chosen(index.as_ref());
    assert!(
        text.starts_with("flat, becoming hnsw with no codes, vectors in RAM (386 rows"),
        "{text}"
    );
    assert_eq!(index.len(), 416);
    insert(index.as_ref(), 416..620);
    let text = chosen(index.as_ref());
    assert!(text.starts_with("hnsw with no codes"), "{text}");
    assert_eq!(index.len(), 620);
    for row in (0..620).step_by(7) {
        let found = index
            .search(&vector_of(row), 1, &SearchOptions::default())
            .unwrap();
        assert_eq!(found[0].row, Row(row));
    }
}

/// `compact` moves all rows that wait; nothing is left of the scan but its fixed parts.
#[test]
fn compaction_finishes_the_change() {
    let index = index("scan_max = \"10us\"", None);
    let empty = index.stats().parts["chunks"];
    insert(index.as_ref(), 0..410);
    assert!(chosen(index.as_ref()).contains("becoming"));
    index.compact().unwrap();
    assert!(chosen(index.as_ref()).starts_with("hnsw"));
    assert_eq!(index.len(), 410);
    assert!(index.stats().parts["chunks"] <= empty + 64);
}

/// A snapshot that was saved in the middle of the change holds every row, and comes back as a graph; one of a scan comes back as one.
#[test]
fn snapshots_of_each_stage_come_back() {
    for rows in [300, 410, 700] {
        let saved = index("scan_max = \"10us\"", None);
        insert(saved.as_ref(), 0..rows);
        let mut bytes = Vec::new();
        saved.save(&mut bytes).unwrap();
        let loaded = index("scan_max = \"10us\"", None);
        loaded.load(&mut bytes.as_slice()).unwrap();
        assert_eq!(loaded.len() as u64, rows);
        assert_eq!(chosen(loaded.as_ref()).starts_with("flat"), rows == 300);
        // The same bytes where less is scanned, and where nothing is.
        for keys in ["scan_max = \"1us\"", "rows = 1000000"] {
            let other = index(keys, None);
            other.load(&mut bytes.as_slice()).unwrap();
            insert(other.as_ref(), rows..2 * rows);
            assert!(chosen(other.as_ref()).starts_with("hnsw"));
            assert_eq!(other.rows().len() as u64, 2 * rows);
        }
    }
}

/// What the budget says: a small one never has a graph; rows expected beyond a scan have one at once; vectors go to a file when they may.
#[test]
fn the_budget_and_the_rows_expected_decide() {
    let small = index("scan_max = \"1ms\"\nrows = 1000000", Some(1 << 20));
    let text = chosen(small.as_ref());
    assert!(
        text.starts_with("flat") && text.contains("budget of 1MiB holds no more"),
        "{text}"
    );
    let expected = index("rows = 1000000", Some(1 << 30));
    assert!(chosen(expected.as_ref()).contains("1000000 are expected"));
    let spill = "rows = 1000000\nspill = true\n[hnsw]\ncode_bits = 4\n";
    let spilled = index(spill, Some(200 << 20));
    let text = chosen(spilled.as_ref());
    assert!(
        text.contains("vectors in a mapped file")
            && text.contains("more than the budget of 200MiB"),
        "{text}"
    );
    insert(spilled.as_ref(), 0..500);
    assert_eq!(spilled.stats().parts["vectors"], 0, "no vector in RAM");
    let without_codes = index("rows = 1000000\nspill = true", Some(200 << 20));
    let text = chosen(without_codes.as_ref());
    assert!(
        text.contains("vectors in RAM") && text.contains("there are no codes"),
        "{text}"
    );
}

/// On a clock that goes on, the cost of a row is measured, and is of an order that a processor can have.
#[test]
fn a_scan_is_measured() {
    let context = BuildContext {
        clock: Arc::new(SystemClock::new()),
        ..context(DIM, Metric::L2, None)
    };
    let text = chosen(build("", None, context).as_ref());
    assert!(text.contains("(measured)"), "{text}");
    let cost: f64 = text
        .split("takes ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((0.0..5_000.0).contains(&cost), "{text}");
}

/// Searches, insertions and removals from several threads across the change: every row that stays is found by its own vector all the
/// time, no row that was removed comes back, and in the end the index holds what the threads left.
#[test]
fn the_change_loses_nothing_beside_other_threads() {
    for round in 0..4 {
        let index = index("scan_max = \"10us\"\n[hnsw]\nthreads = 1\n", None);
        insert(index.as_ref(), 0..400);
        let (done, checked) = (AtomicBool::new(false), AtomicU64::new(0));
        let index = index.as_ref();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2u64)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(round * 2 + writer);
                        for i in 0..600 {
                            let row = 1_000 + writer + 2 * i;
                            index.insert(Row(row), &vector_of(row)).unwrap();
                            // Rows of the scan from 100 on are removed by one writer each, in no order.
                            let victim = 100 + 2 * rng.u64(..150) + writer;
                            index.remove(Row(victim)).unwrap();
                            assert!(!index.contains(Row(victim)));
                            let near = index
                                .search(
                                    &vector_of(victim),
                                    1,
                                    &SearchOptions {
                                        exact: true,
                                        ..SearchOptions::default()
                                    },
                                )
                                .unwrap();
                            assert_ne!(near[0].row, Row(victim), "a removed row came back");
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut row = 0;
                while !done.load(Ordering::Acquire) {
                    row = (row + 37) % 100;
                    let exact = row % 2 == 0;
                    let options = SearchOptions {
                        exact,
                        ..SearchOptions::default()
                    };
                    let found = index.search(&vector_of(row), 5, &options).unwrap();
                    assert!(
                        !exact || found[0].row == Row(row),
                        "a row that stays was missed"
                    );
                    let rows: HashSet<Row> = found.iter().map(|n| n.row).collect();
                    assert_eq!(rows.len(), found.len(), "a row was met twice");
                    checked.fetch_add(1, Ordering::Relaxed);
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Release);
        });
        assert!(checked.load(Ordering::Relaxed) > 0);
        assert!(chosen(index).starts_with("hnsw"), "{}", chosen(index));
        for row in (0..100).chain(1_000..2_200) {
            assert!(index.contains(Row(row)), "row {row}");
        }
        assert_eq!(index.len(), index.rows().len());
    }
}

/// Random operations around the change leave index and model equal at every step. Forty rows are scanned at most; of 120 about two thirds
/// are there at a time.
#[test]
fn random_operations_across_the_change_match_the_model() {
    const ROWS: u64 = 120;
    let keys = "scan_max = \"1us\"\n[hnsw]\nthreads = 1\n";
    for seed in 0..6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut index, mut model) = (index(keys, None), Model::default());
        for step in 0..400 {
            let row = Row(rng.u64(..ROWS));
            match rng.u8(..16) {
                0..=8 => {
                    let bound = index.bytes_after(1);
                    let vector = vector_of(rng.u64(..));
                    index.insert(row, &vector).unwrap();
                    model.insert(row, &vector);
                    assert!(index.bytes() <= bound, "seed {seed}, step {step}");
                }
                9..=12 => assert_eq!(index.remove(row).unwrap(), model.remove(row)),
                13 if step % 5 == 0 => index.compact().unwrap(),
                14 if step % 5 == 0 => {
                    let mut bytes = Vec::new();
                    index.save(&mut bytes).unwrap();
                    index = self::index(keys, None);
                    index.load(&mut bytes.as_slice()).unwrap();
                }
                _ => {
                    let (query, odd) = (vector_of(rng.u64(..)), |row: Row| row.0 % 2 == 1);
                    let options = SearchOptions {
                        exact: true,
                        filter: Some(&odd),
                        ..SearchOptions::default()
                    };
                    let found = index.search(&query, 10, &options).unwrap();
                    model.check_exact(Metric::L2, &query, 10, &odd, &found);
                }
            }
            model.check_contents(index.as_ref(), DIM);
        }
    }
}
