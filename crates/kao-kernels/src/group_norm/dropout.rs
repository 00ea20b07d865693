//! Dropout without a stored mask.

use crate::simd::Simd;

/// Dropout whose mask is a function of a seed and of the place in the tensor, so that the backward
/// pass computes it again and nothing is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability of 0, in [0, 1). What is kept is multiplied by 1 / (1 − rate).
    pub rate: f32,
    /// Another seed for every layer and step.
    pub seed: u64,
}

impl Dropout {
    /// What element `index` (modulo 2³²) of the `[N, H, W, C]` tensor is multiplied by.
    #[inline(always)]
    pub(crate) fn factor(self, index: u32) -> f32 {
        let keep = 1.0 / (1.0 - self.rate);
        // The hash has 24 bits, compared as integers.
        let threshold = (self.rate * 16_777_216.0) as u32;
        if self.hash(index) >= threshold { keep } else { 0.0 }
    }

    /// 24 bits: two rounds of a multiply-xorshift permutation of 32 bits, each keyed by half of the
    /// seed.
    #[inline(always)]
    fn hash(self, index: u32) -> u32 {
        let mut x = index ^ (self.seed as u32);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x = (x ^ (x >> 16)).wrapping_add((self.seed >> 32) as u32);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        (x ^ (x >> 16)) >> 8
    }

    /// [`Self::factor`] of the elements from `index` on.
    ///
    /// # Safety
    /// S is available.
    #[inline(always)]
    pub(super) unsafe fn factors<S: Simd>(self, index: usize) -> S::V {
        let mut factors = [0.0f32; 16];
        for (i, factor) in factors.iter_mut().enumerate().take(S::LANES) {
            *factor = self.factor((index as u32).wrapping_add(i as u32));
        }
        // SAFETY: 16 lanes are as many as any set has.
        unsafe { S::load(factors.as_ptr()) }
    }
}
