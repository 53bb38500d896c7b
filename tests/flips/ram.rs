//! Files in RAM under the real `redb` and `file` stores: a copy of all of them costs next to nothing, so that every bit gets a copy of its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use aether::config::ByteSize;
use aether::{BuildContext, Error, Factory, Plugin, Registry, Result};
use aether_cold_file::files::{Files as ColdFiles, Handle, Kind};
use aether_cold_file::{FileStore, FileStoreConfig};
use aether_meta_redb::files::Files as MetaFiles;
use aether_meta_redb::{RedbConfig, RedbMeta};
use aether_testkit::fake::meta::StrictMeta;
use parking_lot::Mutex;
use redb::StorageBackend;

/// What is copied only when it is written to: redb's page.
const PAGE: usize = 4096;

#[derive(Clone, Debug, Default)]
struct Content {
    len: usize,
    pages: Vec<Arc<[u8; PAGE]>>,
}

/// The page of zeros that all files share.
fn nothing() -> Arc<[u8; PAGE]> {
    static NOTHING: LazyLock<Arc<[u8; PAGE]>> = LazyLock::new(|| Arc::new([0; PAGE]));
    NOTHING.clone()
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    fn resize(&mut self, len: usize) {
        if len < self.len && !len.is_multiple_of(PAGE) {
            // What comes back when the file grows again is zero.
            Arc::make_mut(&mut self.pages[len / PAGE])[len % PAGE..].fill(0);
        }
        self.pages.resize(len.div_ceil(PAGE), nothing());
        self.len = len;
    }

    fn read(&self, at: usize, out: &mut [u8]) -> usize {
        let end = self.len.min(at.saturating_add(out.len()));
        let mut done = 0;
        while at + done < end {
            let (page, from) = ((at + done) / PAGE, (at + done) % PAGE);
            let n = (PAGE - from).min(end - at - done);
            out[done..done + n].copy_from_slice(&self.pages[page][from..from + n]);
            done += n;
        }
        done
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        if at + data.len() > self.len {
            self.resize(at + data.len());
        }
        let mut done = 0;
        while done < data.len() {
            let (page, from) = ((at + done) / PAGE, (at + done) % PAGE);
            let n = (PAGE - from).min(data.len() - done);
            Arc::make_mut(&mut self.pages[page])[from..from + n]
                .copy_from_slice(&data[done..done + n]);
            done += n;
        }
    }
}

/// A file, or an open one: names and handles share it.
#[derive(Clone, Debug)]
struct RamFile(Arc<Mutex<Content>>);

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File(RamFile),
}

#[derive(Debug, Default)]
struct Names {
    nodes: BTreeMap<PathBuf, Node>,
    held: BTreeSet<PathBuf>,
}

/// A file system in RAM. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ram(Arc<Mutex<Names>>);

fn missing() -> io::Error {
    ErrorKind::NotFound.into()
}

impl Ram {
    /// Nothing but a folder, and those that it is in.
    pub(crate) fn with_folder(path: &Path) -> Self {
        let ram = Self::default();
        let folders = path.ancestors().map(|f| (f.to_owned(), Node::Folder));
        ram.0.lock().nodes.extend(folders);
        ram
    }

    /// Writes a file, and makes the folder that it is in.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let file = RamFile(Arc::new(Mutex::new(Content::of(bytes))));
        let nodes = &mut self.0.lock().nodes;
        if let Some(folder) = path.parent() {
            nodes.insert(folder.to_owned(), Node::Folder);
        }
        nodes.insert(path.to_owned(), Node::File(file));
    }

    /// Another file system that holds the same.
    pub(crate) fn fork(&self) -> Self {
        let copy = |node: &Node| match node {
            Node::Folder => Node::Folder,
            Node::File(file) => {
                let content = file.0.lock().clone();
                Node::File(RamFile(Arc::new(Mutex::new(content))))
            }
        };
        let names = self.0.lock();
        let nodes = names.nodes.iter();
        Self(Arc::new(Mutex::new(Names {
            nodes: nodes
                .map(|(path, node)| (path.clone(), copy(node)))
                .collect(),
            held: BTreeSet::new(),
        })))
    }

    /// All files, with their bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let read = |(path, node): (&PathBuf, &Node)| match node {
            Node::Folder => None,
            Node::File(file) => {
                let content = file.0.lock();
                let mut bytes = vec![0; content.len];
                content.read(0, &mut bytes);
                Some((path.clone(), bytes))
            }
        };
        self.0.lock().nodes.iter().filter_map(read).collect()
    }

    fn file(&self, path: &Path) -> io::Result<RamFile> {
        match self.0.lock().nodes.get(path) {
            Some(Node::File(file)) => Ok(file.clone()),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(missing()),
        }
    }

    fn add(&self, path: &Path, node: Node) -> io::Result<()> {
        let nodes = &mut self.0.lock().nodes;
        if nodes.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        nodes.insert(path.to_owned(), node);
        Ok(())
    }

    fn take(&self, path: &Path) -> io::Result<Node> {
        self.0.lock().nodes.remove(path).ok_or_else(missing)
    }

    fn there(&self, path: &Path) -> io::Result<Kind> {
        match self.0.lock().nodes.get(path) {
            Some(Node::Folder) => Ok(Kind::Folder),
            Some(Node::File(file)) => Ok(Kind::File(file.0.lock().len as u64)),
            None => Err(missing()),
        }
    }
}

impl Handle for RamFile {
    fn kind(&self) -> io::Result<Kind> {
        Ok(Kind::File(self.0.lock().len as u64))
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(self.0.lock().read(at as usize, out))
    }

