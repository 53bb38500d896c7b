//! Conformance suites, fakes and models for authors of Aether plug-ins.
//!
//! One dev-dependency and one macro call prove a plug-in; see [`conformance`].

pub mod alloc;
pub mod boxed;
pub mod conformance;
pub mod damage;
pub mod env;
pub mod fake;
pub mod model;
pub mod orders;
pub mod run;
pub mod sim;
pub mod simfs;
pub mod strategy;
pub mod workload;
