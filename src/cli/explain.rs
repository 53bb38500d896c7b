//! `aether explain`: why a point is where it is.

use super::settings::Settings;
use super::{Done, Outcome, memory, output};

/// Options of `aether explain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The point's id: an integer, a UUID, else a text
    id: String,
    /// In the eyes of a shadow of `[shadow] policies`
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// Take the id as a text
    #[arg(long)]
    text_id: bool,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let id = memory::ids(std::slice::from_ref(&args.id), args.text_id)?.swap_remove(0);
    let memory = memory::open_existing(&args.settings, true).await?;
    let explained = match &args.policy {
        None => memory.explain(&id).await,
        Some(policy) => memory.explain_by(&id, policy).await,
    };
    memory.close().await?;
    let explained = explained?;
    if json {
        output::json(&explained)?;
    } else if let Some(explained) = &explained {
        output::line(explained)?;
    } else {
        output::complain(&format_args!("no point {id}"));
    }
    Ok(if explained.is_some() {
        Outcome::Fine
    } else {
        Outcome::Wrong
    })
}
