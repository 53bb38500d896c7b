//! A first look at the rows of a block: bounds from their signs alone, then from the whole codes of the few that these do not rule out.
//!
//! The turned query is rounded to four bits and cut into planes, so that its product with signs is a count of common bits. Rounding so
//! coarsely widens the bound of the signs by a fiftieth.

use crate::encode::Coder;
use crate::estimate::{Bounds, Query, ROUNDING, Spot, Terms};
use crate::kernel::{Kernel, PLANES, Plane, RUN, Work, pack, wide};
use crate::layers::{Layers, sign_words, words};

/// A unit of the query's grid in standard deviations of its coordinates (Max, 1960, for sixteen levels); what lies beyond the last level
/// is cut off, and counted as lost.
const STEP: f32 = 0.3352;

/// A turned query in whole steps of -8 to 7, its bits by planes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coarse {
    /// `[words]`: of 32 dimensions the bits of each plane, the lowest plane first; the last has the weight -8.
    planes: Vec<[u32; PLANES]>,
    step: f32,
    /// Sum of the numbers.
    sum: i32,
    /// Length of what rounding left out.
    lost: f32,
    numbers: Vec<u8>,
    packed: Vec<u8>,
}

impl Coarse {
    /// Another query is coming.
    pub(crate) fn forget(&mut self) {
        self.planes.clear();
    }

    /// Rounds `turned`, `[padded]`.
    #[inline(always)]
    fn round(&mut self, turned: &[f32]) {
        let eights = turned.as_chunks::<8>().0;
        let mut squares = [0f32; 8];
        for eight in eights {
            for i in 0..8 {
                squares[i] += eight[i] * eight[i];
            }
        }
        let norm2 = squares.iter().sum::<f32>();
        let sigma = (norm2 / turned.len() as f32).sqrt();
        let unit = if sigma > 0.0 { STEP * sigma } else { 1.0 };
        let inverse = 1.0 / unit;
        self.numbers.clear();
        let (mut sum, mut squares, mut along) = ([0i32; 8], [0i32; 8], [0f32; 8]);
        for eight in eights {
            let mut numbers = [0u8; 8];
            for i in 0..8 {
                // Truncation of what was moved half a unit away from zero.
                let x = eight[i] * inverse;
                let number = (x + 0.5f32.copysign(x)).clamp(-8.0, 7.0) as i32;
                numbers[i] = number as u8;
                sum[i] += number;
                squares[i] += number * number;
                along[i] += eight[i] * number as f32;
            }
            self.numbers.extend_from_slice(&numbers);
        }
        self.sum = sum.iter().sum();
        let along = along.iter().sum::<f32>();
        // Rounding shortens: this step undoes it, so that what is lost stands at a right angle to the query.
        self.step = if along > 0.0 { norm2 / along } else { unit };
        let squares = squares.iter().sum::<i32>() as f32;
        let lost2 = self.step * self.step * squares - norm2;
        self.lost = lost2.max(0.0).sqrt();
    }

    /// Cuts the numbers into planes.
    #[inline(always)]
    fn cut(&mut self, highest: Plane) {
        self.planes.clear();
        self.planes.resize(highest.bytes.div_ceil(4), [0; PLANES]);
        for bit in 0..PLANES {
            let plane = Plane {
                shift: bit as u8,
                ..highest
            };
            self.packed.clear();
            pack(&[plane], &self.numbers, &mut self.packed);
            for (word, of) in words(&self.packed).zip(&mut self.planes) {
                of[bit] = word;
            }
        }
    }
}

/// A turned query that is being rounded.
struct Rounding<'a> {
    coarse: &'a mut Coarse,
    turned: &'a [f32],
    highest: Plane,
}

impl Work for Rounding<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        self.coarse.round(self.turned);
        self.coarse.cut(self.highest);
    }
}

impl Query {
    /// The bounds of the rows of a block whose lower bound is at most `bar`, in order, each with its place, appended to `out`: those that
    /// [`Query::estimate_below`] gives, but for rows that their signs alone put beyond the bar at the same confidence. O(rows x dim / 8).
    ///
    /// # Panics
    /// When the layers are of another coder.
    pub fn below(
        &mut self,
        coder: &Coder,
        spot: Spot,
        layers: &Layers,
        (deviations, bar): (f32, f32),
        out: &mut Vec<(u32, Bounds)>,
    ) {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        let below = Below {
            bar,
            out: &mut places,
        };
        self.look(coder, spot, layers, deviations, below);
        if !places.is_empty() {
            self.refine(coder, spot, layers, &places, (deviations, bar), out);
        }
        self.places = places;
    }

    /// Appends the bounds that every row of a block has by its signs alone. O(rows x dim / 8).
    ///
    /// # Panics
    /// When the layers are of another coder.
    pub fn estimate_signs(
        &mut self,
        coder: &Coder,
        spot: Spot,
        layers: &Layers,
        deviations: f32,
        out: &mut Vec<Bounds>,
    ) {
        self.look(coder, spot, layers, deviations, Every(out));
    }

