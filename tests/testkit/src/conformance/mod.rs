//! One property-based suite for each contract, as plain functions over a factory and a macro that makes one named test of
//! each check.

pub mod codec;
pub mod cold;
pub mod hot;
pub mod meta;
pub mod policy;
