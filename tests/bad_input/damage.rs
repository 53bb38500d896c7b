//! Damaged and forged bytes in the cold store: a typed error that names the segment, a marked answer, a line in `check`; never a wrong
//! vector, never a panic, never more RAM than the data deserve.

use std::io::Write;
use std::path::Path;

use aether::config::SearchMode;
use aether::role::{CodecId, Tier};
use aether::seal::checksum;
use aether::vector::Shape;
use aether::{Answer, BlockingMemory, Parts, PointId, SearchRequest};
use aether_core::codec::{BLOCK_HEADER_BYTES, Content, write_frame};

use super::world::{DIM, POINTS, World, ids, vector};

const HEADER: usize = 24;
const TAIL: usize = 40;
const SEAL: usize = 8;

/// Where things lie in a segment (core/FORMAT.md), read again here by the book.
struct Layout {
    segment: u64,
    footer: usize,
    /// Rows of the first group, and offset and length of each part, for each block.
    blocks: Vec<(usize, [(usize, usize); 5])>,
}

/// Parts of a block. Of its vectors, only the first group is named.
const ROWS: usize = 0;
const CODES: usize = 1;
const VECTORS: usize = 2;
const KEYS: usize = 3;
const PAYLOADS: usize = 4;

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}

impl Layout {
    fn of(file: &[u8]) -> Self {
        let u32_at = |at| number::<4>(file, at) as usize;
        let footer = number::<8>(file, file.len() - TAIL) as usize;
        let count = u32_at(footer);
        let group_rows = u32_at(footer + 24);
        let entry = |block: usize, field: usize| u32_at(footer + 32 + 32 * block + 4 * field);
        let group = |g: usize| u32_at(footer + 32 + 32 * count + 4 * g);
        let rows = |block: usize| entry(block, 1);
        let mut blocks: Vec<_> = (0..count)
            .map(|b| (rows(b).min(group_rows), [(0, 0); 5]))
            .collect();
        let (mut at, mut groups) = (HEADER, 0);
        for (b, (_, parts)) in blocks.iter_mut().enumerate() {
            for (part, field) in [(ROWS, 3), (CODES, 4)] {
                parts[part] = (at, entry(b, field));
                at += entry(b, field);
            }
        }
        for (b, (_, parts)) in blocks.iter_mut().enumerate() {
            parts[VECTORS] = (at, group(groups));
            groups += rows(b).div_ceil(group_rows);
            at += entry(b, 5);
        }
        for (b, (_, parts)) in blocks.iter_mut().enumerate() {
            for (part, field) in [(KEYS, 6), (PAYLOADS, 7)] {
                parts[part] = (at, entry(b, field));
                at += entry(b, field);
            }
        }
        assert_eq!(at, footer);
        Self {
            segment: number::<8>(file, 16),
            footer,
            blocks,
        }
    }

    /// Offset and length of one part of a block.
    fn part(&self, block: usize, part: usize) -> (usize, usize) {
        self.blocks[block].1[part]
    }

    /// Whether a get or a search looks at this byte: at all but keys, and what stands around the parts.
    fn is_read(&self, place: usize) -> bool {
        let holds = |block, part| {
            let (from, length) = self.part(block, part);
            (from..from + length).contains(&place)
        };
        let read = [ROWS, CODES, VECTORS, PAYLOADS];
        (0..self.blocks.len()).any(|b| read.into_iter().any(|part| holds(b, part)))
    }

    fn seed(&self, offset: usize) -> u64 {
        self.segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset as u64
    }
}

fn complete(memory: &BlockingMemory) -> Answer {
    let request = SearchRequest::new(vector(4_000), POINTS as usize);
    let parts = Parts::default();
    memory
        .search(request.mode(SearchMode::Complete).parts(parts))
        .unwrap()
}

/// What may be said of a memory with one damaged segment: nothing wrong, and nothing missing without a word.
fn whole_or_marked(world: &World, segment: u64) -> bool {
    let memory = world.memory();
    let mut damaged = false;
    for id in ids(0..POINTS) {
        match memory.get(&id) {
            Ok(Some(record)) => {
                let PointId::Int(n) = id else { panic!("{id}") };
                assert_eq!(record.vector.unwrap(), vector(n), "point {n}");
                assert_eq!(record.payload.unwrap()["n"], n, "point {n}");
            }
            Ok(None) => panic!("point {id} vanished without an error"),
            Err(error) => {
                damaged = true;
                assert!(error.is_corrupt(), "{error}");
                assert!(
                    error.to_string().contains(&format!("segment {segment}")),
                    "{error}"
                );
            }
        }
    }
    // Every row exactly, and every partition by its codes.
    for mode in [SearchMode::Complete, SearchMode::Bounded] {
        let request = SearchRequest::new(vector(4_000), POINTS as usize)
            .mode(mode)
            .probe(1.0);
        let answer = memory.search(request).unwrap();
        for hit in &answer.hits {
            let PointId::Int(n) = hit.id else {
                panic!("{hit:?}")
            };
            let distance = aether::Metric::L2.distance(&vector(4_000), &vector(n));
            assert!((hit.distance - distance).abs() < 1e-5, "{hit:?}");
        }
        if answer.coverage.is_whole() {
            assert_eq!(answer.hits.len() as u64, POINTS);
        } else {
            damaged = true;
            assert!(
                answer.hits.iter().any(|h| h.tier == Tier::Hot),
                "hot answers go on"
            );
            let cuts = format!("{:?}", answer.coverage.cuts);
            assert!(cuts.contains(&format!("segment: {segment}")), "{cuts}");
        }
    }
    damaged
}

