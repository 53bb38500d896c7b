//! The second thing a user does: choose the parts in a TOML file, from an async program.
//!
//! `cargo run --example from_toml`, or with a file of your own: `cargo run --example from_toml -- my.toml`

use aether::prelude::*;

/// RAM for a part of the points, an exact index, and packed half-precision vectors in the cold store.
const TOML: &str = r#"
[memory]
path = "aether-data"
dim = 32
metric = "cosine"
hot_budget = "1MiB"

[hot]
backend = "flat"

[codec]
backend = "f16"

[codec.then]
backend = "zstd"

[policy]
backend = "lfu"
"#;

#[tokio::main]
async fn main() -> aether::Result<()> {
    let folder = tempfile::tempdir()
        .map_err(|e| Error::unavailable("no temporary folder").with_source(e))?;
    let mut config = match std::env::args().nth(1) {
        // Also reads overriding variables such as AETHER__HOT__BACKEND.
        Some(file) => Config::load(file)?,
        None => Config::from_toml(TOML)?,
    };
    // This example leaves nothing behind.
    config.memory.path = folder.path().join("memory");
    println!(
        "hot {}, cold {}, meta {}, codec {}, policy {}",
        config.hot.backend,
        config.cold.backend,
        config.meta.backend,
        config.codec.backend,
        config.policy.backend
    );
    let dim = config.memory.dim;
    let memory = aether::open(config).await?;

    let mut rng = fastrand::Rng::with_seed(1);
    let mut vector = || (0..dim).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
    for from in (0..6_000).step_by(500) {
        let points = (from..from + 500)
            .map(|i| Point::new(i, vector()))
            .collect();
        let written = memory.upsert(points).await?;
        if written.cold > 0 {
            println!(
                "points from {from}: {} found no room in RAM and went straight to the cold store",
                written.cold
            );
        }
    }
    // The scheduler works by itself; a turn by hand shows what it does.
    println!("{:?}", memory.tick().await?);
    let stats = memory.stats();
    println!(
        "{} points, {} hot in {} of {} bytes, {} cold in {} segments of {} bytes",
        stats.points,
        stats.hot_rows,
        stats.hot_bytes,
        stats.budget_bytes,
        stats.cold_rows,
        stats.segments,
        stats.cold_bytes
    );

    for mode in SearchMode::ALL {
        let answer = memory
            .search(SearchRequest::new(vector(), 5).mode(mode))
            .await?;
        let cold = answer
            .hits
            .iter()
            .filter(|h| h.tier == aether::role::Tier::Cold)
            .count();
        println!(
            "{:<8} {} answers, {cold} of them cold, {} cold rows compared",
            mode.name(),
            answer.hits.len(),
            answer.coverage.cold_rows_scored
        );
    }
    memory.close().await
}
