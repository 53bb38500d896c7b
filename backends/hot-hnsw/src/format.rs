//! Snapshots: the bytes that `save` writes and `load` reads. All numbers are little-endian.
//!
//! ```text
//! header, 48 bytes
//! |  0 | 8 | magic "AETHHNSW"                              |
//! |  8 | 4 | version, 1                                    |
//! | 12 | 4 | dimension                                     |
//! | 16 | 4 | metric: 0 l2, 1 inner product, 2 cosine       |
//! | 20 | 4 | m                                             |
//! | 24 | 8 | rows                                          |
//! | 32 | 8 | 0                                             |
//! | 40 | 8 | XXH3-64 of bytes 0 to 39, seed 0              |
//!
//! blocks, until all rows are told; b counts from 1
//! |  0 | 4 | bytes of the body                             |
//! |  4 | n | body: whole rows, one after the other         |
//! |4+n | 8 | XXH3-64 of the bytes before, seed b           |
//!
//! row
//! |  0 | 8 | row                                           |
//! |  8 | 4 | level l                                       |
//! | 12 |   | l + 1 lists, level 0 first: u32 count, then so many u32, each a row's place in the snapshot, from 0 |
//! |    |4*d| vector, as it came                            |
//! ```
//!
//! Nothing follows the last block. The links are worth keeping because they cost far more to find than to read; a snapshot made
//! with another `m` gives its vectors, which are linked anew. The entry point is not written: it is the first of the
//! rows of the highest level.
//!
//! A reader allocates room for a row only after the row's bytes came in with a right checksum.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::Ordering;

use aether_core::seal::{SEAL_BYTES, seal, unseal};
use aether_core::{Error, Metric, Result, Row};

use crate::graph::Graph;
use crate::map::Heads;
use crate::node::Links;
use crate::node::{NONE, SLOTS_MAX, link_of, slot_of};
use crate::slots::{LEVELS, Slots};

const MAGIC: &[u8; 8] = b"AETHHNSW";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;
/// A block is closed when its body has reached this size.
const BLOCK_BYTES: usize = 64 << 10;
/// Levels that a row of a snapshot may have.
const LEVELS_MAX: usize = 64;

fn metric_number(metric: Metric) -> u32 {
    match metric {
        Metric::L2 => 0,
        Metric::InnerProduct => 1,
        Metric::Cosine => 2,
    }
}

/// Reads numbers off the front of a body.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((front, rest)) = self.0.split_at_checked(n) else {
            return Err(Error::corrupt(format!(
                "snapshot: expected {n} more bytes of a row, got {}",
                self.0.len()
            )));
        };
        self.0 = rest;
        Ok(front)
    }

    fn u32(&mut self) -> Result<u32> {
        let mut word = [0; 4];
        word.copy_from_slice(self.bytes(4)?);
        Ok(u32::from_le_bytes(word))
    }

    fn u64(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        word.copy_from_slice(self.bytes(8)?);
        Ok(u64::from_le_bytes(word))
    }
}

/// What a header says, checked against the index.
struct Header {
    m: usize,
    rows: usize,
}

