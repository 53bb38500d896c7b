//! `aether bench churn`: whether an index whose rows were all replaced twice answers as one that never knew the former rows.
//!
//! The base is cut into three parts. One index is filled with the first; each of its rows, in random order, is replaced by one of the second,
//! and each of those by one of the third. The other index is filled with the third part alone. Both are then searched in turns.

use std::time::Instant;

use aether::Row;
use aether::role::{HotIndex, SearchOptions, SearchTally};
use serde::Serialize;

use super::measure::Recall;
use super::search::Printer;
use super::sweep::combinations;
use super::{Data, Loaded};
use crate::cli::{Done, Failure, Outcome};

/// Parts of the base, each of which replaces the one before.
const PARTS: usize = 3;

/// Options of `aether bench churn`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: Data,
    /// Turns in which both indexes are searched for all queries, one after the other
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// One breadth.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    index: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ef: Option<usize>,
    rows: usize,
    /// Of the index whose rows were replaced.
    recall: f64,
    fresh_recall: f64,
    /// Medians over rounds, on one thread.
    qps: f64,
    fresh_qps: f64,
    /// Bytes looked at for a search, which no other work on the machine disturbs.
    touched_bytes: f64,
    fresh_touched_bytes: f64,
    ram_bytes: u64,
    fresh_ram_bytes: u64,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let loaded = args.data.load()?;
    if loaded.base.rows() < PARTS || args.rounds == 0 {
        return Err(Failure::usage(
            "expected at least three rows in --base, and --rounds of at least 1",
        ));
    }
    tokio::task::block_in_place(|| measure(&args, &loaded, json))
}

fn measure(args: &Args, loaded: &Loaded, json: bool) -> Done {
    let context = loaded.bare_context();
    let make = || loaded.registry.hot(&loaded.config.hot, &context);
    let (churned, fresh) = (make()?, make()?);
    let part = loaded.base.rows() / PARTS;
    fill(&*churned, loaded, 0..part)?;
    replace_twice(&*churned, loaded, part, context.seed)?;
    fill(&*fresh, loaded, (PARTS - 1) * part..PARTS * part)?;
    let mut printer = Printer::new(json);
    for setting in combinations(&args.data.sweep) {
        let [worn, new] = compare(args, loaded, setting.ef, [&*churned, &*fresh])?;
        printer.print(&Line {
            bench: "churn",
            index: &loaded.config.hot.backend,
            ef: setting.ef,
            rows: part,
            recall: worn.recall,
            fresh_recall: new.recall,
            qps: worn.qps,
            fresh_qps: new.qps,
            touched_bytes: worn.touched_bytes,
            fresh_touched_bytes: new.touched_bytes,
            ram_bytes: churned.bytes(),
            fresh_ram_bytes: fresh.bytes(),
        })?;
    }
    Ok(Outcome::Fine)
}

fn fill(
    index: &dyn HotIndex,
    loaded: &Loaded,
    places: std::ops::Range<usize>,
) -> aether::Result<()> {
    let rows: Vec<Row> = places.clone().map(|at| Row(at as u64)).collect();
    let vectors: Vec<f32> = places
        .flat_map(|at| loaded.base.row(at).into_owned())
        .collect();
    index.insert_batch(&rows, &vectors)
}

/// Row for row, in an order of its own each time, as points that are updated are.
fn replace_twice(
    index: &dyn HotIndex,
    loaded: &Loaded,
    part: usize,
    seed: u64,
) -> aether::Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut live: Vec<usize> = (0..part).collect();
    for round in 1..PARTS {
        rng.shuffle(&mut live);
        for (i, at) in live.iter_mut().enumerate() {
            index.remove(Row(*at as u64))?;
            *at = round * part + i;
            index.insert(Row(*at as u64), &loaded.base.row(*at))?;
        }
    }
    Ok(())
}

/// What one of the indexes shows at one breadth.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    recall: f64,
    qps: f64,
    touched_bytes: f64,
}

fn compare(
    args: &Args,
    loaded: &Loaded,
    ef: Option<usize>,
    indexes: [&dyn HotIndex; 2],
) -> aether::Result<[Shown; 2]> {
    let options = SearchOptions {
        ef,
        ..SearchOptions::default()
    };
    let mut shown = [Shown::default(); 2];
    for (index, shown) in indexes.iter().zip(&mut shown) {
        let tally = SearchTally::default();
        shown.recall = recall(
            *index,
            loaded,
            args.data.k,
            &SearchOptions {
                tally: Some(&tally),
                ..options
            },
        )?;
        shown.touched_bytes = tally.read().bytes() as f64 / loaded.queries.rows() as f64;
    }
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..args.rounds {
        for (index, took) in indexes.iter().zip(&mut took) {
            let begun = Instant::now();
            for query in loaded.queries.iter() {
                index.search(query, args.data.k, &options)?;
            }
            took.push(begun.elapsed().as_secs_f64());
        }
    }
    for (took, shown) in took.iter_mut().zip(&mut shown) {
        took.sort_unstable_by(f64::total_cmp);
        shown.qps = loaded.queries.rows() as f64 / took[took.len() / 2];
    }
    Ok(shown)
}

/// Against an exact search of the same index, which does not count for the tally.
pub(super) fn recall(
    index: &dyn HotIndex,
    loaded: &Loaded,
    k: usize,
    options: &SearchOptions<'_>,
) -> aether::Result<f64> {
    let exact = SearchOptions {
        exact: true,
        tally: None,
        ..*options
    };
    let mut recall = Recall::default();
    for query in loaded.queries.iter() {
        let truth = index.search(query, k, &exact)?;
        recall.count(&truth, &index.search(query, k, options)?);
    }
    Ok(recall.share())
}
