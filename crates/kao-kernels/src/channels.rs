//! Sums over pixels (the gradients of biases), and putting channels together and apart.
//!
//! Most callers need no concatenation: [`crate::Source::pair`] reads two parts, and
//! [`crate::Sink::pair`] writes them.

use crate::operands::length;
use crate::parallel::{Shared, for_each_task};
use crate::profile::Timed;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch, simd_level};
use crate::{Destination, Pixels};

/// Pixels that are summed in f32; their sums are added in f64, in order.
const PIXELS_PER_TASK: usize = 256;

/// Rows of a copying task.
const ROWS_PER_TASK: usize = 512;

/// Sums over the pixels of each image: the gradient of a per-image bias, such as a time embedding.
/// With `Pixels::new(1, N · H, W)` it is the sum over everything: the gradient of a bias.
///
/// # Shapes
/// dy `[N, H, W, channels]`, sums `[N, channels]`, overwritten.
///
/// # Panics
/// If a length does not fit.
pub fn sum_pixels<'a>(
    pixels: Pixels,
    dy: &[f32],
    channels: usize,
    sums: impl Into<Destination<'a>>,
) {
    let sums = sums.into();
    let _timed = Timed::pixels("sum_pixels", pixels);
    assert_eq!(dy.len(), length([pixels.total(), channels]), "length of dy");
    assert_eq!(sums.len(), length([pixels.n, channels]), "length of the sums");
    sum(pixels, dy, channels, sums);
}

fn sum(pixels: Pixels, dy: &[f32], channels: usize, sums: Destination<'_>) {
    let runs = pixels.per_image().div_ceil(PIXELS_PER_TASK);
    let mut memory = Scratch::new(pixels.n * runs * channels);
    let (level, partial) = (simd_level(), Shared::new(memory.as_mut_ptr()));
    for_each_task(pixels.n * runs, |task| {
        let (image, first) = (task / runs, task % runs * PIXELS_PER_TASK);
        let n_pixels = PIXELS_PER_TASK.min(pixels.per_image() - first);
        let first = (image * pixels.per_image() + first) * channels;
        let dy = &dy[first..first + n_pixels * channels];
        // SAFETY: the level is available; each task has room of its own.
        unsafe {
            let to = partial.get().add(task * channels);
            dispatch(level, SumRows { rows: dy, channels, to });
        }
    });
    for (image, sums) in sums.into_slice().chunks_exact_mut(channels.max(1)).enumerate() {
        for (channel, sum) in sums.iter_mut().enumerate() {
            let mut total = 0.0;
            for run in 0..runs {
                // SAFETY: the tasks have written all of it.
                total += f64::from(unsafe {
                    *partial.get().add((image * runs + run) * channels + channel)
                });
            }
            *sum = total as f32;
        }
    }
}

/// Concatenates along the channels.
///
/// # Shapes
/// a `[rows, c_a]`, b `[rows, c_b]`, out `[rows, c_a + c_b]`.
///
/// # Panics
/// If a length does not fit.
pub fn concat_channels<'a>(
    rows: usize,
    a: &[f32],
    c_a: usize,
    b: &[f32],
    c_b: usize,
    out: impl Into<Destination<'a>>,
) {
    let out = out.into();
    assert_eq!(a.len(), length([rows, c_a]), "length of a");
    assert_eq!(b.len(), length([rows, c_b]), "length of b");
    assert_eq!(out.len(), length([rows, c_a + c_b]), "length of the output");
    concat(rows, a, c_a, b, c_b, out);
}

fn concat(rows: usize, a: &[f32], c_a: usize, b: &[f32], c_b: usize, mut out: Destination<'_>) {
    let to = Shared::new(out.as_mut_ptr());
    for_each_task(rows.div_ceil(ROWS_PER_TASK), |task| {
        for row in task * ROWS_PER_TASK..rows.min((task + 1) * ROWS_PER_TASK) {
            let (a, b) = (&a[row * c_a..][..c_a], &b[row * c_b..][..c_b]);
            // SAFETY: the output has this row, and each task rows of its own.
            unsafe {
                let to = to.get().add(row * (c_a + c_b));
                to.copy_from_nonoverlapping(a.as_ptr(), c_a);
                to.add(c_a).copy_from_nonoverlapping(b.as_ptr(), c_b);
            }
        }
    });
    // SAFETY: the tasks have written all rows.
    unsafe { out.mark_written() };
}

/// The inverse of [`concat_channels`], and its gradient.
///
/// # Shapes
/// x `[rows, c_a + c_b]`, a `[rows, c_a]`, b `[rows, c_b]`.
///
/// # Panics
/// If a length does not fit.
pub fn split_channels<'a>(
    rows: usize,
    x: &[f32],
    a: impl Into<Destination<'a>>,
    c_a: usize,
    b: impl Into<Destination<'a>>,
    c_b: usize,
) {
    let (a, b) = (a.into(), b.into());
    assert_eq!(x.len(), length([rows, c_a + c_b]), "length of the input");
    assert_eq!(a.len(), length([rows, c_a]), "length of a");
    assert_eq!(b.len(), length([rows, c_b]), "length of b");
    split(rows, x, a, c_a, b, c_b);
}

fn split(
    rows: usize,
    x: &[f32],
    mut a: Destination<'_>,
    c_a: usize,
    mut b: Destination<'_>,
    c_b: usize,
) {
    let (to_a, to_b) = (Shared::new(a.as_mut_ptr()), Shared::new(b.as_mut_ptr()));
    for_each_task(rows.div_ceil(ROWS_PER_TASK), |task| {
        for row in task * ROWS_PER_TASK..rows.min((task + 1) * ROWS_PER_TASK) {
            let x = &x[row * (c_a + c_b)..][..c_a + c_b];
            // SAFETY: both outputs have this row, and each task rows of its own.
            unsafe {
                to_a.get().add(row * c_a).copy_from_nonoverlapping(x.as_ptr(), c_a);
                to_b.get().add(row * c_b).copy_from_nonoverlapping(x[c_a..].as_ptr(), c_b);
            }
        }
    });
    // SAFETY: the tasks have written all rows.
    unsafe {
        a.mark_written();
        b.mark_written();
    }
}

struct SumRows<'a> {
    rows: &'a [f32],
    channels: usize,
    to: *mut f32,
}

impl Kernel for SumRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        const ABREAST: usize = 4;
        let mut channel = 0;
        while channel < self.channels {
            let width = (self.channels - channel).min(ABREAST * S::LANES);
            // SAFETY: the rows have these channels, and so has the place of the sums.
            unsafe {
                let mut sums = [S::splat(0.0); ABREAST];
                for row in self.rows.chunks_exact(self.channels) {
                    let from = row.as_ptr().add(channel);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let lanes = width.saturating_sub(i * S::LANES).min(S::LANES);
                        if lanes == S::LANES {
                            *sum = S::add(*sum, S::load(from.add(i * S::LANES)));
                        } else if lanes > 0 {
                            *sum = S::add(*sum, S::load_part(from.add(i * S::LANES), lanes));
                        }
                    }
                }
                for (i, &sum) in sums.iter().enumerate() {
                    let lanes = width.saturating_sub(i * S::LANES).min(S::LANES);
                    if lanes > 0 {
                        S::store_part(self.to.add(channel + i * S::LANES), lanes, sum);
                    }
                }
            }
            channel += width;
        }
    }
}
