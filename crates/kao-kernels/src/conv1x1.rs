//! The 1×1 convolution, which is a linear layer applied to every pixel.

use crate::{Epilogue, Pixels, Sink, Source, Weights, reference};

/// Weights of a 1×1 convolution, packed once for many calls of [`conv1x1`].
#[derive(Clone, Debug)]
pub struct PreparedConv1x1 {
    plain: Vec<f32>,
    c_in: usize,
    c_out: usize,
}

impl PreparedConv1x1 {
    /// Packs `weights` `[c_in, c_out]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        assert_eq!(weights.len(), c_in * c_out, "length of the weights");
        Self { plain: weights.to_vec(), c_in, c_out }
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
pub fn conv1x1(
    pixels: Pixels,
    source: &Source<'_>,
    weights: Weights<'_, PreparedConv1x1>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    source.check(pixels);
    epilogue.check(pixels, c_out);
    assert_eq!(out.len(), pixels.total() * c_out, "length of the output");
    let plain = match weights {
        Weights::Plain(weights) => {
            assert_eq!(weights.len(), source.channels() * c_out, "length of the weights");
            weights
        }
        Weights::Prepared(prepared) => {
            let channels = (prepared.c_in, prepared.c_out);
            assert_eq!(channels, (source.channels(), c_out), "channels of the prepared weights");
            &prepared.plain
        }
    };
    reference::conv1x1(pixels, source, plain, c_out, epilogue, out);
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
    sink.check(pixels);
    assert_eq!(dy.len(), pixels.total() * c_out, "length of dy");
    assert_eq!(weights.len(), sink.channels() * c_out, "length of the weights");
    reference::conv1x1_data_grad(pixels, dy, c_out, weights, sink);
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
pub fn conv1x1_weight_grad(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    source.check(pixels);
    assert_eq!(dy.len(), pixels.total() * c_out, "length of dy");
    assert_eq!(dw.len(), source.channels() * c_out, "length of dw");
    reference::conv1x1_weight_grad(pixels, source, dy, c_out, dw);
}

/// `out = x · weights + bias`: a linear layer on `rows` rows. Short for [`conv1x1`].
///
/// # Shapes
/// x `[rows, c_in]`, weights `[c_in, c_out]`, bias `[c_out]`, out `[rows, c_out]`.
///
/// # Panics
/// If a length does not fit.
pub fn linear(
    rows: usize,
    x: &[f32],
    c_in: usize,
    weights: &[f32],
    c_out: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    let source = Source::new(x, c_in);
    conv1x1(Pixels::rows(rows), &source, Weights::Plain(weights), c_out, &epilogue, out);
}

/// The gradient of [`linear`] with respect to x: `dx = dy · weightsᵀ`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_data_grad(
    rows: usize,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    c_in: usize,
    dx: &mut [f32],
) {
    conv1x1_data_grad(Pixels::rows(rows), dy, c_out, weights, Sink::new(dx, c_in));
}

/// The gradient of [`linear`] with respect to its weights: `dw = xᵀ · dy`. That of its bias is
/// [`crate::sum_pixels`] with `Pixels::new(1, rows, 1)`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_weight_grad(
    rows: usize,
    x: &[f32],
    c_in: usize,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    conv1x1_weight_grad(Pixels::rows(rows), &Source::new(x, c_in), dy, c_out, dw);
}