    /// Tells `visit` the bounds of each run of rows.
    fn look(
        &mut self,
        coder: &Coder,
        spot: Spot,
        layers: &Layers,
        deviations: f32,
        visit: impl Visit,
    ) {
        let words = sign_words(coder);
        assert!(
            layers.signs.len() == layers.rows().div_ceil(RUN) * (words + 1),
            "layers: of the coder"
        );
        if self.coarse.planes.len() != words {
            wide(Rounding {
                coarse: &mut self.coarse,
                turned: &self.turned,
                highest: coder.highest(),
            });
        }
        let look = Look {
            terms: SignTerms::of(&self.coarse, spot, deviations, layers),
            kernel: self.kernel,
            coarse: &self.coarse,
            layers,
            visit,
        };
        wide(look);
    }

    /// Appends the bounds of the rows at `places` that are at most `bar`.
    fn refine(
        &mut self,
        coder: &Coder,
        spot: Spot,
        layers: &Layers,
        places: &[u32],
        (deviations, bar): (f32, f32),
        out: &mut Vec<(u32, Bounds)>,
    ) {
        let terms = Terms::of(self, coder, spot, deviations);
        let (planes, kernel) = (&coder.planes, self.kernel);
        for place in places {
            let (code, [add, scale, error]) = layers.row(*place as usize);
            self.products.clear();
            kernel.products(planes, code, &self.bytes, &mut self.products);
            let bounds = terms.bounds(self.products[0], add, scale, error);
            let above = bounds.lower() > bar;
            if !above {
                out.push((*place, bounds));
            }
        }
    }
}

/// What is the same for the signs of all rows of a block.
struct SignTerms {
    base: f32,
    away: f32,
    lost: f32,
    outside: f32,
    step: f32,
    sum: i32,
    deviations: f32,
    /// Half a step of the packed numbers.
    add_off: f32,
    scale_off: f32,
}

impl SignTerms {
    fn of(coarse: &Coarse, spot: Spot, deviations: f32, layers: &Layers) -> Self {
        Self {
            base: spot.base,
            away: spot.away,
            lost: coarse.lost,
            outside: spot.base.abs() + spot.away * spot.away,
            step: coarse.step,
            sum: coarse.sum,
            deviations,
            add_off: layers.steps.add.1 / 2.0,
            scale_off: layers.steps.scale.1 / 2.0,
        }
    }

    /// The estimate of a row and how far it may be off, `count` being the sum of the query's numbers where the row's signs are positive.
    #[inline(always)]
    fn bounds(&self, count: i32, (add, scale, error): (f32, f32, f32)) -> (f32, f32) {
        let product = self.step * (2 * count - self.sum) as f32;
        let along = scale * product;
        let (a, b) = (error * self.away, scale * self.lost);
        let slack = ROUNDING * (self.outside + add.abs() + along.abs())
            + self.add_off
            + self.scale_off * product.abs();
        let error = self.deviations * (a * a + b * b).sqrt() + slack;
        (self.base + add + along, error)
    }
}

/// Who is told of runs of rows.
trait Visit {
    /// The bounds of the first `rows` of a run that begins at the row `first`.
    fn visit(&mut self, first: u32, rows: usize, run: &Run);
}

/// The bounds of a run; those beyond its last row mean nothing.
struct Run {
    estimates: [f32; RUN],
    errors: [f32; RUN],
}

/// Rows that are not above a bar.
struct Below<'a> {
    bar: f32,
    out: &'a mut Vec<u32>,
}

impl Visit for Below<'_> {
    #[inline(always)]
    fn visit(&mut self, first: u32, rows: usize, run: &Run) {
        let lowers = run.estimates.iter().zip(&run.errors);
        let mut above = [false; RUN];
        let mut all = true;
        for (above, (estimate, error)) in above.iter_mut().zip(lowers) {
            *above = estimate - error > self.bar;
            all &= *above;
        }
        if all {
            return;
        }
        let places = (first..).zip(&above[..rows]);
        let below = places.filter(|(_, above)| !**above);
        self.out.extend(below.map(|(place, _)| place));
    }
}

struct Every<'a>(&'a mut Vec<Bounds>);

impl Visit for Every<'_> {
    #[inline(always)]
    fn visit(&mut self, _: u32, rows: usize, run: &Run) {
        let bounds = run.estimates.iter().zip(&run.errors).take(rows);
        let bounds = bounds.map(|(estimate, error)| Bounds {
            estimate: *estimate,
            error: *error,
        });
        self.0.extend(bounds);
    }
}

/// A block whose signs are being looked at.
struct Look<'a, V> {
    terms: SignTerms,
    kernel: Kernel,
    coarse: &'a Coarse,
    layers: &'a Layers,
    visit: V,
}

impl<V: Visit> Work for Look<'_, V> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let words = self.coarse.planes.len();
        let runs = self.layers.signs.chunks_exact(words + 1);
        for (lines, first) in runs.zip((0..).step_by(RUN)) {
            let bounds = self.bounds(&lines[..words], &lines[words]);
            let rows = RUN.min(self.layers.rows() - first);
            self.visit.visit(first as u32, rows, &bounds);
        }
    }
}

impl<V> Look<'_, V> {
    /// The bounds of a run, of which `signs` are the words one after another.
    #[inline(always)]
    fn bounds(&self, signs: &[[u32; RUN]], numbers: &[u32; RUN]) -> Run {
        let counts = self.kernel.counts(signs, &self.coarse.planes);
        let (mut estimates, mut errors) = ([0f32; RUN], [0f32; RUN]);
        for i in 0..RUN {
            let numbers = self.layers.steps.unpack(numbers[i]);
            (estimates[i], errors[i]) = self.terms.bounds(counts[i], numbers);
        }
        Run { estimates, errors }
    }
}
