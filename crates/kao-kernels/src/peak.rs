//! What the machine could do at most: fused multiply-adds on registers, nothing else.

use crate::parallel::for_each_task;
use crate::simd::{Kernel, Simd, dispatch, simd_level};
use std::hint::black_box;
use std::time::Instant;

/// Independent chains: enough to cover the latency of the units.
const CHAINS: usize = 16;
const REPEATS: usize = 200_000;
const ROUNDS: usize = 10;

/// The best rate of `f32` arithmetic that this machine reaches with the instructions and threads in
/// use, in 10⁹ operations per second (a fused multiply-add is two). Takes some tens of
/// milliseconds.
pub fn peak_gflops() -> f64 {
    let level = simd_level();
    let threads = rayon::current_num_threads();
    let mut best = 0.0f64;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for_each_task(threads, |_| {
            // SAFETY: `simd_level` returns levels that the machine has.
            unsafe { dispatch(level, Chains) }
        });
        let seconds = started.elapsed().as_secs_f64();
        let lanes = crate::simd::lanes(level);
        let operations = (2 * CHAINS * REPEATS * lanes * threads) as f64;
        best = best.max(operations / seconds / 1e9);
    }
    best
}

struct Chains;

impl Kernel for Chains {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: S is available, as the caller promises.
        unsafe {
            let factor = S::splat(black_box(0.999));
            let addend = S::splat(black_box(0.001));
            let mut chains = [S::splat(black_box(1.0)); CHAINS];
            for _ in 0..REPEATS {
                for chain in &mut chains {
                    *chain = S::fma(*chain, factor, addend);
                }
            }
            let sum = chains.into_iter().fold(S::splat(0.0), |sum, chain| S::add(sum, chain));
            let mut lanes = [0.0f32; 16];
            S::store(lanes.as_mut_ptr(), sum);
            black_box(lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_a_rate() {
        let peak = super::peak_gflops();
        assert!(peak.is_finite() && peak > 0.0);
    }
}
