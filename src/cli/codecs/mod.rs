//! `aether codecs`: how small, how quick and how true each codec is on data of one's own, and which one to take.

mod measure;

use std::path::PathBuf;
use std::time::Duration;

use aether::config::ByteSize;
use aether::import::Format;
use aether::role::Fidelity;
use aether::{Error, Metric};
use serde::Serialize;

use super::sample::{self, Sample};
use super::{Done, Failure, Outcome, output};
use measure::{Bench, Figures};

/// Options of `aether codecs`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// .npy, .npy.gz, .fvecs, .bvecs, .jsonl or .parquet
    file: PathBuf,
    /// What the file is [default: by its ending]
    #[arg(long)]
    format: Option<Format>,
    /// Look at the first so many rows only
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Rows drawn from the file; recall is that among these
    #[arg(long, default_value_t = 10_000, value_name = "ROWS")]
    sample: usize,
    /// Rows of the sample that are searched for, each among all others
    #[arg(long, default_value_t = 200, value_name = "ROWS")]
    queries: usize,
    /// Number of answers that recall counts
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// How near vectors are: l2, inner-product or cosine
    #[arg(long, default_value = "cosine")]
    metric: String,
    /// Rows packed together, as a block of a partition is
    #[arg(long, default_value_t = 64, value_name = "ROWS")]
    block: usize,
    /// Least recall of a lossy codec that is recommended
    #[arg(long, default_value_t = 0.99)]
    recall: f64,
    /// Bytes a second at which the cold store delivers: what it carries in that time, and what the codec unpacks, decides
    #[arg(long, default_value = "90MB", value_name = "SIZE")]
    bandwidth: ByteSize,
    /// Measure packing and unpacking for at least so many seconds each
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Seed of the drawing
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// One codec, or a codec with a byte codec behind it.
#[derive(Debug, Serialize)]
struct Line {
    codec: String,
    #[serde(skip)]
    first: &'static str,
    #[serde(skip)]
    then: Option<&'static str>,
    fidelity: Fidelity,
    /// Figures, or why this data cannot be packed.
    #[serde(flatten)]
    outcome: Measured,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Measured {
    Figures(Figures),
    Refused { error: String },
}

impl Line {
    fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Measured::Figures(figures) => Some(figures),
            Measured::Refused { .. } => None,
        }
    }

    /// Seconds from the store to RAM for a gigabyte of plain vectors.
    fn fetch_s(&self) -> Option<f64> {
        self.figures().map(|f| f.fetch_s_per_gb)
    }
}

#[derive(Serialize)]
struct Report<'a> {
    file: &'a PathBuf,
    rows: u64,
    sample: usize,
    dim: usize,
    metric: Metric,
    k: usize,
    queries: usize,
    block: usize,
    bandwidth: ByteSize,
    codecs: &'a [Line],
    /// The exact codec that brings vectors to RAM soonest.
    recommended: Option<&'a str>,
    /// A lossy one that does so sooner yet at the recall asked for, if there is one.
    recommended_lossy: Option<&'a str>,
}

fn check(args: &Args) -> Done<()> {
    let problem = if args.sample < 2 {
        "--sample: expected at least 2 rows"
    } else if args.queries == 0 || args.k == 0 || args.block == 0 {
        "--queries, -k and --block: expected at least 1"
    } else if !(0.0..=1.0).contains(&args.recall) {
        "--recall: expected 0.0 to 1.0"
    } else if args.bandwidth.0 == 0 {
        "--bandwidth: expected more than 0B"
    } else if !(0.0..=600.0).contains(&args.seconds) {
        "--seconds: expected 0 to 600"
    } else {
        return Ok(());
    };
    Err(Failure::usage(problem))
}

