//! The 3×3 convolution with stride 1 and zero padding 1.

use crate::{Epilogue, Pixels, Sink, Source, Weights, reference};

/// Weights of a 3×3 convolution, transformed once for many calls of [`conv3x3`].
#[derive(Clone, Debug)]
pub struct PreparedConv3x3 {
    plain: Vec<f32>,
    c_in: usize,
    c_out: usize,
}

impl PreparedConv3x3 {
    /// Transforms `weights` `[3, 3, c_in, c_out]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        assert_eq!(weights.len(), 9 * c_in * c_out, "length of the weights");
        Self { plain: weights.to_vec(), c_in, c_out }
    }
}

/// `out = conv(source, weights) + epilogue`: 3×3, stride 1, zero padding 1.
///
/// # Shapes
/// - source `[N, H, W, C_in]`, `pixels` being its N, H, W (those after an upsampling, if any)
/// - weights `[3, 3, C_in, C_out]`
/// - out `[N, H, W, C_out]`
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3(
    pixels: Pixels,
    source: &Source<'_>,
    weights: Weights<'_, PreparedConv3x3>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    source.check(pixels);
    epilogue.check(pixels, c_out);
    assert_eq!(out.len(), pixels.total() * c_out, "length of the output");
    let plain = match weights {
        Weights::Plain(weights) => {
            assert_eq!(weights.len(), 9 * source.channels() * c_out, "length of the weights");
            weights
        }
        Weights::Prepared(prepared) => {
            let channels = (prepared.c_in, prepared.c_out);
            assert_eq!(channels, (source.channels(), c_out), "channels of the prepared weights");
            &prepared.plain
        }
    };
    reference::conv3x3(pixels, source, plain, c_out, epilogue, out);
}

/// The gradient of [`conv3x3`] with respect to its input (after the prologue, before the epilogue).
///
/// # Shapes
/// - dy `[N, H, W, C_out]`
/// - weights `[3, 3, C_in, C_out]`, those of the forward pass
/// - sink `[N, H, W, C_in]`, or at half the sides where it is upsampled
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_data_grad(
    pixels: Pixels,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    sink.check(pixels);
    assert_eq!(dy.len(), pixels.total() * c_out, "length of dy");
    assert_eq!(weights.len(), 9 * sink.channels() * c_out, "length of the weights");
    reference::conv3x3_data_grad(pixels, dy, c_out, weights, sink);
}

/// The gradient of [`conv3x3`] with respect to its weights; a prologue is recomputed.
///
/// # Shapes
/// - source `[N, H, W, C_in]`
/// - dy `[N, H, W, C_out]`
/// - dw `[3, 3, C_in, C_out]`, overwritten
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_weight_grad(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    source.check(pixels);
    assert_eq!(dy.len(), pixels.total() * c_out, "length of dy");
    assert_eq!(dw.len(), 9 * source.channels() * c_out, "length of dw");
    reference::conv3x3_weight_grad(pixels, source, dy, c_out, dw);
}
