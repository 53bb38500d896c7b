//! Head of a snapshot, version 1. All numbers little-endian. The snapshot of the index that holds the rows follows.
//!
//! ```text
//!          0       1       2       3       4       5       6       7
//!      +-------+-------+-------+-------+-------+-------+-------+-------+
//!    0 | magic "AETHAUTO"                                              |
//!    8 | version u32 = 1               | kind  | 0     | 0     | 0     |
//!   16 | seal of bytes 0..16, seed 0                                   |
//!      +---------------------------------------------------------------+
//! ```
//!
//! kind: 1 a snapshot of `flat` follows, 2 one of `hnsw`.

use std::io::{ErrorKind, Read, Write};

use aether_core::seal::{SEAL_BYTES, seal, unseal};
use aether_core::{Error, Result};

const MAGIC: &[u8; 8] = b"AETHAUTO";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;

/// Which index a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Few = 1,
    Many = 2,
}

fn head(kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + SEAL_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[kind as u8, 0, 0, 0]);
    seal(&mut bytes, 0, 0);
    bytes
}

pub(crate) fn write(out: &mut dyn Write, kind: Kind) -> Result<()> {
    out.write_all(&head(kind)).map_err(|e| {
        Error::unavailable("snapshot: cannot write; make room or choose another folder")
            .with_source(e)
    })
}

pub(crate) fn read(input: &mut dyn Read) -> Result<Kind> {
    let mut bytes = [0; HEAD_BYTES + SEAL_BYTES];
    input.read_exact(&mut bytes).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => Error::corrupt("snapshot: it ends too early"),
        _ => Error::unavailable("snapshot: cannot read").with_source(e),
    })?;
    unseal(&bytes, 0, "snapshot head")?;
    let kinds = [Kind::Few, Kind::Many];
    let found = kinds.into_iter().find(|kind| bytes == *head(*kind));
    found.ok_or_else(|| {
        Error::corrupt(format!(
            "snapshot: expected version {VERSION} of the index that chooses, got another version or another index"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_one_of_another_version_is_refused() {
        for kind in [Kind::Few, Kind::Many] {
            assert_eq!(read(&mut &head(kind)[..]).unwrap(), kind);
        }
        let mut later = head(Kind::Few);
        later.truncate(HEAD_BYTES);
        later[8] = 2;
        seal(&mut later, 0, 0);
        let error = read(&mut &later[..]).unwrap_err();
        assert!(
            error.is_corrupt() && error.message().contains("version 1"),
            "{error}"
        );
    }
}
