//! What the kernel holds of files, and how it forgets them.

use std::fs::File;
use std::path::Path;

/// The files of a folder, opened.
#[derive(Debug)]
pub(super) struct PageCache(Vec<File>);

impl PageCache {
    /// Every file in a folder and in those below it.
    ///
    /// # Errors
    /// `Unsupported` but on Linux; `Unavailable` when the folder cannot be read, or holds no file.
    pub(super) fn of(folder: &Path) -> aether::Result<Self> {
        if !cfg!(target_os = "linux") {
            let kind = aether::ErrorKind::Unsupported;
            return Err(aether::Error::new(kind, "--drop-cache: expected Linux"));
        }
        let failed = |e| {
            aether::Error::unavailable(format!("--drop-cache: {}", folder.display())).with_source(e)
        };
        let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(File::open(&path).map_err(failed)?);
                }
            }
        }
        if files.is_empty() {
            let said = format!("--drop-cache: expected files in {}", folder.display());
            return Err(aether::Error::unavailable(said));
        }
        Ok(Self(files))
    }

    /// Lets the kernel forget their pages. What is not on the disk yet stays.
    ///
    /// # Errors
    /// `Unavailable` with what the kernel said.
    pub(super) fn forget(&self) -> aether::Result<()> {
        for file in &self.0 {
            #[cfg(target_os = "linux")]
            rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)
                .map_err(|e| aether::Error::unavailable("--drop-cache").with_source(e))?;
            #[cfg(not(target_os = "linux"))]
            let _ = file;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_folders_are_found_and_an_empty_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let none = PageCache::of(folder.path());
        assert!(none.is_err_and(|e| e.is_unavailable() || e.is_unsupported()));
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for name in ["a", "below/b"] {
            std::fs::write(folder.path().join(name), [1; 10_000]).unwrap();
        }
        if cfg!(target_os = "linux") {
            let cache = PageCache::of(folder.path()).unwrap();
            assert_eq!(cache.0.len(), 2);
            cache.forget().unwrap();
        }
    }
}
