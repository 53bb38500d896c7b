//! What the engine puts around the cold store: counts, a second request for a read that is late, repetitions of what failed for now.
//!
//! From the outside in: [`Retried`], [`Hedged`], [`Metered`], the store. A repetition may be hedged, and every request is counted.
//!
//! # Invariants
//! - No layer changes bytes, keys or ranges.
//! - A put or deletion is never sent twice at once, and an unknown outcome of a put is passed on: the engine looks it up.

mod hedge;
mod meter;
mod retry;
mod window;

use std::sync::Arc;

pub use hedge::Hedged;
pub use meter::{Dollars, Ledger, Metered};
pub use retry::Retried;

use crate::config::RemoteConfig;
use crate::role::ColdStore;
use crate::seal::checksum;

/// What the layers did since they were made.
#[derive(Debug, Default)]
pub struct LayerCounts {
    /// Reads that were sent a second time.
    pub hedged: std::sync::atomic::AtomicU64,
    /// Second requests that answered first.
    pub hedges_won: std::sync::atomic::AtomicU64,
    /// Calls that were repeated because they failed.
    pub retried: std::sync::atomic::AtomicU64,
}

/// A store with every layer that the settings ask for.
pub fn wrap(
    store: Arc<dyn ColdStore>,
    config: &RemoteConfig,
    seed: u64,
    counts: &Arc<LayerCounts>,
) -> Arc<dyn ColdStore> {
    let mut store: Arc<dyn ColdStore> = Arc::new(Metered::new(store));
    if config.hedge > 0.0 && config.hedge_share > 0.0 {
        store = Arc::new(Hedged::new(store, config, counts.clone()));
    }
    if config.retries > 0 {
        let seed = checksum(b"retries", seed);
        store = Arc::new(Retried::new(store, config, seed, counts.clone()));
    }
    store
}

#[cfg(test)]
mod tests;
