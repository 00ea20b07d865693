//! The 3×3 convolution with stride 2, as nine products of gathered pixels.

use crate::gathered::{self, Packed, Taps};
use crate::profile::Timed;
use crate::{Destination, Epilogue, Padding, Pixels, Sink, Source, Weights};

/// Weights of a 3×3 convolution, packed once for many calls of [`conv3x3_stride2`], with either
/// padding.
#[derive(Clone, Debug)]
pub struct PreparedConv3x3Stride2(Packed);

impl PreparedConv3x3Stride2 {
    /// Packs `weights` `[3, 3, c_in, c_out]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        Self(Packed::new(Taps::Stride2(Padding::Around), weights, c_in, c_out))
    }
}

/// `out = conv(source, weights) + epilogue`: 3×3, stride 2, zeros as `padding` says.
///
/// # Shapes
/// - source `[N, H, W, C_in]`, `pixels` being its N, H, W (those after an upsampling, if any)
/// - weights `[3, 3, C_in, C_out]`
/// - out `[N, H', W', C_out]`, at the sides of [`Padding::output`]
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_stride2<'a>(
    pixels: Pixels,
    padding: Padding,
    source: &Source<'_>,
    weights: Weights<'_, PreparedConv3x3Stride2>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: impl Into<Destination<'a>>,
) {
    let _timed = Timed::pixels("conv3x3_stride2", pixels);
    let weights = weights.map(|prepared| &prepared.0);
    gathered::forward(Taps::Stride2(padding), pixels, source, weights, c_out, epilogue, out.into());
}

/// The gradient of [`conv3x3_stride2`] with respect to its input (after the prologue, before the
/// epilogue).
///
/// # Shapes
/// - dy `[N, H', W', C_out]`, at the sides of [`Padding::output`]
/// - weights `[3, 3, C_in, C_out]`, those of the forward pass
/// - sink `[N, H, W, C_in]`, or at half the sides where it is upsampled
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_stride2_data_grad(
    pixels: Pixels,
    padding: Padding,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    let _timed = Timed::pixels("conv3x3_stride2_data_grad", pixels);
    gathered::data_grad(Taps::Stride2(padding), pixels, dy, c_out, weights, sink);
}

/// The gradient of [`conv3x3_stride2`] with respect to its weights; a prologue is recomputed.
///
/// # Shapes
/// - source `[N, H, W, C_in]`
/// - dy `[N, H', W', C_out]`, at the sides of [`Padding::output`]
/// - dw `[3, 3, C_in, C_out]`, overwritten
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_stride2_weight_grad<'a>(
    pixels: Pixels,
    padding: Padding,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: impl Into<Destination<'a>>,
) {
    let _timed = Timed::pixels("conv3x3_stride2_weight_grad", pixels);
    gathered::weight_grad(Taps::Stride2(padding), pixels, source, dy, c_out, dw.into());
}
