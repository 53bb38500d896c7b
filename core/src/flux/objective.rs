//! From what the user wants of the hot tier to its size, by arithmetic that can be followed.
//!
//! **Cost.** A row is worth its RAM while reading it back each time would cost more: while it is used at least once in the *break-even
//! interval*, the price of reading it back over the price of keeping it in RAM for a second. This is the five-minute rule (Gray and
//! Putzolu, "The 5 minute rule for trading memory for disc accesses", SIGMOD 1987; Gray and Graefe, "The five-minute rule ten years later",
//! SIGMOD Record 26(4), 1997), with rent in place of purchase prices: over the same years both give the same interval. The tier's size
//! is what was used within that interval.
//!
//! **Latency.** 99 of 100 requests keep to a time if at most one of 100 is late. Requests that RAM answers and those that need the cold tier
//! are late in different shares, both measured; so it follows which share may need the cold tier, which share of uses may miss, and how many
//! rows that takes.
//!
//! Everything here is a function of what was observed: no clock, no store.

use serde::Serialize;

use super::latency::Latencies;
use super::reuse::Reuse;
use crate::clock::Time;
use crate::config::{Objective, Prices};

/// Seconds of a month: a twelfth of 365.25 days.
const MONTH_S: f64 = 365.25 * 86_400.0 / 12.0;
/// Bytes of a gigabyte, as prices count.
const GB: f64 = 1e9;
/// Requests that must be known before a latency is judged.
const REQUESTS_MIN: f64 = 500.0;
/// Requests of the cold tier that must be known before their times are believed; until then all are taken to be late.
const COLD_MIN: f64 = 20.0;
/// Share of the requests that may be late.
const LATE: f64 = 0.01;
/// Part of what may need the cold tier that is aimed at, so that what sways does not go beyond.
const AIM: f64 = 0.8;
/// Rows that the tier is given in any case.
const ROWS_MIN: f64 = 64.0;
/// Bounds of the number of independent rows that a request is taken to depend on.
const DEPENDS: (f64, f64) = (0.1, 1000.0);

/// What was observed of a memory.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Now.
    pub now: Time,
    /// Seconds for which the memory was watched.
    pub watched_s: f64,
    /// RAM that the hot tier never exceeds, in bytes.
    pub within: u64,
    /// Rows that it holds.
    pub within_rows: u64,
    /// Rows that the tier may hold now.
    pub rows: u64,
    /// Share of the tier that is filled before rows begin to leave: `flux.low_water`.
    pub filled: f64,
    /// Live points.
    pub points: u64,
    /// RAM of a hot row, in bytes.
    pub row_ram: f64,
    /// Bytes of a row on the local disk before it goes cold.
    pub row_disk: f64,
    /// Bytes of a row in the cold store.
    pub row_cold: f64,
    /// Requests to the cold store for each use of a cold row.
    pub requests_per_miss: f64,
    /// Bytes read for each use of a cold row.
    pub bytes_per_miss: f64,
    /// How soon rows are used again.
    pub reuse: &'a Reuse,
    /// How long requests take.
    pub latencies: &'a Latencies,
}

/// A hot tier's size, and how it was derived.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sizing {
    /// What is wanted, in words.
    pub wanted: String,
    /// RAM that the hot tier may take, in bytes: never more than the bound.
    pub budget_bytes: u64,
    /// Rows that it may hold.
    pub rows: u64,
    /// RAM that the objective needs, in bytes, which may be more than the bound; `None` while it is not known, or where no RAM is enough.
    pub needed_bytes: Option<u64>,
    /// Whether the objective is met within the bound; `None` while it is not known.
    pub met: Option<bool>,
    /// Seconds: rows used at least once in this time stay. For prices the break-even interval.
    pub interval_s: Option<f64>,
    /// Milliseconds that 99 of 100 requests kept to of late, where a latency is wanted.
    pub p99_ms: Option<f64>,
    /// How it was derived, a sentence each.
    pub steps: Vec<String>,
}

/// Seconds between two uses at which keeping a row costs as much as reading it back: `access` is the price of reading it once, `rent`
/// that of keeping it for a second. Infinite where keeping it costs nothing.
pub fn break_even_s(access: f64, rent: f64) -> f64 {
    match rent > 0.0 {
        true => access / rent,
        false => f64::INFINITY,
    }
}

/// The hot tier's size for an objective. Deterministic; O(sampled rows).
pub fn derive(objective: &Objective, o: &Observed<'_>) -> Sizing {
    match objective {
        Objective::Cost(prices) => cost(prices, o),
        Objective::Latency { p99_ms } => latency(*p99_ms, o),
    }
}

