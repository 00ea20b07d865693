//! The residual block as one operation: its normalizations and the concatenation with the skip are
//! never written out, and the gradient of its input is summed where it is written.

use super::gradients::{Gradients, add};
use super::{CpuEngine, Value};
use crate::unet::layers::ResidualBlock;
use crate::unet::operations::BlockInput;
use kao_kernels::{self as kernels, AffineGradients, Dropout, Epilogue, GroupNorm, GroupNormStats};
use kao_kernels::{Pixels, Sink, Source, Unwritten};

/// The values of the output, and what was saved for the backward pass.
pub(super) struct Computed {
    pub(super) y: Vec<f32>,
    pub(super) saved: Option<Saved>,
}

/// What the backward pass needs beside the inputs.
pub(super) struct Saved {
    stats1: GroupNormStats,
    /// Output of the first convolution.
    h: Vec<f32>,
    stats2: GroupNormStats,
}

pub(super) fn compute(
    engine: &CpuEngine<'_>,
    input: &BlockInput<Value>,
    image_bias: &Value,
    block: &ResidualBlock,
    dropout: Option<Dropout>,
    saves: bool,
) -> Computed {
    let (pixels, source) = (input.x.pixels, source(input));
    let [_, c_out] = engine.network.layers().block_channels(block);
    let len = pixels.total() * c_out;

    let stats1 = engine.norm_stats(pixels, &source);
    let folded1 = norm1(engine, block, &stats1).folded();
    let normalized = source.with_prologue(folded1.prologue());
    let epilogue = Epilogue {
        image_bias: Some(&image_bias.values),
        ..Epilogue::bias(engine.bias(block.conv1))
    };
    let mut h = Unwritten::new(len);
    let weights = engine.conv3x3_weights(block.conv1, pixels.n);
    kernels::conv3x3(pixels, &normalized, weights, c_out, &epilogue, &mut h);
    let h = h.into_vec();

    // The shortcut goes to the output first; the second convolution is added to it.
    let mut y = Unwritten::new(len);
    if let Some(shortcut) = block.shortcut {
        let epilogue = Epilogue::bias(engine.bias(shortcut));
        let weights = engine.matrix(shortcut);
        kernels::conv1x1(pixels, &source, weights, c_out, &epilogue, &mut y);
    }

    let between = Source::new(&h, c_out);
    let stats2 = engine.norm_stats(pixels, &between);
    let norm2 = norm2(engine, block, &stats2, dropout);
    let epilogue = Epilogue {
        residual: block.shortcut.is_none().then_some(&input.x.values),
        accumulate: block.shortcut.is_some(),
        ..Epilogue::bias(engine.bias(block.conv2))
    };
    let weights = engine.conv3x3_weights(block.conv2, pixels.n);
    with_norm2(pixels, &between, &norm2, |source| {
        kernels::conv3x3(pixels, source, weights, c_out, &epilogue, &mut y);
    });
    let y = y.into_vec();
    Computed { y, saved: saves.then_some(Saved { stats1, h, stats2 }) }
}

/// Calls `body` with the input of the second convolution: normalized on the way in, or, where there
/// is dropout, written out first, since its mask is costly and a convolution reads a value more
/// than once.
fn with_norm2(
    pixels: Pixels,
    between: &Source<'_>,
    norm: &GroupNorm<'_>,
    body: impl FnOnce(&Source<'_>),
) {
    if norm.dropout.is_none() {
        let folded = norm.folded();
        return body(&between.with_prologue(folded.prologue()));
    }
    let mut dropped = Unwritten::new(pixels.total() * between.channels());
    kernels::group_norm(pixels, between, norm, &mut dropped);
    let dropped = dropped.into_vec();
    body(&Source::new(&dropped, between.channels()));
}

fn source(input: &BlockInput<Value>) -> Source<'_> {
    let BlockInput { x, skip } = input;
    match skip {
        Some(skip) => Source::pair(&x.values, x.channels, &skip.values, skip.channels),
        None => x.source(),
    }
}

/// The normalization before the first convolution.
fn norm1<'s>(
    engine: &CpuEngine<'s>,
    block: &ResidualBlock,
    stats: &'s GroupNormStats,
) -> GroupNorm<'s> {
    engine.norm(block.norm1, stats, engine.activation_kind(), None)
}

/// The one before the second, with the dropout.
fn norm2<'s>(
    engine: &CpuEngine<'s>,
    block: &ResidualBlock,
    stats: &'s GroupNormStats,
    dropout: Option<Dropout>,
) -> GroupNorm<'s> {
    engine.norm(block.norm2, stats, engine.activation_kind(), dropout)
}

