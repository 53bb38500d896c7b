//! From codes and a query to distances and bounds.

use crate::encode::{Coder, FACTOR_BYTES, inverse_norm};
use crate::kernel::{Kernel, Work, code_bytes, wide};
use crate::signs::Coarse;
use crate::{Measure, dot};

/// What a distance is estimated to be, and where it lies at the confidence asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The estimate, unbiased.
    pub estimate: f32,
    /// How far the distance may be from it, up or down.
    pub error: f32,
}

impl Bounds {
    /// The smallest distance there may be.
    #[inline]
    pub fn lower(&self) -> f32 {
        self.estimate - self.error
    }

    /// The largest distance there may be.
    #[inline]
    pub fn upper(&self) -> f32 {
        self.estimate + self.error
    }
}

/// A query, turned once and rounded to bytes; used with the codes of every centroid.
#[derive(Clone, Debug)]
pub struct Query {
    /// `[dim]`; of unit length under cosine.
    plain: Vec<f32>,
    /// The turned query in units of `step`.
    pub(crate) bytes: Vec<i8>,
    step: f32,
    /// Sum of `bytes`.
    sum: i64,
    /// Length of what rounding to bytes left out.
    lost: f32,
    pub(crate) kernel: Kernel,
    pub(crate) products: Vec<i32>,
    pub(crate) turned: Vec<f32>,
    /// What signs are compared with; empty until it is asked for.
    pub(crate) coarse: Coarse,
    /// Rows of a block that their signs do not rule out.
    pub(crate) places: Vec<u32>,
}

/// Where a centroid lies, seen from a query: the same for all rows of its partition.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// The part of every distance that the centroid alone decides.
    pub(crate) base: f32,
    /// The distance to the centroid.
    pub(crate) away: f32,
}

impl Spot {
    /// The same from the distance to the centroid alone, where that is enough: not for an inner product. Under cosine query and centroid
    /// are taken as of unit length.
    pub fn at(measure: Measure, rank: f32) -> Option<Self> {
        let away2 = match measure {
            Measure::L2 => rank,
            // Of unit vectors, half the squared distance is 1 - cos.
            Measure::Cosine => 2.0 * rank,
            Measure::InnerProduct => return None,
        };
        Some(Self {
            base: rank,
            away: away2.max(0.0).sqrt(),
        })
    }
}

/// The smallest distance from a query that a vector within `radius` of a centroid can have, `rank` being the distance of the centroid
/// itself and `norm` the query's length (which only an inner product asks for): no row of such a block is nearer, for certain. Under
/// cosine the centroid is of unit length, and the radius one of directions.
pub fn least(measure: Measure, norm: f32, rank: f32, radius: f32) -> f32 {
    let within = |away2: f32| (away2.max(0.0).sqrt() - radius).max(0.0).powi(2);
    let least = match measure {
        Measure::L2 => within(rank),
        Measure::InnerProduct => rank - radius * norm,
        // Of unit vectors, half the squared distance is 1 - cos.
        Measure::Cosine => within(2.0 * rank) / 2.0,
    };
    // Rounding: more than the sums and the root can err by.
    least - 1e-5 * (rank.abs() + radius + radius * radius)
}

/// Share of a term's size that rounding in f32 may cost, sums over thousands of dimensions included.
pub(crate) const ROUNDING: f32 = 4e-6;

impl Query {
    /// Prepares a query, `[dim]`, with the quickest kernel.
    pub fn new(coder: &Coder, query: &[f32]) -> Self {
        Self::with_kernel(coder, query, Kernel::best())
    }

    /// The same with a kernel of choice.
    ///
    /// # Panics
    /// When the query has another length.
    pub fn with_kernel(coder: &Coder, query: &[f32], kernel: Kernel) -> Self {
        let mut fresh = Self::unset(kernel);
        fresh.set(coder, query);
        fresh
    }

    /// A query of no dimension, to be [`set`](Query::set) before use.
    pub fn unset(kernel: Kernel) -> Self {
        Self {
            plain: Vec::new(),
            bytes: Vec::new(),
            step: 1.0,
            sum: 0,
            lost: 0.0,
            kernel,
            products: Vec::new(),
            turned: Vec::new(),
            coarse: Coarse::default(),
            places: Vec::new(),
        }
    }

    /// Prepares for another query, `[dim]`, in the memory of the former. O(dim log dim).
    ///
    /// # Panics
    /// When the query has another length.
    pub fn set(&mut self, coder: &Coder, query: &[f32]) {
        assert!(query.len() == coder.dim(), "query: `dim` floats");
        let unit = match coder.measure() {
            Measure::L2 | Measure::InnerProduct => 1.0,
            Measure::Cosine => inverse_norm(query),
        };
        self.plain.clear();
        self.plain.extend(query.iter().map(|x| x * unit));
        coder.rotation.apply(&self.plain, &mut self.turned);
        self.coarse.forget();
        wide(Rounding(self));
    }

