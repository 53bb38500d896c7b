//! Fakes of the cold role: [`StrictCold`] for tests of what uses a store, and [`BROKEN`] for tests of the suite.

mod broken;
mod strict;

pub use broken::{BROKEN, Broken, PLAIN};
pub use strict::{ColdCounts, ColdFault, ColdOp, StrictCold};
