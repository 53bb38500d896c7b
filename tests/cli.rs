//! The command as a user runs it: what it prints, where, and with which exit code.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn aether(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aether"))
        .args(args)
        .current_dir(folder)
        .env_remove("AETHER_LOG")
        .output()
        .unwrap()
}

/// What a command that must succeed prints when it is given some input.
fn fed(folder: &Path, args: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aether"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{args:?}");
    text(&out.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must succeed and answer one JSON value.
fn json(folder: &Path, args: &[&str]) -> Value {
    let out = aether(folder, &[args, &["--json"]].concat());
    assert_eq!(
        out.status.code(),
        Some(0),
        "{args:?}: {}",
        text(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Runs a command that must fail with a code and say certain words on stderr.
fn refused(folder: &Path, args: &[&str], code: i32, words: &str) {
    let out = aether(folder, args);
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(words), "{args:?}: {stderr}");
}

/// A hundred points on a circle, with payloads.
fn circle(folder: &Path) {
    let line = |i: usize| {
        let angle = i as f64 * 0.0628;
        let vector = [angle.cos(), angle.sin(), 0.5];
        format!("{{\"id\": \"p{i}\", \"vector\": {vector:?}, \"payload\": {{\"n\": {i}}}}}\n")
    };
    std::fs::write(
        folder.join("circle.jsonl"),
        (0..100).map(line).collect::<String>(),
    )
    .unwrap();
}

#[test]
fn a_memory_is_made_searched_explained_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    let imported = json(
        here,
        &[
            "import",
            "circle.jsonl",
            "--dir",
            "m",
            "--set",
            "memory.metric=l2",
        ],
    );
    assert_eq!(
        (&imported["points"], &imported["dim"]),
        (&100.into(), &3.into())
    );
    let kept = std::fs::read_to_string(here.join("m/aether.toml")).unwrap();
    assert!(
        kept.contains("metric = \"l2\"") && kept.contains("dim = 3"),
        "{kept}"
    );

    // The folder alone is enough from here on: it knows its settings.
    let answer = json(
        here,
        &[
            "search", "--dir", "m", "--like", "p7", "-k", "3", "--mode", "complete",
        ],
    );
    let ids: Vec<&Value> = answer["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| &h["id"])
        .collect();
    assert_eq!(ids[0], "p7");
    assert!(
        ids.contains(&&"p6".into()) && ids.contains(&&"p8".into()),
        "{ids:?}"
    );
    assert_eq!(answer["hits"][0]["payload"]["n"], 7);
    let answer = json(
        here,
        &["search", "--dir", "m", "--vector", "[1, 0, 0.5]", "-k", "1"],
    );
    assert_eq!(answer["hits"][0]["id"], "p0");

    let got = json(here, &["get", "p9", "--dir", "m"]);
    assert_eq!(got[0]["payload"]["n"], 9);
    assert_eq!(json(here, &["explain", "p9", "--dir", "m"])["tier"], "hot");
    assert_eq!(json(here, &["stats", "--dir", "m"])["points"], 100);
    let report = json(here, &["check", "m"]);
    assert_eq!(
        (&report["points"], &report["problem_count"]),
        (&100.into(), &0.into())
    );
    let words = aether(here, &["explain", "p9", "--dir", "m"]);
    assert!(text(&words.stdout).contains("p9"), "{words:?}");

    refused(
        here,
        &["get", "p9", "nobody", "--dir", "m"],
        1,
        "no point nobody",
    );
    refused(
        here,
        &["explain", "nobody", "--dir", "m"],
        1,
        "no point nobody",
    );
    refused(
        here,
        &["search", "--dir", "m", "--vector", "[1, 0]"],
        1,
        "expected 3 dimensions, got 2",
    );
    refused(
        here,
        &["search", "--dir", "m", "--vector", "1, 0"],
        2,
        "--vector",
    );
    refused(
        here,
        &["search", "--dir", "m", "--like", "nobody"],
        1,
        "nobody",
    );
    refused(
        here,
        &[
            "import",
            "circle.jsonl",
            "--dir",
            "m",
            "--set",
            "memory.dim=4",
        ],
        1,
        "got 3",
    );
}

#[test]
fn a_damaged_memory_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    json(here, &["import", "circle.jsonl", "--dir", "m"]);
    let file = std::fs::read_dir(here.join("m"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.is_file() && p.extension().is_some_and(|e| e == "redb"));
    let file = file.expect("the metadata store's file");
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    std::fs::write(&file, bytes).unwrap();
    let out = aether(here, &["check", "m"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(text(&out.stderr).contains("error: "), "{out:?}");
}

#[test]
fn a_name_mistyped_makes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for args in [
        &["stats", "--dir", "nowhere"][..],
        &["get", "1", "--dir", "nowhere"],
        &["check", "nowhere"],
    ] {
        refused(here, args, 1, "no memory in nowhere");
    }
    refused(
        here,
        &["import", "nothing.npy", "--dir", "m"],
        1,
        "nothing.npy: cannot open",
    );
    assert!(
        std::fs::read_dir(here).unwrap().next().is_none(),
        "a failing command left something behind"
    );
}

#[test]
fn wrong_usage_is_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    refused(here, &[], 2, "Usage");
    refused(here, &["serach"], 2, "search");
    refused(here, &["search", "--dir", "m"], 2, "--vector");
    refused(
        here,
        &["plugins", "--role", "hut"],
        2,
        "expected hot, cold, meta, codec or policy",
    );
    refused(
        here,
        &[
            "bench",
            "search",
            "--base",
            "a",
            "--queries",
            "b",
            "--sweep",
            "m=3",
        ],
        2,
        "expected ef=16",
    );
}

#[test]
fn plugins_and_settings_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let plugins = json(here, &["plugins"]);
    for p in plugins.as_array().unwrap() {
        let has = |key: &str| p.get(key).is_some();
        assert!(
            ["role", "name", "summary", "options", "crate", "persistent"]
                .into_iter()
                .all(has),
            "{p}"
        );
    }
    std::fs::write(
        here.join("aether.toml"),
        "[memory]\ndim = 7\n[hot]\nbackend = \"flat\"\n",
    )
    .unwrap();
    let settings = json(here, &["config", "show"]);
    let find = |key: &str| {
        settings
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&find("dim")["value"], &find("dim")["origin"]),
        (&"7".into(), &"aether.toml:2".into())
    );
    assert_eq!(find("hot_budget")["origin"], "default");
    assert_eq!(json(here, &["config", "check", "aether.toml"])["ok"], true);
    std::fs::write(here.join("bad.toml"), "[memory]\ndimm = 7\n").unwrap();
    refused(here, &["config", "check", "bad.toml"], 1, "bad.toml:2:1");
    refused(
        here,
        &["config", "check", "none.toml"],
        1,
        "none.toml: cannot read",
    );
    refused(
        here,
        &["config", "show", "bad.toml"],
        1,
        "did you mean `dim`?",
    );
}

#[test]
fn benches_answer_one_object_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    let data = [
        "--base",
        "circle.jsonl",
        "--queries",
        "circle.jsonl",
        "--seconds",
        "0",
        "-k",
        "5",
        "--json",
    ];
    let run = |args: &[&str]| -> Vec<Value> {
        let out = aether(here, &[&["bench"], args, &data].concat());
        assert_eq!(
            out.status.code(),
            Some(0),
            "{args:?}: {}",
            text(&out.stderr)
        );
        text(&out.stdout)
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let keys = [
        "recall",
        "qps",
        "p50_us",
        "p99_us",
        "build_s",
        "ram_bytes",
        "ram_parts",
        "cold_bytes",
        "cold_requests",
    ];
    for args in [
        &["search", "--sweep", "ef=8,64"][..],
        &["search", "--bare", "--sweep", "ef=8,64"],
    ] {
        let lines = run(args);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines
                .iter()
                .all(|l| keys.iter().all(|k| l.get(k).is_some())),
            "{lines:?}"
        );
        assert!(lines[1]["recall"].as_f64().unwrap() > 0.95, "{lines:?}");
        assert_eq!((&lines[0]["ef"], &lines[1]["ef"]), (&8.into(), &64.into()));
    }
    let lines = run(&["tiered", "--hot", "64KiB", "--sweep", "probe=0.1,1"]);
    let modes: Vec<&str> = lines.iter().map(|l| l["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["hot-only", "bounded", "bounded", "complete"]);
    assert_eq!(lines[3]["recall"], 1.0, "a complete search is exact");
    assert!(
        lines
            .iter()
            .all(|l| keys.iter().all(|k| l.get(k).is_some())),
        "{lines:?}"
    );
}

/// The hot index alone: after its rows were replaced, behind filters, and under everything at once.
#[test]
fn the_hot_index_is_measured_under_churn_filters_and_mixed_load() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| -> Vec<Value> {
        let made = ["--generate", "clustered:3000x16", "--limit-queries", "20"];
        let rest = ["--seconds", "0", "--json"];
        let out = aether(folder.path(), &[&["bench"], args, &made, &rest].concat());
        assert_eq!(
            out.status.code(),
            Some(0),
            "{args:?}: {}",
            text(&out.stderr)
        );
        let lines = text(&out.stdout);
        lines
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let number = |line: &Value, key: &str| {
        line[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key}: {line}"))
    };

    let churn = run(&["churn", "--rounds", "1", "--sweep", "ef=20,100"]);
    assert_eq!(churn.len(), 2);
    for line in &churn {
        assert_eq!(line["rows"], 1000);
        for key in ["recall", "fresh_recall"] {
            assert!((0.8..=1.0).contains(&number(line, key)), "{line}");
        }
        let ratio = number(line, "touched_bytes") / number(line, "fresh_touched_bytes");
        assert!((0.7..1.4).contains(&ratio), "{line}");
    }

    let filters = run(&["filters", "--shares", "1,0.1,0.01"]);
    let accepted: Vec<f64> = filters.iter().map(|l| number(l, "accepted")).collect();
    assert_eq!(accepted[0], 3000.0);
    assert!(
        (200.0..400.0).contains(&accepted[1]) && accepted[2] < 60.0,
        "{accepted:?}"
    );
    assert!(
        filters.iter().all(|l| number(l, "recall") >= 0.95),
        "{filters:?}"
    );

    let mixed = run(&[
        "mixed",
        "--threads",
        "2",
        "--minutes",
        "0.01",
        "--interval",
        "0.3",
    ]);
    let phases: Vec<&str> = mixed.iter().map(|l| l["phase"].as_str().unwrap()).collect();
    assert_eq!(phases[0], "idle");
    assert!(
        phases.len() > 1 && phases[1..].iter().all(|p| *p == "mixed"),
        "{phases:?}"
    );
    for line in &mixed {
        let rows = number(line, "rows");
        assert!(
            (1_498.0..=1_502.0).contains(&rows) && number(line, "recall") > 0.9,
            "{line}"
        );
    }
    assert_eq!(mixed[0]["writes_per_s"], 0.0);
    assert!(number(&mixed[1], "writes_per_s") > 0.0);

    let twice = run(&["search", "--bare", "--sweep", "threads=1,2"]);
    let threads: Vec<&Value> = twice.iter().map(|l| &l["threads"]).collect();
    assert_eq!(threads, [1, 2]);
    assert!(number(&twice[0], "hops") > 0.0 && number(&twice[0], "touched_bytes") > 0.0);
    refused(
        folder.path(),
        &[
            "bench",
            "filters",
            "--generate",
            "clustered:99x4",
            "--shares",
            "2",
        ],
        2,
        "0 to 1",
    );
    refused(
        folder.path(),
        &["bench", "mixed", "--generate", "clustered:3x4"],
        2,
        "at least 4 rows",
    );
}

/// An index that chooses says what it chose, in `stats` and in `explain`.
#[test]
fn the_index_that_chooses_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    let set = ["--dir", "memory", "--set", "hot.backend=auto"];
    let made = [&["import", "circle.jsonl"][..], &set, &["--json"]].concat();
    let out = aether(here, &made);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let stats = text(&aether(here, &[&["stats"][..], &set].concat()).stdout);
    assert!(stats.contains("flat: comparing a row takes"), "{stats}");
    let why = text(&aether(here, &[&["explain", "p7"][..], &set].concat()).stdout);
    assert!(
        why.contains("The index is flat: comparing a row takes"),
        "{why}"
    );
}

/// What is recommended must be in the list, exact where exactness is promised, and loadable as it is printed.
#[test]
fn codecs_are_tried_on_a_file_and_one_is_recommended() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    let report = json(
        here,
        &["codecs", "circle.jsonl", "--seconds", "0", "--sample", "80"],
    );
    assert_eq!(
        (&report["rows"], &report["sample"]),
        (&100.into(), &80.into())
    );
    let codecs = report["codecs"].as_array().unwrap();
    let named = |name: &str| codecs.iter().find(|c| c["codec"] == name).unwrap();
    for name in ["raw", "lz4", "zstd"] {
        assert_eq!(named(name)["fidelity"], "exact");
        assert_eq!(named(name)["recall"], 1.0);
    }
    for name in ["f16", "sq8", "f16+zstd", "sq8+lz4"] {
        assert!(named(name)["ratio"].as_f64().unwrap() > 1.0, "{report}");
        assert!(named(name)["recall"].as_f64().unwrap() <= 1.0);
    }
    assert!(!codecs.iter().any(|c| c["codec"] == "zstd+lz4"));
    let recommended = report["recommended"].as_str().unwrap();
    assert_eq!(named(recommended)["fidelity"], "exact");
    let words = text(&aether(here, &["codecs", "circle.jsonl", "--seconds", "0"]).stdout);
    assert!(
        words.contains("[codec]") && words.contains("recall@10"),
        "{words}"
    );
    refused(
        here,
        &["codecs", "circle.jsonl", "--recall", "2"],
        2,
        "0.0 to 1.0",
    );
    refused(here, &["codecs", "none.npy"], 1, "none.npy");
    std::fs::write(here.join("one.jsonl"), "{\"vector\": [1, 2]}\n").unwrap();
    refused(here, &["codecs", "one.jsonl"], 1, "at least 2 rows");
}

