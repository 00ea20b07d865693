//! The choice of instructions, and the vectors that kernels are written with.
//!
//! A kernel is a type that implements [`Kernel`]: its `run` is generic over the instruction set
//! [`Simd`], and [`dispatch`] calls it at a [`SimdLevel`] inside a function compiled for that
//! level. For this to work everything between `run` and the vector operations has to be
//! `#[inline(always)]`, and no closure may stand between.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::cell::Cell;
use std::sync::OnceLock;

/// An instruction set: vectors of `LANES` f32 and what can be done with them.
///
/// # Safety of the methods
/// Each may be called only where the instruction set is available, which is so inside
/// [`Kernel::run`]. Pointers have to be valid for the lanes read or written; no alignment is asked.
pub(crate) trait Simd: Copy + 'static {
    /// f32 in a vector; divides 16.
    const LANES: usize;
    /// Vectors across a register tile of the matrix product; `LANES · TILE_VECTORS` divides 32.
    const TILE_VECTORS: usize;
    /// Most rows of a register tile, at most 14.
    const TILE_ROWS: usize;
    /// A vector.
    type V: Copy;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The first `n` ≤ LANES lanes; the others are 0.
    unsafe fn load_part(from: *const f32, n: usize) -> Self::V;
    /// The first `n` ≤ LANES lanes.
    unsafe fn store_part(to: *mut f32, n: usize, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a · b + c, in one rounding where the instruction exists.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Where a < b the lane of `then`, else that of `otherwise`.
    unsafe fn select_lt(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// The nearest integer.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^a for integers −126 ≤ a ≤ 127.
    unsafe fn exp2_of_integer(a: Self::V) -> Self::V;
    /// The sum of the lanes, in an order fixed for the instruction set.
    unsafe fn sum(a: Self::V) -> f32;
    /// The greatest lane.
    unsafe fn greatest(a: Self::V) -> f32;

    /// Asks for the cache line at an address, which need not be valid.
    #[inline(always)]
    unsafe fn prefetch(_address: *const f32) {}
    /// Asks for the cache line at an address, which need not be valid, to write to it.
    #[inline(always)]
    unsafe fn prefetch_for_write(_address: *const f32) {}

    /// Copies the transpose of the 16×16 block at `from` to `to`; strides in f32.
    #[inline(always)]
    unsafe fn transpose16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..16 {
            for j in 0..16 {
                // SAFETY: the caller's promise: both blocks are 16 rows of 16 at their strides.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }
}

/// Values in a vector of a level.
pub(crate) fn lanes(level: SimdLevel) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => avx512::Avx512::LANES,
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => avx2::Avx2::LANES,
        #[cfg(target_arch = "aarch64")]
        SimdLevel::Neon => neon::Neon::LANES,
        _ => portable::Portable::LANES,
    }
}

/// Something that can run with any instruction set.
pub(crate) trait Kernel {
    /// # Safety
    /// The machine has the instruction set S. What else the kernel needs, it says itself.
    unsafe fn run<S: Simd>(self);
}

/// Runs a kernel at a level.
///
/// # Safety
/// The machine has the level (as all levels that [`simd_level`] returns), and what the kernel
/// itself needs.
#[inline]
pub(crate) unsafe fn dispatch<K: Kernel>(level: SimdLevel, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    unsafe fn avx512<K: Kernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<avx512::Avx512>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<K: Kernel>(kernel: K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<avx2::Avx2>() }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => avx2(kernel),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => kernel.run::<neon::Neon>(),
            _ => kernel.run::<portable::Portable>(),
        }
    }
}

/// A set of instructions the kernels can be run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimdLevel {
    /// 512-bit vectors: AVX-512 F, VL, BW and DQ, with FMA.
    Avx512,
    /// 256-bit vectors: AVX2 and FMA.
    Avx2,
    /// 128-bit vectors of aarch64.
    Neon,
    /// Whatever the compiler makes of plain Rust.
    Portable,
}

impl SimdLevel {
    /// Every level, best first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The name that `KAO_SIMD` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The best level of this machine.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|level| level.is_available()).unwrap_or(Self::Portable)
    }
}

thread_local! {
    static FORCED: Cell<Option<SimdLevel>> = const { Cell::new(None) };
}

/// The level that a kernel called from this thread uses: the one of an enclosing
/// [`with_simd_level`], else the one named by the environment variable `KAO_SIMD` (`avx512`,
/// `avx2`, `neon`, `portable`; read once), else the best. A name that is unknown, or a level that
/// this machine lacks, is as if the variable were unset.
pub fn simd_level() -> SimdLevel {
    static CHOSEN: OnceLock<SimdLevel> = OnceLock::new();
    FORCED.get().unwrap_or_else(|| {
        *CHOSEN.get_or_init(|| {
            let wanted = std::env::var("KAO_SIMD").unwrap_or_default();
            SimdLevel::ALL
                .into_iter()
                .find(|level| level.name().eq_ignore_ascii_case(&wanted) && level.is_available())
                .unwrap_or_else(SimdLevel::best)
        })
    })
}

/// Runs `body` with every kernel that it calls on this thread at `level`; for tests and
/// benchmarks. The rayon tasks of those kernels follow.
///
/// # Panics
/// If this machine lacks the level.
pub fn with_simd_level<R>(level: SimdLevel, body: impl FnOnce() -> R) -> R {
    assert!(level.is_available(), "this machine has no {}", level.name());
    struct Restore(Option<SimdLevel>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(level)));
    body()
}
