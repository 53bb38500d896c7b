//! A worker that speaks JSON lines, for comparing this index with others on the same data in one run.
//!
//! ```text
//! > {"op":"build","dir":"data/fmnist-784","metric":"l2","threads":1}
//! < {"wall":12.3,"cpu":12.2,"rss":260000000,"params":[16,32],"nq":1000}
//! > {"op":"run","param":32,"k":10,"nq":1000,"out":"x/ids.i32","mode":"batch"}
//! < {"wall":0.21,"cpu":0.21}
//! > {"op":"quit"}
//! ```
//!
//! `build` reads `base.fvecs` and `query.fvecs` of the folder; `run` searches with `ef` = `param`, one query after another on
//! one thread, and writes row numbers as little-endian i32 to `out`, -1 where there is no answer. Where the folder has
//! `gt.ivecs`, the answer to `run` has the recall as well.

use std::error::Error;
use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Metric, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex};
use serde_json::{Value, json};

/// Reads rows of a 4-byte length and that many 4-byte numbers.
fn read_vecs<T>(path: &Path, number: fn([u8; 4]) -> T) -> Result<(usize, Vec<T>), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let word = |b: &[u8]| -> Result<[u8; 4], Box<dyn Error>> { Ok(b.try_into()?) };
    let dim = u32::from_le_bytes(word(bytes.get(..4).ok_or("empty file")?)?) as usize;
    let mut all = Vec::with_capacity(bytes.len() / 4);
    for row in bytes.chunks_exact(4 + 4 * dim) {
        for x in row[4..].chunks_exact(4) {
            all.push(number(word(x)?));
        }
    }
    Ok((dim, all))
}

/// CPU seconds of this process so far: fields 14 and 15 of /proc/self/stat, in ticks of 10 ms; the sum over tasks' schedstat
/// where that is there, in nanoseconds.
fn cpu_seconds() -> f64 {
    let fine = fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|s| s.split(' ').next()?.parse::<f64>().ok())
        .map(|ns| ns * 1e-9);
    fine.unwrap_or(0.0)
}

fn resident_bytes() -> i64 {
    fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|s| s.split(' ').nth(1)?.parse::<i64>().ok())
        .map_or(0, |pages| pages * 4096)
}

struct Built {
    index: HnswIndex,
    dim: usize,
    queries: Vec<f32>,
    truth: Option<(usize, Vec<i32>)>,
}

fn build(request: &Value) -> Result<(Built, Value), Box<dyn Error>> {
    let dir = Path::new(request["dir"].as_str().ok_or("dir: expected a path")?);
    let metric = match request["metric"].as_str() {
        Some("cosine") => Metric::Cosine,
        Some("ip") => Metric::InnerProduct,
        _ => Metric::L2,
    };
    let threads = request["threads"].as_u64().unwrap_or(1) as usize;
    let (dim, base) = read_vecs(&dir.join("base.fvecs"), f32::from_le_bytes)?;
    let (_, queries) = read_vecs(&dir.join("query.fvecs"), f32::from_le_bytes)?;
    let truth = read_vecs(&dir.join("gt.ivecs"), i32::from_le_bytes).ok();
    let rows: Vec<Row> = (0..base.len() / dim).map(|i| Row(i as u64)).collect();
    let config = HnswConfig {
        threads,
        m: request["m"].as_u64().unwrap_or(16) as usize,
        code_bits: std::env::var("BITS").map_or(0, |b| b.parse().unwrap_or(0)),
        ..HnswConfig::default()
    };
    let index = HnswIndex::new(dim, metric, 7, config)?;
    let (rss, cpu, start) = (resident_bytes(), cpu_seconds(), Instant::now());
    index.insert_batch(&rows, &base)?;
    let wall = start.elapsed().as_secs_f64();
    // The main thread only waits while others build.
    let cpu = if threads == 1 {
        cpu_seconds() - cpu
    } else {
        wall * threads as f64
    };
    let answer = json!({
        "wall": wall, "cpu": cpu, "rss": resident_bytes() - rss, "bytes": index.bytes(),
        "params": [10, 14, 20, 28, 40, 56, 80, 160, 320, 640], "nq": queries.len() / dim,
    });
    Ok((
        Built {
            index,
            dim,
            queries,
            truth,
        },
        answer,
    ))
}

fn run(built: &Built, request: &Value) -> Result<Value, Box<dyn Error>> {
    let ef = request["param"]
        .as_u64()
        .ok_or("param: expected a number")? as usize;
    let k = request["k"].as_u64().unwrap_or(10) as usize;
    let nq = request["nq"].as_u64().unwrap_or(1_000) as usize;
    let options = SearchOptions {
        ef: Some(ef),
        ..SearchOptions::default()
    };
    let mut answers = Vec::with_capacity(nq);
    let (cpu, start) = (cpu_seconds(), Instant::now());
    for query in built.queries.chunks_exact(built.dim).take(nq) {
        answers.push(built.index.search(query, k, &options)?);
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    if let Some(out) = request["out"].as_str() {
        let mut bytes = Vec::with_capacity(nq * k * 4);
        for answer in &answers {
            for i in 0..k {
                let id = answer.get(i).map_or(-1, |n| n.row.0 as i32);
                bytes.extend_from_slice(&id.to_le_bytes());
            }
        }
        fs::write(out, bytes)?;
    }
    let recall = built.truth.as_ref().map(|(width, truth)| {
        let hits: usize = answers
            .iter()
            .zip(truth.chunks_exact(*width))
            .map(|(answer, truth)| {
                answer
                    .iter()
                    .filter(|n| truth[..k].contains(&(n.row.0 as i32)))
                    .count()
            })
            .sum();
        hits as f64 / (answers.len() * k) as f64
    });
    Ok(json!({"wall": wall, "cpu": cpu, "recall": recall}))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut built = None;
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = match request["op"].as_str() {
            Some("build") => {
                let (fresh, answer) = build(&request)?;
                built = Some(fresh);
                answer
            }
            Some("run") => run(built.as_ref().ok_or("run before build")?, &request)?,
            Some("quit") => break,
            other => return Err(format!("op: expected build, run or quit, got {other:?}").into()),
        };
        writeln!(stdout(), "{answer}")?;
        stdout().flush()?;
    }
    Ok(())
}
