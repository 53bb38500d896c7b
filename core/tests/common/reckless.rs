//! Hot indexes that reckon wrongly what they take.

use std::io::{Read, Write};
use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::{HotCapability, HotIndex, HotStats, Neighbor, SearchOptions};
use aether_core::{Result, Row};
use aether_testkit::fake::hot::STRICT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// What it would take after more inserts is what it takes now.
    Forgets,
    /// It takes so much more than it tells.
    Hides(u64),
}

#[derive(Debug)]
struct Reckless(Arc<dyn HotIndex>, Mistake);

impl Reckless {
    fn told(&self, bytes: u64) -> u64 {
        match self.1 {
            Mistake::Forgets => bytes,
            Mistake::Hides(hidden) => bytes.saturating_sub(hidden),
        }
    }
}

impl HotIndex for Reckless {
    fn capability(&self) -> HotCapability {
        self.0.capability()
    }

    fn insert(&self, row: Row, vector: &[f32]) -> Result<()> {
        self.0.insert(row, vector)
    }

    fn remove(&self, row: Row) -> Result<bool> {
        self.0.remove(row)
    }

    fn contains(&self, row: Row) -> bool {
        self.0.contains(row)
    }

    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool> {
        self.0.read(row, out)
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Neighbor>> {
        self.0.search(query, k, options)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn rows(&self) -> Vec<Row> {
        self.0.rows()
    }

    fn bytes(&self) -> u64 {
        self.told(self.0.bytes())
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        match self.1 {
            Mistake::Forgets => self.bytes(),
            Mistake::Hides(_) => self.told(self.0.bytes_after(additional)),
        }
    }

    fn compact(&self) -> Result<()> {
        self.0.compact()
    }

    fn save(&self, out: &mut dyn Write) -> Result<()> {
        self.0.save(out)
    }

    fn load(&self, input: &mut dyn Read) -> Result<()> {
        self.0.load(input)
    }

    fn stats(&self) -> HotStats {
        let mut stats = self.0.stats();
        stats.bytes = self.bytes();
        if let Some(vectors) = stats.parts.get_mut("vectors") {
            *vectors = self.told(*vectors);
        }
        stats
    }
}

macro_rules! plugin {
    ($static:ident, $name:literal, $mistake:expr) => {
        pub static $static: Plugin = Plugin {
            name: $name,
            crate_name: "test",
            summary: "reckons wrongly",
            options: &[],
            persistent: false,
            factory: Factory::Hot(|raw, context| match STRICT.factory {
                Factory::Hot(build) => Ok(Arc::new(Reckless(build(raw, context)?, $mistake))),
                _ => unreachable!("the fake is a hot index"),
            }),
        };
    };
}

plugin!(FORGETS, "forgets", Mistake::Forgets);
plugin!(HIDES, "hides", Mistake::Hides(8 << 10));
