//! A tiered vector memory made of plug-ins: what matters stays in RAM, the rest lies compressed on disk or object storage, and
//! everything is searchable.
//!
//! This crate is the facade over `aether-core`: it links the plug-ins in that its features name. A library user starts with
//! `default-features = false, features = ["standard"]`; the default features are those of the command `aether`.

mod example;
#[cfg(feature = "import")]
pub mod import;
mod registry;

pub use aether_core::{
    BlobKey, BuildContext, Clock, Config, Error, ErrorKind, Factory, ManualClock, Metric,
    OptionSpec, Plugin, PointId, Registry, Result, Retry, Role, Row, SegmentId, SystemClock, Time,
    clock, config, error, id, plugin, register, role, seal, vector,
};
pub use example::{check_config, example_config};
pub use registry::registry;

/// What the user stores.
#[cfg(feature = "import")]
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name.
    pub id: PointId,
    /// `[dim]`.
    pub vector: Vec<f32>,
    /// Any JSON.
    pub payload: Option<serde_json::Value>,
}

#[cfg(feature = "import")]
impl Point {
    /// A point of an id and a vector.
    pub fn new(id: impl Into<PointId>, vector: Vec<f32>) -> Self {
        Self {
            id: id.into(),
            vector,
            payload: None,
        }
    }
}
