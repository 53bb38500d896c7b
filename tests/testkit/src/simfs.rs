//! A file system in RAM that knows what was synced: the ground on which stores that keep files are cut off, starved and lied to.
//!
//! Every change waits until its barrier: bytes and length of a file until the file is synced, names until their folder is. A power
//! cut ([`SimFs::crash`]) keeps all that was synced and draws, of what waits, what else survived: nothing, everything, everything up
//! to some moment, or each piece by itself, so that later ones survive earlier ones. Bytes are torn at sectors of 512 bytes; a
//! sector, a length and a rename are atomic. A killed process ([`SimFs::kill`]) loses nothing, but what waited waits on.
//!
//! A value is one life of a process. Once it is dead no call of it has an effect any more, whatever threads or tasks of that life
//! are still about; [`SimFs::crash`] and [`SimFs::kill`] begin the next one. Every call asks a script, which can let it fail, make
//! it lie, or end the life; and every call and its outcome enter a hash, so that two runs can be compared.
//!
//! Stores have each their own trait for what they need of a file system; a few lines put this one under it.

mod image;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;

use image::Image;
pub use image::SECTOR;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// A change of names that waits for its folder to be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each name is its description")]
pub enum NameChange {
    Create,
    Link,
    Rename,
    Remove,
    MakeFolder,
}

/// What of a file waits for a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Sectors that were written.
    pub sectors: BTreeSet<u64>,
    /// Whether its length changed.
    pub length: bool,
    /// The first bytes of the file as they are synced, and as they are now.
    pub head: ([u8; 16], [u8; 16]),
}

/// A call, as a script sees it. The path of a file is that under which it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each name is its description")]
pub enum Call {
    /// Opening, listing, asking what is there.
    Look(PathBuf),
    Read {
        path: PathBuf,
        at: u64,
        len: usize,
    },
    Write {
        path: PathBuf,
        at: u64,
        len: usize,
    },
    Resize {
        path: PathBuf,
        len: u64,
    },
    Name(NameChange, PathBuf),
    SyncFile(PathBuf, Waiting),
    /// With the kinds of names that wait in the folder.
    SyncFolder(PathBuf, BTreeSet<NameChange>),
}

impl Call {
    /// Whether it changes what is stored, or what of it survives.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Look(_) | Self::Read { .. })
    }

    /// Whether it is a sync.
    pub fn is_barrier(&self) -> bool {
        matches!(self, Self::SyncFile(..) | Self::SyncFolder(..))
    }

    /// The same in every run of a seed: names of files aside have numbers of the process in them.
    fn neutral(&self) -> Self {
        let mut call = self.clone();
        let (Self::Look(path)
        | Self::Read { path, .. }
        | Self::Write { path, .. }
        | Self::Resize { path, .. }
        | Self::Name(_, path)
        | Self::SyncFile(path, _)
        | Self::SyncFolder(path, _)) = &mut call;
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") {
            path.set_file_name(".aside");
        }
        call
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it should.
    Pass,
    /// It fails without effect. `StorageFull` for a full disk, `Other` for a broken one.
    Fail(ErrorKind),
    /// It says that it was done and was not: a sync that is none, a write that never reached the disk.
    Lie,
    /// A read gives so many bytes at most.
    Short(usize),
    /// A bit of what is read or written is turned over, counted from the first and modulo their number.
    Flip(u64),
    /// A read or write goes so many sectors further on, as far as the file reaches.
    Misdirect(u64),
    /// A read gives one of its sectors, counted modulo their number, as it was before the file was written: zeros.
    Stale(u64),
    /// A file gets a name as if nobody had thought of it: its bytes are written under the name, piece by piece, and then synced.
    InPlace,
    /// The life ends just before the effect.
    Die,
    /// The life ends just after the effect.
    DieAfter,
}

/// Decides by the call and its number among those that change something, or among those that do not, from 1.
pub type Script = Arc<dyn Fn(&Call, u64) -> Verdict + Send + Sync>;

struct Life {
    image: Image,
    dead: bool,
    changes: u64,
    reads: u64,
    script: Option<Script>,
    held: BTreeSet<PathBuf>,
    limit_bytes: Option<u64>,
    trace: Trace,
}

/// What happened, as a hash, and in words where that is wanted.
#[derive(Clone, Default)]
struct Trace {
    hasher: DefaultHasher,
    lies: u64,
    words: Option<Vec<String>>,
}

impl Trace {
    fn say(&mut self, what: impl fmt::Debug) {
        if let Some(words) = &mut self.words {
            words.push(format!("{what:?}"));
        }
    }
}

