//! A hot row costs little RAM beyond its place in the index.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use aether::{Config, Point};

/// Most bytes of directory and books for a row; `flux` has the largest books.
const MOST: f64 = 100.0;

/// Directory and the policy's books together, for each of 100,000 hot rows with integer ids, under every policy; and the figures add up
/// to what the budget counts.
#[test]
fn a_hot_row_takes_about_100_bytes_beyond_the_index() {
    const ROWS: u64 = 100_000;
    for policy in ["flux", "lru", "lfu", "age"] {
        let text = format!(
            "[memory]\ndim = 2\nmetric = \"l2\"\nhot_budget = \"1GiB\"\n[flux]\ntick = \"0s\"\n[hot]\nbackend = \"flat\"\n\
             [meta]\nbackend = \"memory\"\n[cold]\nbackend = \"memory\"\n[policy]\nbackend = \"{policy}\"\n"
        );
        let memory = aether::open_blocking(Config::from_toml(&text).unwrap()).unwrap();
        for from in (0..ROWS).step_by(5_000) {
            let point = |i| Point::new(i, vec![i as f32, 1.0]);
            memory
                .upsert((from..from + 5_000).map(point).collect())
                .unwrap();
        }
        let stats = memory.stats();
        assert_eq!(stats.hot_rows, ROWS);
        let beyond = stats.hot_parts["directory"] + stats.hot_parts["policy"];
        let a_row = beyond as f64 / ROWS as f64;
        println!("{policy}: {a_row:.1} bytes a row: {:?}", stats.hot_parts);
        assert!(a_row < MOST, "{policy}: {a_row:.1} bytes a row");
        assert_eq!(stats.hot_parts.values().sum::<u64>(), stats.hot_bytes);
    }
}