fn cost(prices: &Prices, o: &Observed<'_>) -> Sizing {
    let per_second = |bytes: f64, price: f64| bytes / GB * price / MONTH_S;
    let ram = per_second(o.row_ram, prices.ram);
    let (disk, cold) = (
        per_second(o.row_disk, prices.disk),
        per_second(o.row_cold, prices.object_store),
    );
    let rent = ram + disk - cold;
    let access =
        o.requests_per_miss * prices.request / 1e3 + o.bytes_per_miss / GB * prices.transfer;
    let interval = break_even_s(access, rent);
    let mut derived = Sizing {
        wanted: "the least cost of RAM and reads".to_owned(),
        interval_s: interval.is_finite().then_some(interval),
        steps: vec![
            format!(
                "keeping a row hot costs {rent:.3e} dollars a second: {:.0} bytes of RAM at {} dollars a gigabyte and month, {:.0} bytes \
                 on disk at {}, less {:.0} bytes in the cold store at {}",
                o.row_ram, prices.ram, o.row_disk, prices.disk, o.row_cold, prices.object_store
            ),
            format!(
                "reading a row back costs {access:.3e} dollars: {:.2} requests at {} dollars a thousand, {:.0} bytes at {} a gigabyte",
                o.requests_per_miss, prices.request, o.bytes_per_miss, prices.transfer
            ),
        ],
        ..Sizing::default()
    };
    if !interval.is_finite() {
        derived.steps.push(
            "keeping rows hot costs no more than keeping them cold, so that all may stay"
                .to_owned(),
        );
        return short_of_ram(sized(derived, o, Some(o.points as f64)), o, |_| ());
    }
    derived.steps.push(format!(
        "break-even interval: {access:.3e} / {rent:.3e} = {}; a row used more seldom costs more in RAM than reading it back",
        time(interval)
    ));
    if o.watched_s < interval {
        derived.steps.push(format!(
            "uses were watched for {} only: until that interval has passed, every row may be used within it, and the whole bound is taken",
            time(o.watched_s)
        ));
        return sized(derived, o, None);
    }
    let rows = o
        .reuse
        .rows_used_within(interval, o.now)
        .min(o.points as f64);
    derived.steps.push(format!(
        "about {rows:.0} of {} rows were used within that interval",
        o.points
    ));
    let derived = sized(derived, o, Some(rows));
    short_of_ram(derived, o, |derived| {
        if let Some(age) = o.reuse.age_at(o.within_rows as f64, o.now) {
            derived.interval_s = Some(age);
            derived.steps.push(format!(
                "so rows stay that are used at least once in about {}",
                time(age)
            ));
        }
    })
}

fn latency(p99_ms: f64, o: &Observed<'_>) -> Sizing {
    let (times, us) = (o.latencies, p99_ms * 1e3);
    let mut derived = Sizing {
        wanted: format!("99 of 100 requests within {p99_ms} ms"),
        ..Sizing::default()
    };
    let Some(share) = times.cold_share().filter(|_| times.count() >= REQUESTS_MIN) else {
        derived.steps.push(format!(
            "{:.0} requests are known: until there are {REQUESTS_MIN:.0}, the whole bound is taken",
            times.count()
        ));
        return sized(derived, o, None);
    };
    let measured = times.p99_us(share) / 1e3;
    (derived.p99_ms, derived.met) = (Some(measured), Some(measured <= p99_ms));
    let late_hot = times.hot.later_than(us);
    let late_cold = match times.cold.count() >= COLD_MIN {
        true => times.cold.later_than(us),
        false => 1.0,
    };
    derived.steps.push(format!(
        "of late, requests that RAM answered were later than {p99_ms} ms in {} of cases, and those that needed the cold tier in {}{}; \
         {} of all needed it, and 99 of 100 took up to {measured:.3} ms",
        percent(late_hot),
        percent(late_cold),
        if times.cold.count() >= COLD_MIN { "" } else { " (taken for granted: too few were seen)" },
        percent(share)
    ));
    if late_hot >= LATE {
        derived.met = Some(false);
        derived.steps.push(format!(
            "no size of the hot tier is enough: {p99_ms} ms are missed by too many requests that RAM alone answered; the whole bound is taken"
        ));
        return sized(derived, o, None);
    }
    let allowed = match late_cold <= LATE {
        true => 1.0,
        false => (LATE - late_hot) / (late_cold - late_hot),
    };
    derived.steps.push(format!(
        "so {} of the requests may need the cold tier; {} is aimed at",
        percent(allowed),
        percent(allowed * AIM)
    ));
    let missed = o.reuse.missed(o.rows as f64, o.points as f64);
    let depends = depends_on(times, share, missed);
    let wanted = 1.0 - (1.0 - allowed * AIM).powf(1.0 / depends);
    let rows = o.reuse.rows_for(wanted, o.points) as f64;
    derived.steps.push(format!(
        "a request depends on about {depends:.1} rows, so that {} of their uses may miss, of which a tier of {} rows misses {}",
        percent(wanted),
        o.rows.min(o.points),
        percent(missed)
    ));
    derived.interval_s = o.reuse.age_at(rows, o.now);
    derived.steps.push(match derived.interval_s {
        Some(age) => format!(
            "that takes about {rows:.0} of {} rows: those used at least once in about {}",
            o.points,
            time(age)
        ),
        None => format!("that takes about {rows:.0} of {} rows", o.points),
    });
    let derived = sized(derived, o, Some(rows));
    let missed = o
        .reuse
        .missed(o.within_rows as f64 * o.filled, o.points as f64);
    let cold = 1.0 - (1.0 - missed).powf(depends);
    if cold <= allowed {
        // The bound is enough, if only just: less than is aimed at.
        return derived;
    }
    short_of_ram(derived, o, |derived| {
        derived.steps.push(format!(
            "there about {} of the requests need the cold tier, and 99 of 100 take up to {:.3} ms",
            percent(cold),
            times.p99_us(cold) / 1e3
        ));
    })
}

