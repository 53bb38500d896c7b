//! A whole file of vectors in RAM, for measurements.

use std::path::Path;

use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Metric, Result};

use super::{Options, open_rows};

/// Vectors of one length, row-major: `[rows, dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    dim: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Reads a file's vectors; ids and payloads are left out.
    ///
    /// # Errors
    /// As [`Import::open`](super::Import::open), naming the row or line.
    pub fn read(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let mut rows = open_rows(path.as_ref(), options)?;
        let mut matrix = Self {
            dim: rows.dim(),
            data: Vec::new(),
        };
        let mut left = options.limit.unwrap_or(u64::MAX);
        while left > 0
            && let Some(entry) = rows.next_row()?
        {
            matrix.data.extend_from_slice(&entry.vector);
            left -= 1;
        }
        Ok(matrix)
    }

    /// Wraps `rows x dim` floats.
    ///
    /// # Errors
    /// `InvalidInput` when their number is no multiple of `dim`, or `dim` is out of range.
    pub fn new(dim: usize, data: Vec<f32>) -> Result<Self> {
        let rows = data.len().checked_div(dim).unwrap_or(0);
        VectorBlock::new(&data, Shape { rows, dim })?;
        Ok(Self { dim, data })
    }

    /// Floats in each vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of vectors.
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim
    }

    /// One vector.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }

    /// The vectors one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.dim)
    }

    /// Row numbers of the `k` nearest vectors of `query`, nearest first, ties by row. O(rows x dim).
    pub fn nearest(&self, metric: Metric, query: &[f32], k: usize) -> Vec<u32> {
        let scale = metric.scale(query);
        let mut found: Vec<(f32, u32)> = self
            .iter()
            .zip(0u32..)
            .map(|(v, row)| {
                (
                    metric.distance_scaled(query, scale, v, metric.scale(v)),
                    row,
                )
            })
            .collect();
        let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if found.len() > k && k > 0 {
            found.select_nth_unstable_by(k - 1, order);
        }
        found.truncate(k);
        found.sort_unstable_by(order);
        found.into_iter().map(|(_, row)| row).collect()
    }
}
