//! A cold store on object storage: S3 and what speaks its language, Google Cloud Storage, Azure Blob, or a local folder.
//!
//! The services come with the features `s3`, `gcs` and `azure`; without them the crate knows `file://` and `memory://`.
//!
//! # Invariants
//! - An object is created under the condition that there is none, and never written again.
//! - "There is one already" is not a defeat before its mark or its bytes were compared: a retry of a put that had succeeded
//!   looks the same.
//! - A put whose answer was lost is `Unavailable` with `Retry::Unknown`, never a plain failure.
//! - Credentials come from the environment or from `options`, and are in no message and no `Debug`.

#![forbid(unsafe_code)]

mod cold_store;
mod config;
mod error;
mod names;
mod probe;
mod tag;
mod target;

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::plugin::{BuildContext, Factory, Plugin, Role};
use aether_core::role::ColdStore;
use aether_core::{Error, Result, register};

pub use cold_store::ObjectColdStore;
pub use config::{ObjectStoreConfig, StoreOptions};

/// The name in `backend = "object-store"`.
const NAME: &str = "object-store";

/// The cold store `object-store`.
pub static PLUGIN: Plugin = Plugin {
    name: NAME,
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "blobs as objects of S3, Google Cloud Storage, Azure Blob or a local folder",
    options: ObjectStoreConfig::OPTIONS,
    persistent: true,
    factory: Factory::Cold(make),
};

register!(PLUGIN);

fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    let config = ObjectStoreConfig::read(raw)?;
    let at = |e: Error| e.at(Role::Cold, NAME, "open");
    let store = ObjectColdStore::open(&config, context).map_err(at)?;
    Ok(Arc::new(store))
}
