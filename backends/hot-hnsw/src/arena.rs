//! Fixed-size records that never move, in a few long regions.
//!
//! Region 0 has a power of two of records, region 1 as many, and each further one as many as all before it. So a record's address is
//! a look at the length of its number, one multiplication and one addition. A region's addresses are reserved at once, its memory is taken
//! in steps: an eighth of what is there, at least a page. Regions that begin beyond [`HUGE_FROM`] grow by whole huge pages,
//! smaller ones are made huge pages once they are full: a search jumps about, and finding the page costs as much as the jump.
//! The steps are a fixed sequence, the same on every way there, which is what makes [`Arena::bytes_for`] exact.
//!
//! # Threads
//!
//! [`Arena::at`] may run beside [`Arena::grow`]: regions do not move. A caller may only ask for
//! a record whose number reached it through a synchronising read after the growth that made it. `grow` and `shrink` are
//! called under the slot lock; before `shrink` the caller has made sure that nobody can ask for what goes.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};

use aether_core::Result;

use crate::cells::Base;
use crate::pages::{self, BLOCK, PAGE};

/// Bytes of the first region.
const FIRST: usize = 16 << 10;
/// Where an eighth is a huge page.
const HUGE_FROM: usize = 8 * BLOCK;
/// Enough for 2^32 records.
const REGIONS: usize = 33;

#[derive(Debug)]
pub(crate) struct Arena {
    stride: usize,
    /// Region 0 has `1 << first` records.
    first: u32,
    /// Where record 0 would lie if the whole arena lay as this region does; null before the region is reserved.
    regions: [Base<u8>; REGIONS],
    capacity: AtomicUsize,
    /// Byte that fresh records are filled with.
    fill: u8,
    /// Where the records lie, if not in RAM.
    file: Option<File>,
}

/// Which records a region has, and how it grows.
#[derive(Clone, Copy, Debug)]
struct Region {
    start: usize,
    records: usize,
    huge: bool,
}

impl Arena {
    /// An arena without records. `stride` is the size of a record in bytes, a multiple of 4 and at most [`BLOCK`].
    pub(crate) fn new(stride: usize, fill: u8) -> Self {
        Self {
            stride,
            first: (FIRST / stride).max(1).ilog2(),
            regions: std::array::from_fn(|_| Base::none()),
            capacity: AtomicUsize::new(0),
            fill,
            file: None,
        }
    }

    /// An arena of zeros whose records lie in a file, which nobody else uses, and are mapped into memory.
    pub(crate) fn in_file(stride: usize, file: File) -> Self {
        let mut arena = Self::new(stride, 0);
        arena.file = Some(file);
        arena
    }

    /// Bytes held in RAM.
    pub(crate) fn ram_bytes(&self) -> usize {
        if self.file.is_some() { 0 } else { self.bytes() }
    }

    /// [`Arena::ram_bytes`] after growing to `records`, exactly.
    pub(crate) fn ram_bytes_for(&self, records: usize) -> usize {
        if self.file.is_some() {
            0
        } else {
            self.bytes_for(records)
        }
    }

    /// The address of a record.
    #[inline(always)]
    pub(crate) fn at(&self, index: u32) -> *mut u8 {
        debug_assert!((index as usize) < self.capacity());
        let region = (u32::BITS - (index >> self.first).leading_zeros()) as usize;
        let base = self.regions[region].get();
        base.wrapping_add(index as usize * self.stride)
    }

    /// Records there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The number of the region that a record lies in.
    fn region_of(&self, index: usize) -> usize {
        let above = index >> self.first;
        (usize::BITS - above.leading_zeros()) as usize
    }

    fn region(&self, number: usize) -> Region {
        let first = 1 << self.first;
        let (start, records) = match number {
            0 => (0, first),
            n => (first << (n - 1), first << (n - 1)),
        };
        Region {
            start,
            records,
            huge: start * self.stride >= HUGE_FROM,
        }
    }

    /// Bytes that so many records at the beginning of a region take.
    fn bytes_of(&self, region: Region, records: usize) -> usize {
        let unit = if region.huge { BLOCK } else { PAGE };
        (records * self.stride).next_multiple_of(unit)
    }

    /// The smallest capacity on the way up that holds `records`. O(1).
    pub(crate) fn capacity_for(&self, records: usize) -> usize {
        if records == 0 {
            return 0;
        }
        let region = self.region(self.region_of(records - 1));
        let wanted = records - region.start;
        let fit = if region.huge {
            self.bytes_of(region, wanted) / self.stride
        } else {
            let (mut fit, mut bytes) = (0, 0);
            while fit < wanted {
                bytes += ((region.start * self.stride + bytes) / 8).max(PAGE);
                bytes = bytes.next_multiple_of(PAGE);
                fit = (bytes / self.stride).max(fit + 1);
                bytes = bytes.max(self.bytes_of(region, fit));
            }
            fit
        };
        region.start + fit.min(region.records)
    }

