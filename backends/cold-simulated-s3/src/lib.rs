//! A cold store that gives any other the latencies, requests and faults of object storage, by a seed.
//!
//! # Invariants
//! - What is stored is stored by the store inside, byte for byte: only time, failures and counts are added.
//! - One seed and one order of requests give one series of latencies and faults.
//! - A call that is made to fail before its effect has none (`Retry::Later`); one whose reply is lost was carried out
//!   (`Retry::Unknown`).

#![forbid(unsafe_code)]

mod cold_store;
mod config;
mod latency;

use std::sync::Arc;

use aether_core::config::{RawConfig, Slot};
use aether_core::plugin::{BuildContext, Factory, Plugin, Role};
use aether_core::role::ColdStore;
use aether_core::{Result, register};

pub use cold_store::SimulatedS3;
pub use config::SimulatedS3Config;
pub use latency::Latency;

/// The name in `backend = "simulated-s3"`.
const NAME: &str = "simulated-s3";

/// The cold store `simulated-s3`.
pub static PLUGIN: Plugin = Plugin {
    name: NAME,
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "another cold store with the latencies, requests and faults of object storage, by a seed; for tests",
    options: SimulatedS3Config::OPTIONS,
    persistent: true,
    factory: Factory::Cold(make),
};

register!(PLUGIN);

fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    let config = SimulatedS3Config::read(raw)?;
    let slot = Slot::inner_of(Role::Cold, raw)?;
    let inner = context.registry.cold(&slot, context)?;
    Ok(Arc::new(SimulatedS3::new(inner, &config, context.seed)))
}
