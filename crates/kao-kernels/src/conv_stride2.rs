//! The 3×3 convolution with stride 2 and zero padding 1, as nine products of gathered pixels.

use crate::gathered::{PackedLayout, Window, multiply_gathered, pack_weights, weight_gradient};
use crate::output::Output;
use crate::profile::Timed;
use crate::scratch::{Aligned, Scratch};
use crate::simd::simd_level;
use crate::upsample::sum_by_four;
use crate::{Destination, Epilogue, Pixels, Sink, Source, Weights};

/// Weights of a 3×3 convolution, packed once for many calls of [`conv3x3_stride2`].
#[derive(Clone, Debug)]
pub struct PreparedConv3x3Stride2 {
    packed: Aligned,
    layout: PackedLayout,
}

impl PreparedConv3x3Stride2 {
    /// Packs `weights` `[3, 3, c_in, c_out]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        assert_eq!(weights.len(), 9 * c_in * c_out, "length of the weights");
        let layout = PackedLayout { taps: 9, c_from: c_in, c_to: c_out };
        let mut packed = Aligned::zeros(layout.len());
        // SAFETY: the level is available and the lengths are right.
        unsafe { pack_weights(simd_level(), weights, layout, false, packed.as_mut_ptr()) };
        Self { packed, layout }
    }
}

/// `out = conv(source, weights) + epilogue`: 3×3, stride 2, zero padding 1.
///
/// # Shapes
/// - source `[N, H, W, C_in]`, `pixels` being its N, H, W (those after an upsampling, if any)
/// - weights `[3, 3, C_in, C_out]`
/// - out `[N, ⌈H/2⌉, ⌈W/2⌉, C_out]`
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_stride2<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    weights: Weights<'_, PreparedConv3x3Stride2>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: impl Into<Destination<'a>>,
) {
    let mut out = out.into();
    let _timed = Timed::pixels("conv3x3_stride2", pixels);
    source.check(pixels);
    epilogue.check(pixels.halved(), c_out, &out);
    if out.is_empty() {
        return;
    }
    let layout = PackedLayout { taps: 9, c_from: source.channels(), c_to: c_out };
    let output = Output::new(&mut out, c_out, epilogue);
    let level = simd_level();
    let window = Window::Stride2(pixels);
    match weights {
        Weights::Plain(weights) => {
            assert_eq!(weights.len(), 9 * source.channels() * c_out, "length of the weights");
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

/// The gradient of [`conv3x3_stride2`] with respect to its input (after the prologue, before the epilogue).
///
/// # Shapes
/// - dy `[N, ⌈H/2⌉, ⌈W/2⌉, C_out]`
/// - weights `[3, 3, C_in, C_out]`, those of the forward pass
/// - sink `[N, H, W, C_in]`, or at half the sides where it is upsampled
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_stride2_data_grad(
    pixels: Pixels,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    mut sink: Sink<'_>,
) {
    let _timed = Timed::pixels("conv3x3_stride2_data_grad", pixels);
    sink.check(pixels);
    assert_eq!(dy.len(), pixels.halved().total() * c_out, "length of dy");
    assert_eq!(weights.len(), 9 * sink.channels() * c_out, "length of the weights");
    if pixels.total() * sink.channels() == 0 {
        return;
    }
    if sink.upsampled {
        return sum_by_four(pixels, sink, |sink| {
            conv3x3_stride2_data_grad(pixels, dy, c_out, weights, sink);
        });
    }
    let layout = PackedLayout { taps: 9, c_from: c_out, c_to: sink.channels() };
    let (output, source) = (Output::from(&mut sink), Source::new(dy, c_out));
    let level = simd_level();
    let mut packed = Scratch::new(layout.len());
    // SAFETY: the level is available and all lengths have been checked.
    unsafe {
        pack_weights(level, weights, layout, true, packed.as_mut_ptr());
        for (odd_y, odd_x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let window = Window::Stride2Transposed(pixels, odd_y, odd_x);
            multiply_gathered(level, window, &source, packed.as_mut_ptr(), layout, &output);
        }
        sink.mark_written();
    }
}

/// The gradient of [`conv3x3_stride2`] with respect to its weights; a prologue is recomputed.
///
/// # Shapes
/// - source `[N, H, W, C_in]`
/// - dy `[N, ⌈H/2⌉, ⌈W/2⌉, C_out]`
/// - dw `[3, 3, C_in, C_out]`, overwritten
///
/// # Panics
/// If a length does not fit.
pub fn conv3x3_stride2_weight_grad<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: impl Into<Destination<'a>>,
) {
    let dw = dw.into();
    let _timed = Timed::pixels("conv3x3_stride2_weight_grad", pixels);
    source.check(pixels);
    assert_eq!(dy.len(), pixels.halved().total() * c_out, "length of dy");
    assert_eq!(dw.len(), 9 * source.channels() * c_out, "length of dw");
    // SAFETY: the level is available and all lengths have been checked.
    unsafe {
        weight_gradient(simd_level(), Window::Stride2(pixels), source, dy, c_out, dw);
    }
}
