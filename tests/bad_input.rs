//! Bad input is an error that names the field, what was expected and what came; it is never a panic, and it changes nothing. Through the
//! facade, with the plug-ins of the default configuration.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "bad_input/damage.rs"]
mod damage;
#[path = "bad_input/world.rs"]
mod world;

use std::fmt::Debug;
use std::time::Duration;

use aether::config::SearchMode;
use aether::{Config, ErrorKind, Point, PointId, Result, SearchRequest};
use serde_json::json;
use world::{DIM, World, ids, points, vector};

/// The call is refused with words that hold all of `parts`, and nothing has changed.
#[track_caller]
fn refuse<T: Debug>(world: &World, call: Result<T>, parts: &[&str]) {
    let error = call.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    assert_eq!(world.fingerprint(), world.before, "{text}");
}

fn with(i: usize, value: f32) -> Vec<f32> {
    let mut v = vector(77);
    v[i] = value;
    v
}

#[test]
fn bad_vectors_are_refused_by_upsert_and_search() {
    let world = World::new("cosine", "");
    let cases: &[(Vec<f32>, &[&str])] = &[
        (
            vec![1.0; DIM - 1],
            &["vector", "expected 8 dimensions", "got 7"],
        ),
        (
            vec![1.0; DIM + 1],
            &["vector", "expected 8 dimensions", "got 9"],
        ),
        (Vec::new(), &["vector", "expected 8 dimensions", "got 0"]),
        (
            with(3, f32::NAN),
            &["vector[3]", "expected a finite number", "got NaN"],
        ),
        (
            with(0, f32::INFINITY),
            &["vector[0]", "expected a finite number", "got inf"],
        ),
        (with(7, f32::NEG_INFINITY), &["vector[7]", "got -inf"]),
        (
            with(1, 1e30),
            &["squared norm", "limit", "scale the vectors down"],
        ),
        (vec![0.0; DIM], &["expected a non-zero vector", "cosine"]),
    ];
    for (bad, parts) in cases {
        let call = world.memory().upsert(vec![Point::new(500, bad.clone())]);
        refuse(&world, call, &[&["point 0"], *parts].concat());
        let call = world.memory().search(SearchRequest::new(bad.clone(), 5));
        refuse(&world, call, &[&["query"], *parts].concat());
    }
}

#[test]
fn bad_ids_are_refused_by_every_call() {
    let world = World::new("cosine", "");
    let m = world.memory();
    for (bad, parts) in [
        (
            PointId::from(""),
            ["id", "1 to 512 bytes", "got an empty text"],
        ),
        (
            PointId::from("x".repeat(513)),
            ["id", "1 to 512 bytes", "got 513 bytes"],
        ),
        (
            PointId::from("ü".repeat(257)),
            ["id", "1 to 512 bytes", "got 514 bytes"],
        ),
    ] {
        let parts = &parts;
        // In company of a good one, which must not go through either.
        let two = [PointId::Int(1), bad.clone()];
        refuse(
            &world,
            m.upsert(vec![Point::new(bad.clone(), vector(1))]),
            parts,
        );
        refuse(&world, m.get(&bad), parts);
        refuse(&world, m.get_many(&two, aether::Parts::default()), parts);
        refuse(&world, m.delete(&two), parts);
        refuse(&world, m.pin(&two), parts);
        refuse(&world, m.unpin(&two), parts);
        refuse(&world, m.demote(&two), parts);
        refuse(&world, m.promote(&two), parts);
        refuse(&world, m.feedback(&bad, 0.5), parts);
        refuse(&world, m.explain(&bad), parts);
    }
    // The longest that is allowed is allowed.
    let longest = PointId::from("y".repeat(512));
    m.upsert(vec![Point::new(longest.clone(), vector(5))])
        .unwrap();
    assert!(m.get(&longest).unwrap().is_some());
}

