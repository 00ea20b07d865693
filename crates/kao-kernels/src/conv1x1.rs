//! The 1×1 convolution, which is a linear layer applied to every pixel.

use crate::gathered::{PackedLayout, Window, multiply_gathered, pack_weights, weight_gradient};
use crate::output::Output;
use crate::profile::Timed;
use crate::scratch::{Aligned, Scratch};
use crate::simd::simd_level;
use crate::upsample::sum_by_four;
use crate::{Destination, Epilogue, Pixels, Sink, Source, Weights};

/// Weights of a 1×1 convolution, packed once for many calls of [`conv1x1`].
#[derive(Clone, Debug)]
pub struct PreparedConv1x1 {
    packed: Aligned,
    layout: PackedLayout,
}

impl PreparedConv1x1 {
    /// Packs `weights` `[c_in, c_out]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        assert_eq!(weights.len(), c_in * c_out, "length of the weights");
        let layout = PackedLayout { taps: 1, c_from: c_in, c_to: c_out };
        let mut packed = Aligned::zeros(layout.len());
        // SAFETY: the level is available and the lengths are right.
        unsafe { pack_weights(simd_level(), weights, layout, false, packed.as_mut_ptr()) };
        Self { packed, layout }
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
    let mut out = out.into();
    let _timed = Timed::pixels("conv1x1", pixels);
    source.check(pixels);
    epilogue.check(pixels, c_out, &out);
    if out.is_empty() {
        return;
    }
    let layout = PackedLayout { taps: 1, c_from: source.channels(), c_to: c_out };
    let output = Output::new(&mut out, c_out, epilogue);
    let level = simd_level();
    let window = Window::Pointwise(pixels);
    match weights {
        Weights::Plain(weights) => {
            assert_eq!(weights.len(), source.channels() * c_out, "length of the weights");
            let mut packed = Scratch::new(layout.len());
            // SAFETY: the level is available and all lengths have been checked.
            unsafe {
                pack_weights(level, weights, layout, false, packed.as_mut_ptr());
                multiply_gathered(level, window, source, packed.as_mut_ptr(), layout, &output);
            }
        }
        Weights::Prepared(prepared) => {
            assert_eq!(prepared.layout, layout, "channels of the prepared weights");
            let weights = prepared.packed.as_ptr();
            // SAFETY: the level is available and all lengths have been checked.
            unsafe { multiply_gathered(level, window, source, weights, layout, &output) };
        }
    }
    // SAFETY: all pixels and channels have been written.
    unsafe { out.mark_written() };
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
    mut sink: Sink<'_>,
) {
    let _timed = Timed::pixels("conv1x1_data_grad", pixels);
    sink.check(pixels);
    assert_eq!(dy.len(), pixels.total() * c_out, "length of dy");
    assert_eq!(weights.len(), sink.channels() * c_out, "length of the weights");
    if pixels.total() * sink.channels() == 0 {
        return;
    }
    if sink.upsampled {
        return sum_by_four(pixels, sink, |sink| {
            conv1x1_data_grad(pixels, dy, c_out, weights, sink);
        });
    }
    let layout = PackedLayout { taps: 1, c_from: c_out, c_to: sink.channels() };
    let (output, source) = (Output::from(&mut sink), Source::new(dy, c_out));
    let level = simd_level();
    let mut packed = Scratch::new(layout.len());
    // SAFETY: the level is available and all lengths have been checked.
    unsafe {
        pack_weights(level, weights, layout, true, packed.as_mut_ptr());
        let (window, weights) = (Window::Pointwise(pixels), packed.as_mut_ptr());
        multiply_gathered(level, window, &source, weights, layout, &output);
        sink.mark_written();
    }
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
    let dw = dw.into();
    let _timed = Timed::pixels("conv1x1_weight_grad", pixels);
    source.check(pixels);
    assert_eq!(dy.len(), pixels.total() * c_out, "length of dy");
    assert_eq!(dw.len(), source.channels() * c_out, "length of dw");
    // SAFETY: the level is available and all lengths have been checked.
    unsafe {
        weight_gradient(simd_level(), Window::Pointwise(pixels), source, dy, c_out, dw);
    }
}

/// `out = x · weights + bias`: a linear layer on `rows` rows. Short for [`conv1x1`].
///
/// # Shapes
/// x `[rows, c_in]`, weights `[c_in, c_out]`, bias `[c_out]`, out `[rows, c_out]`.
///
/// # Panics
/// If a length does not fit.
pub fn linear<'a>(
    rows: usize,
    x: &[f32],
    c_in: usize,
    weights: &[f32],
    c_out: usize,
    bias: Option<&[f32]>,
    out: impl Into<Destination<'a>>,
) {
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    let source = Source::new(x, c_in);
    conv1x1(Pixels::rows(rows), &source, Weights::Plain(weights), c_out, &epilogue, out);
}

/// The gradient of [`linear`] with respect to x: `dx = dy · weightsᵀ`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_data_grad<'a>(
    rows: usize,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    c_in: usize,
    dx: impl Into<Destination<'a>>,
) {
    conv1x1_data_grad(Pixels::rows(rows), dy, c_out, weights, Sink::new(dx, c_in));
}

/// The gradient of [`linear`] with respect to its weights: `dw = xᵀ · dy`. That of its bias is
/// [`crate::sum_pixels`] with `Pixels::new(1, rows, 1)`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_weight_grad<'a>(
    rows: usize,
    x: &[f32],
    c_in: usize,
    dy: &[f32],
    c_out: usize,
    dw: impl Into<Destination<'a>>,
) {
    conv1x1_weight_grad(Pixels::rows(rows), &Source::new(x, c_in), dy, c_out, dw);
}