/// Independent rows that a request depends on: as many as explain the share of requests that needed the cold tier by the share of uses that
/// a tier of this size misses, and the rows of a request where there is too little to go by.
fn depends_on(times: &Latencies, share: f64, missed: f64) -> f64 {
    let rows = times.rows / times.count().max(1.0);
    let told = times.cold.count() >= COLD_MIN && missed > 0.0 && missed < 1.0 && share < 1.0;
    let depends = match told {
        true => (1.0 - share).ln() / (1.0 - missed).ln(),
        false => rows.max(1.0),
    };
    depends.clamp(DEPENDS.0, DEPENDS.1)
}

/// Settles size and budget: `rows` are to lie below the mark from which rows leave; `None` takes the whole bound.
fn sized(mut derived: Sizing, o: &Observed<'_>, rows: Option<f64>) -> Sizing {
    let needed = rows.map(|rows| (rows.max(ROWS_MIN) / o.filled).ceil());
    derived.needed_bytes = needed.map(|rows| (rows * o.row_ram) as u64);
    derived.rows = needed.map_or(o.within_rows, |rows| (rows as u64).min(o.within_rows));
    let bytes = (derived.rows as f64 * o.row_ram) as u64;
    derived.budget_bytes = match derived.rows == o.within_rows {
        true => o.within,
        false => bytes.min(o.within),
    };
    if let Some(bytes) = derived
        .needed_bytes
        .filter(|_| derived.rows < o.within_rows)
    {
        derived.steps.push(format!(
            "with {} of the tier filled that is {} of the {} that the bound allows",
            percent(o.filled),
            size(bytes),
            size(o.within)
        ));
    }
    derived
}

/// Says so where the bound is too small, and what follows.
fn short_of_ram(
    mut derived: Sizing,
    o: &Observed<'_>,
    follows: impl FnOnce(&mut Sizing),
) -> Sizing {
    if let Some(needed) = derived.needed_bytes {
        let enough = derived.rows < o.within_rows || needed <= o.within;
        if !enough && derived.met == Some(true) {
            derived.steps.push(format!(
                "met of late all the same: by how soon rows are used again it needs about {}; within allows {}",
                size(needed),
                size(o.within)
            ));
        } else if !enough {
            derived.met = Some(false);
            derived.steps.push(format!(
                "not met: {} needs about {}; within allows {}",
                derived.wanted,
                size(needed),
                size(o.within)
            ));
            follows(&mut derived);
        } else if derived.met.is_none() {
            derived.met = Some(true);
        }
    }
    derived
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b >= 1024.0 * 1024.0 * 1024.0 => format!("{:.1} GiB", b / 1024.0 / 1024.0 / 1024.0),
        b if b >= 1024.0 * 1024.0 => format!("{:.1} MiB", b / 1024.0 / 1024.0),
        b => format!("{:.1} KiB", b / 1024.0),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests;