#[test]
fn bad_searches_are_refused() {
    let world = World::new("cosine", "[limits]\nk = 50\n");
    let request = |k| SearchRequest::new(vector(3), k);
    let m = world.memory();
    for mode in SearchMode::ALL {
        refuse(
            &world,
            m.search(request(0).mode(mode)),
            &["k", "expected 1 to 50", "limits.k", "got 0"],
        );
        refuse(
            &world,
            m.search(request(51).mode(mode)),
            &["k", "expected 1 to 50", "got 51"],
        );
        refuse(
            &world,
            m.search(request(usize::MAX).mode(mode)),
            &["k", "expected 1 to 50"],
        );
        refuse(
            &world,
            m.search(request(5).ef(0).mode(mode)),
            &["ef", "expected at least 1", "got 0"],
        );
        for probe in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let call = m.search(request(5).probe(probe).mode(mode));
            refuse(
                &world,
                call,
                &["probe", "expected 0.0 to 1.0", &format!("got {probe}")],
            );
        }
    }
    // Enormous numbers that are allowed allocate no enormous buffers.
    let answer = m
        .search(request(50).ef(usize::MAX).mode(SearchMode::Complete))
        .unwrap();
    assert_eq!(answer.hits.len(), 50);
}

#[test]
fn bad_rewards_temperatures_and_times_are_refused() {
    let world = World::new("cosine", "");
    let m = world.memory();
    for bad in [-0.01, 1.01, f32::NAN, f32::INFINITY] {
        let got = format!("got {bad}");
        refuse(
            &world,
            m.feedback(&PointId::Int(1), bad),
            &["reward", "expected 0.0 to 1.0", &got],
        );
    }
    for bad in [-1.0, f64::NAN, f64::NEG_INFINITY] {
        let got = format!("got {bad}");
        refuse(
            &world,
            m.set_temperature(bad),
            &["temperature", "expected 0 or more", &got],
        );
    }
    let mortal = Point::new(500, vector(1)).with_ttl(Duration::ZERO, false);
    refuse(
        &world,
        m.upsert(vec![mortal]),
        &["point 0", "ttl", "expected more than zero"],
    );
}

#[test]
fn batches_beyond_the_limits_are_refused_whole() {
    let limits = "[limits]\nbatch_rows = 100\nbatch_bytes = \"1MiB\"\n";
    let world = World::new("cosine", limits);
    let m = world.memory();
    refuse(
        &world,
        m.upsert(points(500..601)),
        &[
            "batch",
            "at most 100 points",
            "limits.batch_rows",
            "got 101",
            "split it",
        ],
    );
    for call in [
        m.delete(&ids(0..101)),
        m.pin(&ids(0..101)),
        m.unpin(&ids(0..101)),
    ] {
        refuse(
            &world,
            call,
            &["batch", "at most 100 ids", "limits.batch_rows", "got 101"],
        );
    }
    let large = |n: usize| json!({ "text": "x".repeat(n) });
    let point = Point::new(500, vector(1)).with_payload(large(256 << 10));
    refuse(
        &world,
        m.upsert(vec![point]),
        &[
            "point 0",
            "payload",
            "at most 256KiB",
            "limits.payload_bytes",
            "got 262155 bytes",
        ],
    );
    let many = (0..5).map(|i| Point::new(500 + i, vector(i)).with_payload(large(250_000)));
    refuse(
        &world,
        m.upsert(many.collect()),
        &[
            "batch",
            "at most 1MiB",
            "limits.batch_bytes",
            "bytes; split it",
        ],
    );
}

#[test]
fn a_half_bad_batch_changes_nothing() {
    let world = World::new("cosine", "");
    // New points, replaced points, and one bad point in the middle.
    let batch = |bad: Point| {
        let mut batch: Vec<Point> = (0..20).map(|i| Point::new(i, vector(900 + i))).collect();
        batch.extend(points(600..640));
        batch.insert(31, bad);
        batch
    };
    let m = world.memory();
    refuse(
        &world,
        m.upsert(batch(Point::new(700, with(2, f32::NAN)))),
        &["point 31", "vector[2]"],
    );
    refuse(
        &world,
        m.upsert(batch(Point::new("", vector(1)))),
        &["point 31", "id"],
    );
    let twice = batch(Point::new(5, vector(1)));
    refuse(
        &world,
        m.upsert(twice),
        &["point 31", "id 5 is in the batch twice"],
    );
    // The same batch without the bad point goes through.
    m.upsert(batch(Point::new(700, vector(700)))).unwrap();
    assert_eq!(
        m.get(&PointId::Int(7)).unwrap().unwrap().vector.unwrap(),
        vector(907)
    );
}

