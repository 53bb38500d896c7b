//! How far a store in a local folder has come, told beside it.
//!
//! A store that keeps its history in files of its own may open at an older state than the one it acknowledged, and nothing in those files
//! says so: a log that is cut off where a bit of it is damaged, a header whose flipped bit names the older of two roots, a file that
//! somebody copied back from yesterday, a disk that lied about a sync. So such a store counts what it makes durable, keeps the count among
//! its data, and writes it into a small file beside them once the data are synced. That file is never synced: after a power cut it may
//! be older than the data, and then says less, or empty or torn, and then says nothing. It is never newer, unless the data are older than
//! they were.

use std::path::Path;

use crate::error::{Error, Result};
use crate::seal::checksum;

/// Length of a watermark.
pub const WATERMARK_BYTES: usize = 16;

/// What its checksum is seeded with: the letters `aether-w`.
const SEED: u64 = u64::from_le_bytes(*b"aether-w");

/// The watermark that says that `count` is durable: `count` and its XXH3-64, both `u64` little-endian.
pub fn encode(count: u64) -> [u8; WATERMARK_BYTES] {
    let count = count.to_le_bytes();
    let mut out = [0; WATERMARK_BYTES];
    out[..8].copy_from_slice(&count);
    out[8..].copy_from_slice(&checksum(&count, SEED).to_le_bytes());
    out
}

/// What a watermark says; `None` of one that was never written whole, or is damaged.
pub fn decode(bytes: &[u8]) -> Option<u64> {
    let (count, sum) = bytes.split_first_chunk::<8>()?;
    (*sum == checksum(count, SEED).to_le_bytes()).then(|| u64::from_le_bytes(*count))
}

/// Compares the count that a store found among its data with what its watermark in `file` says.
///
/// # Errors
/// `Corrupt` when the store has come less far than it had.
pub fn check(said: Option<u64>, found: u64, file: &Path) -> Result<()> {
    match said {
        Some(said) if said > found => Err(Error::corrupt(format!(
            "watermark: expected what {said} commits made durable, got {found}: the store is older than it was, by damage, a disk that lost \
             what it had synced, or files copied back; bring the newer files back, restore a snapshot into another folder, or remove {} to \
             go on with the older state",
            file.display()
        ))),
        _ => Ok(()),
    }
}

/// The error of a store that is gone while its watermark in `file` is still there; none where that tells of no commit.
pub fn check_gone(said: Option<u64>, file: &Path) -> Result<()> {
    match said {
        Some(said) if said > 0 => Err(Error::corrupt(format!(
            "watermark: expected a store in which {said} commits were made durable, got none: bring its files back, or remove {} to begin a \
             new one",
            file.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_says_what_was_written_or_nothing() {
        for count in [0, 1, 77, u64::MAX] {
            let good = encode(count);
            assert_eq!(decode(&good), Some(count));
            for bit in 0..8 * WATERMARK_BYTES {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bad), None);
            }
            for cut in 0..WATERMARK_BYTES {
                assert_eq!(decode(&good[..cut]), None);
            }
            assert_eq!(decode(&[&good[..], &[0]].concat()), None);
        }
        assert_eq!(decode(&[0; WATERMARK_BYTES]), None);
    }

    #[test]
    fn only_a_store_that_went_back_or_is_gone_is_refused() {
        let file = Path::new("meta.watermark");
        for (said, found) in [(None, 0), (Some(3), 3), (Some(3), 4), (Some(0), 0)] {
            check(said, found, file).unwrap();
        }
        check_gone(None, file).unwrap();
        check_gone(Some(0), file).unwrap();
        for error in [check(Some(4), 3, file), check_gone(Some(4), file)] {
            let error = error.unwrap_err();
            let text = error.to_string();
            assert!(error.is_corrupt() && text.contains("4 commits"), "{text}");
            assert!(text.contains("remove meta.watermark"), "{text}");
        }
    }
}
