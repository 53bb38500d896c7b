//! `kill -9` loses nothing that was acknowledged: `aether torture` says so.
//!
//! `AETHER_KILLS` sets the number of kills (100), `AETHER_SEED` repeats a run's choices; the moments themselves are the machine's.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;

use serde_json::Value;

/// Runs the command; its exit code and the object it printed last.
fn torture(args: &[&str]) -> (Option<i32>, Value) {
    let run = Command::new(env!("CARGO_BIN_EXE_aether"))
        .args(["torture", "--json"])
        .args(args)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    println!("{out}{err}");
    let last = out.lines().last().unwrap_or("null");
    (run.status.code(), serde_json::from_str(last).unwrap())
}

#[test]
fn killed_children_lose_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap());
    let kills = number("AETHER_KILLS").unwrap_or(100);
    let seed = number("AETHER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let (kills_text, seed) = (kills.to_string(), seed.to_string());
    let (code, said) = torture(&["--kills", &kills_text, "--minutes", "60", "--seed", &seed]);
    let figure = |name: &str| said[name].as_u64().unwrap();
    assert_eq!(said["problems"], serde_json::json!([]));
    assert_eq!((code, &said["check"]), (Some(0), &"clean".into()));
    assert_eq!((figure("lost"), figure("phantom")), (0, 0));
    assert_eq!(figure("kills"), kills);
    assert_eq!(figure("failed"), 0, "an operation failed without a fault");
    // The test would prove nothing if nothing moved or no kill met unfinished work.
    assert!(figure("in_both_tiers") > 0, "the budget is off");
    assert!(
        figure("acknowledged") > 10 * kills,
        "the children hardly worked"
    );
    if kills >= 50 {
        let cut = figure("completed") + figure("undone");
        assert!(
            figure("in_recovery") > 0,
            "no child was killed during recovery"
        );
        assert!(cut > 0, "no kill cut an operation short");
    }
}
