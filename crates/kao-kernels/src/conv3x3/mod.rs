//! The 3×3 convolution with stride 1 and zero padding 1, by Winograd's minimal filtering: a quarter
//! of the multiplications, at the price of some rounding error (see [`transform`]).

mod forward;
mod phase;
mod tiles;
mod transform;
mod weight_grad;
mod weights;

use crate::operands::length;
use crate::output::Output;
use crate::profile::Timed;
use crate::scratch::Aligned;
use crate::simd::simd_level;
use crate::{Destination, Epilogue, Pixels, Sink, Source, Weights};
use weights::{Direction, Layout, Phases, Taps, transform_weights};

/// Weights of a 3×3 convolution, transformed once for many calls of [`conv3x3`].
///
/// They take four times the memory of the plain weights, and reading it is not free. That pays for
/// small weights, and for many tiles. With 256 channels and 8 images, plain weights cost 7 to 20 %
/// more time at 16×16, the less the colder the caches; at 8×8 they cost 12 % more where the caches
/// hold the prepared ones, and 13 % less where they come from memory, as they do in a network.
#[derive(Clone, Debug)]
pub struct PreparedConv3x3 {
    transformed: Aligned,
    layout: Layout,
}

impl PreparedConv3x3 {
    /// Transforms `weights` `[3, 3, c_in, c_out]`, at the current [`crate::SimdLevel`].
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn new(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        Self::with(weights, Layout { c_from: c_in, c_to: c_out, phases: Phases::None })
    }

    /// The same for a source that is [`Source::upsampled`]. These take four times the memory again.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn for_upsampled(weights: &[f32], c_in: usize, c_out: usize) -> Self {
        Self::with(weights, Layout { c_from: c_in, c_to: c_out, phases: Phases::Outputs })
    }

    fn with(weights: &[f32], layout: Layout) -> Self {
        assert_eq!(weights.len(), length([9, layout.c_from, layout.c_to]), "length of the weights");
        let mut transformed = Aligned::zeros(layout.len());
        // SAFETY: the level is available and the lengths are right.
        unsafe {
            let to = transformed.as_mut_ptr();
            transform_weights(simd_level(), weights, layout, Direction::Forward, to);
        }
        Self { transformed, layout }
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
pub fn conv3x3<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    weights: Weights<'_, PreparedConv3x3>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: impl Into<Destination<'a>>,
) {
    let mut out = out.into();
    let _timed = Timed::pixels("conv3x3", pixels);
    source.check(pixels);
    epilogue.check(pixels, c_out, &out);
    if out.is_empty() {
        return;
    }
    // Behind an upsampling, the pixels before it are convolved, once for each of the four that
    // become of one.
    let phases = if source.upsampled { Phases::Outputs } else { Phases::None };
    let pixels = pixels.before_upsampling(source.upsampled);
    let source = &Source { upsampled: false, ..*source };
    let layout = Layout { c_from: source.channels(), c_to: c_out, phases };
    let output = Output::new(&mut out, c_out, epilogue);
    let taps = match weights {
        Weights::Plain(weights) => {
            assert_eq!(
                weights.len(),
                length([9, source.channels(), c_out]),
                "length of the weights"
            );
            Taps::Plain(weights, Direction::Forward)
        }
        Weights::Prepared(prepared) => {
            assert_eq!(
                prepared.layout, layout,
                "channels, and upsampling, of the prepared weights"
            );
            Taps::Transformed(&prepared.transformed)
        }
    };
    // SAFETY: the level is available and all lengths have been checked.
    unsafe {
        forward::convolve(simd_level(), pixels, source, taps, layout, &output);
        out.mark_written();
    }
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
    mut sink: Sink<'_>,
) {
    let _timed = Timed::pixels("conv3x3_data_grad", pixels);
    sink.check(pixels);
    assert_eq!(dy.len(), length([pixels.total(), c_out]), "length of dy");
    assert_eq!(weights.len(), length([9, sink.channels(), c_out]), "length of the weights");
    if pixels.total() * sink.channels() == 0 {
        return;
    }
    let phases = if sink.upsampled { Phases::Inputs } else { Phases::None };
    let pixels = pixels.before_upsampling(sink.upsampled);
    let layout = Layout { c_from: c_out, c_to: sink.channels(), phases };
    let (source, output) = (Source::new(dy, c_out), Output::from(&mut sink));
    let taps = Taps::Plain(weights, Direction::Backward);
    // SAFETY: the level is available and all lengths have been checked.
    unsafe {
        forward::convolve(simd_level(), pixels, &source, taps, layout, &output);
        sink.mark_written();
    }
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
pub fn conv3x3_weight_grad<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: impl Into<Destination<'a>>,
) {
    let dw = dw.into();
    let _timed = Timed::pixels("conv3x3_weight_grad", pixels);
    source.check(pixels);
    assert_eq!(dy.len(), length([pixels.total(), c_out]), "length of dy");
    assert_eq!(dw.len(), length([9, source.channels(), c_out]), "length of dw");
    let (upsampled, pixels) = (source.upsampled, pixels.before_upsampling(source.upsampled));
    let source = &Source { upsampled: false, ..*source };
    // SAFETY: the level is available and all lengths have been checked.
    unsafe { weight_grad::weight_gradient(simd_level(), pixels, upsampled, source, dy, c_out, dw) };
}
