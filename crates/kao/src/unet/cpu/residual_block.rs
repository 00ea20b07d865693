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
    time: &Value,
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
        image_bias: (!block.scale_shift).then_some(&time.values),
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
    let modulated = Modulated::of(engine, block, time);
    let norm2 = norm2(engine, block, &stats2, modulated.as_ref(), dropout);
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
    modulated: Option<&'s Modulated>,
    dropout: Option<Dropout>,
) -> GroupNorm<'s> {
    let norm = engine.norm(block.norm2, stats, engine.activation_kind(), dropout);
    match modulated {
        Some(Modulated { gamma, beta }) => GroupNorm { gamma, beta, per_image: true, ..norm },
        None => norm,
    }
}

/// The affine part of the second normalization with scale and shift of every image in it.
struct Modulated {
    /// `[N, C_out]`: gamma · (1 + scale).
    gamma: Vec<f32>,
    /// `[N, C_out]`: beta · (1 + scale) + shift.
    beta: Vec<f32>,
}

/// The gradients through a [`Modulated`].
struct ModulatedGradients {
    /// `[C_out]`.
    gamma: Vec<f32>,
    /// `[C_out]`.
    beta: Vec<f32>,
    /// `[N, 2·C_out]`.
    time: Vec<f32>,
}

impl Modulated {
    fn of(engine: &CpuEngine<'_>, block: &ResidualBlock, time: &Value) -> Option<Self> {
        if !block.scale_shift {
            return None;
        }
        let [gammas, betas] = [engine.weight(block.norm2), engine.bias(block.norm2)];
        let (mut gamma, mut beta) = (Vec::new(), Vec::new());
        for image in time.values.chunks_exact(2 * gammas.len()) {
            let (scale, shift) = image.split_at(gammas.len());
            gamma.extend(gammas.iter().zip(scale).map(|(gamma, scale)| gamma * (1.0 + scale)));
            let betas = betas.iter().zip(scale).zip(shift);
            beta.extend(betas.map(|((beta, scale), shift)| beta * (1.0 + scale) + shift));
        }
        Some(Modulated { gamma, beta })
    }

    /// From the gradients of both parts, `[N, C_out]` each.
    fn backward(
        engine: &CpuEngine<'_>,
        block: &ResidualBlock,
        time: &Value,
        [dgamma, dbeta]: [Vec<f32>; 2],
    ) -> ModulatedGradients {
        let [gammas, betas] = [engine.weight(block.norm2), engine.bias(block.norm2)];
        let c = gammas.len();
        let mut gradients =
            ModulatedGradients { gamma: vec![0.0; c], beta: vec![0.0; c], time: Vec::new() };
        let of_images = dgamma.chunks_exact(c).zip(dbeta.chunks_exact(c));
        for ((dgamma, dbeta), time) in of_images.zip(time.values.chunks_exact(2 * c)) {
            for channel in 0..c {
                let factor = 1.0 + time[channel];
                gradients.gamma[channel] += dgamma[channel] * factor;
                gradients.beta[channel] += dbeta[channel] * factor;
                let dscale = dgamma[channel] * gammas[channel] + dbeta[channel] * betas[channel];
                gradients.time.push(dscale);
            }
            gradients.time.extend_from_slice(dbeta);
        }
        gradients
    }
}

pub(super) struct RecordedBlock {
    pub(super) input: BlockInput<Value>,
    pub(super) time: Value,
    pub(super) block: ResidualBlock,
    pub(super) dropout: Option<Dropout>,
    /// `None` where the backward pass computes it again.
    pub(super) saved: Option<Saved>,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedBlock {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedBlock { input, time, block, dropout, saved, y } = self;
        let dy = gradients.take(y);
        let saved = saved.or_else(|| compute(engine, &input, &time, &block, dropout, true).saved);
        let Saved { stats1, h, stats2 } = saved.expect("saved or computed again");
        let (pixels, source) = (input.x.pixels, source(&input));
        let [c_in, c_out] = engine.network.layers().block_channels(&block);
        let all = Pixels::new(1, pixels.total(), 1);

        // The second convolution, and the normalization before it.
        let modulated = Modulated::of(engine, &block, &time);
        let norm2 = norm2(engine, &block, &stats2, modulated.as_ref(), dropout);
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
        let [mut dgamma2, mut dbeta2] = [norm2.gamma.len(); 2].map(Unwritten::new);
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
        let affine = [dgamma2, dbeta2].map(Unwritten::into_vec);

        // The first convolution.
        let mut of_images = Unwritten::new(pixels.n * c_out);
        kernels::sum_pixels(pixels, &dh, c_out, &mut of_images);
        let of_images = of_images.into_vec();
        let mut dbias1 = Unwritten::new(c_out);
        kernels::sum_pixels(Pixels::new(1, pixels.n, 1), &of_images, c_out, &mut dbias1);
        if block.scale_shift {
            let through = Modulated::backward(engine, &block, &time, affine);
            gradients.layer(block.norm2, through.gamma, through.beta);
            gradients.add(&time, through.time);
        } else {
            let [dgamma2, dbeta2] = affine;
            gradients.layer(block.norm2, dgamma2, dbeta2);
            gradients.add(&time, of_images);
        }
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