#[test]
fn a_flipped_byte_anywhere_in_a_segment_is_found() {
    let mut world = World::new("l2", "");
    world.close();
    let path = world.segments().swap_remove(0);
    let good = std::fs::read(&path).unwrap();
    let layout = Layout::of(&good);
    // Every part of the first and last block at its first, middle and last byte, and what stands around the blocks.
    let mut places = vec![0, 8, 12, 16, HEADER - 1];
    for block in [0, layout.blocks.len() - 1] {
        for part in [ROWS, CODES, VECTORS, KEYS, PAYLOADS] {
            let (from, length) = layout.part(block, part);
            places.extend([
                from,
                from + length / 2,
                from + length - SEAL,
                from + length - 1,
            ]);
        }
    }
    places.extend([
        layout.footer,
        layout.footer + 12,
        layout.footer + 25,
        good.len() - TAIL,
        good.len() - 1,
    ]);
    let mut marked = 0;
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let report = world.check();
        assert!(!report.is_clean(), "byte {place}: check finds nothing");
        let named = report
            .problems
            .iter()
            .any(|p| p.what.contains(&format!("segment {}", layout.segment)));
        assert!(named, "byte {place}: {:?}", report.problems);
        world.open();
        let damaged = whole_or_marked(&world, layout.segment);
        marked += u32::from(damaged);
        world.close();
        // Header and keys are for `check` and for repair: readers go by the metadata store.
        let opening = place >= layout.footer;
        assert_eq!(damaged, opening || layout.is_read(place), "byte {place}");
    }
    assert!(marked > 0);
    std::fs::write(&path, &good).unwrap();
    assert!(world.check().is_clean());
    world.open();
    assert_eq!(world.fingerprint(), world.before);
}

#[test]
fn a_cut_or_missing_segment_is_marked_and_listed_by_check() {
    let mut world = World::new("l2", "");
    world.close();
    let path = world.segments().swap_remove(0);
    let good = std::fs::read(&path).unwrap();
    let segment = Layout::of(&good).segment;
    for keep in [
        None,
        Some(0),
        Some(HEADER),
        Some(good.len() / 2),
        Some(good.len() - 1),
    ] {
        match keep {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, &good[..bytes]).unwrap(),
        }
        let report = world.check();
        let named = |p: &aether::Problem| p.what.contains(&format!("segment {segment}"));
        assert!(
            report.problems.iter().any(named),
            "{keep:?}: {:?}",
            report.problems
        );
        world.open();
        assert!(whole_or_marked(&world, segment), "{keep:?}");
        assert_eq!(world.memory().stats().lost_segments, 1, "{keep:?}");
        world.close();
    }
    std::fs::write(&path, &good).unwrap();
    world.open();
    assert_eq!(world.fingerprint(), world.before);
}

#[test]
fn a_damaged_hot_snapshot_costs_time_and_nothing_else() {
    let mut world = World::new("l2", "");
    world.close();
    let path = world.folder.path().join("memory").join("hot.snapshot");
    let good = std::fs::read(&path).unwrap();
    for place in [0, good.len() / 3, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        world.open();
        assert_eq!(world.fingerprint(), world.before, "byte {place}");
        assert_eq!(complete(world.memory()).hits.len() as u64, POINTS);
        world.close();
    }
    for keep in [0, good.len() / 2] {
        std::fs::write(&path, &good[..keep]).unwrap();
        world.open();
        assert_eq!(world.fingerprint(), world.before, "{keep} bytes");
        world.close();
    }
}

/// A Zstandard frame of zeros, `padded` with a skippable frame to a given length; the size it announces may be a lie.
fn bomb(plain: u64, announced: u32, padded: usize) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_pledged_src_size(Some(plain)).unwrap();
    encoder.include_contentsize(true).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..plain >> 20 {
        encoder.write_all(&zeros).unwrap();
    }
    let mut frame = encoder.finish().unwrap();
    // The announced size has four bytes after the descriptor, and after the window's byte if there is one.
    assert_eq!(frame[4] >> 6, 2);
    let at = 5 + usize::from(frame[4] >> 5 & 1 == 0);
    frame[at..at + 4].copy_from_slice(&announced.to_le_bytes());
    let rest = padded.checked_sub(frame.len() + 8).unwrap();
    frame.extend_from_slice(&0x184D_2A50u32.to_le_bytes());
    frame.extend_from_slice(&(rest as u32).to_le_bytes());
    frame.resize(padded, 0);
    frame
}

