//! Sums over pixels (the gradients of biases), and putting channels together and apart.
//!
//! Most callers need no concatenation: [`crate::Source::pair`] reads two parts, and
//! [`crate::Sink::pair`] writes them.

use crate::{Pixels, reference};

/// Sums over the pixels of each image: the gradient of a per-image bias, such as a time embedding.
/// With `Pixels::new(1, N · H, W)` it is the sum over everything: the gradient of a bias.
///
/// # Shapes
/// dy `[N, H, W, channels]`, sums `[N, channels]`, overwritten.
///
/// # Panics
/// If a length does not fit.
pub fn sum_pixels(pixels: Pixels, dy: &[f32], channels: usize, sums: &mut [f32]) {
    assert_eq!(dy.len(), pixels.total() * channels, "length of dy");
    assert_eq!(sums.len(), pixels.n * channels, "length of the sums");
    reference::sum_pixels(pixels, dy, channels, sums);
}

/// Concatenates along the channels.
///
/// # Shapes
/// a `[rows, c_a]`, b `[rows, c_b]`, out `[rows, c_a + c_b]`.
///
/// # Panics
/// If a length does not fit.
pub fn concat_channels(rows: usize, a: &[f32], c_a: usize, b: &[f32], c_b: usize, out: &mut [f32]) {
    assert_eq!(a.len(), rows * c_a, "length of a");
    assert_eq!(b.len(), rows * c_b, "length of b");
    assert_eq!(out.len(), rows * (c_a + c_b), "length of the output");
    for row in 0..rows {
        let out = &mut out[row * (c_a + c_b)..][..c_a + c_b];
        out[..c_a].copy_from_slice(&a[row * c_a..][..c_a]);
        out[c_a..].copy_from_slice(&b[row * c_b..][..c_b]);
    }
}

/// The inverse of [`concat_channels`], and its gradient.
///
/// # Shapes
/// x `[rows, c_a + c_b]`, a `[rows, c_a]`, b `[rows, c_b]`.
///
/// # Panics
/// If a length does not fit.
pub fn split_channels(
    rows: usize,
    x: &[f32],
    a: &mut [f32],
    c_a: usize,
    b: &mut [f32],
    c_b: usize,
) {
    assert_eq!(x.len(), rows * (c_a + c_b), "length of the input");
    assert_eq!(a.len(), rows * c_a, "length of a");
    assert_eq!(b.len(), rows * c_b, "length of b");
    for row in 0..rows {
        let x = &x[row * (c_a + c_b)..][..c_a + c_b];
        a[row * c_a..][..c_a].copy_from_slice(&x[..c_a]);
        b[row * c_b..][..c_b].copy_from_slice(&x[c_a..]);
    }
}
