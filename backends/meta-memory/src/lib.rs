//! Metadata store in RAM: for tests, and for memories that keep nothing.
//!
//! ```
//! use aether_core::role::{Batch, MetaStore, Table};
//! use aether_meta_memory::MemoryMeta;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = MemoryMeta::new();
//! let mut batch = Batch::new(store.claim().await?);
//! batch.put(Table::State, &b"colour"[..], &b"red"[..]);
//! store.commit(batch).await?;
//! let found = store.get(Table::State, &["colour".into()]).await?;
//! assert_eq!(found, [Some("red".into())]);
//! # Ok::<_, aether_core::Error>(()) }).unwrap();
//! ```
#![forbid(unsafe_code)]

mod config;
mod meta_store;

use std::sync::Arc;

use aether_core::{Factory, Plugin};

pub use config::MemoryConfig;
pub use meta_store::MemoryMeta;

/// The plug-in `memory` of the role `meta`.
pub static PLUGIN: Plugin = Plugin {
    name: "memory",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "keeps metadata in RAM; nothing survives the process",
    options: &[],
    persistent: false,
    factory: Factory::Meta(|raw, _context| {
        raw.parse::<MemoryConfig>()?;
        Ok(Arc::new(MemoryMeta::new()))
    }),
};

aether_core::register!(PLUGIN);
