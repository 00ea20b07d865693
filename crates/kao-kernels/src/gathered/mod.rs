//! Convolutions as matrix products whose left operand is gathered from pixels: 1×1, and 3×3 with
//! stride 2. They differ in their taps alone.
//!
//! Every output row (a pixel) has one input pixel for each tap, or none where the window leaves the
//! image. Each tap is a product of gathered rows with its own weights; taps are summed in their
//! order, so a result depends neither on the batch nor on the threads.

mod gather;
mod multiply;
mod weight_grad;
mod weights;
mod window;

use crate::operands::length;
use crate::output::Output;
use crate::scratch::{Aligned, Scratch};
use crate::simd::simd_level;
use crate::upsample::sum_by_four;
use crate::{Destination, Epilogue, Padding, Pixels, Sink, Source, Weights};
use multiply::multiply_gathered;
use weight_grad::weight_gradient;
use weights::{PackedLayout, pack_weights};
use window::Window;

/// Which pixels a convolution reads for each that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taps {
    /// Its own.
    Pointwise,
    /// A 3×3 at every other pixel of every other line, zeros beyond the image.
    Stride2(Padding),
}

impl Taps {
    /// How many there are.
    fn count(self) -> usize {
        match self {
            Taps::Pointwise => 1,
            Taps::Stride2(_) => 9,
        }
    }

    /// The pixels of the output, for an input of `pixels`.
    fn output(self, pixels: Pixels) -> Pixels {
        match self {
            Taps::Pointwise => pixels,
            Taps::Stride2(padding) => padding.output(pixels),
        }
    }

    fn window(self, pixels: Pixels) -> Window {
        match self {
            Taps::Pointwise => Window::Pointwise(pixels),
            Taps::Stride2(padding) => Window::Stride2(pixels, padding),
        }
    }

    /// The windows of the gradient with respect to the input, which together write all of it.
    fn transposed(self, pixels: Pixels) -> Vec<Window> {
        match self {
            Taps::Pointwise => vec![Window::Pointwise(pixels)],
            Taps::Stride2(padding) => [(0, 0), (0, 1), (1, 0), (1, 1)]
                .map(|(odd_y, odd_x)| Window::Stride2Transposed(pixels, padding, odd_y, odd_x))
                .to_vec(),
        }
    }
}

/// Weights `[taps, c_in, c_out]`, packed once for many calls.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    values: Aligned,
    layout: PackedLayout,
}

impl Packed {
    /// # Panics
    /// If the length is wrong.
    #[track_caller]
    pub(crate) fn new(taps: Taps, weights: &[f32], c_in: usize, c_out: usize) -> Self {
        assert_eq!(weights.len(), length([taps.count(), c_in, c_out]), "length of the weights");
        let layout = PackedLayout { taps: taps.count(), c_from: c_in, c_to: c_out };
        let mut values = Aligned::zeros(layout.len());
        // SAFETY: the level is available and the lengths are right.
        unsafe { pack_weights(simd_level(), weights, layout, false, values.as_mut_ptr()) };
        Self { values, layout }
    }
}

/// `out = source · weights + epilogue`, summed over the taps. `pixels` are those of the source.
///
/// # Panics
/// If a length does not fit.
#[track_caller]
pub(crate) fn forward(
    taps: Taps,
    pixels: Pixels,
    source: &Source<'_>,
    weights: Weights<'_, Packed>,
    c_out: usize,
    epilogue: &Epilogue<'_>,
    mut out: Destination<'_>,
) {
    source.check(pixels);
    epilogue.check(taps.output(pixels), c_out, &out);
    if out.is_empty() {
        return;
    }
    let layout = PackedLayout { taps: taps.count(), c_from: source.channels(), c_to: c_out };
    let output = Output::new(&mut out, c_out, epilogue);
    let (level, window) = (simd_level(), taps.window(pixels));
    match weights {
        Weights::Plain(weights) => {
            let expected = length([taps.count(), source.channels(), c_out]);
            assert_eq!(weights.len(), expected, "length of the weights");
            let mut packed = Scratch::new(layout.len());
            // SAFETY: the level is available and all lengths have been checked.
            unsafe {
                pack_weights(level, weights, layout, false, packed.as_mut_ptr());
                multiply_gathered(level, window, source, packed.as_mut_ptr(), layout, &output);
            }
        }
        Weights::Prepared(prepared) => {
            assert_eq!(prepared.layout, layout, "channels of the prepared weights");
            let weights = prepared.values.as_ptr();
            // SAFETY: the level is available and all lengths have been checked.
            unsafe { multiply_gathered(level, window, source, weights, layout, &output) };
        }
    }
    // SAFETY: all pixels and channels have been written.
    unsafe { out.mark_written() };
}

/// The gradient of [`forward`] with respect to its input (after the prologue, before the epilogue).
///
/// # Panics
/// If a length does not fit.
#[track_caller]
pub(crate) fn data_grad(
    taps: Taps,
    pixels: Pixels,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    mut sink: Sink<'_>,
) {
    sink.check(pixels);
    assert_eq!(dy.len(), length([taps.output(pixels).total(), c_out]), "length of dy");
    assert_eq!(
        weights.len(),
        length([taps.count(), sink.channels(), c_out]),
        "length of the weights"
    );
    if pixels.total() * sink.channels() == 0 {
        return;
    }
    if sink.upsampled {
        return sum_by_four(pixels, sink, |sink| {
            data_grad(taps, pixels, dy, c_out, weights, sink);
        });
    }
    let layout = PackedLayout { taps: taps.count(), c_from: c_out, c_to: sink.channels() };
    let (output, source) = (Output::from(&mut sink), Source::new(dy, c_out));
    let level = simd_level();
    let mut packed = Scratch::new(layout.len());
    // SAFETY: the level is available and all lengths have been checked; the windows write all pixels.
    unsafe {
        pack_weights(level, weights, layout, true, packed.as_mut_ptr());
        for window in taps.transposed(pixels) {
            multiply_gathered(level, window, &source, packed.as_mut_ptr(), layout, &output);
        }
        sink.mark_written();
    }
}

/// The gradient of [`forward`] with respect to its weights; a prologue is recomputed.
///
/// # Panics
/// If a length does not fit.
#[track_caller]
pub(crate) fn weight_grad(
    taps: Taps,
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: Destination<'_>,
) {
    source.check(pixels);
    assert_eq!(dy.len(), length([taps.output(pixels).total(), c_out]), "length of dy");
    assert_eq!(dw.len(), length([taps.count(), source.channels(), c_out]), "length of dw");
    // SAFETY: the level is available and all lengths have been checked.
    unsafe { weight_gradient(simd_level(), taps.window(pixels), source, dy, c_out, dw) };
}
