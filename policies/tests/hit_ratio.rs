//! How often a request finds its row hot, under each policy and three kinds of requests: a sanity check, and the figures of
//! the README (`cargo test -p aether-policies --test hit_ratio -- --nocapture`).
//!
//! The tier holds 1,000 of 20,000 rows; every row that was missed comes in, and what is worst leaves, so that only the
//! choice of victims differs. One request every 100 ms. `best` keeps the 1,000 rows most requested over the whole run.

#![cfg(all(feature = "flux", feature = "lru", feature = "lfu", feature = "age"))]

use std::collections::{BTreeMap, BTreeSet};

use aether_core::role::{Context, Event, Item, Tier, Want};
use aether_core::{Plugin, Row, Time};
use aether_testkit::conformance::policy::PolicyHarness;

const HOT: usize = 1_000;
const ROWS: u64 = 20_000;
const REQUESTS: u64 = 100_000;
const BYTES: u32 = 1_000;

/// Row numbers by Zipf's law with exponent 0.9, from a table of summed weights.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        let weights = (1..=ROWS).map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        });
        Self(weights.collect())
    }

    fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        let at = random.f64() * self.0[self.0.len() - 1];
        // Ranks are scattered over the rows, so that popular ones are not neighbours.
        self.0.partition_point(|sum| *sum < at) as u64 * 7_919 % ROWS
    }
}

fn requests(kind: &str) -> Vec<u64> {
    let (mut random, zipf) = (fastrand::Rng::with_seed(17), Zipf::new());
    let draw = |n: u64, random: &mut fastrand::Rng| match kind {
        // Popular rows change every 20,000 requests.
        "drifting" => (zipf.draw(random) + n / 20_000 * 1_237) % ROWS,
        // Every 10,000 requests, 2,000 go once through rows in order.
        "scanned" if n % 10_000 >= 8_000 => n * 3 % ROWS,
        _ => zipf.draw(random),
    };
    (0..REQUESTS).map(|n| draw(n, &mut random)).collect()
}

/// Share of requests of the second half that found their row hot.
fn run(plugin: &'static Plugin, requests: &[u64]) -> f64 {
    // Plain LFU never forgets: here it is aged.
    let keys = match plugin.name {
        "lfu" => "window = 10\nhistory = 0.25\nadmit = \"more-used\"\n",
        _ => "",
    };
    let mut policy = PolicyHarness::with_keys(plugin, keys).build(5);
    let mut hot = BTreeSet::new();
    let mut hits = 0;
    for (n, row) in requests.iter().enumerate() {
        let now = Time(n as u64 * 100_000);
        let item = Item {
            row: Row(*row),
            bytes: BYTES,
            restore_us: 200.0,
        };
        if hot.contains(row) {
            hits += usize::from(n >= requests.len() / 2);
            policy.on_event(&Event::Accessed { row: item.row }, now);
            continue;
        }
        policy.on_event(&Event::Missed { item }, now);
        if hot.len() == HOT {
            let context = Context {
                now,
                temperature: 1.0,
                hot_bytes: HOT as u64 * u64::from(BYTES),
                budget_bytes: HOT as u64 * u64::from(BYTES),
            };
            let verdicts = policy.victims(
                Want {
                    rows: 1,
                    bytes: u64::from(BYTES),
                },
                &context,
            );
            assert_eq!(verdicts.len(), 1);
            let (row, to) = (verdicts[0].row, Tier::Cold);
            assert!(hot.remove(&row.0));
            policy.on_event(
                &Event::Moved {
                    item: Item { row, ..item },
                    to,
                },
                now,
            );
        }
        hot.insert(*row);
        let to = Tier::Hot;
        policy.on_event(&Event::Moved { item, to }, now);
    }
    hits as f64 / (requests.len() - requests.len() / 2) as f64
}

fn best(requests: &[u64]) -> f64 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    requests[requests.len() / 2..]
        .iter()
        .for_each(|row| *counts.entry(*row).or_default() += 1);
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(*count));
    counts[..HOT].iter().sum::<usize>() as f64 / (requests.len() - requests.len() / 2) as f64
}

#[test]
fn policies_keep_what_is_asked_for() {
    let policies = [
        &aether_policies::flux::PLUGIN,
        &aether_policies::lru::PLUGIN,
        &aether_policies::lfu::PLUGIN,
        &aether_policies::age::PLUGIN,
    ];
    for kind in ["steady", "drifting", "scanned"] {
        let requests = requests(kind);
        let [flux, lru, lfu, age] = policies.map(|plugin| run(plugin, &requests));
        let best = best(&requests);
        eprintln!(
            "{kind}: flux {flux:.3}, lru {lru:.3}, lfu {lfu:.3}, age {age:.3}, best {best:.3}"
        );
        // Frequency tells more than last use where popularity is steady; where it drifts, it must not tell much less.
        let lead = if kind == "drifting" { -0.02 } else { 0.03 };
        assert!(flux > lru + lead && lfu > lru + lead, "{kind}");
        assert_eq!(lru, age, "{kind}: under pressure age is lru");
        assert!(flux > 0.75 * best, "{kind}");
    }
}