    fn read_at_once(&self, out: &mut [u8], at: u64) -> Option<usize> {
        self.read_at(out, at).ok()
    }

    fn append(&self, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.lock();
        let end = content.len;
        content.write(end, data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// An open folder: there is nothing to sync.
#[derive(Debug)]
struct RamFolder;

impl Handle for RamFolder {
    fn kind(&self) -> io::Result<Kind> {
        Ok(Kind::Folder)
    }

    fn read_at(&self, _out: &mut [u8], _at: u64) -> io::Result<usize> {
        Err(ErrorKind::IsADirectory.into())
    }

    fn read_at_once(&self, _out: &mut [u8], _at: u64) -> Option<usize> {
        None
    }

    fn append(&self, _data: &[u8]) -> io::Result<()> {
        Err(ErrorKind::IsADirectory.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Holds a folder until it is dropped.
#[derive(Debug)]
struct Held(Ram, PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.lock().held.remove(&self.1);
    }
}

impl ColdFiles for Ram {
    fn kind(&self, path: &Path, _follow: bool) -> io::Result<Kind> {
        self.there(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(self.file(path)?))
    }

    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        self.there(path)?;
        Ok(Box::new(RamFolder))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let file = RamFile(Arc::default());
        self.add(path, Node::File(file.clone()))?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        self.add(to, Node::File(file))
    }

    fn rename_new(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.take(path).map(drop)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        self.there(path)?;
        let names = self.0.lock();
        let inside = names.nodes.keys().filter(|p| p.parent() == Some(path));
        let name = |p: &PathBuf| Some(p.file_name()?.to_str()?.to_owned());
        Ok(inside.filter_map(name).collect())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.add(path, Node::Folder)
    }

    fn lock(&self, folder: &Path, lock: &Path) -> Result<Box<dyn fmt::Debug + Send + Sync>> {
        if !self.0.lock().held.insert(lock.to_owned()) {
            return Err(Error::locked(format!("{} is held", folder.display())));
        }
        Ok(Box::new(Held(self.clone(), lock.to_owned())))
    }

    fn never_waits(&self) -> bool {
        true
    }
}

impl MetaFiles for Ram {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.there(path).is_ok())
    }

    fn open(&self, path: &Path, read_only: bool) -> Result<Arc<dyn StorageBackend>> {
        let file = match self.file(path) {
            Err(e) if e.kind() == ErrorKind::NotFound && !read_only => {
                let file = RamFile(Arc::default());
                self.add(path, Node::File(file.clone())).map(|()| file)
            }
            found => found,
        };
        let file = file.map_err(|e| Error::unavailable("a file in RAM").with_source(e))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.take(path).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.take(from)?;
        self.0.lock().nodes.insert(to.to_owned(), node);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.there(folder).map(drop)
    }

    fn never_waits(&self) -> bool {
        true
    }
}

impl StorageBackend for RamFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.read_at(out, offset)? == out.len() {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(len as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().write(offset as usize, data);
        Ok(())
    }
}

thread_local! {
    /// What the plug-ins below open on this thread.
    static MOUNTED: RefCell<Ram> = RefCell::default();
    static KEPT: RefCell<StrictMeta> = RefCell::default();
}

/// From now on memories that are opened on this thread with [`META`] and [`COLD`] stand on these files.
pub(crate) fn mount(ram: &Ram) {
    MOUNTED.set(ram.clone());
}

/// What is mounted on this thread.
pub(crate) fn mounted() -> Ram {
    MOUNTED.with_borrow(Clone::clone)
}

/// Empties what [`STRICT`] opens on this thread.
pub(crate) fn forget() {
    KEPT.set(StrictMeta::new());
}

fn folder(context: &BuildContext) -> Result<&Path> {
    let none = || Error::internal("a store in RAM stands in a memory's folder too");
    context.data_dir.as_deref().ok_or_else(none)
}

/// `redb` on files in RAM.
pub(crate) static META: Plugin = Plugin {
    name: "redb-in-ram",
    crate_name: "test",
    summary: "redb on files in RAM",
    options: &[],
    persistent: true,
    factory: Factory::Meta(|_, context| {
        let config = RedbConfig {
            cache: ByteSize(1 << 20),
            ..RedbConfig::default()
        };
        let (ram, read_only) = (mounted(), context.read_only);
        let opened = RedbMeta::open_on(&ram, folder(context)?, &config, read_only)?;
        Ok(Arc::new(opened))
    }),
};

/// The kit's metadata, which outlive a closing: of a restored memory, whose metadata come from its snapshot's tables.
pub(crate) static STRICT: Plugin = Plugin {
    name: "strict-in-ram",
    crate_name: "test",
    summary: "what was closed or made durable before",
    options: &[],
    persistent: true,
    factory: Factory::Meta(|_, _| {
        let kept = KEPT.with_borrow(StrictMeta::crash);
        KEPT.set(kept.handle());
        Ok(Arc::new(kept))
    }),
};

/// `file` on files in RAM.
pub(crate) static COLD: Plugin = Plugin {
    name: "file-in-ram",
    crate_name: "test",
    summary: "segments in files in RAM",
    options: &[],
    persistent: true,
    factory: Factory::Cold(|_, context| {
        let (path, config) = (folder(context)?.join("cold"), FileStoreConfig::default());
        let files = Arc::new(mounted());
        Ok(Arc::new(FileStore::open_on(
            files,
            &path,
            &config,
            context.read_only,
        )?))
    }),
};

/// Everything that is compiled in, and these.
pub(crate) fn registry() -> Registry {
    let mut registry = aether::registry().unwrap();
    registry.add(&META).unwrap();
    registry.add(&STRICT).unwrap();
    registry.add(&COLD).unwrap();
    registry
}