/// Rows that nobody wrote down: recall is measured, RAM is told beside what is allowed, and requests have their price.
/// A table is recommended that can be put into a configuration as it stands; a recall out of reach is said to be so.
#[test]
fn an_index_is_tuned_on_a_file_and_its_table_recommended() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    let tune = ["tune", "circle.jsonl", "--seconds", "0", "--queries", "20"];
    let report = json(here, &tune);
    assert_eq!(
        (&report["rows"], &report["sample"]),
        (&100.into(), &80.into())
    );
    let tried = report["tried"].as_array().unwrap();
    let backends: Vec<&str> = tried
        .iter()
        .map(|t| t["backend"].as_str().unwrap())
        .collect();
    assert!(
        backends.contains(&"flat") && backends.contains(&"hnsw"),
        "{report}"
    );
    for line in tried {
        assert!(line["recall"].as_f64().unwrap() >= 0.95, "{line}");
        assert_eq!(line["reached"], true);
    }
    let table = report["recommended"].as_str().unwrap();
    std::fs::write(
        here.join("own.toml"),
        format!("[memory]\ndim = 3\n\n{table}"),
    )
    .unwrap();
    let out = aether(here, &["config", "check", "own.toml"]);
    assert_eq!(out.status.code(), Some(0), "{table}: {}", text(&out.stderr));
    let words = text(&aether(here, &tune).stdout);
    assert!(
        words.contains("[hot]") && words.contains("recall@10"),
        "{words}"
    );
    refused(
        here,
        &[&tune[..], &["--recall", "2"]].concat(),
        2,
        "--recall: expected 0.0 to 1.0",
    );
    refused(
        here,
        &["tune", "circle.jsonl", "--queries", "0"],
        2,
        "--queries: expected",
    );
}

