//! Codes of a memory: how they are made, and what they say of the blocks that a search probes.

use std::sync::OnceLock;

use aether_codes::{Bounds, Coder, Measure, Query, Spot};

use super::cold::{ColdView, Place};
use crate::error::{Error, Result};
use crate::segment::{BlockCodes, Centroids, coder, measure};
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
        let place = self.made.get(usize::from(bits));
        let place = place.ok_or_else(|| Error::internal("codes of more than eight bits"))?;
        if let Some(made) = place.get() {
            return Ok(made);
        }
        let made = coder(self.dim, bits, self.metric)?;
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
    /// By bits.
    made: [Option<Query>; 9],
    /// The partition looked at last.
    spot: Option<(u32, Spot)>,
    below: Vec<(u32, Bounds)>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(coders: &'a Coders, vector: &'a [f32], deviations: f32) -> Self {
        Self {
            coders,
            vector,
            deviations,
            made: Default::default(),
            spot: None,
            below: Vec::new(),
        }
    }

    /// The bounds of the rows of a block whose lower bound is at most `bar`, in order, each with its place. `rank` is that of the block's
    /// partition.
    pub(super) fn below(
        &mut self,
        view: &ColdView,
        rank: f32,
        place: &Place,
        codes: BlockCodes<'_>,
        bar: f32,
    ) -> Result<&[(u32, Bounds)]> {
        let directory = &place.segment.directory;
        let block = place.segment.block(place.block)?;
        let coder = self.coders.get(directory.code_bits)?;
        let made = (self.made.get_mut(usize::from(coder.bits())))
            .ok_or_else(|| Error::internal("codes of more than eight bits"))?;
        let query = made.get_or_insert_with(|| Query::new(coder, self.vector));
        let measure = self.coders.measure();
        let spot = match (self.spot, Spot::at(measure, rank)) {
            (_, Some(spot)) => spot,
            (Some((partition, spot)), None) if partition == block.partition => spot,
            (_, None) => {
                let centroid = view.centroid(block.partition).ok_or_else(|| {
                    Error::corrupt(format!("partition {} has no centroid", block.partition))
                        .with("segment", place.segment.id)
                })?;
                query.spot(measure, centroid)
            }
        };
        self.spot = Some((block.partition, spot));
        self.below.clear();
        let (rows, asked) = (block.rows as usize, (self.deviations, bar));
        match codes {
            BlockCodes::Layered(layers) => query.below(coder, spot, layers, asked, &mut self.below),
            BlockCodes::Plain(codes) => {
                if !query.estimate_below(coder, spot, codes, rows, asked, &mut self.below) {
                    return Err(Error::corrupt(format!(
                        "segment codes: expected {} bytes for {rows} rows of {} bits, got {}",
                        rows * coder.row_bytes(),
                        coder.bits(),
                        codes.len()
                    ))
                    .with("segment", place.segment.id));
                }
            }
        }
        Ok(&self.below)
    }
}
