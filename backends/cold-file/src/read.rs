//! Range reads: check, coalesce, read what the page cache has in place, and the rest on a thread that may wait.

use std::ops::Range;

use aether_core::{Error, Result};
use bytes::Bytes;

use crate::error::map;
use crate::open_files::OpenBlob;

/// Ranges are joined across a gap only while the read stays below this; it bounds what a small answer keeps alive.
const RUN_BYTES_MAX: u64 = 1 << 20;
/// Most bytes copied out of the page cache on the caller's async worker: a few tens of microseconds.
pub(crate) const IN_PLACE_BYTES_MAX: u64 = 256 << 10;

/// One read of the file.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    range: Range<u64>,
    bytes: Vec<u8>,
    filled: usize,
}

/// Ranges of one call as runs, and where each answer lies in them.
#[derive(Debug)]
pub(crate) struct Plan {
    runs: Vec<Run>,
    /// For each range asked its run and its place there; an empty range has none.
    answers: Vec<Option<(usize, Range<usize>)>>,
}

impl Plan {
    /// Checks `ranges` against the blob's length and joins those that overlap or lie nearer than `gap` bytes.
    /// O(n log n). Allocates nothing before all ranges are checked.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is reversed or reaches beyond `len`.
    pub(crate) fn new(ranges: &[Range<u64>], len: u64, gap: u64) -> Result<Self> {
        for range in ranges {
            if range.start > range.end || range.end > len {
                return Err(Error::invalid_input(format!(
                    "range {}..{}: expected a range within the blob's {len} bytes",
                    range.start, range.end
                )));
            }
        }
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.retain(|i| !ranges[*i].is_empty());
        order.sort_unstable_by_key(|i| ranges[*i].start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        let mut place = vec![None; ranges.len()];
        for i in order {
            let range = &ranges[i];
            match joined.last_mut() {
                Some(run)
                    if range.start < run.end
                        || (range.start - run.end <= gap
                            && range.end - run.start <= RUN_BYTES_MAX) =>
                {
                    run.end = run.end.max(range.end);
                }
                _ => joined.push(range.clone()),
            }
            place[i] = Some(joined.len() - 1);
        }
        let answers = place.into_iter().zip(ranges).map(|(run, range)| {
            let start = joined[run?].start;
            // Lengths of a run, which is a buffer in memory.
            let place = (range.start - start) as usize..(range.end - start) as usize;
            run.map(|run| (run, place))
        });
        let answers = answers.collect();
        let mut runs = Vec::with_capacity(joined.len());
        for range in joined {
            let bytes = usize::try_from(range.end - range.start).map_err(|_| {
                Error::capacity(format!("range {range:?} is too long for this machine"))
            })?;
            runs.push(Run {
                range,
                bytes: vec![0; bytes],
                filled: 0,
            });
        }
        Ok(Self { runs, answers })
    }

    /// Bytes that will be read.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |run: &Run| run.range.end - run.range.start;
        self.runs.iter().map(bytes).sum()
    }

    /// Reads as much as the page cache holds, never waiting for the disk; `true` when that was all.
    pub(crate) fn read_in_place(&mut self, blob: &OpenBlob) -> bool {
        for run in &mut self.runs {
            while run.filled < run.bytes.len() {
                let at = run.range.start + run.filled as u64;
                match blob.file.read_at_once(&mut run.bytes[run.filled..], at) {
                    Some(read) if read > 0 => run.filled += read,
                    Some(_) | None => return false,
                }
            }
        }
        true
    }

    /// Reads what is still missing; waits for the disk.
    ///
    /// # Errors
    /// `Corrupt` when the file is shorter than it was, `Unavailable` when the disk refuses.
    pub(crate) fn read_waiting(&mut self, blob: &OpenBlob) -> Result<()> {
        for run in &mut self.runs {
            let at = run.range.start + run.filled as u64;
            let rest = &mut run.bytes[run.filled..];
            blob.read_exact_at(rest, at).map_err(|e| {
                if e.kind() == std::io::ErrorKind::UnexpectedEof {
                    let Range { start, end } = run.range;
                    return Error::corrupt(format!(
                        "range {start}..{end}: expected a file of {} bytes, got the end of the file: it was cut",
                        blob.len
                    ))
                    .with_source(e);
                }
                map(e, "read of the blob's file")
            })?;
            run.filled = run.bytes.len();
        }
        Ok(())
    }

    /// The answers in the order asked. Answers of one run share its buffer.
    pub(crate) fn finish(self) -> Vec<Bytes> {
        let runs: Vec<Bytes> = self.runs.into_iter().map(|r| r.bytes.into()).collect();
        let answer = |place: Option<(usize, Range<usize>)>| match place {
            Some((run, place)) => runs[run].slice(place),
            None => Bytes::new(),
        };
        self.answers.into_iter().map(answer).collect()
    }
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]
mod tests {
    use super::*;

    fn runs(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
        let plan = Plan::new(ranges, 10 << 20, gap).unwrap();
        plan.runs.into_iter().map(|run| run.range).collect()
    }

    #[test]
    fn near_ranges_are_read_as_one_and_far_ones_are_not() {
        assert_eq!(runs(&[0..10, 20..30], 10), [0..30]);
        assert_eq!(runs(&[0..10, 21..30], 10), [0..10, 21..30]);
        assert_eq!(runs(&[20..30, 0..10, 5..25], 0), [0..30]);
        assert_eq!(runs(&[0..10, 10..20], 0), [0..20]);
        assert_eq!(runs(&[7..7, 9..9], 10), []);
    }

    #[test]
    fn joining_across_gaps_ends_where_a_buffer_would_grow_large() {
        let ranges: Vec<Range<u64>> = (0..64).map(|i| i << 16..(i << 16) + 40_000).collect();
        let runs = runs(&ranges, 1 << 20);
        assert!(runs.len() >= 4, "{runs:?}");
        assert!(runs.iter().all(|r| r.end - r.start <= RUN_BYTES_MAX));
        // What overlaps is one buffer however long it is: it was asked for.
        let whole = Plan::new(&[0..8 << 20, 0..8 << 20, 5..6], 10 << 20, 0).unwrap();
        assert_eq!((whole.runs.len(), whole.bytes()), (1, 8 << 20));
    }

    /// The page cache had a part: the waiting read goes on from there and does not spoil it.
    #[test]
    fn a_read_that_was_begun_in_place_is_finished_waiting() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let blob = OpenBlob {
            file: Box::new(file),
            len: 100_000,
        };
        let ranges = [90_000..99_999, 10..20_010];
        for filled in [0, 1, 4096, 20_000] {
            let mut plan = Plan::new(&ranges, blob.len, 0).unwrap();
            plan.runs[0].bytes[..filled].copy_from_slice(&bytes[10..10 + filled]);
            plan.runs[0].filled = filled;
            plan.read_waiting(&blob).unwrap();
            let answers = plan.finish();
            assert_eq!(answers[0], bytes[90_000..99_999]);
            assert_eq!(answers[1], bytes[10..20_010]);
        }
    }

    #[test]
    fn a_file_that_was_cut_is_corrupt_and_not_a_panic() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 100], 0).unwrap();
        let blob = OpenBlob {
            file: Box::new(file),
            len: 200,
        };
        let mut plan = Plan::new(&[0..50, 90..150], 200, 0).unwrap();
        assert!(!plan.read_in_place(&blob));
        let error = plan.read_waiting(&blob).unwrap_err();
        assert!(error.is_corrupt(), "{error:?}");
        assert!(error.to_string().contains("90..150"), "{error}");
    }
}
