//! Every order of things that a seed can think of: tasks beside one another on one thread, where each call of a store is a moment at
//! which another may go on, and a checker that says whether what the callers saw fits any order of what they did.
//!
//! [`Turns`] decides who goes on, [`InTurn`] makes a store ask it, [`History`] judges.

mod history;
mod stores;
mod turns;

pub use history::{Call, Did, History};
pub use stores::InTurn;
pub use turns::{Stuck, Turns, alone};