    /// Rounds the turned query to bytes.
    #[inline(always)]
    fn round(&mut self) {
        let (eights, _) = self.turned.as_chunks::<8>();
        let mut most = [0f32; 8];
        for eight in eights {
            for i in 0..8 {
                most[i] = most[i].max(eight[i].abs());
            }
        }
        let most = most.into_iter().fold(0f32, f32::max);
        self.step = if most > 0.0 { most / 127.0 } else { 1.0 };
        let (step, inverse) = (self.step, 1.0 / self.step);
        self.bytes.clear();
        let (mut lost, mut sum) = ([0f32; 8], [0i32; 8]);
        for eight in eights {
            let mut bytes = [0i8; 8];
            for i in 0..8 {
                // Truncation of what was moved half a unit away from zero: at most 127 by the choice of the step.
                let x = eight[i] * inverse;
                let rounded = (x + 0.5f32.copysign(x)).clamp(-127.0, 127.0) as i32;
                bytes[i] = rounded as i8;
                sum[i] += rounded;
                let rest = eight[i] - step * rounded as f32;
                lost[i] += rest * rest;
            }
            self.bytes.extend_from_slice(&bytes);
        }
        self.lost = lost.iter().sum::<f32>().sqrt();
        self.sum = sum.iter().map(|s| i64::from(*s)).sum();
    }

    /// The query, `[dim]`; of unit length under cosine.
    pub fn plain(&self) -> &[f32] {
        &self.plain
    }

    /// The turned query in units of [`step`](Query::step), `[padded]`.
    pub fn bytes(&self) -> &[i8] {
        &self.bytes
    }

    /// What one unit of [`bytes`](Query::bytes) stands for.
    pub fn step(&self) -> f32 {
        self.step
    }

    /// Sum of [`bytes`](Query::bytes).
    pub fn sum(&self) -> i64 {
        self.sum
    }

    /// Standard deviation that rounding the query to bytes adds to an estimate, for a row of `scale` 1.
    pub fn rounding(&self, coder: &Coder) -> f32 {
        // A rounded query errs as a random vector of length `lost` would: by its share along x, whose length is at most
        // `middle * sqrt(D)`, over `sqrt(D)`.
        self.lost * coder.middle()
    }

    /// Looks at a centroid, `[dim]`. O(dim).
    ///
    /// # Panics
    /// When it has another length.
    pub fn spot(&self, measure: Measure, centroid: &[f32]) -> Spot {
        assert!(centroid.len() == self.plain.len(), "centroid: `dim` floats");
        wide(Looking {
            plain: &self.plain,
            measure,
            centroid,
        })
    }

    /// Appends the bounds of every row of a block around a centroid that [`Block::write`](crate::Block::write) wrote with the same coder; false, and
    /// nothing appended, when `block` has not the length of `rows` rows. `deviations` is that of the confidence wanted, see
    /// [`deviations`](crate::deviations). O(rows x dim).
    #[must_use]
    pub fn estimate(
        &mut self,
        coder: &Coder,
        spot: Spot,
        block: &[u8],
        rows: usize,
        deviations: f32,
        out: &mut Vec<Bounds>,
    ) -> bool {
        let Some(factors) = self.multiply(coder, block, rows) else {
            return false;
        };
        let terms = Terms::of(self, coder, spot, deviations);
        let rows =
            (self.products.iter().zip(factors.adds)).zip(factors.scales.iter().zip(factors.errors));
        let bounds = rows.map(|((p, a), (s, e))| terms.bounds(*p, *a, *s, *e));
        out.extend(bounds);
        true
    }

    /// The same of the rows alone whose lower bound is at most `bar`, each with its place in the block: what a search mostly does with a
    /// row is to pass over it.
    #[must_use]
    pub fn estimate_below(
        &mut self,
        coder: &Coder,
        spot: Spot,
        block: &[u8],
        rows: usize,
        (deviations, bar): (f32, f32),
        out: &mut Vec<(u32, Bounds)>,
    ) -> bool {
        let Some(factors) = self.multiply(coder, block, rows) else {
            return false;
        };
        let terms = Terms::of(self, coder, spot, deviations);
        wide(Below {
            terms,
            products: &self.products,
            beside: factors,
            bar,
            out,
        });
        true
    }

    /// Multiplies the codes of a block with the query; gives the numbers beside them.
    fn multiply<'b>(&mut self, coder: &Coder, block: &'b [u8], rows: usize) -> Option<Beside<'b>> {
        if block.len() != rows * coder.row_bytes() {
            return None;
        }
        let (factors, codes) = block.split_at(rows * FACTOR_BYTES);
        let (numbers, _) = factors.as_chunks::<4>();
        let (adds, rest) = numbers.split_at(rows);
        let (scales, errors) = rest.split_at(rows);
        debug_assert_eq!(codes.len(), rows * code_bytes(&coder.planes));
        self.products.clear();
        let (planes, bytes) = (&coder.planes, &self.bytes);
        self.kernel
            .products(planes, codes, bytes, &mut self.products);
        Some(Beside {
            adds,
            scales,
            errors,
        })
    }
}

