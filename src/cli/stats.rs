//! `aether stats`: the figures of a memory at this moment.

use super::settings::Settings;
use super::{Done, Failure, Outcome, memory, output};

/// Options of `aether stats`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Print the metrics in Prometheus' text format
    #[arg(long)]
    prometheus: bool,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let recorder = args.prometheus.then(install).transpose()?;
    let memory = memory::open_existing(&args.settings, true).await?;
    let stats = memory.stats();
    memory.close().await?;
    if let Some(recorder) = recorder {
        output::line(recorder.render().trim_end())?;
        return Ok(Outcome::Fine);
    }
    if json {
        output::json(&stats)?;
    } else {
        print(&stats)?;
    }
    Ok(Outcome::Fine)
}

fn install() -> Done<metrics_exporter_prometheus::PrometheusHandle> {
    metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| {
            Failure::Failed(
                aether::Error::internal("cannot install the metrics recorder").with_source(e),
            )
        })
}

/// The figures that people ask for first; `--json` has all.
pub(crate) fn print(s: &aether::Stats) -> Done<()> {
    let c = &s.counted;
    let parts: Vec<String> = s
        .hot_parts
        .iter()
        .map(|(name, n)| format!("{name} {}", output::bytes(*n)))
        .collect();
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "none yet".to_owned(), |x| format!("{:.1} %", x * 100.0))
    };
    let dollars = |d: Option<f64>| d.map_or_else(|| "none yet".to_owned(), |x| format!("${x:.6}"));
    let (used, price) = (&s.remote.ledger.usage, &s.remote.dollars);
    let rows = [
        ("points", s.points.to_string()),
        (
            "hot",
            format!(
                "{} rows, {} of {} ({})",
                s.hot_rows,
                output::bytes(s.hot_bytes),
                output::bytes(s.budget_bytes),
                parts.join(", ")
            ),
        ),
        (
            "hot index",
            s.hot_choice
                .as_ref()
                .map_or_else(|| "as set".to_owned(), ToString::to_string),
        ),
        (
            "cold",
            format!(
                "{} rows, {} in {} segments, {} partitions",
                s.cold_rows,
                output::bytes(s.cold_bytes),
                s.segments,
                s.partitions
            ),
        ),
        (
            "cache",
            format!(
                "{}, {} hits, {} misses, hit rate {}",
                output::bytes(s.cache_bytes),
                c.cache_hits,
                c.cache_misses,
                percent(c.cache_hit_rate())
            ),
        ),
        (
            "store requests",
            format!(
                "{} reads, {} lengths, {} puts, {} listings, {} deletions; {} read, {} written",
                used.gets,
                used.heads,
                used.puts,
                used.lists,
                used.deletes,
                output::bytes(used.read_bytes),
                output::bytes(used.written_bytes)
            ),
        ),
        (
            "reads again",
            format!(
                "{} hedged, {} of them won; {} calls repeated",
                s.remote.hedged, s.remote.hedges_won, s.remote.retried
            ),
        ),
        (
            "store price",
            format!(
                "{} for a thousand queries, {} for a gigabyte of vectors a month ({} for all that is stored)",
                dollars(price.per_thousand_queries),
                dollars(price.per_gb_month),
                dollars(Some(price.month))
            ),
        ),
        (
            "lost",
            match s.lost_segments {
                0 => "nothing".to_owned(),
                n => format!(
                    "{} rows in {n} segments that cannot be opened: {}{}",
                    s.lost_rows,
                    s.lost_blobs.join(", "),
                    if n > s.lost_blobs.len() as u64 {
                        ", ..."
                    } else {
                        ""
                    }
                ),
            },
        ),
        (
            "codes",
            format!(
                "{}; bounded recall {} in {} comparisons",
                output::bytes(s.codes_bytes),
                percent(s.recall),
                s.recall_comparisons
            ),
        ),
        (
            "searches",
            format!(
                "{} ({} partial), {} gets",
                c.searches, c.searches_partial, c.gets
            ),
        ),
        ("hot searches", hot_work(s)),
        ("hot hit rate", percent(s.hit_rate())),
        (
            "moves",
            format!(
                "{} demoted, {} promoted, {} migrations failed",
                c.demoted, c.promoted, c.migrations_failed
            ),
        ),
        (
            "compaction",
            format!(
                "{} steps, {} rows moved, {} written, {} to go, {} blobs to sweep",
                c.compactions,
                c.compacted_rows,
                output::bytes(c.compacted_bytes),
                output::bytes(c.compaction_left_bytes),
                s.garbage
            ),
        ),
        (
            "amplification",
            s.write_amplification().map_or_else(
                || "nothing went cold yet".to_owned(),
                |x| format!("{x:.2} bytes written for each that went cold"),
            ),
        ),
        (
            "restore queue",
            format!(
                "{} waiting, {} given up",
                s.restore_queue,
                s.restore_failures.len()
            ),
        ),
        (
            "flux",
            format!(
                "policy {}, temperature {:.2}, pressure {:.2}",
                s.policy, s.temperature, s.pressure
            ),
        ),
        (
            "writes",
            s.poisoned
                .clone()
                .map_or_else(|| "accepted".to_owned(), |why| format!("refused: {why}")),
        ),
    ];
    rows.iter()
        .try_for_each(|(name, value)| output::line(format_args!("{name:<14} {value}")))?;
    if let Some(derived) = &s.objective {
        objective(derived)?;
    }
    shadows(&s.policy, &s.shadows)
}

