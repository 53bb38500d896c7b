//! Rows and codes of some blocks that lie together: as they were read, or with their signs beside them for searches to come.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::Arc;

use aether_codes::{Coder, Layers};
use bytes::Bytes;

use super::codes::Centroids;
use super::format::{Block, Directory, place_seed};
use super::reader::{RowNumbers, parse_rows, row_numbers};
use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::seal::{SEAL_BYTES, unseal};

/// One page. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum CodePage {
    /// As it lies in the blob, every seal checked.
    Plain(PlainPage),
    /// With its signs beside it, which take longer to make than a look does: worth it for what was looked at before.
    Layered(Arc<LayeredPage>),
}

/// The codes of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BlockCodes<'a> {
    Plain(&'a [u8]),
    Layered(&'a Layers),
}

#[derive(Clone, Debug)]
pub(crate) struct PlainPage {
    start: u64,
    bytes: Bytes,
}

#[derive(Debug)]
pub(crate) struct LayeredPage {
    blocks: Vec<LayeredBlock>,
}

#[derive(Debug)]
struct LayeredBlock {
    first_ordinal: u32,
    /// The rows' numbers as they lie in the blob, without their seal.
    rows: Box<[u8]>,
    layers: Layers,
}

impl CodePage {
    /// Checks every part of a page.
    pub(crate) fn check(
        segment: SegmentId,
        directory: &Directory,
        page: u32,
        bytes: Bytes,
    ) -> Result<Self> {
        let range = directory.page_range(page).unwrap_or_default();
        let plain = PlainPage {
            start: range.start,
            bytes,
        };
        let blocks = directory.blocks.get(directory.page_blocks(page));
        for block in blocks.unwrap_or_default() {
            let (rows, codes) = plain.parts(block);
            parse_rows(segment, directory, block, rows)?;
            let seed = place_seed(segment, block.codes_range().start);
            unseal(codes, seed, "segment codes").map_err(|e| e.with("segment", segment))?;
        }
        Ok(Self::Plain(plain))
    }

    /// The same page with its signs; `None` where it has them, where they are not worth it, or the codes are not as long as they should be.
    pub(crate) fn layered(
        &self,
        directory: &Directory,
        page: u32,
        coder: &Coder,
        centroids: &dyn Centroids,
    ) -> Result<Option<Self>> {
        let blocks = directory.blocks.get(directory.page_blocks(page));
        let (Self::Plain(plain), Some(blocks)) = (self, blocks) else {
            return Ok(None);
        };
        let mut layered = Vec::with_capacity(blocks.len());
        for block in blocks {
            let Some(centroid) = centroids.centroid(block.partition) else {
                return Ok(None);
            };
            let (rows, codes) = plain.parts(block);
            let centre = coder.centre(centroid);
            let layers = Layers::of(coder, &centre, open(codes)?, block.rows as usize);
            let Some(layers) = layers else {
                return Ok(None);
            };
            layered.push(LayeredBlock {
                first_ordinal: block.first_ordinal,
                rows: open(rows)?.into(),
                layers,
            });
        }
        let page = LayeredPage { blocks: layered };
        Ok(Some(Self::Layered(Arc::new(page))))
    }

    /// Whether it is as it was read.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Row numbers of a block of this page.
    pub(crate) fn rows(&self, directory: &Directory, block: &Block) -> Result<RowNumbers<'_>> {
        let bytes = match self {
            Self::Plain(page) => open(page.parts(block).0)?,
            Self::Layered(page) => &page.block(block)?.rows,
        };
        row_numbers(directory, block, bytes)
    }

    /// Codes of a block of this page.
    pub(crate) fn codes(&self, block: &Block) -> Result<BlockCodes<'_>> {
        Ok(match self {
            Self::Plain(page) => BlockCodes::Plain(open(page.parts(block).1)?),
            Self::Layered(page) => BlockCodes::Layered(&page.block(block)?.layers),
        })
    }

    /// RAM.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Plain(page) => page.bytes.len() as u64,
            Self::Layered(page) => page.bytes(),
        }
    }
}

impl PlainPage {
    /// The sealed parts of a block; empty where it lies elsewhere.
    fn parts(&self, block: &Block) -> (&[u8], &[u8]) {
        let part = |range: Range<u64>| {
            let place = |at: u64| usize::try_from(at.checked_sub(self.start)?).ok();
            let (start, end) = (place(range.start)?, place(range.end)?);
            self.bytes.get(start..end)
        };
        (
            part(block.rows_range()).unwrap_or_default(),
            part(block.codes_range()).unwrap_or_default(),
        )
    }
}

impl LayeredPage {
    fn block(&self, block: &Block) -> Result<&LayeredBlock> {
        let by = |b: &LayeredBlock| b.first_ordinal.cmp(&block.first_ordinal);
        let place = self.blocks.binary_search_by(by).ok();
        place
            .and_then(|place| self.blocks.get(place))
            .ok_or_else(elsewhere)
    }

    fn bytes(&self) -> u64 {
        let heap = |b: &LayeredBlock| b.rows.len() + b.layers.bytes();
        let blocks = self.blocks.len() * size_of::<LayeredBlock>();
        (size_of::<Self>() + blocks + self.blocks.iter().map(heap).sum::<usize>()) as u64
    }
}

/// A part without its seal, which was checked.
fn open(sealed: &[u8]) -> Result<&[u8]> {
    let end = sealed.len().checked_sub(SEAL_BYTES);
    end.and_then(|end| sealed.get(..end)).ok_or_else(elsewhere)
}

fn elsewhere() -> Error {
    Error::internal("a block was looked for in another page of codes")
}
