//! The choice of instructions.

use std::cell::Cell;
use std::sync::OnceLock;

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
