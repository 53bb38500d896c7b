//! What is on the disk, and what only seems to be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::{Kind, NameChange, Verdict, Waiting};

/// What a disk writes wholly or not at all.
pub const SECTOR: usize = 512;

/// Versions of something since it was synced, oldest first, each with its moment.
type Versions<T> = Vec<(u64, T)>;

#[derive(Clone, Debug, Default)]
struct File {
    live: Vec<u8>,
    synced: Vec<u8>,
    sectors: BTreeMap<usize, Versions<[u8; SECTOR]>>,
    lengths: Versions<usize>,
}

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File(File),
}

type Names = BTreeMap<PathBuf, usize>;

/// Names that change together.
#[derive(Clone, Debug)]
struct Change {
    at: u64,
    kind: NameChange,
    names: Vec<(PathBuf, Option<usize>)>,
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    nodes: Vec<Node>,
    live: Names,
    synced: Names,
    waiting: Vec<Change>,
    now: u64,
    /// Most bytes of all files together.
    pub(super) room: Option<u64>,
}

/// Which of the pieces that wait survive.
#[derive(Clone, Copy, Debug)]
enum Fate {
    None,
    All,
    /// Those before a moment.
    Until(u64),
    /// Each with this probability, whatever becomes of the others.
    Each(f64),
}

impl Fate {
    fn draw(rng: &mut Rng, now: u64) -> Self {
        match rng.u8(0..8) {
            0 => Self::None,
            1 => Self::All,
            2 | 3 => Self::Until(rng.u64(0..=now)),
            n => Self::Each([0.1, 0.5, 0.5, 0.9][usize::from(n) - 4]),
        }
    }

    fn keeps(self, rng: &mut Rng, at: u64) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Until(end) => at <= end,
            Self::Each(share) => rng.f64() < share,
        }
    }

    /// The version that survives; `None` for the synced one.
    fn choose<T: Copy>(self, rng: &mut Rng, versions: &Versions<T>) -> Option<T> {
        let kept = match self {
            Self::None => None,
            Self::All => versions.last(),
            Self::Until(end) => versions.iter().rev().find(|(at, _)| *at <= end),
            // One of those that were there at some time: a later one was perhaps never written.
            Self::Each(share) if rng.f64() < share => rng.choice(versions),
            Self::Each(_) => None,
        };
        kept.map(|(_, version)| *version)
    }
}

impl File {
    fn sector(&self, index: usize) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let bytes = self.live.get(index * SECTOR..).unwrap_or_default();
        let n = bytes.len().min(SECTOR);
        sector[..n].copy_from_slice(&bytes[..n]);
        sector
    }

    fn touch(&mut self, at: u64, from: usize, to: usize) {
        for index in from / SECTOR..to.div_ceil(SECTOR) {
            let sector = self.sector(index);
            self.sectors.entry(index).or_default().push((at, sector));
        }
    }

    fn resize(&mut self, at: u64, len: usize) {
        let before = self.live.len();
        if len == before {
            return;
        }
        self.live.resize(len, 0);
        self.lengths.push((at, len));
        // What was cut off does not come back when the file grows again.
        if len < before {
            self.touch(at, len, before);
        }
    }

    fn write(&mut self, at: u64, place: usize, data: &[u8]) {
        let end = place + data.len();
        if end > self.live.len() {
            self.resize(at, end);
        }
        self.live[place..end].copy_from_slice(data);
        self.touch(at, place, end);
    }

    fn sync(&mut self) {
        self.synced.resize(self.live.len(), 0);
        for index in std::mem::take(&mut self.sectors).into_keys() {
            let end = (index * SECTOR + SECTOR).min(self.live.len());
            if index * SECTOR < end {
                let span = index * SECTOR..end;
                self.synced[span.clone()].copy_from_slice(&self.live[span]);
            }
        }
        self.lengths.clear();
    }

    fn crash(&self, fate: Fate, rng: &mut Rng) -> Self {
        let len = fate.choose(rng, &self.lengths);
        let mut bytes = self.synced.clone();
        bytes.resize(len.unwrap_or(self.synced.len()), 0);
        for (index, versions) in &self.sectors {
            let chosen = fate.choose(rng, versions);
            let start = index * SECTOR;
            if let (Some(sector), true) = (chosen, start < bytes.len()) {
                let end = (start + SECTOR).min(bytes.len());
                bytes[start..end].copy_from_slice(&sector[..end - start]);
            }
        }
        Self {
            live: bytes.clone(),
            synced: bytes,
            ..Self::default()
        }
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(
        ErrorKind::NotFound,
        format!("{}: no such name", path.display()),
    )
}

