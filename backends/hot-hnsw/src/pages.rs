//! Address space for an arena: reserved whole, taken from the system as it is touched.

use std::fs::File;
use std::io::ErrorKind;

use aether_core::{Error, Result};

/// A huge page of x86-64 and aarch64.
pub(crate) const BLOCK: usize = 2 << 20;
/// Smallest page of most systems.
pub(crate) const PAGE: usize = 4 << 10;

/// Reserves `bytes` of zeros, a multiple of [`PAGE`]; from [`BLOCK`] on they begin at a huge page.
///
/// # Errors
/// `Capacity` when there is no address space.
pub(crate) fn reserve(bytes: usize) -> Result<*mut u8> {
    let align = if bytes >= BLOCK { BLOCK } else { PAGE };
    system::reserve(bytes, align).ok_or_else(|| {
        Error::capacity(format!(
            "no memory: expected {bytes} bytes from the system, got none; lower the hot budget"
        ))
    })
}

/// As [`reserve`], for bytes of a file, which need not be that long yet.
///
/// # Errors
/// `Unavailable` when the file cannot be mapped, `Capacity` when there is no address space.
pub(crate) fn reserve_in(file: &File, offset: u64, bytes: usize) -> Result<*mut u8> {
    let at = reserve(bytes)?;
    system::map(file, offset, at, bytes).map_err(|e| {
        // SAFETY: nobody knows of this reservation yet.
        unsafe { release(at, bytes) };
        Error::unavailable("cannot map the file of vectors into memory").with_source(e)
    })?;
    Ok(at)
}

/// Gives a file room for so many bytes from `offset` on, so that writing them through a mapping cannot fail for want of space.
///
/// # Errors
/// `Capacity` when the disk is full, `Unavailable` for other failures.
pub(crate) fn make_room(file: &File, offset: u64, bytes: usize) -> Result<()> {
    system::make_room(file, offset, bytes).map_err(|e| {
        let text = format!("the file of vectors: expected room for {bytes} more bytes");
        match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Error::capacity(text).with_source(e)
            }
            _ => Error::unavailable(text).with_source(e),
        }
    })
}

/// Gives back what [`reserve`] gave.
///
/// # Safety
/// `at` and `bytes` are those of one call of [`reserve`], and nobody uses the memory any more.
pub(crate) unsafe fn release(at: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { system::release(at, bytes) }
}

/// Gives the memory of some pages back but keeps their addresses. They are zeros again where the system does that.
///
/// # Safety
/// The pages lie within one reservation, and nobody uses what is in them any more.
pub(crate) unsafe fn forget(at: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { system::forget(at, bytes) }
}

/// Asks for huge pages where `at` is touched from now on; with `now`, also for what was touched already. A wish: nothing is lost
/// where the system has none.
///
/// # Safety
/// The bytes lie within one reservation, and both are multiples of [`BLOCK`].
pub(crate) unsafe fn prefer_huge(at: *mut u8, bytes: usize, now: bool) {
    // SAFETY: the caller's promise.
    unsafe { system::prefer_huge(at, bytes, now) }
}

#[cfg(all(unix, not(miri)))]
mod system {
    use std::fs::File;
    use std::io::{Error, Result};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    use std::ptr;

    use super::PAGE;

    /// Puts a file's bytes in the place of reserved ones.
    pub(super) fn map(file: &File, offset: u64, at: *mut u8, bytes: usize) -> Result<()> {
        let offset = libc::off_t::try_from(offset).map_err(Error::other)?;
        // SAFETY: `at` and `bytes` are a reservation that nobody else uses yet.
        let mapped = unsafe {
            libc::mmap(
                at.cast(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                offset,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        // SAFETY: advice about pages just mapped: a vector here and there is read, so what lies beside it is not worth reading.
        let _ = unsafe { libc::madvise(at.cast(), bytes, libc::MADV_RANDOM) };
        Ok(())
    }

    /// Writes zeros: that takes the room on every file system.
    pub(super) fn make_room(file: &File, offset: u64, bytes: usize) -> Result<()> {
        let zeros = [0; PAGE];
        for at in (0..bytes).step_by(PAGE) {
            let some = &zeros[..PAGE.min(bytes - at)];
            file.write_all_at(some, offset + at as u64)?;
        }
        Ok(())
    }

    pub(super) fn reserve(bytes: usize, align: usize) -> Option<*mut u8> {
        let room = bytes.checked_add(align)?;
        // SAFETY: a private mapping of no file, placed by the system, touches nothing that is there.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                room,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let before = start.addr().next_multiple_of(align) - start.addr();
        let at = start.wrapping_add(before);
        // SAFETY: both ends lie within the mapping just made, which nobody else knows.
        unsafe {
            cut(start, before);
            cut(at.add(bytes), room - before - bytes);
        }
        Some(at)
    }

    /// # Safety
    /// The pages are mapped, and nobody uses them.
    unsafe fn cut(at: *mut u8, bytes: usize) {
        if bytes > 0 {
            // SAFETY: the caller's promise. It cannot fail but for limits of the kernel; then some address space stays reserved.
            let _ = unsafe { libc::munmap(at.cast(), bytes) };
        }
    }

    pub(super) unsafe fn release(at: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { cut(at, bytes) }
    }

    pub(super) unsafe fn forget(at: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise. Should it fail, the pages stay.
        let _ = unsafe { libc::madvise(at.cast(), bytes, libc::MADV_DONTNEED) };
    }

    pub(super) unsafe fn prefer_huge(at: *mut u8, bytes: usize, now: bool) {
        #[cfg(target_os = "linux")]
        // SAFETY: advice about mapped pages changes nothing that is in them.
        unsafe {
            let _ = libc::madvise(at.cast(), bytes, libc::MADV_HUGEPAGE);
            if now {
                let _ = libc::madvise(at.cast(), bytes, libc::MADV_COLLAPSE);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (at, bytes, now);
    }
}

#[cfg(not(all(unix, not(miri))))]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::fs::File;
    use std::io::{Error, ErrorKind, Result};

    pub(super) fn map(_file: &File, _offset: u64, _at: *mut u8, _bytes: usize) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "files are mapped on Unix only",
        ))
    }

    pub(super) fn make_room(_file: &File, _offset: u64, _bytes: usize) -> Result<()> {
        Ok(())
    }

    use super::{BLOCK, PAGE};

    pub(super) fn reserve(bytes: usize, align: usize) -> Option<*mut u8> {
        let layout = Layout::from_size_align(bytes, align).ok()?;
        // SAFETY: nobody reserves nothing.
        let at = unsafe { alloc_zeroed(layout) };
        (!at.is_null()).then_some(at)
    }

    pub(super) unsafe fn release(at: *mut u8, bytes: usize) {
        let align = if bytes >= BLOCK { BLOCK } else { PAGE };
        // SAFETY: the layout that `reserve` was called with.
        unsafe { dealloc(at, Layout::from_size_align_unchecked(bytes, align)) }
    }

    pub(super) unsafe fn forget(at: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { at.write_bytes(0, bytes) }
    }

    pub(super) unsafe fn prefer_huge(_at: *mut u8, _bytes: usize, _now: bool) {}
}
