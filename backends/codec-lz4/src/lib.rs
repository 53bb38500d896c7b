//! `lz4`: byte planes packed by LZ4, under a checksum. Exact.
#![forbid(unsafe_code)]

mod codec;
mod config;

pub use codec::Lz4;
pub use config::Lz4Config;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::CodecId;

/// The codec's number on disk.
pub const ID: CodecId = CodecId(2);

/// The plug-in `lz4`.
pub static PLUGIN: Plugin = Plugin {
    name: "lz4",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Exact; byte planes packed by LZ4: quick, packs embeddings by a few per cent only.",
    options: Lz4Config::OPTIONS,
    persistent: false,
    factory: Factory::Codec(ID, |raw, _| {
        let config = Lz4Config::read(raw)?;
        Ok(Arc::new(codec::new(&config)))
    }),
};

aether_core::register!(PLUGIN);