fn head(bytes: &[u8]) -> [u8; 16] {
    let mut head = [0; 16];
    let n = bytes.len().min(16);
    head[..n].copy_from_slice(&bytes[..n]);
    head
}

impl Image {
    fn moment(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn is_folder(&self, path: &Path, names: &Names) -> bool {
        path == Path::new("/")
            || names
                .get(path)
                .is_some_and(|n| matches!(self.nodes[*n], Node::Folder))
    }

    fn parent_is_there(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.is_folder(parent, &self.live) => Ok(()),
            _ => Err(missing(path)),
        }
    }

    fn file(&self, node: usize) -> io::Result<&File> {
        match self.nodes.get(node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn file_mut(&mut self, node: usize) -> io::Result<&mut File> {
        match self.nodes.get_mut(node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<usize> {
        self.live.get(path).copied().ok_or_else(|| missing(path))
    }

    pub(super) fn kind(&self, path: &Path) -> io::Result<Kind> {
        if self.is_folder(path, &self.live) {
            return Ok(Kind::Folder);
        }
        Ok(Kind::File(self.file(self.node(path)?)?.live.len() as u64))
    }

    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        if !self.is_folder(folder, &self.live) {
            return Err(missing(folder));
        }
        let inside = self.live.keys().filter(|p| p.parent() == Some(folder));
        let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(inside.filter_map(name).collect())
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let is_file = |n: &usize| matches!(self.nodes[*n], Node::File(_));
        let files = self.live.iter().filter(|(_, n)| is_file(n));
        files.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let node = self.node(path).ok()?;
        Some(self.file(node).ok()?.live.clone())
    }

    pub(super) fn bytes(&self) -> u64 {
        let nodes: BTreeSet<usize> = self.live.values().copied().collect();
        let len = |n: usize| self.file(n).map_or(0, |f| f.live.len() as u64);
        nodes.into_iter().map(len).sum()
    }

    pub(super) fn damage(
        &mut self,
        path: &Path,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let node = self.node(path)?;
        let file = self.file_mut(node)?;
        change(&mut file.live);
        *file = File {
            live: file.live.clone(),
            synced: file.live.clone(),
            ..File::default()
        };
        Ok(())
    }

    fn rename_all(&mut self, kind: NameChange, names: Vec<(PathBuf, Option<usize>)>) {
        for (path, node) in &names {
            match node {
                Some(node) => drop(self.live.insert(path.clone(), *node)),
                None => drop(self.live.remove(path)),
            }
        }
        let at = self.moment();
        self.waiting.push(Change { at, kind, names });
    }

    fn add(&mut self, kind: NameChange, path: &Path, node: Node) -> io::Result<()> {
        self.parent_is_there(path)?;
        if self.live.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        self.rename_all(kind, vec![(path.to_owned(), Some(number))]);
        Ok(())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<()> {
        self.add(NameChange::Create, path, Node::File(File::default()))
    }

    pub(super) fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        self.add(NameChange::MakeFolder, path, Node::Folder)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.node(from)?;
        self.parent_is_there(to)?;
        if self.live.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.rename_all(NameChange::Link, vec![(to.to_owned(), Some(node))]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.node(from)?;
        self.parent_is_there(to)?;
        let names = vec![(from.to_owned(), None), (to.to_owned(), Some(node))];
        self.rename_all(NameChange::Rename, names);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.node(path)?;
        self.rename_all(NameChange::Remove, vec![(path.to_owned(), None)]);
        Ok(())
    }

    pub(super) fn waiting_names(&self, folder: &Path) -> BTreeSet<NameChange> {
        let inside = |c: &&Change| c.names.iter().any(|(p, _)| p.parent() == Some(folder));
        let waiting = self.waiting.iter().filter(inside);
        waiting.map(|c| c.kind).collect()
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        if !self.is_folder(folder, &self.live) {
            return Err(missing(folder));
        }
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        self.synced.retain(|path, _| !inside(path));
        let names = self.live.iter().filter(|(path, _)| inside(path));
        self.synced.extend(names.map(|(p, n)| (p.clone(), *n)));
        for change in &mut self.waiting {
            change.names.retain(|(path, _)| !inside(path));
        }
        self.waiting.retain(|change| !change.names.is_empty());
        Ok(())
    }

    pub(super) fn len(&self, node: usize) -> io::Result<u64> {
        Ok(self.file(node)?.live.len() as u64)
    }

    pub(super) fn read(&self, node: usize, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let file = self.file(node)?;
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = file.live.get(start..).unwrap_or_default();
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// Where a call ends up that was sent elsewhere: within the file, if it fits there.
    pub(super) fn misdirected(
        &self,
        node: usize,
        at: u64,
        len: usize,
        verdict: Verdict,
    ) -> io::Result<u64> {
        let Verdict::Misdirect(sectors) = verdict else {
            return Ok(at);
        };
        let there = at + sectors * SECTOR as u64;
        let fits = there + len as u64 <= self.len(node)?;
        Ok(if fits { there } else { at })
    }

    fn has_room(&self, node: usize, len: usize) -> io::Result<()> {
        let grown = (len as u64).saturating_sub(self.len(node)?);
        match self.room {
            Some(room) if grown > 0 && self.bytes() + grown > room => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(&mut self, node: usize, at: u64, data: &[u8]) -> io::Result<()> {
        let place = usize::try_from(at).map_err(|_| ErrorKind::FileTooLarge)?;
        self.has_room(node, place + data.len())?;
        let now = self.moment();
        self.file_mut(node)?.write(now, place, data);
        Ok(())
    }

    pub(super) fn resize(&mut self, node: usize, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        self.has_room(node, len)?;
        let now = self.moment();
        self.file_mut(node)?.resize(now, len);
        Ok(())
    }

    pub(super) fn waiting(&self, node: usize) -> Waiting {
        let Ok(file) = self.file(node) else {
            return Waiting::default();
        };
        Waiting {
            sectors: file.sectors.keys().map(|s| *s as u64).collect(),
            length: !file.lengths.is_empty(),
            head: (head(&file.synced), head(&file.live)),
        }
    }

    pub(super) fn sync(&mut self, node: usize) {
        if let Ok(file) = self.file_mut(node) {
            file.sync();
        }
    }

    /// A sync failed: readers see what was written as long as it is cached, and no later sync writes it.
    pub(super) fn sync_failed(&mut self, node: usize) {
        if let Ok(file) = self.file_mut(node) {
            file.sectors.clear();
            file.lengths.clear();
        }
    }

    /// What a power cut leaves.
    pub(super) fn crash(&self, rng: &mut Rng) -> Self {
        let fate = Fate::draw(rng, self.now);
        let mut names = self.synced.clone();
        for change in &self.waiting {
            if !fate.keeps(rng, change.at) {
                continue;
            }
            for (path, node) in &change.names {
                match node {
                    Some(node) => drop(names.insert(path.clone(), *node)),
                    None => drop(names.remove(path)),
                }
            }
        }
        // What is in a folder that did not survive is out of reach.
        let reachable = |path: &Path| {
            path.ancestors()
                .skip(1)
                .all(|above| self.is_folder(above, &names))
        };
        let kept: Names = (names.iter())
            .filter(|(path, _)| reachable(path))
            .map(|(p, n)| (p.clone(), *n))
            .collect();
        let named: BTreeSet<usize> = kept.values().copied().collect();
        let nodes = self.nodes.iter().enumerate().map(|(n, node)| match node {
            Node::File(file) if named.contains(&n) => Node::File(file.crash(fate, rng)),
            Node::File(_) => Node::File(File::default()),
            Node::Folder => Node::Folder,
        });
        Self {
            nodes: nodes.collect(),
            live: kept.clone(),
            synced: kept,
            ..Self::default()
        }
    }
}
