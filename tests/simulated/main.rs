//! The engine on the real `redb` and `file` stores over a simulated file system: what was not synced is dropped, torn or reordered;
//! the disk is full, breaks, cannot be read or lies; each sync is left out in turn; and everything happens again from the same seed.
//!
//! `AETHER_SEED` runs one seed, `AETHER_SEEDS` so many of each kind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod barriers;
mod faults;
mod ground;
mod looks;
mod planted;
mod power;
mod restored;
mod whole;
