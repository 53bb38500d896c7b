//! The hot index `auto`: an exact scan (`flat`) while few rows are in RAM, a graph (`hnsw`) from then on.
//!
//! How many rows are few is measured when the index is made, see `calibration` and `plan`. Rows move from the one index to the other
//! beside searches and writes, see `stage` and `growth`; `hot_index` puts both behind the contract, `format` is the head of its snapshots.
#![forbid(unsafe_code)]

mod calibration;
mod config;
mod format;
mod growth;
mod hot_index;
mod plan;
mod stage;
mod sync;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};

pub use config::AutoConfig;
pub use hot_index::Auto;

/// The name in `backend = "auto"`.
const NAME: &str = "auto";

/// The plug-in `auto`.
pub static PLUGIN: Plugin = Plugin {
    name: NAME,
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "flat while a scan is quick, hnsw from then on: chosen by rows, dimension, budget and a measurement, and changed beside searches",
    options: AutoConfig::OPTIONS,
    persistent: false,
    factory: Factory::Hot(|raw, context| {
        let config = AutoConfig::read(raw)?;
        Ok(Arc::new(Auto::new(&config, raw, context)?))
    }),
};

aether_core::register!(PLUGIN);