/// A query that is being rounded.
struct Rounding<'a>(&'a mut Query);

impl Work for Rounding<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        self.0.round();
    }
}

/// A centroid that is being looked at.
struct Looking<'a> {
    plain: &'a [f32],
    measure: Measure,
    centroid: &'a [f32],
}

impl Work for Looking<'_> {
    type Out = Spot;

    #[inline(always)]
    fn run(self) -> Spot {
        let (plain, centroid) = (self.plain, self.centroid);
        let mut squares = [0f32; 8];
        let (q8, q_rest) = plain.as_chunks::<8>();
        let (c8, c_rest) = centroid.as_chunks::<8>();
        for (q, c) in q8.iter().zip(c8) {
            for i in 0..8 {
                squares[i] += (q[i] - c[i]).powi(2);
            }
        }
        let mut rest = 0.0;
        for (q, c) in q_rest.iter().zip(c_rest) {
            rest += (q - c).powi(2);
        }
        let away2 = squares.iter().sum::<f32>() + rest;
        let base = match self.measure {
            Measure::L2 => away2,
            Measure::InnerProduct => -dot(plain, centroid),
            Measure::Cosine => 1.0 - dot(plain, centroid),
        };
        Spot {
            base,
            away: away2.sqrt(),
        }
    }
}

/// Rows of a block that are being compared with a bar.
struct Below<'a> {
    terms: Terms,
    products: &'a [i32],
    beside: Beside<'a>,
    bar: f32,
    out: &'a mut Vec<(u32, Bounds)>,
}

impl Work for Below<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        (self.terms).below(self.products, &self.beside, self.bar, self.out);
    }
}

/// The three numbers beside the codes of a block, `[rows]` each.
struct Beside<'b> {
    adds: &'b [[u8; 4]],
    scales: &'b [[u8; 4]],
    errors: &'b [[u8; 4]],
}

/// Rows whose bounds are computed side by side.
const ABREAST: usize = 16;

/// What is the same for all rows of a block.
pub(crate) struct Terms {
    base: f32,
    away: f32,
    rounding: f32,
    outside: f32,
    /// Twice the product with the grid's values is `2 * product - whole`: below 2^53, so f64 loses nothing of it.
    whole: f64,
    half_step: f32,
    deviations: f32,
}

impl Terms {
    pub(crate) fn of(
        query: &Query,
        coder: &Coder,
        Spot { base, away }: Spot,
        deviations: f32,
    ) -> Self {
        let highest = (1i64 << coder.bits()) - 1;
        Self {
            base,
            away,
            rounding: query.rounding(coder),
            outside: base.abs() + away * away,
            whole: (highest * query.sum) as f64,
            half_step: query.step / 2.0,
            deviations,
        }
    }

    #[inline(always)]
    pub(crate) fn bounds(
        &self,
        product: i32,
        add: [u8; 4],
        scale: [u8; 4],
        error: [u8; 4],
    ) -> Bounds {
        let (add, scale, error) = (
            f32::from_le_bytes(add),
            f32::from_le_bytes(scale),
            f32::from_le_bytes(error),
        );
        let twice = 2.0 * f64::from(product) - self.whole;
        let along = scale * (twice as f32 * self.half_step);
        let (a, b) = (error * self.away, scale * self.rounding);
        let slack = ROUNDING * (self.outside + add.abs() + along.abs());
        Bounds {
            estimate: self.base + add + along,
            error: self.deviations * (a * a + b * b).sqrt() + slack,
        }
    }

    #[inline(always)]
    fn below(&self, products: &[i32], b: &Beside<'_>, bar: f32, out: &mut Vec<(u32, Bounds)>) {
        let (runs, last) = products.as_chunks::<ABREAST>();
        let adds = b.adds.as_chunks::<ABREAST>().0;
        let scales = b.scales.as_chunks::<ABREAST>().0;
        let errors = b.errors.as_chunks::<ABREAST>().0;
        for (run, products) in runs.iter().enumerate() {
            let (adds, scales, errors) = (&adds[run], &scales[run], &errors[run]);
            let (mut estimates, mut widths) = ([0f32; ABREAST], [0f32; ABREAST]);
            for i in 0..ABREAST {
                let of = self.bounds(products[i], adds[i], scales[i], errors[i]);
                (estimates[i], widths[i]) = (of.estimate, of.error);
            }
            let mut all_above = true;
            for i in 0..ABREAST {
                all_above &= estimates[i] - widths[i] > bar;
            }
            if all_above {
                continue;
            }
            for i in 0..ABREAST {
                let (estimate, error) = (estimates[i], widths[i]);
                let above = estimate - error > bar;
                if !above {
                    out.push(((run * ABREAST + i) as u32, Bounds { estimate, error }));
                }
            }
        }
        let first = products.len() - last.len();
        for (i, product) in last.iter().enumerate() {
            let at = first + i;
            let of = self.bounds(*product, b.adds[at], b.scales[at], b.errors[at]);
            let above = of.lower() > bar;
            if !above {
                out.push((at as u32, of));
            }
        }
    }
}
