//! `f16`: half-precision floats, under a checksum. Lossy: 11 significant bits, components up to 65,504.
#![forbid(unsafe_code)]

mod codec;
mod config;

pub use codec::F16;
pub use config::F16Config;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::CodecId;

/// The codec's number on disk.
pub const ID: CodecId = CodecId(4);

/// The plug-in `f16`.
pub static PLUGIN: Plugin = Plugin {
    name: "f16",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Lossy: half precision, half the bytes; components up to 65,504, about three decimal digits.",
    options: F16Config::OPTIONS,
    persistent: false,
    factory: Factory::Codec(ID, |raw, _| {
        F16Config::read(raw)?;
        Ok(Arc::new(F16))
    }),
};

aether_core::register!(PLUGIN);
