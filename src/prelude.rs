//! What most programs need: `use aether::prelude::*;`.

pub use crate::config::SearchMode;
pub use crate::{
    BlockingMemory, Config, Error, ErrorKind, Memory, MemoryBuilder, Metric, Parts, Point, PointId,
    Record, SearchRequest, Stats,
};
