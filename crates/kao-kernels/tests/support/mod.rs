//! What the tests of all kernels share: random operands, and the comparison with the reference implementations.

#![allow(dead_code, reason = "each file of tests uses some of it")]

use kao_kernels::SimdLevel;

/// A reproducible stream of numbers (SplitMix64), so that a failing case is named by its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [−1, 1).
    pub fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in ±magnitude; now and then all zeros.
    pub fn values(&mut self, len: usize, magnitude: f32) -> Vec<f32> {
        if self.below(16) == 0 {
            return vec![0.0; len];
        }
        (0..len).map(|_| self.value() * magnitude).collect()
    }
}

/// The levels of this machine.
pub fn levels() -> Vec<SimdLevel> {
    SimdLevel::ALL.into_iter().filter(|level| level.is_available()).collect()
}

pub fn greatest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |greatest, x| x.abs().max(greatest))
}

/// Asserts |actual − expected| ≤ tolerance · scale everywhere.
#[track_caller]
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32, scale: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    for (i, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let difference = (actual - expected).abs();
        assert!(
            difference <= tolerance * scale,
            "{what}: element {i} is {actual}, expected {expected}: off by {difference}, \
             {} of the scale {scale}",
            difference / scale
        );
    }
}

/// Runs `body` on a pool of so many threads.
pub fn with_threads<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(body)
}
