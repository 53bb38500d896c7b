//! A mark of its own on each put: a repeated request that finds an object with the mark of its first attempt has not lost against
//! anybody, and need not read the object to see it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aether_core::plugin::BuildContext;
use aether_core::seal::checksum;
use object_store::{Attribute, Attributes, PutMode, PutOptions};

/// The name of the object's metadata entry; letters only, for proxies drop headers with an underscore and Azure refuses hyphens.
const NAME: &str = "aetherput";

/// Gives out marks.
#[derive(Debug)]
pub(crate) struct Tags {
    /// Of this opening; `None` for a store that keeps no metadata entries.
    prefix: Option<String>,
    next: AtomicU64,
}

impl Tags {
    /// Marks of this opening: seed, time of opening, process.
    pub(crate) fn new(remote: bool, context: &BuildContext) -> Self {
        let (seed, opened) = (context.seed, context.clock.wall_us());
        let prefix = remote.then(|| format!("{seed:x}-{opened:x}-{:x}", std::process::id()));
        let next = AtomicU64::new(0);
        Self { prefix, next }
    }

    /// The mark of the next put. It ends with a checksum of the bytes, so that two openings which came by one name (equal seeds, clocks and
    /// process numbers, as in containers) do not take each other's objects for their own.
    pub(crate) fn next(&self, data: &[u8]) -> Option<String> {
        let prefix = self.prefix.as_ref()?;
        let number = self.next.fetch_add(1, Relaxed);
        Some(format!("{prefix}-{number:x}-{:016x}", checksum(data, 0)))
    }

    /// Creates only, and leaves the mark.
    pub(crate) fn options(tag: Option<&str>) -> PutOptions {
        let mut options = PutOptions::from(PutMode::Create);
        if let Some(tag) = tag {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::Metadata(NAME.into()), tag.to_owned().into());
            options.attributes = attributes;
        }
        options
    }

    /// The mark that an object bears.
    pub(crate) fn of(attributes: &Attributes) -> Option<&str> {
        let value = attributes.get(&Attribute::Metadata(NAME.into()))?;
        Some(value.as_ref())
    }
}
