//! Metadata store in a local folder: the sled 0.34 log-structured tree, a checksum on every value.
//!
//! Reading order: [`SledMeta`] (the contract), `core` (what is done under which lock), `disk` (what sled does not sync),
//! `format` (bytes), `error` (words). The README says what sled promises less than redb.
#![forbid(unsafe_code)]

mod config;
mod core;
mod disk;
mod error;
mod format;
mod meta_store;

#[cfg(test)]
mod tests;

use aether_core::{Factory, OptionSpec, Plugin};

pub use config::SledConfig;
pub use meta_store::SledMeta;

/// The plug-in `sled` of the role `meta`.
pub static PLUGIN: Plugin = Plugin {
    name: "sled",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "keeps metadata in a local folder (sled 0.34 log tree); a damaged log loses its tail, and is refused",
    options: &[
        OptionSpec {
            name: "folder",
            default: "\"meta.sled\"",
            unit: "",
            help: "Name of the folder inside the memory's folder.",
        },
        OptionSpec {
            name: "cache",
            default: "\"64MiB\"",
            unit: "bytes",
            help: "RAM for cached pages.",
        },
    ],
    persistent: true,
    factory: Factory::Meta(meta_store::build),
};

aether_core::register!(PLUGIN);
