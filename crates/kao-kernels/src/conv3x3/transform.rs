//! The transforms of Winograd's minimal filtering F(4×4, 3×3) (Lavin and Gray 2016), with the
//! interpolation points 0, ±√½, ±√2 and ∞. With these the rounding error is about half of that of
//! the textbook points 0, ±1, ±2, ∞, at the same number of operations.
//!
//! For a tile of 4×4 outputs y, the 6×6 inputs x around it and 3×3 weights w:
//! y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A. Each function here is one dimension; two dimensions are one pass
//! along the rows and one along the columns.

use super::phase::Phase;
use crate::simd::Simd;

/// √½
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// √2
const B: f32 = std::f32::consts::SQRT_2;

/// Bᵀ x.
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn input<S: Simd>(x: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::fma(S::splat(-2.0), x[2], x[4]);
        let odd_a = S::fma(S::splat(-2.0), x[1], x[3]);
        let even_b = S::fma(S::splat(-0.5), x[2], x[4]);
        let odd_b = S::fma(S::splat(-0.5), x[1], x[3]);
        [
            S::fma(S::splat(-2.5), x[2], S::add(x[0], x[4])),
            S::fma(S::splat(A), odd_a, even_a),
            S::fma(S::splat(-A), odd_a, even_a),
            S::fma(S::splat(B), odd_b, even_b),
            S::fma(S::splat(-B), odd_b, even_b),
            S::fma(S::splat(-2.5), x[3], S::add(x[1], x[5])),
        ]
    }
}

/// Aᵀ m.
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn output<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sum_a, difference_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_b, difference_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum_a), sum_b),
            S::fma(S::splat(A), difference_a, S::mul(S::splat(B), difference_b)),
            S::fma(S::splat(0.5), sum_a, S::add(sum_b, sum_b)),
            S::fma(S::splat(0.5 * A), difference_a, S::fma(S::splat(2.0 * B), difference_b, m[5])),
        ]
    }
}

/// A dy, the transpose of [`output`].
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn output_gradient<S: Simd>(dy: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::fma(S::splat(0.5), dy[2], dy[0]);
        let odd_a = S::fma(S::splat(0.5), dy[3], dy[1]);
        let even_b = S::fma(S::splat(2.0), dy[2], dy[0]);
        let odd_b = S::fma(S::splat(2.0), dy[3], dy[1]);
        [
            dy[0],
            S::fma(S::splat(A), odd_a, even_a),
            S::fma(S::splat(-A), odd_a, even_a),
            S::fma(S::splat(B), odd_b, even_b),
            S::fma(S::splat(-B), odd_b, even_b),
            dy[3],
        ]
    }
}

/// G w.
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn weights<S: Simd>(w: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::fma(S::splat(0.5), w[2], w[0]);
        let even_a = S::mul(S::splat(-2.0 / 3.0), even_a);
        let even_b = S::fma(S::splat(2.0), w[2], w[0]);
        let even_b = S::mul(S::splat(1.0 / 6.0), even_b);
        [
            w[0],
            S::fma(S::splat(-2.0 / 3.0 * A), w[1], even_a),
            S::fma(S::splat(2.0 / 3.0 * A), w[1], even_a),
            S::fma(S::splat(B / 6.0), w[1], even_b),
            S::fma(S::splat(-B / 6.0), w[1], even_b),
            w[2],
        ]
    }
}

/// The taps that pixels of one phase behind an upsampling have on the pixels before it.
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn phase<S: Simd>(phase: Phase, w: [[S::V; 3]; 3]) -> [[S::V; 3]; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let fold = |phase: usize, [a, b, c]: [S::V; 3]| match phase {
            0 => [a, S::add(b, c), S::splat(0.0)],
            _ => [S::splat(0.0), S::add(a, b), c],
        };
        let mut taps = [[S::splat(0.0); 3]; 3];
        for kx in 0..3 {
            let column = fold(phase.row, [w[0][kx], w[1][kx], w[2][kx]]);
            for (taps, value) in taps.iter_mut().zip(column) {
                taps[kx] = value;
            }
        }
        taps.map(|taps| fold(phase.column, taps))
    }
}

/// The transpose of [`phase`]: of the taps on the pixels before an upsampling, what those of the
/// convolution behind it get in this phase. A tap that is zero there is not looked at.
///
/// # Safety
/// S is available.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(crate) unsafe fn phase_gradient<S: Simd>(phase: Phase, taps: [[S::V; 3]; 3]) -> [[S::V; 3]; 3] {
    let folded = |phase: usize, k: usize| (k + 1 + phase) / 2;
    // SAFETY: the caller's promise.
    let mut w = unsafe { [[S::splat(0.0); 3]; 3] };
    for ky in 0..3 {
        for kx in 0..3 {
            w[ky][kx] = taps[folded(phase.row, ky)][folded(phase.column, kx)];
        }
    }
    w
}

/// Gᵀ u, the transpose of [`weights`].
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn weight_gradient<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sum_a, difference_a) = (S::add(u[1], u[2]), S::sub(u[1], u[2]));
        let (sum_b, difference_b) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
        [
            S::fma(S::splat(-2.0 / 3.0), sum_a, S::fma(S::splat(1.0 / 6.0), sum_b, u[0])),
            S::fma(S::splat(-2.0 / 3.0 * A), difference_a, S::mul(S::splat(B / 6.0), difference_b)),
            S::fma(S::splat(1.0 / 3.0), S::sub(sum_b, sum_a), u[5]),
        ]
    }
}
