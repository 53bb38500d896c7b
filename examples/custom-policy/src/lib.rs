//! An eviction policy from outside Aether's repository: keeps what was used lately and what is usually used at this time of day.
//!
//! A plug-in is a `static` [`Plugin`] with a factory, announced by `register!`. It depends on `aether-core` alone.

#![forbid(unsafe_code)]

mod books;
mod config;
mod policy;

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, Plugin, Result};

pub use config::RhythmConfig;
pub use policy::Rhythm;

/// The policy `rhythm`.
pub static PLUGIN: Plugin = Plugin {
    // The name in `backend = "rhythm"`.
    name: "rhythm",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Keeps what was used lately and what is usually used at this time of day.",
    options: RhythmConfig::OPTIONS,
    persistent: false,
    factory: Factory::Policy(build),
};

// From here on every `Registry::discover` of a program that this crate is linked into finds the policy.
aether_core::register!(PLUGIN);

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config = RhythmConfig::read(raw)?;
    // Randomness comes from outside, so that a run can be replayed.
    Ok(Box::new(Rhythm::new(&config, context.seed)))
}
