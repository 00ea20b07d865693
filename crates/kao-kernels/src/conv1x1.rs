//! The 1×1 convolution, which is a linear layer applied to every pixel.

use crate::gathered::{self, Packed, Taps};
use crate::profile::Timed;
use crate::{Destination, Epilogue, Pixels, Sink, Source, Weights};

/// Weights of a 1×1 convolution, packed once for many calls of [`conv1x1`].
#[derive(Clone, Debug)]
pub struct PreparedConv1x1(Packed);

impl PreparedConv1x1 {
    /// Packs `weights` `[c_in, c_out]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        Self(Packed::new(Taps::Pointwise, weights, c_in, c_out))
    }
}

/// `out = source · weights + epilogue`, for every pixel.
///
/// # Shapes
/// - source `[N, H, W, C_in]`, `pixels` being its N, H, W
/// - weights `[C_in, C_out]`
/// - out `[N, H, W, C_out]`
///
/// # Panics
/// If a length does not fit.
pub fn conv1x1<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    weights: Weights<'_, PreparedConv1x1>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: impl Into<Destination<'a>>,
) {
    let _timed = Timed::pixels("conv1x1", pixels);
    let weights = weights.map(|prepared| &prepared.0);
    gathered::forward(Taps::Pointwise, pixels, source, weights, c_out, epilogue, out.into());
}

/// The gradient of [`conv1x1`] with respect to its input (after the prologue, before the epilogue).
///
/// # Shapes
/// - dy `[N, H, W, C_out]`
/// - weights `[C_in, C_out]`, those of the forward pass
/// - sink `[N, H, W, C_in]`
///
/// # Panics
/// If a length does not fit.
pub fn conv1x1_data_grad(
    pixels: Pixels,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    let _timed = Timed::pixels("conv1x1_data_grad", pixels);
    gathered::data_grad(Taps::Pointwise, pixels, dy, c_out, weights, sink);
}

/// The gradient of [`conv1x1`] with respect to its weights; a prologue is recomputed.
///
/// # Shapes
/// - source `[N, H, W, C_in]`
/// - dy `[N, H, W, C_out]`
/// - dw `[C_in, C_out]`, overwritten
///
/// # Panics
/// If a length does not fit.
pub fn conv1x1_weight_grad<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: impl Into<Destination<'a>>,
) {
    let _timed = Timed::pixels("conv1x1_weight_grad", pixels);
    gathered::weight_grad(Taps::Pointwise, pixels, source, dy, c_out, dw.into());
}

/// The shape of a linear layer on the rows of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of the input and of the output.
    pub rows: usize,
    /// Values of a row of the input.
    pub c_in: usize,
    /// Values of a row of the output.
    pub c_out: usize,
}

/// `out = x · weights + bias`: a linear layer. Short for [`conv1x1`].
///
/// # Shapes
/// x `[rows, c_in]`, weights `[c_in, c_out]`, bias `[c_out]`, out `[rows, c_out]`.
///
/// # Panics
/// If a length does not fit.
pub fn linear<'a>(
    shape: LinearShape,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    out: impl Into<Destination<'a>>,
) {
    let LinearShape { rows, c_in, c_out } = shape;
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    let source = Source::new(x, c_in);
    conv1x1(Pixels::rows(rows), &source, Weights::Plain(weights), c_out, &epilogue, out);
}

/// The gradient of [`linear`] with respect to x: `dx = dy · weightsᵀ`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_data_grad<'a>(
    shape: LinearShape,
    dy: &[f32],
    weights: &[f32],
    dx: impl Into<Destination<'a>>,
) {
    let LinearShape { rows, c_in, c_out } = shape;
    conv1x1_data_grad(Pixels::rows(rows), dy, c_out, weights, Sink::new(dx, c_in));
}

/// The gradient of [`linear`] with respect to its weights: `dw = xᵀ · dy`. That of its bias is
/// [`crate::sum_pixels`] with `Pixels::new(1, rows, 1)`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_weight_grad<'a>(
    shape: LinearShape,
    x: &[f32],
    dy: &[f32],
    dw: impl Into<Destination<'a>>,
) {
    let LinearShape { rows, c_in, c_out } = shape;
    conv1x1_weight_grad(Pixels::rows(rows), &Source::new(x, c_in), dy, c_out, dw);
}