/// What the searches did in the hot index, mean of one.
fn hot_work(s: &aether::Stats) -> String {
    let (work, searches) = (&s.hot_work, s.counted.searches);
    if searches == 0 {
        return "none yet".to_owned();
    }
    let mean = |n: u64| n as f64 / searches as f64;
    format!(
        "{:.1} hops, {:.1} distances by codes, {:.1} by vectors, {} a search; rows by level {:?}",
        mean(work.hops.iter().sum()),
        mean(work.estimated),
        mean(work.compared + work.scanned),
        output::bytes(work.bytes() / searches),
        s.hot_levels
    )
}

/// What is wanted of the hot tier, whether it is met, and how its size was derived.
fn objective(derived: &aether::Sizing) -> Done<()> {
    let met = match derived.met {
        Some(true) => "met",
        Some(false) => "not met",
        None => "not known yet",
    };
    output::line(format_args!(
        "{:<14} {}: {met}; {} rows in {}",
        "objective",
        derived.wanted,
        derived.rows,
        output::bytes(derived.budget_bytes)
    ))?;
    let mut steps = derived.steps.iter();
    steps.try_for_each(|step| output::line(format_args!("{:<14} {step}", "")))
}

/// What other policies would have done, and what the live one did meanwhile.
fn shadows(live: &str, shadows: &[aether::ShadowStats]) -> Done<()> {
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |x| format!("{:.1} %", x * 100.0))
    };
    let figures = |hit_rate, promoted: u64, demoted: u64, read_us: f64, usd: f64| {
        format!(
            "{} hits, {promoted} promoted, {demoted} demoted, about {read_us:.0} us of reading an access and {usd:.4} dollars in all",
            percent(hit_rate)
        )
    };
    shadows.iter().try_for_each(|s| {
        let (own, us, usd) = (s.hit_rate(), s.read_us_per_access, s.usd);
        output::line(format_args!(
            "{:<14} {}, {} uses of {} % of the rows: {}",
            "shadow",
            s.policy,
            s.accesses,
            s.sample * 100.0,
            figures(own, s.promoted, s.demoted, us, usd)
        ))?;
        let (own, us, usd) = (s.live_hit_rate(), s.live_read_us_per_access, s.live_usd);
        output::line(format_args!(
            "{:<14} {live}, the live policy, meanwhile: {}",
            "",
            figures(own, s.live_promoted, s.live_demoted, us, usd)
        ))
    })
}
