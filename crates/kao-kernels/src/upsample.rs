//! Nearest ×2 upsampling on its own. Before a convolution it need not happen at all: see
//! [`crate::Source::upsampled`] and [`crate::Sink::upsampled`].

use crate::{Pixels, reference};

/// Repeats every pixel twice along both sides.
///
/// # Shapes
/// x `[N, H, W, channels]` with `pixels` being N, H, W; y `[N, 2H, 2W, channels]`.
///
/// # Panics
/// If a length does not fit.
pub fn upsample_nearest(pixels: Pixels, channels: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), pixels.total() * channels, "length of x");
    assert_eq!(y.len(), 4 * pixels.total() * channels, "length of y");
    reference::upsample_nearest(pixels, channels, x, y);
}

/// The gradient of [`upsample_nearest`]: sums of four pixels.
///
/// # Shapes
/// dy `[N, 2H, 2W, channels]`, dx `[N, H, W, channels]` with `pixels` being N, H, W.
///
/// # Panics
/// If a length does not fit.
pub fn upsample_nearest_backward(pixels: Pixels, channels: usize, dy: &[f32], dx: &mut [f32]) {
    assert_eq!(dx.len(), pixels.total() * channels, "length of dx");
    assert_eq!(dy.len(), 4 * pixels.total() * channels, "length of dy");
    reference::upsample_nearest_backward(pixels, channels, dy, dx);
}
