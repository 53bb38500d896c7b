//! The process that is killed: it works and tells what it begins and what was acknowledged.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use aether::{Memory, MemoryBuilder, Parts, Result, SearchRequest};

use super::script::{Line, Op, WORKERS, config_of, id_of, operation, point_of, vector_of};

/// Opens the memory and works until it is killed. Without `work` it only opens it.
pub(crate) fn run(folder: &Path, seed: u64, hot: &str, work: bool) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let registry = Arc::new(aether::registry().unwrap());
        let opened = MemoryBuilder::new(config_of(folder, hot), registry).open();
        let memory = opened.await.unwrap();
        tell(Line::Opened);
        if work {
            let workers =
                (0..WORKERS).map(|worker| tokio::spawn(toil(memory.clone(), seed, worker)));
            for worker in workers.collect::<Vec<_>>() {
                worker.await.unwrap();
            }
        }
        std::future::pending::<()>().await;
    });
    unreachable!("the future above never ends");
}

async fn toil(memory: Memory, seed: u64, worker: u64) {
    for number in 0.. {
        tell(Line::Begun(worker, number));
        let op = operation(seed, worker, number);
        if let Err(error) = perform(&memory, op.clone()).await {
            eprintln!("the child's operation {op:?} failed: {error}");
            std::process::exit(3);
        }
        tell(Line::Done(worker, number));
    }
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
            let twice = answer.hits.iter().find(|h| !seen.insert(h.id.clone()));
            assert!(twice.is_none(), "a search found a point twice: {answer:?}");
            Ok(())
        }
        Op::Tick => memory.tick().await.map(drop),
        Op::Compact => memory.compact().await.map(drop),
    }
}

/// One write to the pipe, so that a kill leaves whole lines.
fn tell(line: Line) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.to_string().as_bytes()).unwrap();
    out.flush().unwrap();
}