pub(crate) fn run(args: &Args, json: bool) -> Done {
    check(args)?;
    let metric = sample::metric(&args.metric)?;
    let sample = Sample::draw(&args.file, args.format, args.limit, args.sample, args.seed)?;
    let bench = Bench {
        metric,
        k: args.k.min(sample.vectors.rows() - 1),
        block: args.block,
        bandwidth: args.bandwidth.0 as f64,
        time: Duration::from_secs_f64(args.seconds),
    };
    let truth = measure::truth(&sample.vectors, &bench, args.queries);
    let mut lines = Vec::new();
    for candidate in measure::candidates(&sample.vectors, metric, args.seed)? {
        let outcome = match bench.measure(&candidate, &sample.vectors, &truth) {
            Ok(figures) => Measured::Figures(figures),
            Err(e) if e.is_invalid_input() => Measured::Refused {
                error: e.to_string(),
            },
            Err(e) => return Err(e.into()),
        };
        lines.push(Line {
            codec: candidate.name(),
            first: candidate.first,
            then: candidate.then,
            fidelity: candidate.codec.fidelity(),
            outcome,
        });
    }
    let exact = soonest(&lines, |l| l.fidelity.is_exact());
    let lossy = soonest(&lines, |l| {
        !l.fidelity.is_exact() && l.figures().is_some_and(|f| f.recall >= args.recall)
    });
    let lossy = lossy.filter(|l| l.fetch_s() < exact.and_then(Line::fetch_s));
    if json {
        output::json(&Report {
            file: &args.file,
            rows: sample.rows,
            sample: sample.vectors.rows(),
            dim: sample.vectors.dim(),
            metric,
            k: bench.k,
            queries: truth.len(),
            block: args.block,
            bandwidth: args.bandwidth,
            codecs: &lines,
            recommended: exact.map(|l| l.codec.as_str()),
            recommended_lossy: lossy.map(|l| l.codec.as_str()),
        })?;
    } else {
        print(args, &sample, &bench, &lines)?;
        recommend(args, exact, lossy)?;
    }
    if exact.is_none() {
        return Err(Error::unsupported(
            "no exact codec is compiled in: build with feature \"codec-zstd\"",
        )
        .into());
    }
    Ok(Outcome::Fine)
}

fn soonest(lines: &[Line], eligible: impl Fn(&Line) -> bool) -> Option<&Line> {
    let time = |l: &Line| l.fetch_s().unwrap_or(f64::INFINITY);
    let measured = lines
        .iter()
        .filter(|l| eligible(l) && l.figures().is_some());
    measured.min_by(|a, b| time(a).total_cmp(&time(b)))
}

fn print(args: &Args, sample: &Sample, bench: &Bench, lines: &[Line]) -> Done<()> {
    output::line(format_args!(
        "{} rows of {} dimensions, drawn from {} of {}; blocks of {} rows; recall@{} by {}\n",
        sample.vectors.rows(),
        sample.vectors.dim(),
        sample.rows,
        args.file.display(),
        args.block,
        bench.k,
        bench.metric
    ))?;
    let head = [
        "codec",
        "fidelity",
        "ratio",
        "pack MB/s",
        "unpack MB/s",
        "recall",
        "s/GB",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for line in lines {
        let fidelity = if line.fidelity.is_exact() {
            "exact"
        } else {
            "lossy"
        };
        let mut row = vec![line.codec.clone(), fidelity.to_owned()];
        if let Measured::Figures(f) = &line.outcome {
            row.extend([
                format!("{:.3}", f.ratio),
                format!("{:.0}", f.encode_mb_s),
                format!("{:.0}", f.decode_mb_s),
                format!("{:.4}", f.recall),
                format!("{:.2}", f.fetch_s_per_gb),
            ]);
        }
        rows.push(row);
    }
    output::table(&rows)?;
    for line in lines {
        if let Measured::Refused { error } = &line.outcome {
            output::line(format_args!(
                "{} cannot hold this data: {error}",
                line.codec
            ))?;
        }
    }
    Ok(())
}

fn recommend(args: &Args, exact: Option<&Line>, lossy: Option<&Line>) -> Done<()> {
    let Some(exact) = exact else { return Ok(()) };
    output::line(format_args!(
        "\nAt {} a second from the store, {} brings a gigabyte of vectors to RAM soonest and loses nothing:\n{}",
        output::bytes(args.bandwidth.0),
        exact.codec,
        toml(exact)
    ))?;
    let Some(lossy) = lossy else {
        return output::line(format_args!(
            "No lossy codec is quicker at a recall of {} or more.",
            args.recall
        ));
    };
    let recall = lossy.figures().map_or(0.0, |f| f.recall);
    output::line(format_args!(
        "If vectors may come back changed, {} does it at a recall of {recall:.4}:\n{}",
        lossy.codec,
        toml(lossy)
    ))
}

/// The tables that choose it.
fn toml(line: &Line) -> String {
    let mut text = format!("\n  [codec]\n  backend = \"{}\"\n", line.first);
    if let Some(then) = line.then {
        text.push_str(&format!("  [codec.then]\n  backend = \"{then}\"\n"));
    }
    text
}
