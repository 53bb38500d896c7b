//! `raw`: floats as they are, little-endian or as byte planes, under a checksum.
#![forbid(unsafe_code)]

mod codec;
mod config;

pub use codec::Raw;
pub use config::RawCodecConfig;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::CodecId;

/// The codec's number on disk.
pub const ID: CodecId = CodecId(1);

/// The plug-in `raw`.
pub static PLUGIN: Plugin = Plugin {
    name: "raw",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Exact; floats as they are, with a checksum.",
    options: RawCodecConfig::OPTIONS,
    persistent: false,
    factory: Factory::Codec(ID, |raw, _| {
        let config = RawCodecConfig::read(raw)?;
        Ok(Arc::new(codec::new(&config)))
    }),
};

aether_core::register!(PLUGIN);