#[test]
fn wrong_configurations_point_at_their_line_and_leave_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    let head = format!("[memory]\npath = {path:?}\n");
    for (text, parts) in [
        (
            "dim = 8\nmetrics = \"l2\"\n",
            &["configuration:4:", "metrics", "metric"][..],
        ),
        (
            "dim = 8\n[hot]\nbackend = \"hnws\"\n",
            &["configuration:5:", "hnws", "hnsw"],
        ),
        (
            "dim = 8\n[hot]\nbackend = \"hnsw\"\nef_serch = 3\n",
            &["configuration:6:", "ef_serch"],
        ),
        (
            "dim = 8\n[search]\nprobe = \"much\"\n",
            &["configuration:5:", "probe"],
        ),
        (
            "dim = 8\nhot_budget = \"12 apples\"\n",
            &["configuration:4:", "hot_budget", "12 apples"],
        ),
        ("dim = 65537\n", &["dim", "65536"]),
        ("", &["memory.dim", "dim = 384"]),
        (
            "dim = 8\n[codec]\nbackend = \"zstd\"\nlevel = 99\n",
            &["configuration:6:", "level", "99"],
        ),
        (
            "dim = 8\n[flux]\nlow_water = 0.99\n",
            &["low_water", "high_water"],
        ),
        ("dim = 8\n[polcy]\n", &["polcy", "policy"]),
    ] {
        let opened = Config::from_toml(&format!("{head}{text}")).and_then(aether::open_blocking);
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}: {error}");
        let words = error.to_string();
        for part in parts {
            assert!(words.contains(part), "{part:?} is missing in: {words}");
        }
    }
    // None of them has decided what the memory is.
    let other = format!("{head}dim = 5\nmetric = \"l2\"\n");
    let memory = aether::open_blocking(Config::from_toml(&other).unwrap()).unwrap();
    assert_eq!((memory.handle().dim(), memory.stats().points), (5, 0));
}

#[test]
fn settings_that_do_not_fit_what_is_stored_are_refused_and_change_nothing() {
    let mut world = World::new("cosine", "");
    world.close();
    for (key, value, parts) in [
        ("dim = 8", "dim = 9", ["memory.dim", "8", "9"]),
        (
            "metric = \"cosine\"",
            "metric = \"l2\"",
            ["memory.metric", "cosine", "l2"],
        ),
    ] {
        let text = world.toml.replace(key, value);
        assert_ne!(text, world.toml);
        let opened = aether::open_blocking(Config::from_toml(&text).unwrap());
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        parts
            .iter()
            .for_each(|p| assert!(error.to_string().contains(p), "{error}"));
    }
    world.open();
    assert_eq!(world.fingerprint(), world.before);
}

#[test]
fn a_closed_memory_refuses_and_a_second_close_does_nothing() {
    let world = World::new("cosine", "");
    let m = world.memory();
    m.close().unwrap();
    m.close().unwrap();
    let closed = |kind: ErrorKind| assert_eq!(kind, ErrorKind::Closed);
    closed(m.upsert(points(1..2)).unwrap_err().kind());
    closed(m.get(&PointId::Int(1)).unwrap_err().kind());
    closed(
        m.search(SearchRequest::new(vector(1), 1))
            .unwrap_err()
            .kind(),
    );
    closed(m.delete(&ids(1..2)).unwrap_err().kind());
    closed(m.tick().unwrap_err().kind());
    closed(m.compact().unwrap_err().kind());
}
