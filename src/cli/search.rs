//! `aether search`: the nearest points of a vector.

use std::path::PathBuf;

use aether::config::{SearchMode, Span};
use aether::import::{Matrix, Options};
use aether::{Error, Memory, Parts, SearchRequest};

use super::settings::Settings;
use super::{Done, Failure, Outcome, memory, output};

/// Options of `aether search`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// What to look for
    #[command(flatten)]
    what: What,
    /// Row of --file
    #[arg(long, default_value_t = 0, value_name = "ROW", requires = "file")]
    row: usize,
    /// Number of answers
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// How far to go: hot-only, bounded or complete [default: search.mode]
    #[arg(long, value_parser = mode)]
    mode: Option<SearchMode>,
    /// Breadth of the hot index's search
    #[arg(long)]
    ef: Option<usize>,
    /// Share of the cold rows that a bounded search looks at
    #[arg(long, value_name = "SHARE")]
    probe: Option<f64>,
    /// Time allowed, as 50ms; what is found by then is returned, marked partial
    #[arg(long, value_name = "TIME")]
    deadline: Option<Span>,
    /// Take every id as a text
    #[arg(long)]
    text_id: bool,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The vector, as "[0.1, 0.2]"
    #[arg(long, value_name = "JSON")]
    vector: Option<String>,
    /// A file of vectors, of which --row is taken
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The vector of this point
    #[arg(long, value_name = "ID")]
    like: Option<String>,
}

/// Reads a search mode as a configuration would.
pub(crate) fn mode(name: &str) -> Result<SearchMode, String> {
    SearchMode::ALL
        .into_iter()
        .find(|m| m.name() == name)
        .ok_or_else(|| "expected hot-only, bounded or complete".to_owned())
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let memory = memory::open_existing(&args.settings, false).await?;
    let answer = match vector(&memory, &args).await {
        Ok(vector) => {
            let mut request = SearchRequest::new(vector, args.k).parts(Parts {
                vector: false,
                payload: true,
            });
            request.mode = args.mode;
            request.ef = args.ef;
            request.probe = args.probe;
            request.deadline = args.deadline.map(|d| d.0);
            memory.search(request).await.map_err(Failure::from)
        }
        Err(e) => Err(e),
    };
    memory.close().await?;
    let answer = answer?;
    if json {
        output::json(&answer)?;
        return Ok(Outcome::Fine);
    }
    let mut rows = vec![
        ["", "id", "distance", "tier", "payload"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (i, hit) in answer.hits.iter().enumerate() {
        let payload = hit
            .payload
            .as_ref()
            .map(|p| output::shortened(&p.to_string(), 100))
            .unwrap_or_default();
        let tier = output::tier(hit.tier).to_owned();
        rows.push(vec![
            (i + 1).to_string(),
            hit.id.to_string(),
            format!("{:.4}", hit.distance),
            tier,
            payload,
        ]);
    }
    output::table(&rows)?;
    let c = &answer.coverage;
    output::line(format_args!(
        "{} search: {} rows in RAM; of {} cold rows {} estimated and {} compared, in {} of {} partitions, {} requests, {}{}{}",
        c.mode.name(),
        c.hot_rows,
        c.cold_rows,
        c.cold_rows_estimated,
        c.cold_rows_scored,
        c.partitions_probed,
        c.partitions,
        c.requests,
        output::bytes(c.bytes),
        if c.proven { "; proven" } else { "" },
        if c.is_whole() {
            ""
        } else {
            "; PARTIAL, see --json for the reason"
        }
    ))?;
    Ok(Outcome::Fine)
}

async fn vector(memory: &Memory, args: &Args) -> Done<Vec<f32>> {
    if let Some(text) = &args.what.vector {
        return serde_json::from_str(text).map_err(|e| {
            Failure::usage(format!("--vector: expected numbers as \"[0.1, 0.2]\": {e}"))
        });
    }
    if let Some(file) = &args.what.file {
        let limit = Some(args.row as u64 + 1);
        let matrix = Matrix::read(
            file,
            &Options {
                limit,
                ..Options::default()
            },
        )?;
        if args.row >= matrix.rows() {
            return Err(Failure::usage(format!(
                "--row: expected 0 to {}, got {}",
                matrix.rows() - 1,
                args.row
            )));
        }
        return Ok(matrix.row(args.row).to_vec());
    }
    let id = &memory::ids(args.what.like.as_slice(), args.text_id)?[0];
    let record = memory.get(id).await?;
    let vector = record.and_then(|r| r.vector);
    Ok(vector.ok_or_else(|| {
        Error::invalid_input(format!(
            "--like: expected the id of a point, got {id}, which is none"
        ))
    })?)
}
