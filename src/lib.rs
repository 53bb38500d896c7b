//! A tiered vector memory made of plug-ins: what matters stays in RAM, the rest lies compressed on disk or object storage, and
//! everything is searchable.
//!
//! This crate is the facade over `aether-core`: it links the plug-ins in that its features name. A library user starts with
//! `default-features = false, features = ["standard"]`; the default features are those of the command `aether`.
#![forbid(unsafe_code)]
#![cfg_attr(
    feature = "standard",
    doc = r#"
```
use aether::prelude::*;

# fn main() -> aether::Result<()> {
# let folder = tempfile::tempdir().expect("a temporary folder");
let mut config = Config::default();
config.memory.path = folder.path().join("memory");
config.memory.dim = 3;
let memory = aether::open_blocking(config)?;

memory.upsert(vec![
    Point::new(1, vec![1.0, 0.0, 0.0]).with_payload(serde_json::json!({"word": "east"})),
    Point::new("north", vec![0.0, 1.0, 0.0]),
])?;
let answer = memory.search(SearchRequest::new(vec![0.9, 0.1, 0.0], 1))?;
assert_eq!(answer.hits[0].id, PointId::Int(1));

memory.demote(&[PointId::Int(1)])?;
let record = memory.get(&PointId::Int(1))?.expect("it is in the cold tier now");
assert_eq!(record.vector.as_deref(), Some(&[1.0, 0.0, 0.0][..]));
memory.close()?;
# Ok(())
# }
```
"#
)]

mod example;
#[cfg(feature = "import")]
pub mod import;
pub mod prelude;
mod registry;
#[cfg(feature = "replay")]
pub mod replay;

use std::sync::Arc;

pub use aether_core::engine::*;
pub use aether_core::{
    BlobKey, BuildContext, Clock, Config, Error, ErrorKind, Factory, ManualClock, Metric,
    OptionSpec, Plugin, PointId, Registry, Result, Retry, Role, Row, SegmentId, SystemClock, Time,
    clock, config, error, id, layer, plugin, register, role, seal, vector,
};
pub use example::{check_config, example_config};
pub use registry::registry;

/// Opens a memory with every plug-in of this build. Must be called inside a tokio runtime with time enabled.
///
/// # Errors
/// As [`MemoryBuilder::open`].
pub async fn open(config: Config) -> Result<Memory> {
    MemoryBuilder::new(config, Arc::new(registry()?))
        .open()
        .await
}

/// Opens a memory with every plug-in of this build, for callers that are not async.
///
/// # Errors
/// As [`MemoryBuilder::open_blocking`].
pub fn open_blocking(config: Config) -> Result<BlockingMemory> {
    MemoryBuilder::new(config, Arc::new(registry()?)).open_blocking()
}
