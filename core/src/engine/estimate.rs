//! Codes of a memory: how they are made, and what they say of the blocks that a search probes.

use std::collections::HashMap;
use std::sync::OnceLock;

use aether_codes::{Bounds, Coder, Measure, Query};

use super::cold::{ColdView, Place};
use crate::error::{Error, Result};
use crate::segment::{Centroids, CodePage, coder, measure};
use crate::vector::Metric;

/// Coders of every number of bits, made when first needed: segments keep the bits they were written with.
#[derive(Debug)]
pub(crate) struct Coders {
    dim: usize,
    metric: Metric,
    made: [OnceLock<Coder>; 9],
}

impl Coders {
    pub(crate) fn new(dim: usize, metric: Metric) -> Self {
        Self {
            dim,
            metric,
            made: Default::default(),
        }
    }

    /// The coder of so many bits.
    pub(crate) fn get(&self, bits: u8) -> Result<&Coder> {
        let made = coder(self.dim, bits, self.metric)?;
        let place = self.made.get(usize::from(bits));
        let place = place.ok_or_else(|| Error::internal("codes of more than eight bits"))?;
        Ok(place.get_or_init(|| made))
    }

    pub(crate) fn measure(&self) -> Measure {
        measure(self.metric)
    }
}

/// One query, prepared for the codes of every number of bits it meets.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    coders: &'a Coders,
    vector: &'a [f32],
    /// Standard deviations of the bounds.
    deviations: f32,
    made: HashMap<u8, Query>,
    bounds: Vec<Bounds>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(coders: &'a Coders, vector: &'a [f32], deviations: f32) -> Self {
        Self {
            coders,
            vector,
            deviations,
            made: HashMap::new(),
            bounds: Vec::new(),
        }
    }

    /// The bounds of every row of a block, in order.
    pub(super) fn bounds(
        &mut self,
        view: &ColdView,
        place: &Place,
        codes: &[u8],
    ) -> Result<&[Bounds]> {
        let directory = &place.segment.directory;
        let block = place.segment.block(place.block)?;
        let coder = self.coders.get(directory.code_bits)?;
        let query =
            (self.made.entry(coder.bits())).or_insert_with(|| Query::new(coder, self.vector));
        let centroid = view.centroid(block.partition).ok_or_else(|| {
            Error::corrupt(format!("partition {} has no centroid", block.partition))
                .with("segment", place.segment.id)
        })?;
        self.bounds.clear();
        let (rows, deviations) = (block.rows as usize, self.deviations);
        if !query.estimate(coder, centroid, codes, rows, deviations, &mut self.bounds) {
            return Err(Error::corrupt(format!(
                "segment codes: expected {} bytes for {rows} rows of {} bits, got {}",
                rows * coder.row_bytes(),
                coder.bits(),
                codes.len()
            ))
            .with("segment", place.segment.id));
        }
        Ok(&self.bounds)
    }
}

/// The pages of codes that a search looks at, by segment and page.
pub(super) type Pages = HashMap<(u64, u32), CodePage>;
