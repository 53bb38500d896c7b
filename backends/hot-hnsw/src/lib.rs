//! The hot index `hnsw`: a navigable small-world graph over the vectors in RAM.
//!
//! Reading order: `node` (how a row lies in memory), `graph` (the rules under which threads share the memory), `pages` and `arena`
//! (where records lie), `slots` (handing out places), `codes`, `centres` and `product` (compact codes), `sight` and `search`, `link` and
//! `incoming` (insertion and removal), `compact`, `format` (snapshots), `hot_index` (the contract).

mod arena;
mod cells;
mod centres;
mod codes;
mod compact;
mod config;
mod epoch;
mod format;
mod graph;
mod hot_index;
mod incoming;
mod kernel;
mod link;
mod map;
mod node;
mod pages;
mod product;
mod scratch;
mod search;
mod sight;
mod slots;
mod sync;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};

pub use config::{CODED_FROM, HnswConfig, Place};
pub use hot_index::HnswIndex;

/// The plug-in, as the registry sees it.
pub static PLUGIN: Plugin = Plugin {
    name: "hnsw",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "navigable small-world graph: fast approximate search with updates, deletes, filters and snapshots",
    options: config::OPTIONS,
    persistent: false,
    factory: Factory::Hot(|raw, context| {
        let config = HnswConfig::from_raw(raw)?;
        Ok(Arc::new(HnswIndex::new_in(
            context.dim,
            context.metric,
            context.seed,
            config,
            context.data_dir.as_deref(),
        )?))
    }),
};

aether_core::register!(PLUGIN);
