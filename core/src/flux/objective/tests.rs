use super::*;
use crate::id::Row;

/// A memory of 10,000 points of 1,000 bytes hot, 800 on disk and 500 cold, under a bound of 2 MB, watched for a day.
fn observed<'a>(reuse: &'a Reuse, latencies: &'a Latencies) -> Observed<'a> {
    Observed {
        now: Time(86_400_000_000),
        watched_s: 86_400.0,
        within: 2_000_000,
        within_rows: 2_000,
        rows: 2_000,
        filled: 0.9,
        points: 10_000,
        row_ram: 1_000.0,
        row_disk: 800.0,
        row_cold: 500.0,
        requests_per_miss: 1.0,
        bytes_per_miss: 500.0,
        reuse,
        latencies,
    }
}

const NO_PRICES: Prices = Prices {
    ram: 0.0,
    disk: 0.0,
    object_store: 0.0,
    request: 0.0,
    transfer: 0.0,
};

#[test]
fn the_papers_figures_come_out() {
    // 1987: an access a second costs 2,000 dollars, a kilobyte of RAM 5: break-even for records of a kilobyte at 400 s.
    assert_eq!(break_even_s(2_000.0, 5.0), 400.0);
    // 1997, equation 1 and its values: 128 pages in a megabyte of RAM at 15 dollars, 64 accesses a second of a disk of 2,000
    // dollars: 266 s. Bought for the same time, as rent: a page's RAM, and one access.
    let lifetime = 3.0 * 365.0 * 86_400.0;
    let interval = break_even_s(2_000.0 / 64.0 / lifetime, 15.0 / 128.0 / lifetime);
    assert!((interval - 266.67).abs() < 0.01, "{interval}");
    assert_eq!(break_even_s(1.0, 0.0), f64::INFINITY);
}

#[test]
fn the_1997_table_of_prices_gives_its_interval() {
    // The same values as prices of a month: 15,000 dollars a gigabyte of RAM, pages of 1e6 / 128 bytes, and a thousand accesses of a disk
    // that makes 64 a second for 2,000 dollars.
    let prices = Prices {
        ram: 15_000.0,
        request: 1e3 * 2_000.0 / (64.0 * MONTH_S),
        ..NO_PRICES
    };
    let (reuse, latencies) = (Reuse::default(), Latencies::default());
    let o = Observed {
        row_ram: 1e6 / 128.0,
        ..observed(&reuse, &latencies)
    };
    let derived = derive(&Objective::Cost(prices), &o);
    assert!(
        (derived.interval_s.unwrap() - 266.67).abs() < 0.01,
        "{derived:?}"
    );
    assert!(derived.steps[2].contains("= 4.4 min"), "{derived:?}");
}

/// Each of `rows` rows used a second after the other, the last one now.
fn used(rows: u64) -> Reuse {
    let mut reuse = Reuse::default();
    for row in 0..rows {
        reuse.used(Row(row), Time((86_400 - rows + 1 + row) * 1_000_000));
    }
    reuse
}

/// A kilobyte of RAM costs 1e-9 dollars a second, a read 1e-9 dollars for each second of `interval`.
fn breaking_even_at(interval: f64) -> Prices {
    Prices {
        ram: 1e-9 * MONTH_S * 1e6,
        request: interval * 1e-6,
        ..NO_PRICES
    }
}