/// Rows as `.fvecs`: each its length, then its numbers.
fn fvecs(rows: &[[f32; 3]]) -> Vec<u8> {
    let row = |row: &[f32; 3]| {
        let length = 3u32.to_le_bytes();
        length
            .into_iter()
            .chain(row.iter().flat_map(|x| x.to_le_bytes()))
            .collect::<Vec<u8>>()
    };
    rows.iter().flat_map(row).collect()
}

/// The worker's protocol: what another program that measures it relies on. A request that cannot be carried out does not end it.
#[test]
fn the_bench_worker_answers_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let rows: Vec<[f32; 3]> = (0..200).map(|i| [i as f32, 1.0, 0.0]).collect();
    std::fs::write(here.join("base.fvecs"), fvecs(&rows)).unwrap();
    std::fs::write(here.join("query.fvecs"), fvecs(&rows[..20])).unwrap();
    let (dir, out) = (here.to_str().unwrap(), here.join("ids.i32"));
    let requests = [
        serde_json::json!({"op": "run", "param": 16, "k": 3}),
        serde_json::json!({"op": "build", "dir": "/nowhere", "metric": "l2"}),
        serde_json::json!({"op": "build", "dir": dir, "metric": "l2", "threads": 1}),
        serde_json::json!({"op": "run", "param": 16, "k": 3, "nq": 5, "out": out, "mode": "batch"}),
        serde_json::json!({"op": "run", "param": 16, "k": 500, "nq": 1, "mode": "loop"}),
        serde_json::json!({"op": "sing"}),
        serde_json::json!({"op": "quit"}),
    ];
    let input: String = requests.iter().map(|r| format!("{r}\n")).collect();
    let given = fed(here, &["bench", "worker", "--params", "8,16"], &input);
    let answers: Vec<Value> = given
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let words = |i: usize| answers[i]["error"].as_str().unwrap_or_default();
    assert!(words(0).contains("expected a build"), "{answers:?}");
    assert!(words(1).contains("base.fvecs"), "{answers:?}");
    let built = &answers[2];
    assert_eq!(built["params"], serde_json::json!([8, 16]));
    assert_eq!(built["nq"], 20);
    for key in ["wall", "cpu", "rss", "bytes"] {
        assert!(built[key].is_number(), "{built}");
    }
    assert!(answers[3]["wall"].is_number() && answers[3]["cpu"].is_number());
    assert!(answers[4]["wall"].is_number());
    assert!(words(5).contains("build, run or quit"), "{answers:?}");
    assert_eq!(answers.len(), 6);
    let ids: Vec<i32> = std::fs::read(&out)
        .unwrap()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| i32::from_le_bytes(*b))
        .collect();
    assert_eq!(ids, [0, 1, 2, 1, 0, 2, 2, 1, 3, 3, 2, 4, 4, 3, 5]);
}

