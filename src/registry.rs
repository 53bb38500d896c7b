//! The plug-ins that this build names.
//!
//! A crate that is only a dependency and never named is not linked, and what it announced with `register!` is then missing
//! without a word. Naming each descriptor here links it; [`Registry::add`] takes the same descriptor twice without complaint.

use aether_core::{Plugin, Registry, Result};

/// The descriptors of the plug-ins whose features are on.
const NAMED: &[&Plugin] = &[
    #[cfg(feature = "hot-auto")]
    &aether_hot_auto::PLUGIN,
    #[cfg(feature = "hot-flat")]
    &aether_hot_flat::PLUGIN,
    #[cfg(feature = "hot-hnsw")]
    &aether_hot_hnsw::PLUGIN,
    #[cfg(feature = "cold-memory")]
    &aether_cold_memory::PLUGIN,
    #[cfg(feature = "cold-file")]
    &aether_cold_file::PLUGIN,
    #[cfg(feature = "cold-object-store")]
    &aether_cold_object_store::PLUGIN,
    #[cfg(feature = "cold-cached")]
    &aether_cold_cached::PLUGIN,
    #[cfg(feature = "cold-simulated-s3")]
    &aether_cold_simulated_s3::PLUGIN,
    #[cfg(feature = "meta-memory")]
    &aether_meta_memory::PLUGIN,
    #[cfg(feature = "meta-redb")]
    &aether_meta_redb::PLUGIN,
    #[cfg(feature = "meta-sled")]
    &aether_meta_sled::PLUGIN,
    #[cfg(feature = "codec-raw")]
    &aether_codec_raw::PLUGIN,
    #[cfg(feature = "codec-lz4")]
    &aether_codec_lz4::PLUGIN,
    #[cfg(feature = "codec-zstd")]
    &aether_codec_zstd::PLUGIN,
    #[cfg(feature = "codec-f16")]
    &aether_codec_f16::PLUGIN,
    #[cfg(feature = "codec-sq8")]
    &aether_codec_sq8::PLUGIN,
    #[cfg(feature = "policy-flux")]
    &aether_policies::flux::PLUGIN,
    #[cfg(feature = "policy-lru")]
    &aether_policies::lru::PLUGIN,
    #[cfg(feature = "policy-lfu")]
    &aether_policies::lfu::PLUGIN,
    #[cfg(feature = "policy-age")]
    &aether_policies::age::PLUGIN,
    #[cfg(feature = "policy-arc")]
    &aether_policies::arc::PLUGIN,
    #[cfg(feature = "policy-cacheus")]
    &aether_policies::cacheus::PLUGIN,
    #[cfg(feature = "policy-classic-flux")]
    &aether_policies::classic_flux::PLUGIN,
    #[cfg(feature = "policy-clock")]
    &aether_policies::clock::PLUGIN,
    #[cfg(feature = "policy-fifo")]
    &aether_policies::fifo::PLUGIN,
    #[cfg(feature = "policy-gdsf")]
    &aether_policies::gdsf::PLUGIN,
    #[cfg(feature = "policy-hyperbolic")]
    &aether_policies::hyperbolic::PLUGIN,
    #[cfg(feature = "policy-lecar")]
    &aether_policies::lecar::PLUGIN,
    #[cfg(feature = "policy-lirs")]
    &aether_policies::lirs::PLUGIN,
    #[cfg(feature = "policy-mq")]
    &aether_policies::mq::PLUGIN,
    #[cfg(feature = "policy-random")]
    &aether_policies::random::PLUGIN,
    #[cfg(feature = "policy-s3-fifo")]
    &aether_policies::s3_fifo::PLUGIN,
    #[cfg(feature = "policy-sieve")]
    &aether_policies::sieve::PLUGIN,
    #[cfg(feature = "policy-ttl-idle")]
    &aether_policies::ttl_idle::PLUGIN,
    #[cfg(feature = "policy-two-q")]
    &aether_policies::two_q::PLUGIN,
    #[cfg(feature = "policy-w-tinylfu")]
    &aether_policies::w_tinylfu::PLUGIN,
];

/// Every plug-in of this build: those that the features name, and those that other linked crates announce.
///
/// # Errors
/// `Config` when two crates announce one name for one role, or two codecs one number.
pub fn registry() -> Result<Registry> {
    let mut registry = Registry::discover()?;
    for plugin in NAMED {
        registry.add(plugin)?;
    }
    Ok(registry)
}
