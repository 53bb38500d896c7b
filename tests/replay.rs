//! The replay meets reference miss ratios digit by digit, and its command answers as it says.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aether::Metric;
use aether::import::Matrix;
use aether::replay::{CacheSize, Choice, Plan, Reference, Request, Topics, Trace, TraceOptions};

/// The traces, beside the repository or in the folder that `AETHER_SHARED` names.
fn traces() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("AETHER_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("traces");
    folder.join("reference.csv").is_file().then_some(folder)
}

fn plan(policies: &str, sizes: Vec<CacheSize>, by_bytes: bool) -> Plan {
    Plan {
        policies: Choice::list(policies).expect("policies"),
        sizes,
        by_bytes,
        unit_us: 1_000_000,
        retrievals: false,
        seed: 1,
        threads: NonZeroUsize::new(2).expect("two"),
    }
}

fn aether(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aether"))
        .args(args)
        .output()
        .expect("the command starts")
}

fn synthetic(requests: impl Iterator<Item = u64>) -> Trace {
    let request = |(time, key)| Request {
        time,
        key,
        size: 1,
        write: false,
        importance: None,
    };
    Trace::from_requests("synthetic", (0..).zip(requests).map(request)).expect("requests in order")
}

#[test]
fn lru_fifo_and_belady_meet_the_reference_in_every_cell_to_six_digits() {
    let Some(folder) = traces() else {
        println!("skipped: ../shared/traces is not there");
        return;
    };
    let names = ["lru", "fifo", "belady"];
    let registry = Arc::new(aether::registry().unwrap());
    let have: Vec<_> = names
        .iter()
        .filter(|name| **name == "belady" || registry.get(aether::Role::Policy, name).is_ok())
        .collect();
    let reference = Reference::read(&folder.join("reference.csv")).unwrap();
    let policies: Vec<&str> = have.iter().map(|name| **name).collect();
    let mut met = 0;
    for name in reference.traces() {
        let path = folder.join(format!("{name}.csv.zst"));
        let trace = Trace::read(&path, &TraceOptions::default(), &mut |_| ()).unwrap();
        let shares = reference.fractions(name).into_iter();
        let sizes = shares.map(CacheSize::Share).collect();
        let plan = plan(&policies.join(","), sizes, trace.has_sizes());
        for cell in plan.run(&registry, &trace, &|_| ()).unwrap() {
            let Some(wanted) = reference.of(&cell) else {
                continue;
            };
            let close = |a: f64, b: f64| (a - b).abs() < 0.6e-6;
            assert!(
                cell.cache_size == wanted.cache_size
                    && close(cell.object_miss_ratio, wanted.object_miss_ratio)
                    && close(cell.byte_miss_ratio, wanted.byte_miss_ratio),
                "expected {wanted:?}, got {cell:?}"
            );
            met += 1;
        }
    }
    println!("{met} cells of {} met", policies.join(", "));
    assert_eq!(met, 26 * policies.len());
}

#[test]
fn a_loop_larger_than_the_cache_has_known_answers() {
    // 100 keys in turn, ten rounds, 50 places: LRU misses always, Belady keeps 49 of them and gives one place to the others.
    let trace = synthetic((0..1000).map(|i| i % 100));
    let registry = Arc::new(aether::registry().unwrap());
    let found = plan("lru,belady", vec![CacheSize::Units(50)], false)
        .run(&registry, &trace, &|_| ())
        .unwrap();
    assert_eq!(found[0].object_miss_ratio, 1.0);
    assert_eq!(found[0].gap_closed, Some(0.0));
    assert_eq!(found[1].gap_closed, Some(1.0));
    // Of each round after the first about 49 to 50 hit.
    let hits = 1000.0 * (1.0 - found[1].object_miss_ratio);
    assert!((9.0 * 49.0..=9.0 * 50.0).contains(&hits), "{hits}");
}