#[test]
fn a_tiered_bench_on_made_up_vectors_tells_ram_and_price() {
    let folder = tempfile::tempdir().unwrap();
    let line = json(
        folder.path(),
        &[
            "bench",
            "tiered",
            "--generate",
            "clustered:3000x16",
            "--limit-queries",
            "20",
            "--seconds",
            "0",
            "--hot",
            "10%",
            "--mode",
            "complete",
            "--set",
            "search.cache=\"1B\"",
        ],
    );
    let number = |name: &str| {
        line[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    assert_eq!((number("rows"), number("dim")), (3000.0, 16.0));
    assert_eq!(number("raw_bytes"), 3000.0 * 16.0 * 4.0);
    assert!(number("recall") > 0.999, "{line}");
    assert!(
        number("store_requests") > 0.0 && number("dollars_per_thousand") > 0.0,
        "{line}"
    );
    assert!(number("allowed_bytes") >= number("budget_bytes"), "{line}");
    if cfg!(target_os = "linux") {
        assert!(number("peak_resident_bytes") > 0.0, "{line}");
    }
    let wrong = ["bench", "tiered", "--generate", "clustered:5"];
    refused(folder.path(), &wrong, 2, "clustered:ROWSxDIM");
    refused(folder.path(), &["bench", "tiered"], 2, "--base");
}

/// What one measurement wrote is measured again through another store around the same files; and what replacing all rows costs is told.
#[test]
fn a_tiered_bench_measures_what_is_there_and_what_turnovers_cost() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let common = [
        "bench",
        "tiered",
        "--generate",
        "clustered:3000x16",
        "--limit-queries",
        "20",
        "--seconds",
        "0",
        "--hot",
        "64KiB",
        "--mode",
        "bounded",
        "--sweep",
        "probe=1",
        "--dir",
        "m",
    ];
    let run = |more: &[&str]| json(here, &[&common, more].concat());
    let written = run(&["--turnovers", "2", "--set", "flux.tick=\"10ms\""]);
    let amplification = written["write_amplification"].as_f64().unwrap();
    assert!(amplification >= 1.0, "{written}");
    assert_eq!(written["turnovers"], 2);
    let again = run(&[
        "--existing",
        "--no-warm-up",
        "--set",
        "cold.backend=\"simulated-s3\"",
        "--set",
        "cold.inner={ backend = \"file\" }",
        "--set",
        "cold.scale=0.01",
        "--set",
        "search.cache=\"1B\"",
    ]);
    assert_eq!(
        (&again["rows"], &again["turnovers"]),
        (&3000.into(), &0.into())
    );
    assert!(again["requests_p50"].as_u64().unwrap() >= 1, "{again}");
    assert!(
        again["requests_max"].as_u64() >= again["requests_p50"].as_u64(),
        "{again}"
    );
    let rounds = again["rounds_max"].as_u64().unwrap();
    assert!((1..=2).contains(&rounds), "{again}");
    assert!(again["reopen_s"].as_f64().unwrap() > 0.0, "{again}");
    let other = ["--generate", "clustered:500x16", "--existing", "--dir", "m"];
    let other = [
        &["bench", "tiered", "--seconds", "0", "--hot", "64KiB"],
        &other[..],
    ]
    .concat();
    refused(here, &other, 2, "3000 points");
    let nowhere = [
        "bench",
        "tiered",
        "--generate",
        "clustered:50x4",
        "--existing",
    ];
    refused(here, &nowhere, 2, "--dir");
}

/// What the store was asked is counted over the memory's whole life, and priced by the table of the settings.
#[test]
fn requests_and_their_price_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    circle(here);
    json(here, &["import", "circle.jsonl", "--dir", "m"]);
    for _ in 0..3 {
        json(here, &["search", "--dir", "m", "--vector", "[1, 0, 0.5]"]);
    }
    let stats = json(here, &["stats", "--dir", "m"]);
    assert_eq!(stats["remote"]["searches"], 3, "{stats}");
    assert_eq!(stats["searches"], 0, "of this opening: {stats}");
    let words = text(&aether(here, &["stats", "--dir", "m"]).stdout);
    assert!(
        words.contains("for a thousand queries") && words.contains("a gigabyte of vectors a month"),
        "{words}"
    );
    refused(
        here,
        &["stats", "--dir", "m", "--set", "remote.price_get=-1"],
        1,
        "price_get",
    );
}
