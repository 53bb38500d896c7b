//! A program that links the store in, chooses it in TOML, and looks where the segments went.

use std::path::Path;

use aether::prelude::*;
// A crate that is never named is not linked, and what it registers is then missing without a word.
use aether_example_backend as _;

fn vector(i: u64) -> Vec<f32> {
    (0..8).map(|d| ((i * 31 + d * 17) % 101) as f32).collect()
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |path: std::path::PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            usize::from(path.extension().is_some_and(|e| e == "seg"))
        }
    };
    entries.map(|e| count(e.path())).sum()
}

fn main() -> aether::Result<()> {
    let folder = tempfile::tempdir()
        .map_err(|e| Error::unavailable("no temporary folder").with_source(e))?;
    let path = folder.path().join("memory");
    let toml = format!(
        r#"
[memory]
path = {path:?}
dim = 8
metric = "l2"

[cold]
backend = "spread"
folders = ["first-disk", "second-disk"]
over = "file"
"#
    );
    let memory = aether::open_blocking(Config::from_toml(&toml)?)?;
    let ids: Vec<PointId> = (0..1_000).map(PointId::Int).collect();
    memory.upsert((0..1_000).map(|i| Point::new(i, vector(i))).collect())?;
    for some in ids.chunks(100) {
        memory.demote(some)?;
    }
    println!(
        "{} points went cold in {} segments:",
        memory.stats().cold_rows,
        memory.stats().segments
    );
    for disk in ["first-disk", "second-disk"] {
        println!("  {disk}: {} files", files(&path.join(disk)));
    }
    let answer = memory.search(SearchRequest::new(vector(77), 3).mode(SearchMode::Complete))?;
    for hit in &answer.hits {
        println!("{} at {:.1}, {:?}", hit.id, hit.distance, hit.tier);
    }
    memory.close()
}
