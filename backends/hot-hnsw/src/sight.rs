//! What a search sees rows by: their vectors, or their codes.

use crate::codes::{Codes, Sought};
use crate::graph::{Graph, Point};
use crate::kernel::prefetch;
use crate::map::Heads;
use crate::node::{Link, slot_of};
use crate::scratch::Met;

/// Cache lines of a vector asked for as soon as its link is seen, head included.
const LINES_EARLY: usize = 3;

/// Cache lines asked for, beyond those, one row ahead.
const LINES_AHEAD: usize = 8;

/// Distances of rows from one query.
pub(crate) trait Sight: Copy {
    /// Whether distances are estimates.
    const ESTIMATES: bool;

    /// Standard deviation of a row's distance.
    fn deviation(self, slot: u32) -> f32;

    /// Asks for the memory of a row whose link was just seen.
    fn ask(self, graph: &Graph, slot: u32);

    /// Leaves in `met` those of `links` that are alive, and their distances; one beyond `bound` may be any number beyond `bound`.
    fn measure(self, graph: &Graph, links: &[Link], bound: f32, met: &mut Met);
}

/// By vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact(pub(crate) Point);

impl Sight for Exact {
    const ESTIMATES: bool = false;

    fn deviation(self, _slot: u32) -> f32 {
        0.0
    }

    #[inline(always)]
    fn ask(self, graph: &Graph, slot: u32) {
        let head: *const u8 = std::ptr::from_ref(graph.head(slot)).cast();
        for line in 0..LINES_EARLY {
            prefetch(head.wrapping_add(64 * line));
        }
    }

    #[inline(always)]
    fn measure(self, graph: &Graph, links: &[Link], bound: f32, met: &mut Met) {
        met.clear();
        for (i, link) in links.iter().enumerate() {
            if let Some(next) = links.get(i + 1) {
                let head: *const u8 = std::ptr::from_ref(graph.head(slot_of(*next))).cast();
                let lines = 1 + graph.shape.padded / 16;
                for line in LINES_EARLY..lines.min(LINES_EARLY + LINES_AHEAD) {
                    prefetch(head.wrapping_add(64 * line));
                }
            }
            if graph.is_live(*link) {
                met.links.push(*link);
                let to = graph.point(slot_of(*link));
                met.distances.push(graph.distance(self.0, to, bound));
            }
        }
    }
}

/// By codes: distances are estimates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coded<'a> {
    pub(crate) codes: &'a Codes,
    pub(crate) sought: &'a Sought,
}

impl Sight for Coded<'_> {
    const ESTIMATES: bool = true;

    #[inline(always)]
    fn deviation(self, slot: u32) -> f32 {
        self.codes.deviation(self.sought, slot)
    }

    #[inline(always)]
    fn ask(self, _graph: &Graph, slot: u32) {
        self.codes.ask(slot);
    }

    #[inline(always)]
    fn measure(self, _graph: &Graph, links: &[Link], _bound: f32, met: &mut Met) {
        self.codes.estimate(self.sought, links, met);
    }
}
