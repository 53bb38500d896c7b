//! A program that links the policy in, chooses it in TOML, watches it decide, and replays a trace to see how it does beside others.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aether::ManualClock;
use aether::Registry;
use aether::prelude::*;
use aether::replay::{BELADY, CacheSize, Choice, Plan, Request, Trace};
// A crate that is never named is not linked, and what it registers is then missing without a word.
use aether_example_policy as _;

const HOUR: Duration = Duration::from_secs(3_600);
/// RAM for the points of half a day.
const TOML: &str = r#"
[memory]
dim = 8
metric = "l2"
hot_budget = "640KiB"

[flux]
tick = "0s" # turns are taken by hand here

[hot]
backend = "flat"

[meta]
backend = "memory"

[cold]
backend = "memory"

[policy]
backend = "rhythm"
half_life = "2h"
"#;

fn vector(i: u64) -> Vec<f32> {
    (0..8).map(|d| ((i * 31 + d * 17) % 101) as f32).collect()
}

fn main() -> aether::Result<()> {
    // Time comes from outside: this program lets two days pass in a moment.
    let clock = Arc::new(ManualClock::new());
    let registry = Arc::new(aether::registry()?);
    let memory = MemoryBuilder::new(Config::from_toml(TOML)?, registry.clone())
        .clock(clock.clone())
        .open_blocking()?;

    for hour in 0..33 {
        clock.advance(HOUR);
        // Each hour brings points of its own; those of nine o'clock are asked for every morning.
        let first = hour * 200;
        let points = (first..first + 200).map(|i| Point::new(i, vector(i)));
        memory.upsert(points.collect())?;
        if hour % 24 == 9 {
            for i in 1_800..1_850 {
                memory.get(&PointId::Int(i))?;
            }
        }
        memory.tick()?;
    }
    let stats = memory.stats();
    println!(
        "{} points, {} of them hot, policy {}",
        stats.points, stats.hot_rows, stats.policy
    );
    // A row of the last hour, and one of the first.
    for id in [6_500, 100] {
        if let Some(why) = memory.explain(&PointId::Int(id))? {
            println!("\n{why}");
        }
    }
    memory.close()?;
    compare(&registry)
}

/// Ten days on which reports are read each morning and something else all day: what the policy is made for. Your own accesses are read
/// by `Trace::read`, from what `[record]` wrote.
fn compare(registry: &Arc<Registry>) -> aether::Result<()> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut requests = Vec::new();
    for hour in 0..240_u64 {
        for n in 0..600 {
            let key = match hour % 24 {
                9 => n % 300,
                // Now and then something of today, mostly something new.
                _ if rng.u8(..4) == 0 => 1_000 + hour * 600 + rng.u64(..100),
                _ => 1_000 + hour * 600 + n,
            };
            requests.push(Request {
                time: hour * 3_600 + n * 6,
                key,
                size: 1,
                write: false,
                importance: None,
            });
        }
    }
    let trace = Trace::from_requests("mornings", requests)?;
    let plan = Plan {
        policies: Choice::list(&format!("rhythm:half_life=2h,flux,lru,{BELADY}"))?,
        sizes: vec![CacheSize::Units(2_000)],
        by_bytes: false,
        unit_us: 1_000_000,
        retrievals: false,
        seed: 1,
        threads: NonZeroUsize::MIN,
    };
    println!();
    for cell in plan.run(registry, &trace, &|_| ())? {
        println!(
            "{:<22} misses {:.3} of the requests",
            cell.policy, cell.object_miss_ratio
        );
    }
    Ok(())
}
