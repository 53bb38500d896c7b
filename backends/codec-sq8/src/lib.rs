//! `sq8`: eight bits a component, scaled between the smallest and the largest of its own vector, under a checksum. Lossy.
#![forbid(unsafe_code)]

mod codec;
mod config;

pub use codec::Sq8;
pub use config::Sq8Config;

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::CodecId;

/// The codec's number on disk.
pub const ID: CodecId = CodecId(5);

/// The plug-in `sq8`.
pub static PLUGIN: Plugin = Plugin {
    name: "sq8",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Lossy: 8 bits a component, a quarter of the bytes; off by at most 1/510 of its vector's spread.",
    options: Sq8Config::OPTIONS,
    persistent: false,
    factory: Factory::Codec(ID, |raw, _| {
        Sq8Config::read(raw)?;
        Ok(Arc::new(Sq8))
    }),
};

aether_core::register!(PLUGIN);
