//! Which memories stay? Every policy of this build on real traces, against `reference.csv`, Belady's limit, and one another.
//!
//! Traces and reference are read from `../shared/traces`; where they are missing, a small synthetic set with known answers stands in.
//! Then the time of an access at a million hot rows, and the semantic workload, each policy with and without the signal of rows
//! retrieved together. `cargo bench --bench hit_ratio` runs all; `-- --policy lru,flux` some policies; `-- --only traces`, `time` or
//! `semantic` one part, and `-- --only leave-one-out`, which nothing else runs, asks whether the settings of `flux` are made for these traces.
//! At the end stand the figures that the policies are held to; with `-- --check` one that is missed is an error.
//!
//! Caveats: miss ratios are exact and the same on every machine; times are not, and two replays run at a time wherever time is not what
//! is measured. Distances are in points: hundredths of a miss ratio.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

#[path = "hit_ratio/aims.rs"]
mod aims;
mod common;
#[path = "hit_ratio/leave_one_out.rs"]
mod leave_one_out;
#[path = "hit_ratio/timing.rs"]
mod timing;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use aether::import::{Matrix, Options};
use aether::replay::{
    BELADY, BELADY_SIZE, CacheSize, Cell, Choice, Plan, Reference, Request, Topics, Trace,
    TraceOptions,
};
use aether::{Metric, Registry, Role};
use aims::Aims;

/// `lru` minus `belady` from which a cell counts.
const ROOM: f64 = 0.01;

struct Arguments {
    policies: Option<String>,
    only: Option<String>,
    check: bool,
}

fn arguments() -> Arguments {
    let all: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = all.iter().position(|a| a == name)?;
        all.get(at + 1).cloned()
    };
    Arguments {
        policies: value("--policy"),
        only: value("--only"),
        check: all.iter().any(|a| a == "--check"),
    }
}

fn plan(policies: &str, sizes: Vec<CacheSize>) -> Plan {
    Plan {
        policies: Choice::list(policies).unwrap(),
        sizes,
        by_bytes: false,
        unit_us: 1_000_000,
        retrievals: false,
        seed: 1,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    }
}

/// Beside the repository, or in the folder that `AETHER_SHARED` names.
fn beside(what: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("AETHER_SHARED").map_or(beside, PathBuf::from);
    shared.join(what)
}