impl Graph {
    /// Writes every row as of one moment. Pinned all along: slots that are given up meanwhile stay as they are.
    pub(crate) fn save(&self, out: &mut dyn Write) -> Result<()> {
        let _pin = self.pins.pin();
        let mut slots = self.map.slots(self);
        slots.sort_unstable();
        let end = slots.last().map_or(0, |last| *last as usize + 1);
        let mut places = vec![NONE; end];
        for (place, slot) in (0u32..).zip(&slots) {
            places[*slot as usize] = place;
        }
        let mut buffer = Vec::with_capacity(BLOCK_BYTES + self.shape.stride);
        buffer.extend_from_slice(MAGIC);
        for word in [
            VERSION,
            self.shape.dim as u32,
            metric_number(self.metric),
            self.shape.m as u32,
        ] {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        buffer.extend_from_slice(&(slots.len() as u64).to_le_bytes());
        buffer.extend_from_slice(&[0; 8]);
        seal(&mut buffer, 0, 0);
        write(out, &buffer)?;
        let (mut block, mut rest) = (1, slots.as_slice());
        while !rest.is_empty() {
            buffer.clear();
            buffer.extend_from_slice(&[0; 4]);
            while let Some((slot, after)) = rest.split_first() {
                self.write_row(&mut buffer, *slot, &places);
                rest = after;
                if buffer.len() >= BLOCK_BYTES {
                    break;
                }
            }
            let body = (buffer.len() - 4) as u32;
            buffer[..4].copy_from_slice(&body.to_le_bytes());
            seal(&mut buffer, 0, block);
            write(out, &buffer)?;
            block += 1;
        }
        out.flush().map_err(failed)
    }

    fn write_row(&self, buffer: &mut Vec<u8>, slot: u32, places: &[u32]) {
        let head = self.head(slot);
        let level = head.level.load(Ordering::Relaxed);
        buffer.extend_from_slice(&head.row.load(Ordering::Relaxed).to_le_bytes());
        buffer.extend_from_slice(&level.to_le_bytes());
        for level in 0..=level {
            let count_at = buffer.len();
            buffer.extend_from_slice(&[0; 4]);
            let mut count = 0u32;
            for link in self.links(slot, level).into_iter().flat_map(Links::read) {
                let to = slot_of(link);
                let place = places.get(to as usize).copied().unwrap_or(NONE);
                let generation = self.head(to).generation.load(Ordering::Relaxed);
                if place != NONE && link == link_of(to, generation) {
                    buffer.extend_from_slice(&place.to_le_bytes());
                    count += 1;
                }
            }
            buffer[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        }
        // SAFETY: a vector is `dim` floats; the row cannot be overwritten while this thread is pinned.
        let vector = unsafe { std::slice::from_raw_parts(self.vector(slot), self.shape.dim) };
        for x in vector {
            buffer.extend_from_slice(&x.to_le_bytes());
        }
    }

    /// Reads a snapshot into an index without rows; on an error it is empty again.
    pub(crate) fn load(&self, input: &mut dyn Read) -> Result<()> {
        let _one = self.maintenance.lock();
        let _no_writes = self.all_stripes();
        if self.map.len() > 0 {
            return Err(Error::invalid_input(format!(
                "load: expected an empty index, got one of {} rows",
                self.map.len()
            )));
        }
        let mut slots = self.lock_slots();
        self.clear(&mut slots);
        let read = self.read_rows(&mut slots, input);
        match read {
            Ok((rows, linked)) => {
                self.show(rows, linked);
                Ok(())
            }
            Err(error) => {
                self.clear(&mut slots);
                Err(error)
            }
        }
    }

    /// Reads rows into slots 0, 1, … without making them visible. Returns their number, and whether their links were taken over.
    fn read_rows(&self, slots: &mut Slots, input: &mut dyn Read) -> Result<(u32, bool)> {
        let header = self.read_header(input)?;
        let linked = header.m == self.shape.m;
        let row_bytes_max =
            12 + 4 * self.shape.dim + 4 * (1 + 2 * header.m) + LEVELS_MAX * 4 * (1 + header.m);
        let body_max = BLOCK_BYTES + row_bytes_max;
        let (mut place, mut block, mut buffer) = (0, 1, Vec::new());
        let mut seen = Vec::new();
        let mut vector = vec![0f32; self.shape.dim];
        while (place as usize) < header.rows {
            buffer.clear();
            read_exactly(input, &mut buffer, 4)?;
            let body = Cursor(&buffer).u32()? as usize;
            if body == 0 || body > body_max {
                return Err(Error::corrupt(format!(
                    "snapshot block {block}: expected a body of 1 to {body_max} bytes, got {body}"
                )));
            }
            read_exactly(input, &mut buffer, body + SEAL_BYTES)?;
            let sealed = unseal(&buffer, block, &format!("snapshot block {block}"))?;
            let mut cursor = Cursor(sealed);
            cursor.u32()?;
            while !cursor.0.is_empty() {
                if place as usize == header.rows {
                    return Err(Error::corrupt(format!(
                        "snapshot: expected {} rows, got more",
                        header.rows
                    )));
                }
                seen.push(self.read_row(slots, &mut cursor, place, &header, &mut vector)?);
                place += 1;
            }
            block += 1;
        }
        buffer.clear();
        if input.take(1).read_to_end(&mut buffer).map_err(failed)? > 0 {
            return Err(Error::corrupt(
                "snapshot: expected its end after the last row, got more bytes",
            ));
        }
        seen.sort_unstable();
        if let Some(twice) = seen.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::corrupt(format!(
                "snapshot: expected each row once, got row {} twice",
                twice[0]
            )));
        }
        Ok((place, linked))
    }

