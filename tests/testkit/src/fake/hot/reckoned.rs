//! A hot index with its own word on what it takes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use aether_core::role::{HotCapability, HotIndex, HotStats, Neighbor, SearchOptions};
use aether_core::{Result, Row};

/// Another hot index in all but what it says of its bytes: to plant mistakes of a budget.
#[derive(Debug)]
pub struct Reckoned {
    /// The index that does the work.
    pub inner: Arc<dyn HotIndex>,
    /// What it says instead of [`HotIndex::bytes`].
    pub bytes: fn(&dyn HotIndex) -> u64,
    /// What it says instead of [`HotIndex::bytes_after`].
    pub bytes_after: fn(&dyn HotIndex, usize) -> u64,
}

impl HotIndex for Reckoned {
    fn capability(&self) -> HotCapability {
        self.inner.capability()
    }

    fn insert(&self, row: Row, vector: &[f32]) -> Result<()> {
        self.inner.insert(row, vector)
    }

    fn remove(&self, row: Row) -> Result<bool> {
        self.inner.remove(row)
    }

    fn contains(&self, row: Row) -> bool {
        self.inner.contains(row)
    }

    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool> {
        self.inner.read(row, out)
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Neighbor>> {
        self.inner.search(query, k, options)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn rows(&self) -> Vec<Row> {
        self.inner.rows()
    }

    fn bytes(&self) -> u64 {
        (self.bytes)(&*self.inner)
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        (self.bytes_after)(&*self.inner, additional)
    }

    fn compact(&self) -> Result<()> {
        self.inner.compact()
    }

    fn save(&self, out: &mut dyn Write) -> Result<()> {
        self.inner.save(out)
    }

    fn load(&self, input: &mut dyn Read) -> Result<()> {
        self.inner.load(input)
    }

    fn stats(&self) -> HotStats {
        let bytes = self.bytes();
        HotStats {
            bytes,
            parts: BTreeMap::from([("all", bytes)]),
            ..self.inner.stats()
        }
    }
}
