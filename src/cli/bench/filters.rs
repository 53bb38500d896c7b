//! `aether bench filters`: recall and speed of the hot index where only a share of the rows is accepted.
//!
//! A row is accepted by a hash of its number, so what is accepted lies everywhere among the rest. The truth is an exact search with the same
//! filter.

use aether::Row;
use aether::role::{SearchOptions, SearchTally};
use serde::Serialize;

use super::churn::recall;
use super::search::{Printer, insert};
use super::{Data, Loaded, run_queries};
use crate::cli::{Done, Failure, Outcome};

/// Options of `aether bench filters`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: Data,
    /// Shares of the rows that are accepted
    #[arg(
        long,
        value_name = "SHARE,...",
        value_delimiter = ',',
        default_values_t = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001]
    )]
    shares: Vec<f64>,
    /// Breadth of the searches [default: the index's own]
    #[arg(long)]
    ef: Option<usize>,
}

/// One share.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    index: &'a str,
    share: f64,
    accepted: usize,
    rows: usize,
    recall: f64,
    qps: f64,
    p50_us: f64,
    p99_us: f64,
    estimated: f64,
    compared: f64,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    if !args.shares.iter().all(|share| (0.0..=1.0).contains(share)) {
        return Err(Failure::usage("--shares: expected 0 to 1"));
    }
    let loaded = args.data.load()?;
    tokio::task::block_in_place(|| measure(&args, &loaded, json))
}

/// Whether a row is among a share of all.
fn accepted(row: Row, share: f64) -> bool {
    let draw = row.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (draw as f64) < share * (1u64 << 32) as f64
}

fn measure(args: &Args, loaded: &Loaded, json: bool) -> Done {
    let context = loaded.bare_context();
    let index = loaded.registry.hot(&loaded.config.hot, &context)?;
    insert(&*index, &loaded.base)?;
    let (data, rows) = (&args.data, loaded.base.rows());
    let mut printer = Printer::new(json);
    for share in &args.shares {
        let accepts = |row: Row| accepted(row, *share);
        let tally = SearchTally::default();
        let options = SearchOptions {
            ef: args.ef,
            filter: Some(&accepts),
            tally: Some(&tally),
            ..SearchOptions::default()
        };
        let found = recall(&*index, loaded, data.k, &options)?;
        let work = tally.read();
        let mean = |n: u64| n as f64 / loaded.queries.rows() as f64;
        let untold = SearchOptions {
            tally: None,
            ..options
        };
        let query = |q: usize| {
            let found = index.search(loaded.queries.row(q), data.k, &untold)?;
            Ok(found.iter().map(|n| n.row.0).collect())
        };
        let queries = loaded.queries.rows();
        let summary = run_queries(queries, data.threads, data.seconds, &query, |_, _| 0.0)?;
        printer.print(&Line {
            bench: "filters",
            index: &loaded.config.hot.backend,
            share: *share,
            accepted: (0..rows as u64).filter(|row| accepts(Row(*row))).count(),
            rows,
            recall: found,
            qps: summary.qps,
            p50_us: summary.p50_us,
            p99_us: summary.p99_us,
            estimated: mean(work.estimated),
            compared: mean(work.compared + work.scanned),
        })?;
    }
    Ok(Outcome::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_rows_is_accepted() {
        for share in [0.0, 0.01, 0.5, 1.0] {
            let accepted = (0..100_000)
                .filter(|row| accepted(Row(*row), share))
                .count();
            assert!(
                (accepted as f64 - 1e5 * share).abs() < 300.0,
                "{share}: {accepted}"
            );
        }
    }
}
