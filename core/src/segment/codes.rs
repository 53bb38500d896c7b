//! Codes of a segment's rows: relative to the centroid of their partition, which never changes.

use std::fmt;

use aether_codes::{Block, Coder, Measure};

use crate::error::{Error, Result};
use crate::vector::Metric;

/// Where the centroids of partitions are looked up.
pub(crate) trait Centroids: fmt::Debug + Sync {
    /// The centroid of a partition, `[dim]`.
    fn centroid(&self, partition: u32) -> Option<&[f32]>;
}

/// How the codes of a segment are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes<'a> {
    coder: &'a Coder,
    centroids: &'a dyn Centroids,
}

impl<'a> Codes<'a> {
    pub(crate) fn new(coder: &'a Coder, centroids: &'a dyn Centroids) -> Self {
        Self { coder, centroids }
    }

    pub(crate) fn bits(&self) -> u8 {
        self.coder.bits()
    }

    /// Bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.coder.row_bytes()
    }

    /// Appends the codes of rows of one partition; gives their radius around its centroid.
    pub(crate) fn write<'v>(
        &self,
        partition: u32,
        vectors: impl Iterator<Item = &'v [f32]>,
        out: &mut Vec<u8>,
    ) -> Result<f32> {
        let centroid = self.centroids.centroid(partition).ok_or_else(|| {
            Error::internal(format!(
                "partition {partition} has no centroid: its rows cannot be coded"
            ))
        })?;
        let (centre, mut block) = (self.coder.centre(centroid), Block::default());
        vectors.for_each(|v| self.coder.encode(&centre, v, &mut block));
        block.write(out);
        Ok(block.radius())
    }
}

/// What codes estimate under a metric.
pub(crate) fn measure(metric: Metric) -> Measure {
    match metric {
        Metric::L2 => Measure::L2,
        Metric::InnerProduct => Measure::InnerProduct,
        Metric::Cosine => Measure::Cosine,
    }
}

/// A coder of so many bits.
pub(crate) fn coder(dim: usize, bits: u8, metric: Metric) -> Result<Coder> {
    Coder::new(dim, bits, measure(metric)).ok_or_else(|| {
        Error::corrupt(format!(
            "codes: expected 1 to 8 bits a dimension, got {bits}"
        ))
    })
}
