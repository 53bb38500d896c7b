//! How much RAM the process holds, as the kernel counts it: page tables' view, shared libraries and allocator slack included.

use serde::Serialize;

/// Resident bytes of this process; `None` where the system does not tell (it is Linux that does, in `/proc/self/status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Resident {
    /// Most that was ever resident (`VmHWM`).
    pub(super) peak_bytes: u64,
    /// What is resident now (`VmRSS`).
    pub(super) now_bytes: u64,
}

impl Resident {
    pub(super) fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    /// Makes the peak begin anew from what is resident now; `false` where that is not allowed.
    pub(super) fn reset_peak() -> bool {
        // proc(5), clear_refs: "5: reset the peak resident set size to the process's current resident set size value".
        std::fs::write("/proc/self/clear_refs", "5").is_ok()
    }

    /// The peak since it began anew, which it does then.
    pub(super) fn take_peak() -> Option<u64> {
        let peak = Self::read()?.peak_bytes;
        Self::reset_peak();
        Some(peak)
    }

    fn parse(status: &str) -> Option<Self> {
        let kib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        Some(Self {
            peak_bytes: kib("VmHWM:")? * 1024,
            now_bytes: kib("VmRSS:")? * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let status = "Name:\taether\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Resident {
            peak_bytes: 2 << 20,
            now_bytes: 1 << 20,
        };
        assert_eq!(Resident::parse(status), Some(expected));
        assert_eq!(Resident::parse("VmHWM: 3 kB\n"), None);
    }

    /// Touched pages show, and the peak keeps what was given back.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_keeps_what_was_touched() {
        const BYTES: usize = 64 << 20;
        let before = Resident::read().unwrap();
        let touched = std::hint::black_box(vec![1u8; BYTES]);
        let during = Resident::read().unwrap();
        drop(touched);
        let after = Resident::read().unwrap();
        // The kernel counts in batches for each processor, so neither figure is exact.
        let touched = before.now_bytes + BYTES as u64 / 2;
        assert!(during.now_bytes > touched && after.peak_bytes > touched);
    }
}
