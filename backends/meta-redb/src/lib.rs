//! Metadata store in one local file: the redb B-tree, two-phase durable commits, a checksum on every value.
//!
//! Reading order: [`RedbMeta`] (the contract), `core` (transactions), `lanes` (the threads they run on), `guard` (what
//! becomes of a failing disk and of a file that must not be written), `files` (the folder around the file), `mark` (how far the
//! file had come), `format` (bytes), `error` (words).
#![forbid(unsafe_code)]

mod config;
mod core;
mod error;
#[doc(hidden)]
pub mod files;
mod format;
mod guard;
mod lanes;
mod mark;
mod meta_store;

#[cfg(test)]
mod tests;

use aether_core::{Factory, OptionSpec, Plugin};

pub use config::RedbConfig;
pub use meta_store::RedbMeta;

/// The plug-in `redb` of the role `meta`.
pub static PLUGIN: Plugin = Plugin {
    name: "redb",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "keeps metadata in one local file (redb B-tree); durable, checksummed, the default",
    options: &[
        OptionSpec {
            name: "file",
            default: "\"meta.redb\"",
            unit: "",
            help: "Name of the file inside the memory's folder.",
        },
        OptionSpec {
            name: "cache",
            default: "\"64MiB\"",
            unit: "bytes",
            help: "RAM for cached pages of the file.",
        },
        OptionSpec {
            name: "readers",
            default: "2",
            unit: "threads",
            help: "Threads that read; writes have one of their own.",
        },
        OptionSpec {
            name: "verify",
            default: "true",
            unit: "",
            help: "Check the checksum of every page on opening, which reads the whole file.",
        },
    ],
    persistent: true,
    factory: Factory::Meta(meta_store::build),
};

aether_core::register!(PLUGIN);
