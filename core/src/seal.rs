//! Checksums for everything the engine and the plug-ins keep: damage is found, never decoded.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

/// Bytes that [`seal`] adds.
pub const SEAL_BYTES: usize = 8;

/// XXH3-64 of `bytes`. Bind it to a place by a `seed` made of what the bytes belong to (segment, offset, key), so that
/// a misplaced block is found as well as a damaged one.
pub fn checksum(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Appends the checksum of `buffer[from..]` to `buffer`, little-endian.
pub fn seal(buffer: &mut Vec<u8>, from: usize, seed: u64) {
    let sum = checksum(&buffer[from..], seed);
    buffer.extend_from_slice(&sum.to_le_bytes());
}

/// Checks and strips the checksum that [`seal`] appended.
///
/// # Errors
/// `Corrupt` when `sealed` is too short or its checksum is another; `what` names the thing in the message.
pub fn unseal<'a>(sealed: &'a [u8], seed: u64, what: &str) -> Result<&'a [u8]> {
    let Some((bytes, sum)) = sealed.split_last_chunk::<SEAL_BYTES>() else {
        return Err(Error::corrupt(format!(
            "{what}: expected at least {SEAL_BYTES} bytes, got {}",
            sealed.len()
        )));
    };
    let (expected, got) = (u64::from_le_bytes(*sum), checksum(bytes, seed));
    if expected != got {
        return Err(Error::corrupt(format!(
            "{what}: checksum expected {expected:016x}, got {got:016x} over {} bytes",
            bytes.len()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let mut sealed = b"head".to_vec();
        sealed.extend_from_slice(b"some bytes that matter");
        seal(&mut sealed, 4, 7);
        let sealed = &sealed[4..];
        assert_eq!(unseal(sealed, 7, "x").unwrap(), b"some bytes that matter");
        assert!(unseal(sealed, 8, "x").unwrap_err().is_corrupt());
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&bad, 7, "x").is_err());
        }
        for cut in 0..sealed.len() {
            assert!(unseal(&sealed[..cut], 7, "x").is_err());
        }
    }
}
