//! `flat`: the exact hot index. Every resident row is compared with the query, chunk by chunk, with SIMD distances.
//!
//! Rows live in chunks of up to 1 MiB; a place that a removed row left is used again by a later insert. A search takes a list of
//! the chunks and reads them one after the other, so that a writer waits for one chunk at most, never for a whole scan.
#![forbid(unsafe_code)]

mod arena;
mod batch;
mod chunk;
mod config;
mod format;
mod held;
mod hot_index;
mod search;
mod sync;

pub use config::FlatConfig;
pub use hot_index::Flat;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};

/// The plug-in `flat`.
pub static PLUGIN: Plugin = Plugin {
    name: "flat",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Exact scan of all resident rows with SIMD distances; for up to some 100,000 rows, or when recall must be 1.",
    options: FlatConfig::OPTIONS,
    persistent: false,
    factory: Factory::Hot(|raw, context| {
        let config = FlatConfig::read(raw)?;
        Ok(Arc::new(Flat::new(&config, context.metric, context.dim)?))
    }),
};

aether_core::register!(PLUGIN);
