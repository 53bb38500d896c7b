//! What the file holds, above redb's own pages.
//!
//! | redb table | key | value |
//! |---|---|---|
//! | `aether` | `format` | `u32` little-endian, [`FORMAT`]; sealed |
//! | `aether` | `epoch` | `u64` little-endian, the last epoch that was claimed; sealed |
//! | `aether` | `durable` | `u64` little-endian, durable commits so far, this one among them; sealed. Absent counts as none |
//! | one for each [`Table`], by its name | the caller's key | the caller's value; sealed |
//!
//! *Sealed* means followed by eight bytes: XXH3-64 of the value, little-endian, seeded with XXH3-64 of the key, which in
//! turn is seeded with XXH3-64 of the table's name. So a value that strayed to another key or table is found just as a
//! damaged one is. Recovery is redb's; a file without the table `aether` is not ours. Beside the file is its watermark, see `mark`.

use aether_core::role::Table;
use aether_core::seal::{SEAL_BYTES, checksum, unseal};
use aether_core::{Error, Result};
use bytes::Bytes;
use redb::TableDefinition;

/// Version of the layout above.
pub(crate) const FORMAT: u32 = 1;

pub(crate) type Pairs = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The table of format and epoch.
pub(crate) const OWN: Pairs = TableDefinition::new("aether");
pub(crate) const OWN_NAME: &str = "aether";
pub(crate) const KEY_FORMAT: &[u8] = b"format";
pub(crate) const KEY_EPOCH: &[u8] = b"epoch";
pub(crate) const KEY_DURABLE: &[u8] = b"durable";

/// The redb table of one of the engine's tables.
pub(crate) fn definition(table: Table) -> Pairs {
    TableDefinition::new(table.name())
}

fn seed(table: &str, key: &[u8]) -> u64 {
    checksum(key, checksum(table.as_bytes(), 0))
}

/// Length of a value of `len` bytes in the file.
pub(crate) fn sealed_len(len: usize) -> usize {
    len + SEAL_BYTES
}

/// Writes a value and its checksum into exactly [`sealed_len`] bytes.
pub(crate) fn write_sealed(out: &mut [u8], table: &str, key: &[u8], value: &[u8]) {
    let (body, sum) = out.split_at_mut(value.len());
    body.copy_from_slice(value);
    sum.copy_from_slice(&checksum(value, seed(table, key)).to_le_bytes());
}

/// Checks and strips a value's checksum.
///
/// # Errors
/// `Corrupt`, with table and key.
pub(crate) fn open_sealed<'a>(stored: &'a [u8], table: &str, key: &[u8]) -> Result<&'a [u8]> {
    unseal(stored, seed(table, key), "value")
        .map_err(|e| e.with("table", table).with("key", key.escape_ascii()))
}

/// As [`open_sealed`], copied out of the page.
pub(crate) fn copy_sealed(stored: &[u8], table: &str, key: &[u8]) -> Result<Bytes> {
    open_sealed(stored, table, key).map(Bytes::copy_from_slice)
}

/// Reads one of our own numbers.
pub(crate) fn own_number<const N: usize>(stored: &[u8], key: &[u8]) -> Result<[u8; N]> {
    let value = open_sealed(stored, OWN_NAME, key)?;
    value.try_into().map_err(|_| {
        Error::corrupt(format!("expected {N} bytes, got {}", value.len()))
            .with("table", OWN_NAME)
            .with("key", key.escape_ascii())
    })
}