/// Most RAM that this process ever had, in bytes; 0 where the system does not tell.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Puts a part in the place of another of the same length, sealed as its writer would have sealed it.
fn forge(path: &Path, file: &[u8], layout: &Layout, part: usize, body: &[u8]) {
    let (from, length) = layout.part(0, part);
    assert_eq!(
        body.len() + SEAL,
        length,
        "a forgery must have the length of what it stands for"
    );
    let mut forged = file.to_vec();
    forged[from..from + body.len()].copy_from_slice(body);
    let seal = checksum(body, layout.seed(from)).to_le_bytes();
    forged[from + body.len()..from + length].copy_from_slice(&seal);
    std::fs::write(path, forged).unwrap();
}

/// All checksums of a bomb are right: whoever made it knew how. Only the bound on what is unpacked stands against it.
#[test]
fn a_decompression_bomb_is_refused_before_it_unpacks() {
    const PLAIN: u64 = 1 << 30;
    // One block, whose packed vectors leave room for a gigabyte of packed zeros.
    let mut world = World::new("l2", "[search]\npartition_rows = 100000\n");
    let many: Vec<_> = (1000..2400)
        .map(|i| aether::Point::new(i, vector(i)).with_payload(serde_json::json!(i)))
        .collect();
    world.memory().upsert(many).unwrap();
    world.memory().demote(&ids(1000..2400)).unwrap();
    world.close();
    let size = |p: &std::path::PathBuf| std::fs::metadata(p).unwrap().len();
    let path = world.segments().into_iter().max_by_key(size).unwrap();
    let file = std::fs::read(&path).unwrap();
    let layout = Layout::of(&file);
    let (rows, _) = layout.blocks[0];
    let shape = Shape { rows, dim: DIM };
    let (from, length) = layout.part(0, VECTORS);
    // Row numbers, then the block's header.
    let before = 8 * rows + BLOCK_HEADER_BYTES;
    let header = &file[from..from + before];
    let codec = CodecId(number::<2>(header, 8 * rows) as u16);
    let room = length - SEAL - before - 1 - SEAL;
    // As many zeros as can be packed into the room, up to a gigabyte.
    let plain = (PLAIN.min(((room as u64 - 200) / 4) << 17) >> 20) << 20;
    assert!(
        plain >= 64 << 20,
        "too little room for a bomb: {room} bytes"
    );
    let before = peak_bytes();
    let honest = shape.len() as u32 * 4;
    for announced in [plain as u32, honest, u32::MAX, 0] {
        let mut body = header.to_vec();
        write_frame(codec, Content::Vectors(shape), &mut body, |out| {
            out.extend_from_slice(&bomb(plain, announced, room));
            Ok(3)
        })
        .unwrap();
        forge(&path, &file, &layout, VECTORS, &body);
        refused(
            &mut world,
            layout.segment,
            &format!("vectors, {announced} bytes announced"),
        );
    }
    let (_, length) = layout.part(0, PAYLOADS);
    for claimed in [u32::MAX, 1 << 30] {
        let mut body = claimed.to_le_bytes().to_vec();
        // LZ4: one literal, then a match that repeats it without end.
        body.extend_from_slice(&[0x1f, 0, 1, 0]);
        body.resize(length - SEAL, 0xff);
        forge(&path, &file, &layout, PAYLOADS, &body);
        refused(
            &mut world,
            layout.segment,
            &format!("payloads, {claimed} bytes claimed"),
        );
    }
    let grown = peak_bytes().saturating_sub(before);
    assert!(
        grown < 48 << 20,
        "{grown} bytes of RAM went to a bomb of {plain}"
    );
}

fn refused(world: &mut World, segment: u64, what: &str) {
    world.open();
    let memory = world.memory();
    let errors: Vec<_> = (1000..2400)
        .step_by(7)
        .filter_map(|i| memory.get(&PointId::Int(i)).err())
        .collect();
    assert!(!errors.is_empty(), "{what}: nothing was refused");
    for error in errors {
        assert!(error.is_corrupt(), "{what}: {error}");
        assert!(
            error.to_string().contains(&format!("segment {segment}")),
            "{what}: {error}"
        );
    }
    world.close();
    let report = world.check();
    let named = |p: &aether::Problem| p.what.contains(&format!("segment {segment}"));
    assert!(
        report.problems.iter().any(named),
        "{what}: {:?}",
        report.problems
    );
}
