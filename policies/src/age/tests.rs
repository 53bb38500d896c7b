use aether_core::Row;
use aether_core::role::{Event, Tier};

use super::*;

const SECOND: u64 = 1_000_000;

/// Rows 0.. that came in one a second, under a policy of 100 s, batches of 10, and 30 s of waiting.
fn of(rows: u64) -> Policy<Age> {
    let age = Age {
        idle_s: 100.0,
        wait_s: 30.0,
        batch: 10,
    };
    let mut policy = Policy::new(age, 0.0);
    for row in 0..rows {
        let item = Item {
            row: Row(row),
            bytes: 100,
            restore_us: 1.0,
        };
        let tier = Tier::Hot;
        policy.on_event(&Event::Inserted { item, tier }, Time(row * SECOND));
    }
    policy
}

fn leaving(policy: &mut Policy<Age>, rows: usize, bytes: u64, second: u64) -> Vec<(u64, bool)> {
    let context = Context {
        now: Time(second * SECOND),
        temperature: 1.0,
        hot_bytes: 0,
        budget_bytes: 0,
    };
    let verdicts = policy.victims(Want { rows, bytes }, &context);
    verdicts.iter().map(|v| (v.row.0, v.certain)).collect()
}

fn sure(rows: std::ops::Range<u64>) -> Vec<(u64, bool)> {
    rows.map(|row| (row, true)).collect()
}

#[test]
fn overdue_rows_leave_for_certain_once_they_fill_a_batch() {
    let mut policy = of(50);
    assert_eq!(leaving(&mut policy, 256, 0, 99), []);
    assert_eq!(leaving(&mut policy, 256, 0, 108), [], "nine are overdue");
    assert_eq!(leaving(&mut policy, 256, 0, 109), sure(0..10));
    assert_eq!(leaving(&mut policy, 256, 0, 120), sure(0..21));
    assert_eq!(
        leaving(&mut policy, 5, 0, 120),
        sure(0..5),
        "never more than asked"
    );
    assert_eq!(
        leaving(&mut policy, 4, 0, 103),
        sure(0..4),
        "a full answer is a batch"
    );
}

#[test]
fn overdue_rows_do_not_wait_for_ever() {
    let mut policy = of(3);
    assert_eq!(leaving(&mut policy, 2, 0, 100), [], "one of two");
    let mut policy = of(50);
    for row in 3..50 {
        policy.on_event(&Event::Accessed { row: Row(row) }, Time(60 * SECOND));
    }
    assert_eq!(leaving(&mut policy, 256, 0, 129), []);
    assert_eq!(leaving(&mut policy, 256, 0, 130), sure(0..3));
}

#[test]
fn a_use_begins_the_time_anew() {
    let mut policy = of(10);
    policy.on_event(&Event::Accessed { row: Row(0) }, Time(50 * SECOND));
    let context = Context {
        now: Time(60 * SECOND),
        temperature: 1.0,
        hot_bytes: 0,
        budget_bytes: 0,
    };
    let explained = policy.explain(Row(0), &context);
    assert_eq!(explained.keep, Some(90.0));
    assert_eq!(
        explained.words,
        "used 10 seconds ago; leaves in 90 seconds if it is not used, earlier if the hot tier needs room"
    );
}

#[test]
fn under_pressure_the_least_recently_used_leave_overdue_or_not() {
    let mut policy = of(50);
    let left = leaving(&mut policy, 256, 250, 101);
    assert_eq!(left, [(0, true), (1, true), (2, false)]);
}

#[test]
fn senseless_settings_are_refused_at_their_key() {
    for (keys, key) in [
        ("idle = \"0s\"", "idle"),
        ("batch = 0", "batch"),
        ("idle = 5", "idle"),
        ("idel = \"5s\"", "did you mean `idle`"),
    ] {
        let raw = RawConfig::from_toml("policy", keys).unwrap();
        let parsed = raw
            .parse::<AgeConfig>()
            .and_then(|config| config.check(&raw));
        let error = parsed.unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains(key),
            "{error}"
        );
    }
}