/// One life of a process on the file system. A clone is the same life.
#[derive(Clone)]
pub struct SimFs(Arc<Mutex<Life>>);

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.0.lock();
        f.debug_struct("SimFs")
            .field("dead", &life.dead)
            .field("changes", &life.changes)
            .finish_non_exhaustive()
    }
}

impl Default for SimFs {
    fn default() -> Self {
        Self::of(Image::default(), None, Trace::default())
    }
}

fn died() -> io::Error {
    io::Error::other("injected: the process has died")
}

impl SimFs {
    /// An empty file system, with nothing but the folder `/`.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(image: Image, limit_bytes: Option<u64>, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Life {
            image,
            dead: false,
            changes: 0,
            reads: 0,
            script: None,
            held: BTreeSet::new(),
            limit_bytes,
            trace,
        })))
    }

    /// Asks `script` before every call from now on.
    pub fn script(&self, script: impl Fn(&Call, u64) -> Verdict + Send + Sync + 'static) {
        self.0.lock().script = Some(Arc::new(script));
    }

    /// No more faults.
    pub fn unscript(&self) {
        self.0.lock().script = None;
    }

    /// Ends this life at the `n`th change from now, from 1.
    pub fn die_at(&self, n: u64, after: bool) {
        let at = self.changes() + n;
        self.script(move |call, i| match (call.changes() && i == at, after) {
            (false, _) => Verdict::Pass,
            (true, false) => Verdict::Die,
            (true, true) => Verdict::DieAfter,
        });
    }

    /// Files together may have so many bytes; what would go beyond fails with `StorageFull`.
    pub fn limit(&self, bytes: Option<u64>) {
        self.0.lock().limit_bytes = bytes;
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.0.lock().image.bytes()
    }

    /// Calls of this life that change something, so far.
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Calls of this life that only look, so far.
    pub fn looks(&self) -> u64 {
        self.0.lock().reads
    }

    /// Whether this life is over.
    pub fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// A hash over every call so far and its outcome, in this life and those before it.
    pub fn trace(&self) -> u64 {
        self.0.lock().trace.hasher.finish()
    }

    /// Reads that gave other bytes than the file has, in this life and those before it.
    pub fn lies(&self) -> u64 {
        self.0.lock().trace.lies
    }

    /// Enters something else into the hash: a call of a store above, and what it answered.
    pub fn note(&self, what: impl Hash + fmt::Debug) {
        let trace = &mut self.0.lock().trace;
        what.hash(&mut trace.hasher);
        trace.say(what);
    }

    /// Keeps what happens from now on in words too, for finding out where two runs part.
    pub fn keep_words(&self) {
        self.0.lock().trace.words.get_or_insert_default();
    }

    /// What happened since [`SimFs::keep_words`].
    pub fn words(&self) -> Vec<String> {
        self.0.lock().trace.words.clone().unwrap_or_default()
    }

    fn next(&self, image: impl FnOnce(&Image) -> Image) -> Self {
        let mut life = self.0.lock();
        life.dead = true;
        Self::of(image(&life.image), life.limit_bytes, life.trace.clone())
    }

    /// A power cut: this life ends, and the next finds what was synced, and what else is drawn to have survived.
    pub fn crash(&self, rng: &mut Rng) -> Self {
        self.next(|image| image.crash(rng))
    }

    /// The process is killed: the next finds all as it was, and what waited for a sync waits on.
    pub fn kill(&self) -> Self {
        self.next(Image::clone)
    }

    /// Another file system that holds the same, and on which the same waits; this life goes on.
    pub fn fork(&self) -> Self {
        let life = self.0.lock();
        Self::of(life.image.clone(), life.limit_bytes, Trace::default())
    }

    /// Changes a file's bytes behind everyone's back, as damage at rest does.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut life = self.0.lock();
        life.image
            .damage(path, change)
            .expect("a file that is there");
    }

    /// A file's bytes as a reader sees them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.0.lock().image.contents(path)
    }

    /// All files' names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().image.files()
    }

    /// Counts a call, asks what becomes of it, does it, and notes its outcome.
    fn call<T>(
        &self,
        call: impl FnOnce(&Image) -> Call,
        work: impl FnOnce(&mut Image, Verdict) -> io::Result<T>,
    ) -> io::Result<T> {
        let (call, script, n) = {
            let mut life = self.0.lock();
            if life.dead {
                return Err(died());
            }
            let call = call(&life.image);
            let n = if call.changes() {
                life.changes += 1;
                life.changes
            } else {
                life.reads += 1;
                life.reads
            };
            let neutral = call.neutral();
            neutral.hash(&mut life.trace.hasher);
            life.trace.say(neutral);
            (call, life.script.clone(), n)
        };
        let verdict = script.map_or(Verdict::Pass, |script| script(&call, n));
        let mut life = self.0.lock();
        let result = match verdict {
            Verdict::Fail(kind) => Err(io::Error::new(kind, format!("injected at {call:?}"))),
            Verdict::Die => {
                life.dead = true;
                Err(died())
            }
            Verdict::DieAfter => {
                let done = work(&mut life.image, Verdict::Pass);
                life.dead = true;
                done.and(Err(died()))
            }
            other => {
                let room = life.limit_bytes;
                life.image.room = room;
                work(&mut life.image, other)
            }
        };
        result.is_ok().hash(&mut life.trace.hasher);
        life.trace.say(result.is_ok());
        result
    }

    fn change_name(
        &self,
        change: NameChange,
        path: &Path,
        work: impl FnOnce(&mut Image) -> io::Result<()>,
    ) -> io::Result<()> {
        self.call(
            |_| Call::Name(change, path.to_owned()),
            |image, verdict| match verdict {
                Verdict::Lie => Ok(()),
                _ => work(image),
            },
        )
    }

    fn look<T>(&self, path: &Path, work: impl FnOnce(&Image) -> io::Result<T>) -> io::Result<T> {
        self.call(|_| Call::Look(path.to_owned()), |image, _| work(image))
    }

    /// What stands under a name.
    ///
    /// # Errors
    /// `NotFound` for nothing.
    pub fn kind(&self, path: &Path) -> io::Result<Kind> {
        self.look(path, |image| image.kind(path))
    }

    /// Names in a folder, sorted.
    ///
    /// # Errors
    /// `NotFound` for none.
    pub fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.look(folder, |image| image.names(folder))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` for none.
    pub fn open(&self, path: &Path) -> io::Result<SimFile> {
        let node = self.look(path, |image| image.node(path))?;
        Ok(self.file(path, node))
    }

    fn file(&self, path: &Path, node: usize) -> SimFile {
        SimFile {
            fs: self.clone(),
            path: path.to_owned(),
            node,
        }
    }

    /// Makes an empty file and opens it.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `NotFound` when its folder is not there.
    pub fn create(&self, path: &Path) -> io::Result<SimFile> {
        self.change_name(NameChange::Create, path, |image| image.create(path))?;
        self.open(path)
    }

    /// Gives a file that is whole a name; `false` where a script wants it written there in place.
    fn publish(
        &self,
        change: NameChange,
        from: &Path,
        to: &Path,
        work: impl FnOnce(&mut Image) -> io::Result<()>,
    ) -> io::Result<bool> {
        let whole = self.call(
            |_| Call::Name(change, to.to_owned()),
            |image, verdict| match verdict {
                Verdict::Lie => Ok(true),
                Verdict::InPlace => Ok(false),
                _ => work(image).map(|()| true),
            },
        )?;
        if whole {
            return Ok(true);
        }
        let bytes = self.contents(from).ok_or(ErrorKind::NotFound)?;
        let file = match self.create(to) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && change == NameChange::Rename => {
                let file = self.open(to)?;
                file.set_len(0)?;
                file
            }
            created => created?,
        };
        for part in bytes.chunks(bytes.len().div_ceil(2).max(1)) {
            file.append(part)?;
        }
        file.sync()?;
        Ok(false)
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `NotFound` for no file, `AlreadyExists` when the new name is taken.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let work = |image: &mut Image| image.link(from, to);
        self.publish(NameChange::Link, from, to, work).map(drop)
    }

    /// Gives a file another name, in the place of what has it.
    ///
    /// # Errors
    /// `NotFound` for no file.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let work = |image: &mut Image| image.rename(from, to);
        match self.publish(NameChange::Rename, from, to, work)? {
            true => Ok(()),
            false => self.remove(from),
        }
    }

    /// Removes a name; the file goes when it was the last and nobody has it open.
    ///
    /// # Errors
    /// `NotFound` for none.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.change_name(NameChange::Remove, path, |image| image.remove(path))
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `NotFound` when the folder above is not there.
    pub fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change_name(NameChange::MakeFolder, path, |image| {
            image.make_folder(path)
        })
    }

    /// Makes the names in a folder survive.
    ///
    /// # Errors
    /// `NotFound` for none.
    pub fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call(
            |image| Call::SyncFolder(folder.to_owned(), image.waiting_names(folder)),
            |image, verdict| match verdict {
                Verdict::Lie => Ok(()),
                _ => image.sync_folder(folder),
            },
        )
    }

    /// Holds a name against others of this life, until the answer is dropped; `None` when it is held.
    pub fn lock(&self, path: &Path) -> Option<SimLock> {
        let held = self.0.lock().held.insert(path.to_owned());
        held.then(|| SimLock(self.clone(), path.to_owned()))
    }
}

/// A held name.
#[derive(Debug)]
pub struct SimLock(SimFs, PathBuf);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.0.lock().held.remove(&self.1);
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub struct SimFile {
    fs: SimFs,
    path: PathBuf,
    node: usize,
}

impl SimFile {
    /// Its length.
    ///
    /// # Errors
    /// When the life is over.
    pub fn len(&self) -> io::Result<u64> {
        self.fs.look(&self.path, |image| image.len(self.node))
    }

    /// Whether it is empty.
    ///
    /// # Errors
    /// When the life is over.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from `at` on, as much as there is.
    ///
    /// # Errors
    /// What the script says.
    pub fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        let (path, len, asked) = (self.path.clone(), out.len(), at);
        let (read, lied) = self.fs.call(
            |_| Call::Read { path, at, len },
            |image, verdict| {
                let at = image.misdirected(self.node, at, len, verdict)?;
                let most = match verdict {
                    Verdict::Short(most) => most.min(out.len()),
                    _ => out.len(),
                };
                let read = image.read(self.node, at, &mut out[..most])?;
                flip(&mut out[..read], verdict);
                blank(&mut out[..read], asked, verdict);
                let lied = verdict != Verdict::Pass && {
                    let mut truth = vec![0; read];
                    image.read(self.node, asked, &mut truth)?;
                    truth != out[..read]
                };
                Ok((read, lied))
            },
        )?;
        if lied {
            let trace = &mut self.fs.0.lock().trace;
            trace.lies += 1;
            out[..read].hash(&mut trace.hasher);
        }
        Ok(read)
    }

    /// Writes at a place, making the file longer where it ends before.
    ///
    /// # Errors
    /// What the script says; `StorageFull` beyond the limit.
    pub fn write_at(&self, data: &[u8], at: u64) -> io::Result<()> {
        let (path, len) = (self.path.clone(), data.len());
        self.fs.call(
            |_| Call::Write { path, at, len },
            |image, verdict| {
                if verdict == Verdict::Lie {
                    return Ok(());
                }
                let at = image.misdirected(self.node, at, len, verdict)?;
                let mut data = data.to_vec();
                flip(&mut data, verdict);
                image.write(self.node, at, &data)
            },
        )?;
        let trace = &mut self.fs.0.lock().trace;
        data.hash(&mut trace.hasher);
        trace.say(data.escape_ascii().to_string());
        Ok(())
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// As [`SimFile::write_at`].
    pub fn append(&self, data: &[u8]) -> io::Result<()> {
        let at = self.len()?;
        self.write_at(data, at)
    }

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    /// As [`SimFile::write_at`].
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let path = self.path.clone();
        self.fs.call(
            |_| Call::Resize { path, len },
            |image, verdict| match verdict {
                Verdict::Lie => Ok(()),
                _ => image.resize(self.node, len),
            },
        )
    }

    /// Makes bytes and length survive.
    ///
    /// # Errors
    /// What the script says; then what waited is lost but for readers of the cache, and no later sync writes it, as Linux has it.
    pub fn sync(&self) -> io::Result<()> {
        let synced = self.fs.call(
            |image| Call::SyncFile(self.path.clone(), image.waiting(self.node)),
            |image, verdict| {
                if verdict != Verdict::Lie {
                    image.sync(self.node);
                }
                Ok(())
            },
        );
        let mut life = self.fs.0.lock();
        if synced.is_err() && !life.dead {
            life.image.sync_failed(self.node);
        }
        synced
    }
}

/// Blanks a sector of what was read from `at` on.
fn blank(bytes: &mut [u8], at: u64, verdict: Verdict) {
    if let Verdict::Stale(n) = verdict
        && !bytes.is_empty()
    {
        let (sector, end) = (SECTOR as u64, at + bytes.len() as u64);
        let first = at / sector;
        let chosen = (first + n % (end.div_ceil(sector) - first)) * sector;
        let (from, to) = (chosen.max(at) - at, (chosen + sector).min(end) - at);
        bytes[from as usize..to as usize].fill(0);
    }
}

fn flip(bytes: &mut [u8], verdict: Verdict) {
    if let Verdict::Flip(bit) = verdict
        && !bytes.is_empty()
    {
        let bit = bit % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}
