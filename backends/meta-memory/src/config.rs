//! Configuration of the store: it has no keys, and says so to whoever writes one.

use serde::Deserialize;

/// The keys of `[meta]` with `backend = "memory"`: none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {}
