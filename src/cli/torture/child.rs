//! The process that is killed: it works and tells what it begins and what was acknowledged.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aether::{Error, ErrorKind, Memory, MemoryBuilder, Parts, Result, SearchRequest};
use tokio::task::JoinSet;

use super::script::{Line, Op, WORKERS, id_of, operation, point_of, vector_of};
use crate::cli::settings::Settings;
use crate::cli::{Done, io_failure};

/// Time that a worker lets pass after a failure.
const BREATH: Duration = Duration::from_millis(2);

/// Options of the child.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChildArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long = "set")]
    set: Vec<String>,
    /// Open the memory and do nothing.
    #[arg(long)]
    idle: bool,
}

/// Opens the memory as its configuration file says, and works until it is killed.
pub(crate) async fn child(args: ChildArgs) -> Done {
    let settings = Settings {
        config: None,
        dir: Some(args.dir),
        set: args.set,
    };
    let builder = MemoryBuilder::new(settings.load()?, Arc::new(aether::registry()?));
    let memory = match builder.open().await {
        Ok(memory) => memory,
        Err(error) if from_outside(&error) => {
            tell(Line::Refused)?;
            return std::future::pending().await;
        }
        Err(error) => return Err(error.into()),
    };
    tell(Line::Opened)?;
    let mut workers = JoinSet::new();
    if !args.idle {
        for worker in 0..WORKERS {
            workers.spawn(toil(memory.clone(), args.seed, worker));
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|e| Error::internal("a worker ended").with_source(e))??;
    }
    std::future::pending().await
}

/// Works until an operation fails in a way that no outside fault explains.
async fn toil(memory: Memory, seed: u64, worker: u64) -> Done<()> {
    for number in 0.. {
        tell(Line::Begun(worker, number))?;
        let op = operation(seed, worker, number);
        match perform(&memory, op.clone()).await {
            Ok(()) => tell(Line::Done(worker, number))?,
            Err(error) if from_outside(&error) => {
                tell(Line::Failed(worker, number))?;
                tokio::time::sleep(BREATH).await;
            }
            Err(error) => return Err(error.prefixed(format_args!("{op:?}")).into()),
        }
    }
    Ok(())
}

/// Whether a failure is one that a full disk or a store that is away brings about.
fn from_outside(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Capacity | ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Poisoned
    )
}

async fn perform(memory: &Memory, op: Op) -> Result<()> {
    let ids = |places: Vec<u64>| places.into_iter().map(id_of).collect::<Vec<_>>();
    match op {
        Op::Upsert(writes) => {
            let points = writes.into_iter().map(|(p, v)| point_of(p, v)).collect();
            memory.upsert(points).await.map(drop)
        }
        Op::Delete(places) => memory.delete(&ids(places)).await.map(drop),
        Op::Demote(places) => memory.demote(&ids(places)).await.map(drop),
        Op::Promote(places) => memory.promote(&ids(places)).await.map(drop),
        Op::Pin(places) => memory.pin(&ids(places)).await.map(drop),
        Op::Unpin(places) => memory.unpin(&ids(places)).await.map(drop),
        Op::Get(places) => memory
            .get_many(&ids(places), Parts::default())
            .await
            .map(drop),
        Op::Search(version) => {
            let answer = memory
                .search(SearchRequest::new(vector_of(version), 20))
                .await?;
            let mut seen = HashSet::new();
            match answer.hits.iter().find(|h| !seen.insert(h.id.clone())) {
                None => Ok(()),
                Some(hit) => Err(Error::internal(format!("a search found {} twice", hit.id))),
            }
        }
        Op::Tick => memory.tick().await.map(drop),
        Op::Compact => memory.compact().await.map(drop),
    }
}

/// One write to the pipe, so that a kill leaves whole lines.
fn tell(line: Line) -> Done<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(line.to_string().as_bytes());
    written
        .and_then(|()| out.flush())
        .map_err(|e| io_failure("tell the parent", e))
}
