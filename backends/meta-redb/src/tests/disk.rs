//! A disk in RAM that remembers what was synced, fails where it is told to, and can be cut off at any write.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// Which operation fails, counted from 1; it and all later ones of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Sync(u64),
    Write(u64),
}

#[derive(Clone)]
enum Event {
    Len(usize),
    Write(usize, Vec<u8>),
    Sync,
    /// The watermark beside the disk was written.
    Mark(Vec<u8>),
    Acknowledged(u32),
}

#[derive(Default)]
struct State {
    start: Vec<u8>,
    live: Vec<u8>,
    synced: Vec<u8>,
    events: Vec<Event>,
    mark: Vec<u8>,
    syncs: u64,
    writes: u64,
    fault: Option<Fault>,
}

/// A clone is the same disk.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

/// A small generator of its own, so that a failure is found again.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

impl Disk {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.lock();
            state.start.clone_from(&bytes);
            state.synced.clone_from(&bytes);
            state.live = bytes;
        }
        disk
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    pub(super) fn live(&self) -> Vec<u8> {
        self.0.lock().live.clone()
    }

    pub(super) fn synced(&self) -> Vec<u8> {
        self.0.lock().synced.clone()
    }

    pub(super) fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    /// Notes that `n` steps are acknowledged from here on.
    pub(super) fn acknowledge(&self, n: u32) {
        self.0.lock().events.push(Event::Acknowledged(n));
    }

    /// For every write after the first acknowledgement: how many steps were acknowledged then, an image of what a
    /// power cut there may leave: all that was synced, and of later writes some, some torn at a sector, some not; and the
    /// watermark, which is the newest that may be left.
    pub(super) fn power_cuts(&self, rng: &mut Rng) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let state = self.0.lock();
        let mut cuts = Vec::new();
        let mut synced = state.start.clone();
        let mut pending: Vec<Event> = Vec::new();
        let (mut acknowledged, mut mark) = (None, Vec::new());
        for event in &state.events {
            match event {
                Event::Acknowledged(n) => acknowledged = Some(*n),
                Event::Mark(bytes) => mark.clone_from(bytes),
                Event::Sync => pending.drain(..).for_each(|e| apply(&mut synced, &e)),
                Event::Len(_) | Event::Write(..) => pending.push(event.clone()),
            }
            if let Some(n) = acknowledged
                && !matches!(event, Event::Acknowledged(_))
            {
                let mut image = synced.clone();
                for event in &pending {
                    match (event, rng.below(4)) {
                        (Event::Write(..), 0) => {}
                        (Event::Write(at, data), 1) => {
                            let cut = rng.below(data.len() / 512 + 1) * 512;
                            apply(&mut image, &Event::Write(*at, data[..cut].to_vec()));
                        }
                        _ => apply(&mut image, event),
                    }
                }
                cuts.push((n, image, mark.clone()));
            }
        }
        cuts
    }
}

fn apply(image: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Len(len) => image.resize(*len, 0),
        Event::Write(at, data) => image[*at..*at + data.len()].copy_from_slice(data),
        Event::Sync | Event::Mark(_) | Event::Acknowledged(_) => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = start
            .checked_add(out.len())
            .and_then(|end| state.live.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let event = Event::Len(len as usize);
        apply(&mut state.live, &event);
        state.events.push(event);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.syncs += 1;
        if matches!(state.fault, Some(Fault::Sync(n)) if state.syncs >= n) {
            return Err(io::Error::other("injected: the sync failed"));
        }
        state.synced = state.live.clone();
        state.events.push(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.writes += 1;
        if matches!(state.fault, Some(Fault::Write(n)) if state.writes >= n) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let event = Event::Write(offset as usize, data.to_vec());
        apply(&mut state.live, &event);
        state.events.push(event);
        Ok(())
    }
}

/// The watermark beside a disk: what is written to it has its place among what is done to the disk.
#[derive(Clone, Debug)]
pub(super) struct MarkFile(pub(super) Disk);

impl StorageBackend for MarkFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().mark.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.0.lock();
        let there = state.mark.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.0.lock().mark.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::Error::other("a watermark is never synced"))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        assert_eq!(offset, 0, "a watermark is written whole");
        let mut state = self.0.0.lock();
        state.mark = data.to_vec();
        state.events.push(Event::Mark(data.to_vec()));
        Ok(())
    }
}
