//! Loops of the evaluation: projections of patches, and distances of pictures.
//!
//! They are plain Rust, compiled for every set of instructions. Products and sums are rounded one by
//! one and in order, so that all sets give the same bits.

use crate::operands::length;
use crate::simd::{Kernel, Simd, dispatch, simd_level};

/// Directions that are projected on side by side.
const LANES: usize = 16;
/// Patches whose sums are kept in registers together.
const ROWS: usize = 4;
/// Bytes of a pair of pictures between two comparisons with the bound.
const STRETCH: usize = 1024;

/// Projects `patches` `[n, size]` on `directions` `[groups, size]`, 16 abreast: the product of patch
/// i with direction d goes to `projected[d · n + i]`.
///
/// # Panics
/// If a length does not fit, or n is no multiple of 4.
pub fn project(patches: &[f32], size: usize, directions: &[[f32; LANES]], projected: &mut [f32]) {
    let n_patches = patches.len() / size;
    assert_eq!(patches.len(), length([n_patches, size]), "length of the patches");
    assert!(n_patches.is_multiple_of(ROWS), "number of the patches");
    assert!(directions.len().is_multiple_of(size), "number of the directions");
    let n_directions = directions.len() / size * LANES;
    assert_eq!(projected.len(), length([n_patches, n_directions]), "length of the projections");
    // SAFETY: the level is available; the kernel is safe code.
    unsafe { dispatch(simd_level(), Project { patches, size, directions, projected }) };
}

struct Project<'a> {
    patches: &'a [f32],
    size: usize,
    directions: &'a [[f32; LANES]],
    projected: &'a mut [f32],
}

impl Kernel for Project<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Project { patches, size, directions, projected } = self;
        let n_patches = patches.len() / size;
        for (group, directions) in directions.chunks_exact(size).enumerate() {
            let directions = &directions[..size];
            for (first, patches) in patches.chunks_exact(ROWS * size).enumerate() {
                let (a, rest) = patches.split_at(size);
                let (b, rest) = rest.split_at(size);
                let (c, d) = rest.split_at(size);
                let rows = [a, b, c, d];
                let mut sums = [[0.0f32; LANES]; ROWS];
                // One bound for all, so that it is checked once.
                for k in 0..size {
                    for (sums, row) in sums.iter_mut().zip(&rows) {
                        for (sum, &weight) in sums.iter_mut().zip(&directions[k]) {
                            *sum += row[k] * weight;
                        }
                    }
                }
                for lane in 0..LANES {
                    let start = (group * LANES + lane) * n_patches + first * ROWS;
                    for (row, sums) in sums.iter().enumerate() {
                        projected[start + row] = sums[lane];
                    }
                }
            }
        }
    }
}

/// The sum of squared differences of two pictures of equal length, where it is below `bound`.
///
/// # Panics
/// If the lengths differ.
pub fn squared_distance_below(a: &[u8], b: &[u8], bound: u64) -> Option<u64> {
    assert_eq!(a.len(), b.len(), "lengths of the pictures");
    let mut sum = 0;
    // SAFETY: the level is available; the kernel is safe code.
    unsafe { dispatch(simd_level(), SquaredDistance { a, b, bound, sum: &mut sum }) };
    (sum < bound).then_some(sum)
}

struct SquaredDistance<'a> {
    a: &'a [u8],
    b: &'a [u8],
    bound: u64,
    /// At least the bound where the pictures are farther apart.
    sum: &'a mut u64,
}

impl Kernel for SquaredDistance<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (a, b) in self.a.chunks(STRETCH).zip(self.b.chunks(STRETCH)) {
            // At most 1024 · 255².
            let mut stretch = 0i32;
            for (&a, &b) in a.iter().zip(b) {
                let difference = i16::from(a) - i16::from(b);
                stretch += i32::from(difference) * i32::from(difference);
            }
            *self.sum += u64::from(stretch.unsigned_abs());
            if *self.sum >= self.bound {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{SimdLevel, with_simd_level};

    #[test]
    fn all_instructions_project_to_the_same_bits() {
        let (n, size) = (8, 147);
        let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        let patches: Vec<f32> = (0..n * size).map(value).collect();
        let directions: Vec<[f32; LANES]> =
            (0..2 * size).map(|k| std::array::from_fn(|lane| value(k * 31 + lane))).collect();
        let mut expected = vec![0.0; n * 2 * LANES];
        for (d, row) in expected.chunks_mut(n).enumerate() {
            for (i, sum) in row.iter_mut().enumerate() {
                for k in 0..size {
                    *sum += patches[i * size + k] * directions[d / LANES * size + k][d % LANES];
                }
            }
        }
        for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
            let mut found = vec![0.0; expected.len()];
            with_simd_level(level, || project(&patches, size, &directions, &mut found));
            assert_eq!(found, expected, "{}", level.name());
        }
    }

    #[test]
    fn a_distance_is_told_only_below_its_bound() {
        let a: Vec<u8> = (0..5000).map(|i| (i * 7 % 256) as u8).collect();
        let b: Vec<u8> = (0..5000).map(|i| (i * 13 % 251) as u8).collect();
        let expected: u64 = a.iter().zip(&b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
        assert_eq!(squared_distance_below(&a, &b, u64::MAX), Some(expected));
        assert_eq!(squared_distance_below(&a, &b, expected + 1), Some(expected));
        assert_eq!(squared_distance_below(&a, &b, expected), None);
        assert_eq!(squared_distance_below(&a, &a, 1), Some(0));
    }
}
