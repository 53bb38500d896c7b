//! What sled's default tree holds. One tree, because sled's batches are atomic within one tree only.
//!
//! | key | value |
//! |---|---|
//! | `00 "format"` | `u32` little-endian, [`FORMAT`]; sealed |
//! | `00 "epoch"` | `u64` little-endian, the last epoch that was claimed; sealed |
//! | `00 "commits"` | `u64` little-endian, batches so far, this one among them; sealed. Absent counts as none |
//! | number of the [`Table`], 1 to 8, then the caller's key | the caller's value; sealed |
//!
//! *Sealed* means followed by eight bytes: XXH3-64 of the value, little-endian, seeded with XXH3-64 of the whole key. So a
//! value that strayed to another key or table is found just as a damaged one is. A file beside the folder says how many batches were synced,
//! see [`aether_core::watermark`].

use std::ops::Bound;

use aether_core::role::{KeyRange, Table};
use aether_core::seal::{SEAL_BYTES, checksum, seal, unseal};
use aether_core::{Error, Result};
use bytes::Bytes;

/// Version of the layout above.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const KEY_FORMAT: &[u8] = b"\0format";
pub(crate) const KEY_EPOCH: &[u8] = b"\0epoch";
pub(crate) const KEY_COMMITS: &[u8] = b"\0commits";

fn number(table: Table) -> u8 {
    match table {
        Table::Points => 1,
        Table::Fresh => 2,
        Table::Cold => 3,
        Table::Resident => 4,
        Table::Segments => 5,
        Table::Dead => 6,
        Table::Intents => 7,
        Table::State => 8,
    }
}

/// The tree's key of a table's key.
pub(crate) fn full_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(number(table));
    full.extend_from_slice(key);
    full
}

/// The tree's range of a table's range.
pub(crate) fn full_range(table: Table, range: &KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let inside = |bound: &Bound<Bytes>| bound.as_ref().map(|key| full_key(table, key));
    let start = match inside(&range.start) {
        Bound::Unbounded => Bound::Included(vec![number(table)]),
        other => other,
    };
    let end = match inside(&range.end) {
        Bound::Unbounded => Bound::Excluded(vec![number(table) + 1]),
        other => other,
    };
    (start, end)
}

/// A value with its checksum.
pub(crate) fn sealed(full_key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + SEAL_BYTES);
    out.extend_from_slice(value);
    seal(&mut out, 0, checksum(full_key, 0));
    out
}

/// Checks and strips a value's checksum.
///
/// # Errors
/// `Corrupt`, with the key.
pub(crate) fn open_sealed<'a>(full_key: &[u8], stored: &'a [u8]) -> Result<&'a [u8]> {
    unseal(stored, checksum(full_key, 0), "value")
        .map_err(|e| e.with("key", full_key.escape_ascii()))
}

/// Reads one of our own numbers.
pub(crate) fn own_number<const N: usize>(key: &[u8], stored: Option<&[u8]>) -> Result<[u8; N]> {
    let stored = stored.ok_or_else(|| {
        Error::corrupt(
            "expected a number of the store's own, got none: the folder is not a metadata store, or lost its tail",
        )
        .with("key", key.escape_ascii())
    })?;
    let value = open_sealed(key, stored)?;
    value.try_into().map_err(|_| {
        Error::corrupt(format!("expected {N} bytes, got {}", value.len()))
            .with("key", key.escape_ascii())
    })
}
