//! Fakes, stricter than the real thing, and fakes broken on purpose that a suite must catch.

pub mod codec;
pub mod cold;
pub mod hot;
pub mod meta;
pub mod policy;