    /// Bytes held at a capacity.
    fn bytes_at(&self, capacity: usize) -> usize {
        let (mut bytes, mut number) = (0, 0);
        loop {
            let region = self.region(number);
            if capacity <= region.start {
                return bytes;
            }
            let records = (capacity - region.start).min(region.records);
            bytes += self.bytes_of(region, records);
            number += 1;
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes_at(self.capacity())
    }

    /// Bytes held after growing to `records`, exactly. O(log) in the size.
    pub(crate) fn bytes_for(&self, records: usize) -> usize {
        self.bytes_at(self.capacity_for(records).max(self.capacity()))
    }

    /// Makes room for `records`. Each new record is filled with the fill byte, then handed to `init`.
    pub(crate) fn grow(&self, records: usize, init: impl Fn(*mut u8)) -> Result<()> {
        let wanted = self.capacity_for(records);
        while self.capacity() < wanted {
            let from = self.capacity();
            let number = self.region_of(from);
            let region = self.region(number);
            let end = wanted.min(region.start + region.records);
            let base = self.base(number, region)?;
            if let Some(file) = &self.file {
                let (from, to) = (self.bytes_at(from), self.bytes_at(end));
                pages::make_room(file, from as u64, to - from)?;
            }
            for index in from..end {
                let record = base.wrapping_add(index * self.stride);
                // SAFETY: the record lies within the region, and nobody else knows it yet.
                unsafe {
                    if self.fill != 0 {
                        record.write_bytes(self.fill, self.stride);
                    }
                }
                init(record);
            }
            let bytes = self.bytes_of(region, region.records);
            let full = end == region.start + region.records;
            if full && !region.huge && bytes >= BLOCK && self.file.is_none() {
                let start = base.wrapping_add(region.start * self.stride);
                // SAFETY: whole blocks at the beginning of this region's reservation.
                unsafe { pages::prefer_huge(start, bytes / BLOCK * BLOCK, true) };
            }
            self.capacity.store(end, Ordering::Release);
        }
        Ok(())
    }

    /// The base of a region, which is reserved if it was not.
    fn base(&self, number: usize, region: Region) -> Result<*mut u8> {
        let base = self.regions[number].get();
        if !base.is_null() {
            return Ok(base);
        }
        let bytes = self.bytes_of(region, region.records);
        let start = match &self.file {
            Some(file) => pages::reserve_in(file, self.bytes_at(region.start) as u64, bytes)?,
            None => pages::reserve(bytes)?,
        };
        if region.huge && self.file.is_none() {
            // SAFETY: the whole reservation, in whole blocks.
            unsafe { pages::prefer_huge(start, bytes, false) };
        }
        let base = start.wrapping_sub(region.start * self.stride);
        self.regions[number].set(base);
        Ok(base)
    }

    /// Frees what is held beyond `records`.
    ///
    /// # Safety
    /// Nobody holds or can still ask for a record beyond `capacity_for(records)`.
    pub(crate) unsafe fn shrink(&self, records: usize) {
        let keep = self.capacity_for(records).min(self.capacity());
        self.capacity.store(keep, Ordering::Release);
        if let Some(file) = &self.file {
            // Should it fail, the file stays long; it goes with the index.
            let _ = file.set_len(self.bytes_at(keep) as u64);
        }
        for (number, cell) in self.regions.iter().enumerate() {
            let base = cell.get();
            if base.is_null() {
                continue;
            }
            let region = self.region(number);
            let bytes = self.bytes_of(region, region.records);
            let start = base.wrapping_add(region.start * self.stride);
            let kept = self.bytes_of(
                region,
                keep.saturating_sub(region.start).min(region.records),
            );
            // SAFETY: this is what was reserved for the region; the caller says that nobody uses what goes.
            unsafe {
                if kept == 0 {
                    cell.set(std::ptr::null_mut());
                    pages::release(start, bytes);
                } else if kept < bytes && self.file.is_none() {
                    pages::forget(start.wrapping_add(kept), bytes - kept);
                }
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the arena is not shared any more.
        unsafe { self.shrink(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_where_they_are_and_sizes_are_foretold() {
        for stride in [4, 72, 256, 3_328, 70_000 * 64] {
            let most = if stride > 100_000 { 20 } else { 3_000 };
            let arena = Arena::new(stride, 0xff);
            let mut first = std::ptr::null_mut();
            for n in 1..=most {
                let foretold = arena.bytes_for(n);
                arena.grow(n, |_| ()).unwrap();
                assert_eq!(arena.bytes(), foretold, "stride {stride}, {n} records");
                assert!(arena.capacity() >= n);
                assert_eq!(arena.capacity(), arena.capacity_for(n));
                let at = arena.at(u32::try_from(n - 1).unwrap());
                // SAFETY: a record of the arena.
                unsafe {
                    assert_eq!(at.read(), 0xff);
                    at.cast::<u32>().write(n as u32);
                }
                if n == 1 {
                    first = arena.at(0);
                }
            }
            assert_eq!(arena.at(0), first);
            for n in 1..=most {
                // SAFETY: a record of the arena.
                let read = unsafe { arena.at(n as u32 - 1).cast::<u32>().read() };
                assert_eq!(read, n as u32);
            }
            // SAFETY: this test alone uses the arena.
            unsafe { arena.shrink(most / 3) };
            assert_eq!(arena.capacity(), arena.capacity_for(most / 3));
            let foretold = arena.bytes_for(most);
            arena.grow(most, |_| ()).unwrap();
            assert_eq!(arena.bytes(), foretold);
        }
    }

    #[test]
    fn growth_wastes_an_eighth_at_most() {
        let arena = Arena::new(1_728, 0);
        for n in (200..200_000).step_by(997) {
            assert!(arena.bytes_for(n) as f64 <= 1_728.0 * 1.15 * n as f64 + 20_000.0);
        }
    }
}
