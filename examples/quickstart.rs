//! The first thing a user does: open a memory, write, search, look why a point is where it is.
//!
//! `cargo run --example quickstart`

use aether::prelude::*;
use serde_json::json;

fn main() -> aether::Result<()> {
    let folder = tempfile::tempdir()
        .map_err(|e| Error::unavailable("no temporary folder").with_source(e))?;
    let mut config = Config::default();
    config.memory.path = folder.path().join("memory");
    config.memory.dim = 3;
    let memory = aether::open_blocking(config)?;

    // Returns when it would survive a power cut. Ids are integers, UUIDs or texts.
    memory.upsert(vec![
        Point::new(1, vec![1.0, 0.0, 0.0]).with_payload(json!({ "word": "east" })),
        Point::new("north", vec![0.0, 1.0, 0.0]).with_payload(json!({ "word": "north" })),
        Point::new("up", vec![0.0, 0.0, 1.0]),
    ])?;

    // Move a point to the cold store by hand; the scheduler does so by itself when RAM runs short.
    memory.demote(&[PointId::Int(1)])?;

    // It is found all the same, and the answer says what was looked at.
    let request = SearchRequest::new(vec![0.9, 0.3, 0.0], 2).parts(Parts::default());
    let answer = memory.search(request)?;
    for hit in &answer.hits {
        println!(
            "{:<6} distance {:.3} {:?} {:?}",
            hit.id.to_string(),
            hit.distance,
            hit.tier,
            hit.payload
        );
    }
    println!("{:?}", answer.coverage);

    // Say which answer was useful: it stays near.
    memory.feedback(&answer.hits[0].id, 1.0)?;
    if let Some(why) = memory.explain(&PointId::Int(1))? {
        println!("\n{why}");
    }
    memory.close()
}
