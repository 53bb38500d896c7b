//! Conformance suites, fakes and models for authors of Aether plug-ins.
//!
//! One dev-dependency and one macro call prove a plug-in; see [`conformance`].

pub mod alloc;
pub mod conformance;
pub mod damage;
pub mod fake;
pub mod model;
pub mod sim;
pub mod strategy;
pub mod workload;