#[test]
fn the_command_prints_a_line_of_json_for_each_policy_and_size_and_writes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walk.csv");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut text = String::from("time,key,size,op\n");
    for t in 0..20_000 {
        let key = rng.u64(..1000).min(rng.u64(..1000));
        text.push_str(&format!("{t},{key},{},0\n", 1 + key % 9));
    }
    std::fs::write(&path, text).unwrap();
    let (path, page) = (path.to_str().unwrap(), folder.path().join("page.html"));
    let out = aether(&[
        "replay",
        "--json",
        "--trace",
        path,
        "--policy",
        "lfu,belady",
        "--cache",
        "1%,10%",
        "--bytes",
        "--report",
        page.to_str().unwrap(),
    ]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let stdout = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<serde_json::Value> = stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    for line in &lines {
        assert_eq!(line["trace"], "walk");
        for field in [
            "cache_fraction",
            "cache_size",
            "object_miss_ratio",
            "byte_miss_ratio",
            "moves_per_access",
            "metadata_bytes_per_item",
            "ns_per_access",
            "gap_closed",
        ] {
            assert!(line[field].is_number(), "{field}: {line}");
        }
        let missed = line["object_miss_ratio"].as_f64().unwrap();
        assert!((0.0..1.0).contains(&missed), "{line}");
    }
    assert!(
        std::fs::read_to_string(page)
            .unwrap()
            .matches("<svg")
            .count()
            == 1
    );
    let again = aether(&[
        "replay", "--trace", path, "--policy", "lru", "--cache", "5%",
    ]);
    let table = String::from_utf8(again.stdout).unwrap();
    assert!(
        table.starts_with("trace") && table.contains("lru"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.csv");
    std::fs::write(&good, "time,key\n0,1\n1,2\n2,1\n").unwrap();
    let bad = folder.path().join("bad.csv");
    std::fs::write(&bad, "time,key\n0,1\nx,2\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    for (args, code, what) in [
        (&["--trace", bad][..], 1, "bad.csv:3"),
        (
            &["--trace", good, "--policy", "lrü"],
            1,
            "unknown policy plug-in",
        ),
        (&["--trace", good, "--policy", "bellady"], 1, "belady"),
        (&["--trace", good, "--policy", "lru:speed=1"], 1, "speed"),
        (
            &["--trace", good, "--policy", "belady:horizon=1"],
            1,
            "belady takes no settings",
        ),
        (
            &[
                "--trace",
                good,
                "--cache",
                "1",
                "--report",
                "no/such/page.html",
            ],
            1,
            "cannot write the report no/such/page.html",
        ),
        (&["--trace", good, "--policy", ""], 1, "at least one policy"),
        (&["--trace", good, "--cache", "0"], 2, "at least 1"),
        (
            &["--trace", good, "--cache", "0.01%"],
            1,
            "is 0: expected at least 1",
        ),
        (&["--trace", good, "--cache", "lots"], 2, "cache size"),
        (&["--trace", good, "--time-unit", "0s"], 2, "--time-unit"),
        (&["--trace", "no/such.csv"], 1, "no/such.csv"),
        (&[], 2, "--trace"),
    ] {
        let out = aether(&[&["replay"], args].concat());
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert!(stderr.contains(what), "{args:?}: {stderr}");
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
    }
    // The limits are no answer to a setting that is wrong.
    let out = aether(&["replay", "--trace", good, "--policy", "lru,flux:history=-1"]);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(
        stderr.contains("flux:history=-1") && !stderr.contains("belady"),
        "{stderr}"
    );
    // A cache of one row is a cache.
    let one = aether(&[
        "replay", "--trace", good, "--policy", "lru", "--cache", "1", "--json",
    ]);
    let text = String::from_utf8(one.stdout).unwrap();
    assert!(text.contains("\"object_miss_ratio\":1.0"), "{text}");
}

#[test]
fn a_memory_records_its_accesses_and_watches_shadows_and_both_can_be_asked_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("accesses.aetrec");
    let toml = format!(
        "[memory]\npath = {:?}\ndim = 4\nmetric = \"l2\"\nhot_budget = \"256KiB\"\n[flux]\ntick = \"0s\"\n[hot]\nbackend = \"flat\"\n\
         [shadow]\npolicies = [\"lru\", \"lfu\"]\nsample = 1.0\n[record]\npath = {recording:?}\n",
        folder.path().join("memory")
    );
    let config = folder.path().join("aether.toml");
    std::fs::write(&config, &toml).unwrap();
    let parsed = aether::Config::from_toml(&toml).unwrap();
    let batch_rows = parsed.flux.batch_rows;
    let memory = aether::open_blocking(parsed).unwrap();
    let vector = |i: u64| vec![i as f32, (i % 7) as f32, 0.0, 1.0];
    for batch in 0..8 {
        let ids = batch * 250..(batch + 1) * 250;
        memory
            .upsert(ids.map(|i| aether::Point::new(i, vector(i))).collect())
            .unwrap();
        memory.tick().unwrap();
    }
    let mut found = 0;
    for i in 0..100 {
        let request = aether::SearchRequest::new(vector(i * 13 % 2000), 5);
        found += memory.search(request).unwrap().hits.len();
        if i % 10 == 0 {
            memory.tick().unwrap();
        }
    }
    let stats = memory.stats();
    let [lru, lfu] = &stats.shadows[..] else {
        panic!("expected two shadows, got {:?}", stats.shadows);
    };
    assert_eq!((lru.policy.as_str(), lfu.policy.as_str()), ("lru", "lfu"));
    assert_eq!((lru.accesses, found), (500, 500));
    let live = stats.counted.hits_hot;
    assert_eq!((lru.live_hits, lfu.live_hits), (live, live));
    assert!(lru.rows > 0 && lru.rows <= lru.capacity_rows);
    // All rows are looked at, so that the live policy's moves are those of the memory, and both shadows tell the same of it.
    let (promoted, demoted) = (stats.counted.promoted, stats.counted.demoted);
    for shadow in [lru, lfu] {
        assert_eq!(
            (shadow.live_promoted, shadow.live_demoted),
            (promoted, demoted + stats.counted.landed_cold)
        );
        let misses = (shadow.accesses - live) as f64;
        let segments = shadow.live_demoted as f64 / batch_rows as f64;
        let usd = misses * 0.000_000_4 + segments * 0.000_005;
        assert!(
            (shadow.live_usd - usd).abs() < 1e-12,
            "{} {usd}",
            shadow.live_usd
        );
        assert!(shadow.live_demoted > 0, "{shadow:?}");
    }
    let id = aether::PointId::Int(13);
    let told = memory.explain_by(&id, "lru").unwrap().unwrap();
    assert!(told.policy == "lru" && told.shadow_tier.is_some(), "{told}");
    let error = memory.explain_by(&id, "arc-of-triumph").unwrap_err();
    assert!(
        error.to_string().contains("the shadows are lru, lfu"),
        "{error}"
    );
    memory.close().unwrap();
    drop(memory);

    // The tier of a shadow outlives the process, though what comes first is heard before any turn.
    let (unrecorded, _) = toml.split_once("[record]").unwrap();
    let unrecorded = aether::Config::from_toml(unrecorded).unwrap();
    let memory = aether::open_blocking(unrecorded).unwrap();
    assert!(memory.get(&id).unwrap().is_some());
    let again = memory.stats();
    for (before, after) in stats.shadows.iter().zip(&again.shadows) {
        // How many rows the budget holds depends on how littered the tables in RAM are, and those of an opening are new: what was there
        // fits again.
        assert!(after.capacity_rows >= before.rows, "{before:?} {after:?}");
        assert!(after.rows + 2 >= before.rows, "{before:?} {after:?}");
        assert!(after.demoted <= before.demoted + 2, "{before:?} {after:?}");
    }
    memory.close().unwrap();
    drop(memory);

    // So do its books.
    let config = config.to_str().unwrap();
    let out = aether(&[
        "explain", "13", "--policy", "lru", "--config", config, "--json",
    ]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(explained["policy"], "lru");
    assert_eq!(explained["standing"]["known"], true, "{text}");

    // People see the live policy's figures below each shadow's, machines beside them.
    let text = aether(&["stats", "--config", config]).stdout;
    let text = String::from_utf8(text).unwrap();
    for what in ["lru, 50", "lfu, 50", "flux, the live policy, meanwhile: "] {
        assert!(text.contains(what), "{what}: {text}");
    }
    let json = aether(&["stats", "--config", config, "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let shadow = &json["shadows"][0];
    for what in ["demoted", "promoted", "read_us_per_access", "usd"] {
        let live = &shadow[format!("live_{what}")];
        assert!(
            live.is_number() && shadow[what].is_number(),
            "{what}: {shadow}"
        );
    }
    assert_eq!(shadow["live_hits"], again.shadows[0].live_hits, "{shadow}");

    let trace = Trace::read(&recording, &TraceOptions::default(), &mut |_| ()).unwrap();
    assert_eq!((trace.requests(), trace.keys()), (2000 + 500, 2000));
    assert_eq!(trace.unit_us(), Some(1));
    let out = aether(&[
        "replay",
        "--trace",
        recording.to_str().unwrap(),
        "--policy",
        "lru,belady",
        "--cache",
        "10%",
        "--json",
    ]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(
        text.lines().count(),
        2,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(text.contains("\"trace\":\"accesses\""), "{text}");
}

#[test]
fn questions_about_vectors_show_each_policy_with_and_without_the_signal_of_retrievals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.jsonl");
    let mut rng = fastrand::Rng::with_seed(4);
    let mut text = String::new();
    for _ in 0..300 {
        let vector: Vec<f32> = (0..4).map(|_| rng.f32()).collect();
        text.push_str(&format!("{{\"vector\":{vector:?}}}\n"));
    }
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let base = [
        "replay",
        "--json",
        "--semantic",
        path,
        "--metric",
        "l2",
        "--cache",
        "10%",
    ];
    let small = [
        "--topics",
        "20",
        "--phrasings",
        "3",
        "--queries",
        "400",
        "--k",
        "5",
    ];
    let out = aether(&[&base[..], &small, &["--policy", "lru,belady"]].concat());
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let stdout = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<serde_json::Value> = stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let told: Vec<_> = lines.iter().map(|l| (&l["policy"], &l["signal"])).collect();
    assert_eq!(
        format!("{told:?}").matches("retrievals").count(),
        1,
        "{told:?}"
    );
    assert_eq!(lines.len(), 3, "{told:?}");
    // `lru` learns nothing from the signal, so the two rows are one.
    assert_eq!(lines[0]["object_miss_ratio"], lines[1]["object_miss_ratio"]);
    assert_eq!(lines[1]["wishes_per_access"], 0.0);
    for line in &lines {
        let (missed, weighed) = (&line["object_miss_ratio"], &line["importance_miss_ratio"]);
        assert!(
            missed.as_f64().unwrap() < 1.0 && weighed.is_number(),
            "{line}"
        );
    }
    // People are shown the same figures.
    let table = aether(&[&base[..1], &base[2..], &small, &["--policy", "lru"]].concat());
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("importance miss") && table.contains("wishes"),
        "{table}"
    );
    let wrong = aether(&[&base[..], &["--topics", "301"]].concat());
    let stderr = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        !wrong.status.success() && stderr.contains("expected 1 to 300 topics"),
        "{stderr}"
    );
}

/// Sessions about topics that come back: `flux` that learns which rows are retrieved together misses fewer, for no more promotions than it is
/// allowed; and what it promotes unasked does not keep out what is asked for.
#[test]
fn rows_retrieved_together_are_brought_in_before_they_are_asked_for() {
    let mut rng = fastrand::Rng::with_seed(5);
    let base = Matrix::new(8, (0..2_000 * 8).map(|_| rng.f32()).collect()).unwrap();
    let topics = Topics {
        topics: 100,
        queries: 8_000,
        ..Topics::default()
    };
    let trace = topics.workload("sessions", &base, Metric::L2).unwrap();
    let plan = Plan {
        retrievals: true,
        ..plan(
            "flux:neighbours=0.1,flux,lru,arc,s3-fifo,two-q,lfu,gdsf",
            vec![CacheSize::Share(0.1)],
            false,
        )
    };
    let registry = Arc::new(aether::registry().unwrap());
    let cells = plan.run(&registry, &trace, &|_| ()).unwrap();
    let of = |signal: &str| {
        let of = cells.iter().filter(|c| c.signal == signal);
        of.min_by(|a, b| a.object_miss_ratio.total_cmp(&b.object_miss_ratio))
            .unwrap()
    };
    // The best of all that know keys alone.
    let (keys, told) = (of("keys"), of("retrievals"));
    assert_eq!(told.policy, "flux:neighbours=0.1");
    assert!(
        told.object_miss_ratio < keys.object_miss_ratio - 0.003,
        "{} {}",
        told.object_miss_ratio,
        keys.object_miss_ratio
    );
    let wishes = told.wishes_per_access.unwrap();
    assert!(wishes > 0.01 && wishes <= 0.1, "{wishes}");
}