    fn read_header(&self, input: &mut dyn Read) -> Result<Header> {
        let mut buffer = Vec::new();
        read_exactly(input, &mut buffer, HEADER_BYTES + SEAL_BYTES)?;
        if !buffer.starts_with(MAGIC) {
            return Err(Error::corrupt(
                "snapshot: expected one written by hnsw, got other bytes",
            ));
        }
        let mut cursor = Cursor(unseal(&buffer, 0, "snapshot header")?);
        cursor.bytes(MAGIC.len())?;
        let (version, dim, metric, m) =
            (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let rows = cursor.u64()?;
        let expect = |what: &str, expected: u32, got: u32| {
            if expected == got {
                return Ok(());
            }
            Err(Error::corrupt(format!(
                "snapshot {what}: expected {expected}, got {got}; rebuild the index from the rows' homes"
            )))
        };
        expect("version", VERSION, version)?;
        expect("dimension", self.shape.dim as u32, dim)?;
        expect("metric number", metric_number(self.metric), metric)?;
        if cursor.u64()? != 0 {
            return Err(Error::corrupt("snapshot: expected bytes 32 to 39 to be 0"));
        }
        let m = m as usize;
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        if !(2..=1_024).contains(&m) || rows > SLOTS_MAX {
            return Err(Error::corrupt(format!(
                "snapshot: expected m of 2 to 1024 and at most {SLOTS_MAX} rows, got {m} and {rows}"
            )));
        }
        Ok(Header { m, rows })
    }

    fn read_row(
        &self,
        slots: &mut Slots,
        cursor: &mut Cursor<'_>,
        place: u32,
        header: &Header,
        vector: &mut [f32],
    ) -> Result<Row> {
        let row = Row(cursor.u64()?);
        let level = cursor.u32()?;
        if level as usize >= LEVELS_MAX {
            return Err(Error::corrupt(format!(
                "snapshot row {row}: expected a level below {LEVELS_MAX}, got {level}"
            )));
        }
        if place as usize >= self.room() {
            self.make_room(place as usize + 1)?;
        }
        let linked = header.m == self.shape.m;
        let own_level = if linked {
            level.min(LEVELS as u32 - 1)
        } else {
            self.level_of(row)
        };
        self.fill(slots, place, row, own_level);
        for level in 0..=level {
            let count = cursor.u32()? as usize;
            let most = header.m * if level == 0 { 2 } else { 1 };
            if count > most {
                return Err(Error::corrupt(format!(
                    "snapshot row {row}: expected at most {most} links at level {level}, got {count}"
                )));
            }
            let mut links = Vec::with_capacity(count);
            for _ in 0..count {
                let to = cursor.u32()?;
                if to as usize >= header.rows {
                    return Err(Error::corrupt(format!(
                        "snapshot row {row}: expected a link below {}, got {to}",
                        header.rows
                    )));
                }
                links.push(link_of(to, 0));
            }
            if linked && let Some(list) = self.links(place, level) {
                list.write(links.into_iter());
            }
        }
        for (x, bytes) in vector
            .iter_mut()
            .zip(cursor.bytes(4 * self.shape.dim)?.chunks_exact(4))
        {
            let mut word = [0; 4];
            word.copy_from_slice(bytes);
            *x = f32::from_le_bytes(word);
        }
        self.metric
            .check(vector, self.shape.dim)
            .map_err(|e| Error::corrupt(format!("snapshot row {row}: {}", e.message())))?;
        self.write_vector(place, vector, self.metric.scale(vector));
        Ok(row)
    }

    /// Makes the rows that were read visible, in the order of their slots. The caller keeps every write out.
    fn show(&self, rows: u32, linked: bool) {
        self.set_used(rows);
        let row = |slot: u32| Row(self.head(slot).row.load(Ordering::Relaxed));
        if !linked {
            for slot in 0..rows {
                self.connect(slot);
                self.map.insert(row(slot), slot, self);
            }
            return;
        }
        let mut entry: Option<(u32, u32)> = None;
        for slot in 0..rows {
            let head = self.head(slot);
            self.publish(slot);
            head.linked.set();
            self.map.insert(row(slot), slot, self);
            for link in self.links(slot, 0).into_iter().flat_map(Links::read) {
                self.count_in(0, link);
            }
            let level = head.level.load(Ordering::Relaxed);
            if entry.is_none_or(|(highest, _)| level > highest) {
                entry = Some((level, slot));
            }
        }
        let _entry = self.lock_entry();
        let link = entry.map_or(NONE, |(_, slot)| link_of(slot, 0));
        self.entry.set(link);
    }
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(failed)
}

/// Appends exactly `n` bytes, growing the buffer only as they come in.
fn read_exactly(input: &mut dyn Read, buffer: &mut Vec<u8>, n: usize) -> Result<()> {
    let got = input.take(n as u64).read_to_end(buffer).map_err(failed)?;
    if got < n {
        return Err(Error::corrupt(format!(
            "snapshot: expected {n} more bytes, got {got}: it was cut short"
        )));
    }
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    let text = "snapshot: the stream failed";
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::corrupt(text).with_source(error),
        _ => Error::unavailable(text).with_source(error),
    }
}
