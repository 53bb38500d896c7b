//! `aether get`: points by their ids.

use aether::Parts;

use super::settings::Settings;
use super::{Done, Outcome, memory, output};

/// Options of `aether get`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids: integers, UUIDs, else texts
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// Take every id as a text
    #[arg(long)]
    text_id: bool,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let ids = memory::ids(&args.ids, args.text_id)?;
    let memory = memory::open_existing(&args.settings, true).await?;
    let found = memory.get_many(&ids, Parts::default()).await;
    memory.close().await?;
    let found = found?;
    let missing = found.iter().filter(|r| r.is_none()).count();
    if json {
        output::json(&found)?;
    } else {
        for (id, record) in ids.iter().zip(&found) {
            let Some(r) = record else {
                output::complain(&format_args!("no point {id}"));
                continue;
            };
            output::line(format_args!(
                "{id} ({:?}, {}, {})",
                r.row,
                output::tier(r.tier),
                output::fidelity(r.fidelity)
            ))?;
            if let Some(v) = &r.vector {
                let head: Vec<String> = v.iter().take(6).map(|x| format!("{x:.4}")).collect();
                let more = if v.len() > 6 {
                    format!(", … {} more", v.len() - 6)
                } else {
                    String::new()
                };
                output::line(format_args!("  vector   [{}{more}]", head.join(", ")))?;
            }
            if let Some(p) = &r.payload {
                output::line(format_args!("  payload  {p}"))?;
            }
            if let Some(left) = r.expires_in {
                output::line(format_args!("  ends in  {:.1} s", left.as_secs_f64()))?;
            }
        }
    }
    Ok(if missing == 0 {
        Outcome::Fine
    } else {
        Outcome::Wrong
    })
}
