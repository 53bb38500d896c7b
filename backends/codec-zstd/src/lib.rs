//! `zstd`: byte planes packed by Zstandard, under a checksum. Exact; the default.
#![forbid(unsafe_code)]

mod codec;
mod config;

pub use codec::Zstd;
pub use config::ZstdConfig;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::CodecId;

/// The codec's number on disk.
pub const ID: CodecId = CodecId(3);

/// The plug-in `zstd`.
pub static PLUGIN: Plugin = Plugin {
    name: "zstd",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Exact; byte planes packed by Zstandard. The default.",
    options: ZstdConfig::OPTIONS,
    persistent: false,
    factory: Factory::Codec(ID, |raw, _| {
        let config = ZstdConfig::read(raw)?;
        Ok(Arc::new(codec::new(&config)))
    }),
};

aether_core::register!(PLUGIN);
