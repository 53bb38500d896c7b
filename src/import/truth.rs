//! The known nearest neighbours of a set of queries.

use std::path::Path;

use aether_core::{Metric, Result};

use super::npy::{Dtype, Npy};
use super::vecs::{Element, Vecs};
use super::{Matrix, refused};

/// Row numbers of the nearest base vectors of each query, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    k: usize,
    rows: Vec<u32>,
}

/// Most neighbours of one query.
const K_MAX: u64 = 1 << 20;

impl Truth {
    /// Reads an `.npy` array `[queries, k]` of 32 or 64 bit integers, or an `.ivecs` file.
    ///
    /// # Errors
    /// `InvalidInput` for another kind of file or a negative number; `Corrupt` for damage.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.to_string_lossy().to_lowercase();
        if name.ends_with(".ivecs") {
            Self::read_ivecs(path)
        } else {
            Self::read_npy(path, name.ends_with(".gz"))
        }
    }

    fn read_ivecs(path: &Path) -> Result<Self> {
        let mut vecs = Vecs::open(path, Element::I32)?;
        let mut truth = Self {
            k: vecs.dim,
            rows: Vec::new(),
        };
        let mut buffer = vec![0; vecs.dim * 4];
        while vecs.next_row(&mut buffer)? {
            truth.push(
                path,
                buffer
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| i64::from(i32::from_le_bytes(*b))),
            )?;
        }
        Ok(truth)
    }

    fn read_npy(path: &Path, gzip: bool) -> Result<Self> {
        let mut npy = Npy::open(path, gzip)?;
        let (header, dtype) = (npy.header, npy.header.dtype);
        let wide = match dtype {
            Dtype::I32 | Dtype::U32 => false,
            Dtype::I64 | Dtype::U64 => true,
            Dtype::F16 | Dtype::F32 | Dtype::U8 => {
                return Err(refused(
                    path,
                    format!("expected row numbers of 32 or 64 bits, got {dtype:?}"),
                ));
            }
        };
        if header.columns == 0 || header.columns > K_MAX || header.rows == 0 {
            let got = format!("{} x {}", header.rows, header.columns);
            return Err(refused(
                path,
                format!("expected queries x neighbours (1 to {K_MAX}), got {got}"),
            ));
        }
        let mut truth = Self {
            k: header.columns as usize,
            rows: Vec::new(),
        };
        let mut buffer = vec![0; truth.k * dtype.bytes()];
        for row in 0..header.rows {
            npy.read_row(row, &mut buffer)?;
            if wide {
                // A u64 beyond i64 turns negative and is refused as one.
                truth.push(
                    path,
                    buffer
                        .as_chunks::<8>()
                        .0
                        .iter()
                        .map(|b| i64::from_le_bytes(*b)),
                )?;
            } else if dtype == Dtype::U32 {
                truth.push(
                    path,
                    buffer
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|b| i64::from(u32::from_le_bytes(*b))),
                )?;
            } else {
                truth.push(
                    path,
                    buffer
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|b| i64::from(i32::from_le_bytes(*b))),
                )?;
            }
        }
        npy.read_end()?;
        Ok(truth)
    }

    fn push(&mut self, path: &Path, rows: impl Iterator<Item = i64>) -> Result<()> {
        let query = self.len();
        for row in rows {
            let row = u32::try_from(row).map_err(|_| {
                refused(
                    path,
                    format!("query {query}: expected row numbers below 2^32, got {row}"),
                )
            })?;
            self.rows.push(row);
        }
        Ok(())
    }

    /// Neighbours that are known: `[queries, k]`, row-major, nearest first.
    pub fn new(k: usize, rows: Vec<u32>) -> Self {
        Self { k, rows }
    }

    /// Compares every query with every base vector, on all processors.
    pub fn compute(base: &Matrix, queries: &Matrix, metric: Metric, k: usize) -> Self {
        let k = k.min(base.rows());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let per_thread = queries.rows().div_ceil(threads).max(1);
        let all: Vec<usize> = (0..queries.rows()).collect();
        let rows = std::thread::scope(|scope| {
            let work = |some: &[usize]| -> Vec<u32> {
                some.iter()
                    .flat_map(|q| base.nearest(metric, queries.row(*q), k))
                    .collect()
            };
            let parts: Vec<_> = all
                .chunks(per_thread)
                .map(|some| scope.spawn(move || work(some)))
                .collect();
            let mut rows = Vec::with_capacity(queries.rows() * k);
            for part in parts {
                match part.join() {
                    Ok(some) => rows.extend(some),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            rows
        });
        Self { k, rows }
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.rows.len() / self.k.max(1)
    }

    /// Whether there are no queries.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Neighbours known of each query.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The largest row number.
    pub fn row_max(&self) -> Option<u32> {
        self.rows.iter().copied().max()
    }

    /// The first `k` neighbours of a query.
    ///
    /// # Panics
    /// When there is no such query.
    pub fn of(&self, query: usize, k: usize) -> &[u32] {
        &self.rows[query * self.k..query * self.k + k.min(self.k)]
    }

    /// Share of a query's first `k` neighbours that are among `found`.
    pub fn recall(&self, query: usize, k: usize, found: &[u64]) -> f64 {
        let truth = self.of(query, k);
        let hits = truth
            .iter()
            .filter(|row| found.contains(&u64::from(**row)))
            .count();
        hits as f64 / truth.len().max(1) as f64
    }
}
