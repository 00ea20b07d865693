//! Rows of scores: the products with all keys, their exponentials, and rows of results.

use super::{AttentionShape, QUERIES};
use crate::activation::exp;
use crate::gemm::{BLOCK, Blocked, PANEL, Product, RowMajor, multiply};
use crate::output::Output;
use crate::simd::Simd;

/// Scores of some queries (blocked) against all keys: `[query][padded pixels]`.
///
/// # Safety
/// S is available, and everything is as large as the shape asks for.
#[inline(always)]
pub unsafe fn products_with_all<S: Simd>(
    shape: AttentionShape,
    n_queries: usize,
    queries: Blocked,
    keys_transposed: *const f32,
    to: *mut f32,
) {
    for panel in 0..shape.pixels.div_ceil(PANEL) {
        // SAFETY: the caller's promise.
        unsafe {
            multiply::<S>(Product {
                rows: n_queries,
                depth: shape.width(),
                columns: PANEL,
                a: queries,
                b: keys_transposed.add(panel * shape.width() * PANEL),
                c: RowMajor { at: to.add(panel * PANEL), stride: shape.padded_pixels() },
                accumulate: false,
            });
        }
    }
}

/// exp(scale · (score − highest)) of one row, into blocked layout; returns the sum.
///
/// # Safety
/// S is available; `scores` has `n` values, and `to` room for them in blocks.
#[inline(always)]
pub unsafe fn exponentials<S: Simd>(
    n: usize,
    scale: f32,
    scores: *const f32,
    to: *mut f32,
    block_stride: usize,
) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        // A negative scale turns the order round.
        let sign = S::splat(scale.signum());
        let mut highest = f32::NEG_INFINITY;
        let mut high = S::splat(f32::NEG_INFINITY);
        let whole = n / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            high = S::max(high, S::mul(sign, S::load(scores.add(i))));
        }
        for i in whole..n {
            highest = highest.max(scale.signum() * *scores.add(i));
        }
        highest = highest.max(S::greatest(high)) * scale.signum();
        let (factor, highest) = (S::splat(scale), S::splat(highest));
        let mut sum = S::splat(0.0);
        for i in (0..n).step_by(S::LANES) {
            let lanes = (n - i).min(S::LANES);
            let difference = S::sub(S::load_part(scores.add(i), lanes), highest);
            let weight = exp::<S>(S::mul(difference, factor));
            let place = to.add(i / BLOCK * block_stride + i % BLOCK);
            if lanes == S::LANES {
                S::store(place, weight);
                sum = S::add(sum, weight);
            } else {
                S::store_part(place, lanes, weight);
                sum = S::add(sum, S::load_part(place, lanes));
            }
        }
        S::sum(sum)
    }
}

/// Rows of products, and where they go: to the channels from `channel` on of the pixels from `pixel`
/// on.
pub struct Results {
    pub values: RowMajor,
    pub rows: usize,
    /// Values of a row.
    pub width: usize,
    pub pixel: usize,
    pub channel: usize,
}

impl Results {
    /// Writes them, each row times its factor.
    ///
    /// # Safety
    /// S is available; the values are there, and the output has the pixels and channels.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, output: &Output<'_>, factors: Option<&[f32; QUERIES]>) {
        for row in 0..self.rows {
            let factor = factors.map_or(1.0, |factors| factors[row]);
            for column in (0..self.width).step_by(S::LANES) {
                let lanes = (self.width - column).min(S::LANES);
                // SAFETY: the caller's promise.
                unsafe {
                    let product = S::load(self.values.at.add(row * self.values.stride + column));
                    let value = S::mul(product, S::splat(factor));
                    output.write::<S>(self.pixel + row, self.channel + column, lanes, value);
                }
            }
        }
    }
}
