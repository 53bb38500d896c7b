//! Folders that survive a power cut.

use std::io;
use std::path::Path;

/// Makes a folder and those above it that are missing, and syncs the one above each, for a new folder is a name in it. Also where the
/// folder is there already: whoever made it may have been killed before the sync.
///
/// # Errors
/// What the file system says.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    make_with(folder, &mut sync)
}

/// The same with another way to sync, for tests.
pub(super) fn make_with(
    folder: &Path,
    sync: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let above = match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    if folder.is_dir() {
        return match sync(above) {
            // Others made it, where this user may not look.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    if above != Path::new(".") {
        make_with(above, sync)?;
    }
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => return Err(e),
        _ => {}
    }
    sync(above)
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened for syncing; the file system does it.
#[cfg(not(unix))]
pub(super) fn sync(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_name_is_synced_in_the_folder_above_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let mut synced = Vec::new();
        let mut note = |folder: &Path| {
            synced.push(folder.to_owned());
            Ok(())
        };
        make_with(&root.join("a/b"), &mut note).unwrap();
        make_with(&root.join("a/b"), &mut note).unwrap();
        let above = root.parent().unwrap().to_owned();
        assert_eq!(
            synced,
            [above, root.to_owned(), root.join("a"), root.join("a")]
        );
        assert!(root.join("a/b").is_dir());
        std::fs::write(root.join("file"), b"").unwrap();
        make_with(&root.join("file"), &mut |_| Ok(())).unwrap_err();
        make(&root.join("c")).unwrap();
    }
}