pub(super) struct RecordedBlock {
    pub(super) input: BlockInput<Value>,
    pub(super) image_bias: Value,
    pub(super) block: ResidualBlock,
    pub(super) dropout: Option<Dropout>,
    /// `None` where the backward pass computes it again.
    pub(super) saved: Option<Saved>,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedBlock {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedBlock { input, image_bias, block, dropout, saved, y } = self;
        let dy = gradients.take(y);
        let saved =
            saved.or_else(|| compute(engine, &input, &image_bias, &block, dropout, true).saved);
        let Saved { stats1, h, stats2 } = saved.expect("saved or computed again");
        let (pixels, source) = (input.x.pixels, source(&input));
        let [c_in, c_out] = engine.network.layers().block_channels(&block);
        let all = Pixels::new(1, pixels.total(), 1);

        // The second convolution, and the normalization before it.
        let norm2 = norm2(engine, &block, &stats2, dropout);
        let between = Source::new(&h, c_out);
        let mut dweight2 = Unwritten::new(9 * c_out * c_out);
        with_norm2(pixels, &between, &norm2, |source| {
            kernels::conv3x3_weight_grad(pixels, source, &dy, c_out, &mut dweight2);
        });
        let mut dbias2 = Unwritten::new(c_out);
        kernels::sum_pixels(all, &dy, c_out, &mut dbias2);
        let dbias2 = dbias2.into_vec();
        let mut dnormalized = Unwritten::new(pixels.total() * c_out);
        let sink = Sink::new(&mut dnormalized, c_out);
        kernels::conv3x3_data_grad(pixels, &dy, c_out, engine.weight(block.conv2), sink);
        let dnormalized = dnormalized.into_vec();
        let mut dh = Unwritten::new(pixels.total() * c_out);
        let [mut dgamma2, mut dbeta2] = [c_out; 2].map(Unwritten::new);
        kernels::group_norm_backward(
            pixels,
            &between,
            &norm2,
            &dnormalized,
            Sink::new(&mut dh, c_out),
            AffineGradients { gamma: (&mut dgamma2).into(), beta: (&mut dbeta2).into() },
        );
        let dh = dh.into_vec();
        drop((dnormalized, h));
        gradients.layer(block.norm2, dgamma2.into_vec(), dbeta2.into_vec());

        // The first convolution.
        let mut dimage_bias = Unwritten::new(pixels.n * c_out);
        kernels::sum_pixels(pixels, &dh, c_out, &mut dimage_bias);
        let dimage_bias = dimage_bias.into_vec();
        let mut dbias1 = Unwritten::new(c_out);
        kernels::sum_pixels(Pixels::new(1, pixels.n, 1), &dimage_bias, c_out, &mut dbias1);
        gradients.add(&image_bias, dimage_bias);
        let norm1 = norm1(engine, &block, &stats1);
        let folded1 = norm1.folded();
        let mut dweight1 = Unwritten::new(9 * c_in * c_out);
        let normalized = source.with_prologue(folded1.prologue());
        kernels::conv3x3_weight_grad(pixels, &normalized, &dh, c_out, &mut dweight1);
        gradients.layer(block.conv1, dweight1.into_vec(), dbias1.into_vec());
        let mut dnormalized = Unwritten::new(pixels.total() * c_in);
        let sink = Sink::new(&mut dnormalized, c_in);
        kernels::conv3x3_data_grad(pixels, &dh, c_out, engine.weight(block.conv1), sink);
        let dnormalized = dnormalized.into_vec();
        drop(dh);

        // The way around; the gradient of the first normalization is added to its gradient.
        let (mut dx, mut dskip) = match block.shortcut {
            Some(shortcut) => {
                let mut dweight = Unwritten::new(c_in * c_out);
                kernels::conv1x1_weight_grad(pixels, &source, &dy, c_out, &mut dweight);
                gradients.layer(shortcut, dweight.into_vec(), dbias2.clone());
                around(engine.weight(shortcut), &input, dy, c_out, gradients)
            }
            None => match gradients.taken(&input.x) {
                Some(mut dx) => {
                    add(&mut dx, &dy);
                    (dx, Vec::new())
                }
                None => (dy, Vec::new()),
            },
        };
        gradients.layer(block.conv2, dweight2.into_vec(), dbias2);
        let [mut dgamma1, mut dbeta1] = [c_in; 2].map(Unwritten::new);
        let c_skip = input.skip.as_ref().map_or(0, |skip| skip.channels);
        kernels::group_norm_backward(
            pixels,
            &source,
            &norm1,
            &dnormalized,
            Sink::pair(&mut dx, input.x.channels, &mut dskip, c_skip).accumulating(),
            AffineGradients { gamma: (&mut dgamma1).into(), beta: (&mut dbeta1).into() },
        );
        gradients.add(&input.x, dx);
        if let Some(skip) = &input.skip {
            gradients.add(skip, dskip);
        }
        gradients.layer(block.norm1, dgamma1.into_vec(), dbeta1.into_vec());
    }
}

/// The gradients of both parts of the input through the shortcut, added to what other readers left.
fn around(
    weight: &[f32],
    input: &BlockInput<Value>,
    dy: Vec<f32>,
    c_out: usize,
    gradients: &mut Gradients<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let (pixels, c_first) = (input.x.pixels, input.x.channels);
    let Some(skip) = &input.skip else {
        let mut room = gradients.room(&input.x);
        kernels::conv1x1_data_grad(pixels, &dy, c_out, weight, room.sink(c_first));
        return (room.into_vec(), Vec::new());
    };
    let [mut dx, mut dskip] = [&input.x, skip].map(|value| Unwritten::new(value.values.len()));
    let sink = Sink::pair(&mut dx, c_first, &mut dskip, skip.channels);
    kernels::conv1x1_data_grad(pixels, &dy, c_out, weight, sink);
    (dx.into_vec(), dskip.into_vec())
}
