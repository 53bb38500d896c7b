//! Plain Rust compiled a second time, for processors with AVX2: twice as many floats at once and the very same results, since nothing is
//! fused or reordered by it.

/// Runs `work` with AVX2 where the processor has it. Only what is inlined into `work` gains: mark it `#[inline(always)]`.
#[inline(always)]
pub fn widest<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { with_avx2(work) };
    }
    work()
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2<T>(work: impl FnOnce() -> T) -> T {
    work()
}
