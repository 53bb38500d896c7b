//! Flux decides when and how much moves; which rows is the policy's affair.
//!
//! Each tick the temperature decays toward its floor, or rises under pressure. A sample of hot rows, scored by the policy, gives
//! the midpoint `m`: the worth at which the hot tier would exactly fit. A row of worth `s` leaves with probability
//! `sigmoid(k (m - s) / spread) * min(1, temperature)`, a cold candidate enters with `sigmoid(k (s - m) / spread) * min(1, temperature)`.
//! `spread` is the sample's own, so that one steepness `k` serves policies of any scale (DESIGN section 8, with that change).
//!
//! Where the user states an objective instead of a budget, [`objective`] derives the budget from how soon rows are used again
//! ([`Reuse`]) and how long requests take ([`Latencies`]).

mod budget;
mod latency;
pub mod objective;
mod reuse;
mod temperature;
mod tree;

pub use budget::{Draw, Fill, Midpoint};
pub use latency::{Latencies, Times};
pub use objective::{Observed, Sizing};
pub use reuse::Reuse;
pub use temperature::Temperature;