fn main() -> ExitCode {
    let arguments = arguments();
    let mut aims = Aims::default();
    let registry = common::registry();
    let compiled: Vec<&str> = registry
        .iter()
        .filter(|p| p.role() == Role::Policy)
        .map(|p| p.name)
        .collect();
    let policies = arguments.policies.unwrap_or_else(|| compiled.join(","));
    let wanted = |part: &str| arguments.only.as_deref().is_none_or(|o| o == part);
    if wanted("traces") {
        if beside("traces/reference.csv").is_file() {
            traces(&registry, &policies, &mut aims);
        } else {
            println!("../shared/traces is missing: synthetic traces with known answers instead\n");
            synthetic(&registry, &policies);
        }
    }
    if arguments.only.as_deref() == Some("leave-one-out") {
        leave_one_out(&registry);
    }
    if wanted("time") {
        timing::run(&registry, &policies, &mut aims);
    }
    if wanted("semantic") {
        semantic(&registry, &policies, &mut aims);
    }
    match aims.tell() || !arguments.check {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One policy over all cells.
#[derive(Default)]
struct Row {
    distances: Vec<(f64, String)>,
    gaps: Vec<(f64, String)>,
    /// Moves an access over those of `lru`, worst.
    moves: f64,
    metadata: f64,
    cells: usize,
}

fn place(cell: &Cell) -> String {
    format!("{} {:.1}%", cell.trace, cell.cache_fraction * 100.0)
}

fn traces(registry: &Arc<Registry>, policies: &str, aims: &mut Aims) {
    let folder = beside("traces");
    let reference = Reference::read(&folder.join("reference.csv")).unwrap();
    let mut list = policies.to_owned();
    for name in ["lru", BELADY] {
        if !list.split(',').any(|p| p == name) {
            list.push_str(&format!(",{name}"));
        }
    }
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut far: Vec<(f64, String)> = Vec::new();
    for name in reference.traces() {
        let cells = cells_of(registry, &reference, name, &list);
        println!("{name}: object miss ratio by cache size");
        for (policy, of) in by_policy(&cells) {
            let figures: Vec<String> = of
                .iter()
                .map(|c| format!("{:.6}", c.object_miss_ratio))
                .collect();
            println!("  {policy:<24} {}", figures.join("  "));
        }
        for cell in &cells {
            let row = rows.entry(cell.policy.clone()).or_default();
            row.cells += 1;
            row.metadata += cell.metadata_bytes_per_item;
            let lru = cells
                .iter()
                .find(|c| c.policy == "lru" && c.cache_size == cell.cache_size)
                .unwrap();
            row.moves = row.moves.max(cell.moves_per_access - lru.moves_per_access);
            if let Some(published) = reference.of(cell) {
                let distance = (cell.object_miss_ratio - published.object_miss_ratio) * 100.0;
                row.distances.push((distance.abs(), place(cell)));
                if distance.abs() > 0.5 {
                    far.push((distance, format!("{} {}", cell.policy, place(cell))));
                }
            }
            if cell.gap_room.is_some_and(|room| room >= ROOM)
                && let Some(gap) = cell.gap_closed
            {
                row.gaps.push((gap, place(cell)));
            }
        }
    }
    report(&rows, &mut far, aims);
}

/// The cells of a trace at the reference's sizes.
fn cells_of(registry: &Arc<Registry>, reference: &Reference, name: &str, list: &str) -> Vec<Cell> {
    let path = beside("traces").join(format!("{name}.csv.zst"));
    let trace = Trace::read(&path, &TraceOptions::default(), &mut |_| ()).unwrap();
    let sizes = reference.fractions(name).into_iter().map(CacheSize::Share);
    let mut plan = plan(list, sizes.collect());
    plan.by_bytes = trace.has_sizes();
    if plan.by_bytes {
        plan.policies.extend(Choice::list(BELADY_SIZE).unwrap());
    }
    plan.run(registry, &trace, &|_| ()).unwrap()
}

/// The settings of `flux`, judged on traces that they were not chosen on.
fn leave_one_out(registry: &Arc<Registry>) {
    let reference = Reference::read(&beside("traces/reference.csv")).unwrap();
    let list = format!("{},{BELADY}", leave_one_out::policies());
    let mut all: BTreeMap<String, leave_one_out::Gaps> = BTreeMap::new();
    for name in reference.traces() {
        for cell in cells_of(registry, &reference, name, &list) {
            let room = cell.gap_room.is_some_and(|room| room >= ROOM);
            if let Some(gap) = cell
                .gap_closed
                .filter(|_| room && cell.policy.starts_with("flux"))
            {
                let of = all.entry(cell.policy).or_default();
                of.entry(cell.trace).or_default().push(gap);
            }
        }
    }
    leave_one_out::report(&all);
}

fn by_policy(cells: &[Cell]) -> BTreeMap<&str, Vec<&Cell>> {
    let mut found: BTreeMap<&str, Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        found.entry(&cell.policy).or_default().push(cell);
    }
    found
}

fn mean(values: &[(f64, String)]) -> f64 {
    values.iter().map(|(v, _)| v).sum::<f64>() / values.len() as f64
}

fn report(rows: &BTreeMap<String, Row>, far: &mut [(f64, String)], aims: &mut Aims) {
    println!(
        "\n{:<24} {:>5} {:>9} {:>9}  {:<22} {:>8} {:>8}  {:<22} {:>10} {:>8}",
        "policy",
        "cells",
        "distance",
        "largest",
        "where",
        "gap",
        "worst",
        "where",
        "moves-lru",
        "meta B"
    );
    for (policy, row) in rows {
        let none = (f64::NAN, String::new());
        let farthest = row
            .distances
            .iter()
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or(&none);
        let worst = row
            .gaps
            .iter()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or(&none);
        aims.distance(policy, mean(&row.distances), farthest.0);
        aims.gap(policy, mean(&row.gaps), worst.0, row.moves);
        println!(
            "{policy:<24} {:>5} {:>9.3} {:>9.3}  {:<22} {:>8.3} {:>8.3}  {:<22} {:>10.4} {:>8.1}",
            row.cells,
            mean(&row.distances),
            farthest.0,
            farthest.1,
            mean(&row.gaps),
            worst.0,
            worst.1,
            row.moves,
            row.metadata / row.cells as f64
        );
    }
    println!(
        "distance: mean and largest to the reference of the same name, in points (NaN: there is none); gap: mean and worst share of \
         the way from lru to belady over cells with a point of room; moves-lru: moves an access beyond those of lru, worst cell"
    );
    if !far.is_empty() {
        far.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        println!("\ncells more than 0.5 points from the reference (+: more misses)");
        far.iter()
            .for_each(|(distance, place)| println!("  {distance:+.3}  {place}"));
    }
    println!();
}

fn requests(keys: impl Iterator<Item = u64>) -> impl Iterator<Item = Request> {
    (0..).zip(keys).map(|(time, key)| Request {
        time,
        key,
        size: 1,
        write: false,
        importance: None,
    })
}

/// Traces whose answers are known: what fits misses once a key, what never repeats misses always, and a loop of 200 keys larger than a cache of
/// 100 defeats recency wholly, while the limit keeps all places but one for the keys that come next: it hits 99 of 199.
fn synthetic(registry: &Arc<Registry>, policies: &str) {
    let mut rng = fastrand::Rng::with_seed(11);
    let list = format!("{policies},{BELADY}");
    let known = [
        (
            "fits",
            (0..50_000).map(|_| rng.u64(..100)).collect::<Vec<u64>>(),
        ),
        ("never-again", (0..50_000).collect()),
        ("loop", (0..50_000).map(|i| i % 200).collect()),
    ];
    println!(
        "{:<24} {:>9} {:>12} {:>9}",
        "policy", "fits", "never-again", "loop"
    );
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut limits: Vec<(String, f64)> = Vec::new();
    for (name, keys) in known {
        let trace = Trace::from_requests(name, requests(keys.into_iter())).unwrap();
        let plan = plan(&list, vec![CacheSize::Units(100)]);
        for cell in plan.run(registry, &trace, &|_| ()).unwrap() {
            let missed = cell.object_miss_ratio;
            match name {
                "fits" => assert_eq!(missed, 100.0 / 50_000.0, "{}", cell.policy),
                "never-again" => assert_eq!(missed, 1.0, "{}", cell.policy),
                _ => match cell.policy.as_str() {
                    "lru" | "fifo" => assert_eq!(missed, 1.0, "{}", cell.policy),
                    _ => limits.push((cell.policy.clone(), missed)),
                },
            }
            found.entry(cell.policy).or_default().push(missed);
        }
    }
    // Belady on a loop: but for the first round, 100 of 199 uses miss.
    let limit = limits
        .iter()
        .find(|(policy, _)| policy == BELADY)
        .unwrap()
        .1;
    assert!((limit - 100.0 / 199.0).abs() < 0.005, "{limit}");
    for (policy, missed) in &limits {
        assert!(*missed >= limit, "{policy} is below the limit");
    }
    for (policy, missed) in found {
        println!(
            "{policy:<24} {:>9.6} {:>12.6} {:>9.6}",
            missed[0], missed[1], missed[2]
        );
    }
    println!();
}

/// The best key-only row beside every policy with the signal of rows retrieved together.
fn semantic(registry: &Arc<Registry>, policies: &str, aims: &mut Aims) {
    let sets = [
        ("shakespeare/speeches.f16.npy", Metric::Cosine),
        ("pep/paragraphs.f16.npy", Metric::Cosine),
    ];
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/shakespeare");
    for (file, metric) in sets {
        let mut path = beside("data").join(file);
        if !path.is_file() {
            path = here.join(Path::new(file).file_name().unwrap());
        }
        if !path.is_file() {
            println!("semantic workload: {file} is missing, left out");
            continue;
        }
        let base = Matrix::read(&path, &Options::default()).unwrap();
        let trace = Topics::DEFAULT.workload(file, &base, metric).unwrap();
        // `flux` learns from retrievals only where it is told to.
        let mut list = format!("{policies},{BELADY}");
        if policies.split(',').any(|policy| policy == "flux") {
            list.push_str(",flux:neighbours=0.1");
        }
        let mut plan = plan(&list, [0.01, 0.05, 0.1].map(CacheSize::Share).to_vec());
        plan.retrievals = true;
        let cells = plan.run(registry, &trace, &|_| ()).unwrap();
        println!(
            "semantic workload over {file}: {} retrievals of {} rows, {} rows used",
            Topics::DEFAULT.queries,
            Topics::DEFAULT.k,
            trace.keys()
        );
        println!(
            "{:<24} {:<11} {:>7} {:>9} {:>10} {:>8} {:>8} {:>6}",
            "policy", "signal", "cache", "miss", "importance", "promoted", "wishes", "used"
        );
        for cell in &cells {
            println!(
                "{:<24} {:<11} {:>6.1}% {:>9.6} {:>10.6} {:>8.4} {:>8.4} {:>6.2}",
                cell.policy,
                cell.signal,
                cell.cache_fraction * 100.0,
                cell.object_miss_ratio,
                cell.importance_miss_ratio.unwrap_or(f64::NAN),
                cell.promotions_per_access,
                cell.wishes_per_access.unwrap_or(0.0),
                cell.wishes_used.unwrap_or(0.0)
            );
        }
        for share in [0.01, 0.05, 0.1] {
            let best = |signal: &str| {
                let of = cells.iter().filter(|c| {
                    c.signal == signal && c.policy != BELADY && c.cache_fraction == share
                });
                of.min_by(|a, b| a.object_miss_ratio.total_cmp(&b.object_miss_ratio))
            };
            if let (Some(keys), Some(told)) = (best("keys"), best("retrievals")) {
                let points = (told.object_miss_ratio - keys.object_miss_ratio) * 100.0;
                if share == 0.1 {
                    aims.semantic(file, points, told.wishes_per_access.unwrap_or(0.0));
                }
                println!(
                    "at {:.0} %: best by keys {} {:.4}, best told of retrievals {} {:.4}: {:+.2} points",
                    share * 100.0,
                    keys.policy,
                    keys.object_miss_ratio,
                    told.policy,
                    told.object_miss_ratio,
                    points
                );
            }
        }
        println!();
    }
}
