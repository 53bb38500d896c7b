//! The points around which rows are coded, learned from what comes in.
//!
//! A code tells a residual, so it is the finer the nearer the row is to its centre. There is one centre from the beginning, zero. The mean
//! of the first rows becomes the second; from then on windows of rows are looked at, and the mean of a window becomes a
//! centre too when its rows are clearly nearer to it than to the centres they got: that is how codes follow data that drift. A row keeps
//! the centre that it was coded around, so no code is ever made anew.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aether_codes::{Centre, Coder};
use aether_core::Metric;
use aether_core::vector::dot;
use parking_lot::Mutex;

use crate::kernel::{Kernels, LANES};

/// Centres at most, and in how many floats of all centres together.
const CENTRES_MAX: usize = 16;
const FLOATS_MAX: usize = 1 << 13;

/// Rows of a window.
const WINDOW: usize = 256;

/// A window's mean becomes a centre when the squared distances of its rows to it are below this share of those to their centres, to the
/// power of the number of centres: the more there are, the more another has to bring.
const NEARER: f64 = 0.9;

#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) centre: Centre,
    /// The same, padded for the kernels.
    padded: Vec<f32>,
    norm2: f32,
}

/// The rows that came since the last look.
#[derive(Debug)]
struct Window {
    sum: Vec<f64>,
    /// Sum of the squared lengths of the rows, and of their residuals.
    norm2: f64,
    residual2: f64,
    rows: usize,
}

#[derive(Debug)]
pub(crate) struct Centres {
    dim: usize,
    metric: Metric,
    kernels: Kernels,
    spots: Vec<OnceLock<Spot>>,
    used: AtomicUsize,
    window: Mutex<Window>,
}

impl Centres {
    /// The first centre, zero, and room for others.
    pub(crate) fn new(coder: &Coder, metric: Metric, kernels: Kernels) -> Self {
        let dim = coder.dim();
        let most = (FLOATS_MAX / dim).clamp(2, CENTRES_MAX);
        let centres = Self {
            dim,
            metric,
            kernels,
            spots: (0..most).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            window: Mutex::new(Window {
                sum: vec![0.0; dim],
                norm2: 0.0,
                residual2: 0.0,
                rows: 0,
            }),
        };
        centres.add(coder, vec![0.0; dim]);
        centres
    }

    /// RAM that all centres take, those to come included, and the window.
    pub(crate) fn bytes(&self) -> usize {
        let floats = self.dim.next_multiple_of(LANES) * size_of::<f32>();
        self.spots.len() * (size_of::<OnceLock<Spot>>() + 3 * floats) + self.dim * size_of::<f64>()
    }

    fn add(&self, coder: &Coder, plain: Vec<f32>) {
        let at = self.used.load(Ordering::Relaxed);
        if let Some(cell) = self.spots.get(at) {
            let (centre, norm2) = (coder.centre(&plain), dot(&plain, &plain));
            let mut padded = plain;
            padded.resize(self.dim.next_multiple_of(LANES), 0.0);
            let spot = Spot {
                centre,
                padded,
                norm2,
            };
            if cell.set(spot).is_ok() {
                self.used.store(at + 1, Ordering::Release);
            }
        }
    }

    /// Centres there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    fn spots(&self) -> impl Iterator<Item = &Spot> {
        self.spots.iter().map_while(OnceLock::get)
    }

    /// What a vector is multiplied by before it is coded.
    fn unit(&self, vector: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine => self.metric.scale(vector),
            Metric::L2 | Metric::InnerProduct => 1.0,
        }
    }

    /// The centre nearest to a vector, `[dim]`.
    pub(crate) fn nearest(&self, vector: &[f32]) -> Option<(usize, &Spot)> {
        let unit = self.unit(vector);
        let away = |spot: &Spot| spot.norm2 - 2.0 * unit * dot(vector, &spot.padded[..self.dim]);
        let spots = self.spots().map(|spot| (away(spot), spot)).enumerate();
        let nearest = spots.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
        nearest.map(|(at, (_, spot))| (at, spot))
    }

    /// Takes note of a vector, `[dim]`, that lies at `radius` from its centre. Passed over when another thread is at it.
    pub(crate) fn learn(&self, coder: &Coder, vector: &[f32], radius: f32) {
        let used = self.used.load(Ordering::Relaxed);
        if used == self.spots.len() {
            return;
        }
        let Some(mut window) = self.window.try_lock() else {
            return;
        };
        let unit = self.unit(vector);
        for (sum, x) in window.sum.iter_mut().zip(vector) {
            *sum += f64::from(x * unit);
        }
        window.norm2 += f64::from(dot(vector, vector) * unit * unit);
        window.residual2 += f64::from(radius * radius);
        window.rows += 1;
        if window.rows < WINDOW {
            return;
        }
        let rows = window.rows as f64;
        let mean2 = window.sum.iter().map(|s| (s / rows).powi(2)).sum::<f64>();
        if window.norm2 - rows * mean2 < NEARER.powi(used as i32) * window.residual2 {
            let mean = window.sum.iter().map(|s| (s / rows) as f32).collect();
            self.add(coder, mean);
        }
        window.sum.fill(0.0);
        (window.norm2, window.residual2, window.rows) = (0.0, 0.0, 0);
    }

    /// Writes, for each centre, what it adds to every distance from a query and how far the query is from it. `padded` is the query for
    /// the kernels.
    pub(crate) fn look(&self, query: &[f32], padded: *const f32, out: &mut Vec<(f32, f32)>) {
        let unit = self.unit(query);
        let norm2 = dot(query, query) * unit * unit;
        let floats = self.dim.next_multiple_of(LANES);
        out.clear();
        out.extend(self.spots().map(|spot| {
            let centre = spot.padded.as_ptr();
            // SAFETY: both are vectors of this dimension, padded to so many floats.
            unsafe {
                if self.metric == Metric::L2 {
                    let away2 = self.kernels.l2(padded, centre, floats, f32::INFINITY);
                    return (away2, away2.sqrt());
                }
                let dot = self.kernels.dot(padded, centre, floats) * unit;
                let away2 = (norm2 - 2.0 * dot + spot.norm2).max(0.0);
                let one = f32::from(u8::from(self.metric == Metric::Cosine));
                (one - dot, away2.sqrt())
            }
        }));
    }
}
