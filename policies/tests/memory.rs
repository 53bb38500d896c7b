//! What the books really take in RAM, measured at the allocator: the promised bytes a row hold at every size, and
//! `bytes` says neither less nor much more than the truth.

#![allow(
    unused_imports,
    dead_code,
    reason = "with no policy switched on there is nothing to measure"
)]

use aether_core::role::{Event, EvictionPolicy, Item, Tier};
use aether_core::{Plugin, Row, Time};
use aether_testkit::alloc::{Counting, held};
use aether_testkit::conformance::policy::PolicyHarness;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn item(row: u64) -> Item {
    Item {
        row: Row(row),
        bytes: 1_600,
        restore_us: 200.0,
    }
}

fn insert(policy: &mut dyn EvictionPolicy, row: u64) {
    let (item, tier) = (item(row), Tier::Hot);
    policy.on_event(&Event::Inserted { item, tier }, Time(row * 100));
}

/// Grows the books to 300,000 rows, then lets rows come and go as the tier swings, and measures all the way.
fn measure(plugin: &'static Plugin, row_bytes_max: f64) {
    let harness = PolicyHarness::new(plugin);
    let before = held();
    let mut policy = harness.build(1);
    let empty = held() - before;
    let mut worst = 0.0_f64;
    let mut shown = Vec::new();
    let mut look = |policy: &dyn EvictionPolicy, show: bool| {
        let (real, said) = ((held() - before) as f64, policy.bytes() as f64);
        // The names of boxes and pieces are said a little differently from what is asked of the allocator.
        assert!(
            (real - said).abs() <= 256.0 + 0.001 * real,
            "{}: {real} bytes at the allocator, {said} by `bytes`",
            plugin.name
        );
        let rows = policy.len() as f64;
        if rows >= 10_000.0 {
            let each = (real - empty as f64) / rows;
            worst = worst.max(each);
            if show {
                shown.push(format!("{rows} rows: {each:.1}"));
            }
        }
    };
    for row in 0..300_000 {
        insert(&mut *policy, row);
        if row % 97 == 0 || [9_999, 14_336, 20_000, 99_999, 229_376, 299_999].contains(&row) {
            let show = [9_999, 14_336, 20_000, 99_999, 229_376, 299_999].contains(&row);
            look(&*policy, show);
        }
    }
    for row in 0..200_000 {
        let (item, to) = (item(row), Tier::Cold);
        policy.on_event(&Event::Moved { item, to }, Time(40_000_000));
        insert(&mut *policy, 1_000_000 + row);
        if row % 97 == 0 {
            look(&*policy, row == 0);
        }
    }
    eprintln!(
        "{}: {empty} bytes empty; bytes a hot row at {}; worst {worst:.1}",
        plugin.name,
        shown.join(", ")
    );
    assert!(
        worst <= row_bytes_max,
        "{}: {worst:.1} bytes a hot row, promised {row_bytes_max}",
        plugin.name
    );
}

#[cfg(feature = "flux")]
#[test]
fn flux_takes_at_most_100_bytes_a_row_with_its_history() {
    measure(&aether_policies::flux::PLUGIN, 100.0);
}

#[cfg(feature = "lru")]
#[test]
fn lru_takes_at_most_40_bytes_a_row() {
    measure(&aether_policies::lru::PLUGIN, 40.0);
}

#[cfg(feature = "lfu")]
#[test]
fn lfu_takes_at_most_40_bytes_a_row() {
    measure(&aether_policies::lfu::PLUGIN, 40.0);
}

#[cfg(feature = "age")]
#[test]
fn age_takes_at_most_40_bytes_a_row() {
    measure(&aether_policies::age::PLUGIN, 40.0);
}

#[cfg(feature = "clock")]
#[test]
fn clock_takes_at_most_44_bytes_a_row() {
    measure(&aether_policies::clock::PLUGIN, 44.0);
}

#[cfg(feature = "fifo")]
#[test]
fn fifo_takes_at_most_40_bytes_a_row() {
    measure(&aether_policies::fifo::PLUGIN, 40.0);
}

#[cfg(feature = "random")]
#[test]
fn random_takes_at_most_32_bytes_a_row() {
    measure(&aether_policies::random::PLUGIN, 32.0);
}

#[cfg(feature = "sieve")]
#[test]
fn sieve_takes_at_most_44_bytes_a_row() {
    measure(&aether_policies::sieve::PLUGIN, 44.0);
}

#[cfg(feature = "s3-fifo")]
#[test]
fn s3_fifo_takes_at_most_112_bytes_a_row() {
    measure(&aether_policies::s3_fifo::PLUGIN, 112.0);
}

#[cfg(feature = "two-q")]
#[test]
fn two_q_takes_at_most_112_bytes_a_row() {
    measure(&aether_policies::two_q::PLUGIN, 112.0);
}

#[cfg(feature = "arc")]
#[test]
fn arc_takes_at_most_112_bytes_a_row() {
    measure(&aether_policies::arc::PLUGIN, 112.0);
}

#[cfg(feature = "mq")]
#[test]
fn mq_takes_at_most_224_bytes_a_row() {
    measure(&aether_policies::mq::PLUGIN, 224.0);
}

#[cfg(feature = "lirs")]
#[test]
fn lirs_takes_at_most_112_bytes_a_row() {
    measure(&aether_policies::lirs::PLUGIN, 112.0);
}

#[cfg(feature = "gdsf")]
#[test]
fn gdsf_takes_at_most_56_bytes_a_row() {
    measure(&aether_policies::gdsf::PLUGIN, 56.0);
}

#[cfg(feature = "w-tinylfu")]
#[test]
fn w_tinylfu_takes_at_most_56_bytes_a_row() {
    measure(&aether_policies::w_tinylfu::PLUGIN, 56.0);
}

#[cfg(feature = "lecar")]
#[test]
fn lecar_takes_at_most_112_bytes_a_row() {
    measure(&aether_policies::lecar::PLUGIN, 112.0);
}

#[cfg(feature = "cacheus")]
#[test]
fn cacheus_takes_at_most_160_bytes_a_row() {
    measure(&aether_policies::cacheus::PLUGIN, 160.0);
}

#[cfg(feature = "hyperbolic")]
#[test]
fn hyperbolic_takes_at_most_36_bytes_a_row() {
    measure(&aether_policies::hyperbolic::PLUGIN, 36.0);
}

#[cfg(feature = "ttl-idle")]
#[test]
fn ttl_idle_takes_at_most_56_bytes_a_row() {
    measure(&aether_policies::ttl_idle::PLUGIN, 56.0);
}

#[cfg(feature = "classic-flux")]
#[test]
fn classic_flux_takes_at_most_48_bytes_a_row() {
    measure(&aether_policies::classic_flux::PLUGIN, 48.0);
}
