//! Calls of a memory as boxed futures. A caller's crate compiles the futures that it polls, those of the engine too, and tests are not optimised:
//! what asks a memory a hundred thousand things is twice as quick through here.

use std::pin::Pin;
use std::sync::Arc;

use aether_core::config::Config;
use aether_core::engine::{Answer, CheckReport, Explained, Parts, Record, SnapshotReport};
use aether_core::{Memory, MemoryBuilder, PointId, Registry, Result, SearchRequest};

/// What a call will answer.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// As [`MemoryBuilder::open`].
pub fn open(builder: MemoryBuilder) -> Answering<'static, Memory> {
    Box::pin(builder.open())
}

/// As [`MemoryBuilder::check`].
pub fn check(builder: MemoryBuilder) -> Answering<'static, CheckReport> {
    Box::pin(builder.check())
}

/// As [`Memory::restore`].
pub fn restore<'a>(
    folder: &'a std::path::Path,
    config: Config,
    registry: Arc<Registry>,
) -> Answering<'a, SnapshotReport> {
    Box::pin(Memory::restore(folder, config, registry))
}

/// As [`Memory::get`].
pub fn get<'a>(memory: &'a Memory, id: &'a PointId) -> Answering<'a, Option<Record>> {
    Box::pin(memory.get(id))
}

/// As [`Memory::get_many`], with all parts.
pub fn get_many<'a>(memory: &'a Memory, ids: &'a [PointId]) -> Answering<'a, Vec<Option<Record>>> {
    Box::pin(memory.get_many(ids, Parts::default()))
}

/// As [`Memory::search`].
pub fn search(memory: &Memory, request: SearchRequest) -> Answering<'_, Answer> {
    Box::pin(memory.search(request))
}

/// As [`Memory::explain`].
pub fn explain<'a>(memory: &'a Memory, id: &'a PointId) -> Answering<'a, Option<Explained>> {
    Box::pin(memory.explain(id))
}

/// As [`Memory::close`].
pub fn close(memory: &Memory) -> Answering<'_, ()> {
    Box::pin(memory.close())
}
