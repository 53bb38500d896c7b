//! What the C library keeps of memory that was given back.

/// Blocks from this size on are given back to the system at once when they are freed. Unit: bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GIVEN_BACK: libc::c_int = 1 << 20;

/// Makes the allocator keep little of what is freed. Called before there is a second thread.
///
/// glibc gives each thread a heap of its own, up to eight for each processor, of which it never returns more than the end, and keeps freed
/// blocks of up to 32 MiB. Measured on `bench tiered` with 200,000 x 96 and 24 MiB of working space: a peak of 144 MB so, and of 81 MB
/// with two heaps that keep blocks below a megabyte only.
pub(crate) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, GIVEN_BACK),
        (libc::M_TRIM_THRESHOLD, GIVEN_BACK),
    ] {
        // SAFETY: `mallopt` takes two integers, and no other thread runs yet that it could surprise.
        #[allow(unsafe_code, reason = "the C library has no other way in")]
        let set = unsafe { libc::mallopt(parameter, value) };
        // A C library that does not know a parameter keeps more, which is no fault.
        debug_assert!(set == 1, "mallopt does not know {parameter}");
    }
}