#[test]
fn what_was_used_within_the_break_even_interval_is_what_fits() {
    let (reuse, latencies) = (used(5_000), Latencies::default());
    let derived = derive(
        &Objective::Cost(breaking_even_at(899.5)),
        &observed(&reuse, &latencies),
    );
    // Used 0 to 899 s ago: 900 rows, of which nine tenths of the tier are filled.
    assert_eq!((derived.rows, derived.budget_bytes), (1_000, 1_000_000));
    assert_eq!(
        (derived.met, derived.needed_bytes),
        (Some(true), Some(1_000_000))
    );
    assert!((derived.interval_s.unwrap() - 899.5).abs() < 1e-6);
    let told = derived.steps.join("\n");
    for part in [
        "1.000e-9 dollars a second",
        "about 900 of 10000 rows",
        "976.6 KiB of the 1.9 MiB",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn the_bound_is_never_exceeded_and_what_is_short_is_said() {
    let (reuse, latencies) = (used(5_000), Latencies::default());
    let derived = derive(
        &Objective::Cost(breaking_even_at(3_599.5)),
        &observed(&reuse, &latencies),
    );
    // 3,600 rows at nine tenths are 4,000.
    assert_eq!((derived.rows, derived.budget_bytes), (2_000, 2_000_000));
    assert_eq!(
        (derived.met, derived.needed_bytes),
        (Some(false), Some(4_000_000))
    );
    assert_eq!(derived.interval_s, Some(2_000.0));
    let told = derived.steps.join("\n");
    assert!(
        told.contains("needs about 3.8 MiB; within allows 1.9 MiB"),
        "{told}"
    );
}

#[test]
fn until_the_interval_has_passed_the_whole_bound_is_taken() {
    let (reuse, latencies) = (used(10), Latencies::default());
    let mut o = observed(&reuse, &latencies);
    o.watched_s = 100.0;
    let derived = derive(&Objective::Cost(breaking_even_at(899.5)), &o);
    assert_eq!(
        (derived.rows, derived.budget_bytes, derived.met),
        (2_000, 2_000_000, None)
    );
    o.watched_s = 900.0;
    let derived = derive(&Objective::Cost(breaking_even_at(899.5)), &o);
    assert_eq!(derived.rows, 72, "64 rows at least, at nine tenths");
}

#[test]
fn disk_store_and_transfer_are_part_of_the_arithmetic() {
    let (reuse, latencies) = (used(10), Latencies::default());
    let o = observed(&reuse, &latencies);
    let prices = Prices {
        ram: 3.0,
        disk: 0.1,
        object_store: 0.02,
        request: 0.0004,
        transfer: 0.09,
    };
    let derived = derive(&Objective::Cost(prices), &o);
    // (1000 x 3 + 800 x 0.1 - 500 x 0.02) / 1e9 dollars a month, and 4e-7 + 500 / 1e9 x 0.09 a read.
    let expected = (4e-7 + 4.5e-8) / (3_070.0 / 1e9 / MONTH_S);
    assert!((derived.interval_s.unwrap() / expected - 1.0).abs() < 1e-9);
    let dear = Prices {
        object_store: 100.0,
        ..prices
    };
    let derived = derive(&Objective::Cost(dear), &o);
    assert_eq!((derived.interval_s, derived.rows), (None, 2_000));
    assert!(derived.steps[2].contains("all may stay"), "{derived:?}");
}

/// 10,000 requests of one row: `cold` of them took 60 ms, the others 0.1 ms.
fn requests(cold: u32) -> Latencies {
    let mut latencies = Latencies::default();
    for i in 0..10_000 {
        let needed = i < cold;
        latencies.note(if needed { 60_000.0 } else { 100.0 }, needed, 1);
    }
    latencies
}

/// Uses of 10,000 rows, of which the first are the most popular.
fn popular() -> Reuse {
    let mut reuse = Reuse::default();
    let mut rng = fastrand::Rng::with_seed(9);
    for i in 0..200_000 {
        reuse.used(
            Row((rng.f64().powi(8) * 10_000.0) as u64),
            Time(86_400_000_000 - 200_000 + i),
        );
    }
    reuse
}

#[test]
fn a_latency_is_met_by_as_many_rows_as_keep_late_requests_under_one_of_a_hundred() {
    let (reuse, latencies) = (popular(), requests(600));
    let roomy = Observed {
        within: 9_900_000,
        within_rows: 9_900,
        rows: 2_000,
        ..observed(&reuse, &latencies)
    };
    let derived = derive(&Objective::Latency { p99_ms: 5.0 }, &roomy);
    assert_eq!(derived.met, Some(false), "not yet: 6 % are late");
    assert!((2_500..9_900).contains(&derived.rows), "{derived:?}");
    // A request depends on `a` rows, where 1 - (1 - missed)^a is what needed the cold tier; of the rows derived four fifths of one
    // percent may.
    let depends = 0.94_f64.ln() / (1.0 - reuse.missed(2_000.0, 1e4)).ln();
    let kept = (derived.rows as f64 * 0.9).round();
    let late = |rows: f64| 1.0 - (1.0 - reuse.missed(rows, 1e4)).powf(depends);
    assert!(
        late(kept) <= 0.008 + 1e-4 && late(kept * 0.97) > 0.008,
        "{} {}",
        late(kept),
        late(kept * 0.97)
    );
    assert!((60.0..66.0).contains(&derived.p99_ms.unwrap()));
}

#[test]
fn a_latency_that_the_bound_is_too_small_for_is_told_honestly() {
    let (reuse, latencies) = (popular(), requests(600));
    let derived = derive(
        &Objective::Latency { p99_ms: 5.0 },
        &observed(&reuse, &latencies),
    );
    assert_eq!(
        (derived.rows, derived.budget_bytes, derived.met),
        (2_000, 2_000_000, Some(false))
    );
    assert!(derived.needed_bytes.unwrap() > 2_500_000);
    let told = derived.steps.join("\n");
    for part in [
        "99 of 100 requests within 5 ms needs about",
        "within allows 1.9 MiB",
        "99 of 100 take up to 6",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_cold_tier_that_is_quick_enough_needs_no_ram_and_a_slow_hot_one_is_helped_by_none() {
    let (reuse, latencies) = (popular(), requests(600));
    let o = observed(&reuse, &latencies);
    let derived = derive(&Objective::Latency { p99_ms: 100.0 }, &o);
    assert_eq!((derived.rows, derived.met), (72, Some(true)));
    let derived = derive(&Objective::Latency { p99_ms: 0.05 }, &o);
    assert_eq!(
        (derived.rows, derived.needed_bytes, derived.met),
        (2_000, None, Some(false))
    );
    assert!(
        derived.steps[1].contains("no size of the hot tier is enough"),
        "{derived:?}"
    );
}

#[test]
fn nothing_is_judged_by_too_few_requests() {
    let (reuse, mut latencies) = (popular(), Latencies::default());
    (0..499).for_each(|_| latencies.note(1e6, true, 1));
    let derived = derive(
        &Objective::Latency { p99_ms: 5.0 },
        &observed(&reuse, &latencies),
    );
    assert_eq!((derived.rows, derived.met), (2_000, None));
    // All from RAM so far: requests of the cold tier are taken to be late.
    let mut latencies = Latencies::default();
    (0..1_000).for_each(|_| latencies.note(100.0, false, 2));
    let derived = derive(
        &Objective::Latency { p99_ms: 5.0 },
        &observed(&reuse, &latencies),
    );
    assert_eq!(derived.met, Some(true), "as measured");
    let told = derived.steps.join("\n");
    assert!(told.contains("met of late all the same"), "{told}");
    assert!(
        derived.steps[0].contains("taken for granted"),
        "{derived:?}"
    );
}
