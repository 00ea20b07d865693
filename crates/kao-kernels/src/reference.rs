//! The reference implementation of every kernel: plain loops, sums in f64, nothing clever.
//!
//! This is what the kernels mean. The tests compare every fast kernel with its reference; a reader who
//! wants to know what a kernel computes reads it here. Shapes and panics are those of the kernel of
//! the same name.

use crate::muon::{MOMENTUM, N_ITERATIONS, POLYNOMIAL, UPDATE_RMS};
use crate::{
    Activation, AdamStep, AttentionShape, Dropout, Epilogue, GroupNorm, GroupNormStats, MuonStep,
    Padding, Pixels, Sink, Source,
};

/// `act(x)` in f64.
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Hardswish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
    }
}

/// The derivative of `act` at `x`, in f64. Hardswish has the derivative 0 at −3 and 1 at 3, where
/// its two sides differ.
pub fn activate_derivative(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Silu => {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            sigmoid * (1.0 + x * (1.0 - sigmoid))
        }
        Activation::Hardswish => {
            if x <= -3.0 {
                0.0
            } else if x >= 3.0 {
                1.0
            } else {
                (2.0 * x + 3.0) / 6.0
            }
        }
    }
}

/// Reference of [`crate::activation()`].
pub fn activation(activation: Activation, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = activate(activation, f64::from(x)) as f32;
    }
}

/// Reference of [`crate::activation_backward`].
pub fn activation_backward(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        *dx = (f64::from(dy) * activate_derivative(activation, f64::from(x))) as f32;
    }
}

/// The input a [`Source`] stands for, written out: `[N, H, W, C]` in f64.
pub fn materialize(pixels: Pixels, source: &Source<'_>) -> Vec<f64> {
    source.check(pixels);
    let (h, w, c) = (pixels.h, pixels.w, source.channels());
    let mut out = Vec::with_capacity(pixels.total() * c);
    for n in 0..pixels.n {
        for y in 0..h {
            for x in 0..w {
                let pixel = if source.upsampled {
                    (n * (h / 2) + y / 2) * (w / 2) + x / 2
                } else {
                    (n * h + y) * w + x
                };
                for channel in 0..c {
                    let value = f64::from(if channel < source.c_first {
                        source.first[pixel * source.c_first + channel]
                    } else {
                        source.second[pixel * source.c_second + channel - source.c_first]
                    });
                    out.push(match &source.prologue {
                        None => value,
                        Some(prologue) => {
                            let scale = f64::from(prologue.scale[n * c + channel]);
                            let shift = f64::from(prologue.shift[n * c + channel]);
                            activate(prologue.activation, value * scale + shift)
                        }
                    });
                }
            }
        }
    }
    out
}

/// Puts a gradient `[N, H, W, C]` where a [`Sink`] wants it.
fn deliver(pixels: Pixels, gradient: &[f64], sink: Sink<'_>) {
    sink.check(pixels);
    let (h, w, c) = (pixels.h, pixels.w, sink.channels());
    let step = if sink.upsampled { 2 } else { 1 };
    let (first, second) = (sink.first.into_slice(), sink.second.into_slice());
    let mut stored_pixel = 0;
    for n in 0..pixels.n {
        for y in (0..h).step_by(step) {
            for x in (0..w).step_by(step) {
                for channel in 0..c {
                    let mut value = 0.0;
                    for dy in 0..step {
                        for dx in 0..step {
                            value += gradient[((n * h + y + dy) * w + x + dx) * c + channel];
                        }
                    }
                    let place = if channel < sink.c_first {
                        &mut first[stored_pixel * sink.c_first + channel]
                    } else {
                        &mut second[stored_pixel * sink.c_second + channel - sink.c_first]
                    };
                    let before = if sink.accumulate { f64::from(*place) } else { 0.0 };
                    *place = (before + value) as f32;
                }
                stored_pixel += 1;
            }
        }
    }
}

/// Adds an [`Epilogue`] and rounds.
fn finish(output: Pixels, c_out: usize, sums: &[f64], epilogue: &Epilogue<'_>, out: &mut [f32]) {
    epilogue.check(output, c_out, &(&mut *out).into());
    for (i, (out, &sum)) in out.iter_mut().zip(sums).enumerate() {
        let (n, channel) = (i / (output.per_image() * c_out), i % c_out);
        let mut value = sum;
        if let Some(bias) = epilogue.bias {
            value += f64::from(bias[channel]);
        }
        if let Some(image_bias) = epilogue.image_bias {
            value += f64::from(image_bias[n * c_out + channel]);
        }
        if let Some(residual) = epilogue.residual {
            value += f64::from(residual[i]);
        }
        if epilogue.accumulate {
            value += f64::from(*out);
        }
        *out = value as f32;
    }
}

/// The steps of a 3×3 convolution over its input.
#[derive(Clone, Copy)]
enum Stride {
    One,
    Two(Padding),
}

impl Stride {
    fn step(self) -> usize {
        if matches!(self, Stride::One) { 1 } else { 2 }
    }

    /// Rows and columns of zeros before the first.
    fn before(self) -> usize {
        if matches!(self, Stride::Two(Padding::Behind)) { 0 } else { 1 }
    }

    fn output(self, pixels: Pixels) -> Pixels {
        match self {
            Stride::One => pixels,
            Stride::Two(padding) => padding.output(pixels),
        }
    }
}

/// Calls `visit(output pixel, input pixel, tap)` for every tap of a 3×3 convolution that falls
/// inside the image.
fn for_each_tap(pixels: Pixels, stride: Stride, mut visit: impl FnMut(usize, usize, usize)) {
    let Pixels { h: h_out, w: w_out, .. } = stride.output(pixels);
    let (step, before) = (stride.step(), stride.before());
    for n in 0..pixels.n {
        for oy in 0..h_out {
            for ox in 0..w_out {
                for ky in 0..3 {
                    for kx in 0..3 {
                        let (iy, ix) = (oy * step + ky, ox * step + kx);
                        let inside = |i: usize, side: usize| (before..side + before).contains(&i);
                        if inside(iy, pixels.h) && inside(ix, pixels.w) {
                            let output = (n * h_out + oy) * w_out + ox;
                            let input = (n * pixels.h + iy - before) * pixels.w + ix - before;
                            visit(output, input, ky * 3 + kx);
                        }
                    }
                }
            }
        }
    }
}

fn conv(
    pixels: Pixels,
    stride: Stride,
    source: &Source<'_>,
    weights: &[f32],
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let c_in = source.channels();
    let x = materialize(pixels, source);
    let output = stride.output(pixels);
    let mut sums = vec![0.0; output.total() * c_out];
    for_each_tap(pixels, stride, |o, i, tap| {
        for ci in 0..c_in {
            let x = x[i * c_in + ci];
            let weights = &weights[(tap * c_in + ci) * c_out..][..c_out];
            for (sum, &weight) in sums[o * c_out..][..c_out].iter_mut().zip(weights) {
                *sum += x * f64::from(weight);
            }
        }
    });
    finish(output, c_out, &sums, epilogue, out);
}

fn conv_data_grad(
    pixels: Pixels,
    stride: Stride,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    let c_in = sink.channels();
    let mut dx = vec![0.0; pixels.total() * c_in];
    for_each_tap(pixels, stride, |o, i, tap| {
        for ci in 0..c_in {
            for co in 0..c_out {
                dx[i * c_in + ci] += f64::from(dy[o * c_out + co])
                    * f64::from(weights[(tap * c_in + ci) * c_out + co]);
            }
        }
    });
    deliver(pixels, &dx, sink);
}

fn conv_weight_grad(
    pixels: Pixels,
    stride: Stride,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    let c_in = source.channels();
    let x = materialize(pixels, source);
    let mut sums = vec![0.0; 9 * c_in * c_out];
    for_each_tap(pixels, stride, |o, i, tap| {
        for ci in 0..c_in {
            for co in 0..c_out {
                sums[(tap * c_in + ci) * c_out + co] +=
                    x[i * c_in + ci] * f64::from(dy[o * c_out + co]);
            }
        }
    });
    for (dw, sum) in dw.iter_mut().zip(sums) {
        *dw = sum as f32;
    }
}

/// Reference of [`crate::conv3x3()`], with plain weights.
pub fn conv3x3(
    pixels: Pixels,
    source: &Source<'_>,
    weights: &[f32],
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    conv(pixels, Stride::One, source, weights, c_out, epilogue, out);
}

/// Reference of [`crate::conv3x3_data_grad`].
pub fn conv3x3_data_grad(
    pixels: Pixels,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    conv_data_grad(pixels, Stride::One, dy, c_out, weights, sink);
}

/// Reference of [`crate::conv3x3_weight_grad`].
pub fn conv3x3_weight_grad(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    conv_weight_grad(pixels, Stride::One, source, dy, c_out, dw);
}

/// Reference of [`crate::conv3x3_stride2`], with plain weights.
pub fn conv3x3_stride2(
    pixels: Pixels,
    padding: Padding,
    source: &Source<'_>,
    weights: &[f32],
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    conv(pixels, Stride::Two(padding), source, weights, c_out, epilogue, out);
}

/// Reference of [`crate::conv3x3_stride2_data_grad`].
pub fn conv3x3_stride2_data_grad(
    pixels: Pixels,
    padding: Padding,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    conv_data_grad(pixels, Stride::Two(padding), dy, c_out, weights, sink);
}

/// Reference of [`crate::conv3x3_stride2_weight_grad`].
pub fn conv3x3_stride2_weight_grad(
    pixels: Pixels,
    padding: Padding,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    conv_weight_grad(pixels, Stride::Two(padding), source, dy, c_out, dw);
}

/// Reference of [`crate::conv1x1()`], with plain weights.
pub fn conv1x1(
    pixels: Pixels,
    source: &Source<'_>,
    weights: &[f32],
    c_out: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let c_in = source.channels();
    let x = materialize(pixels, source);
    let mut sums = vec![0.0; pixels.total() * c_out];
    for row in 0..pixels.total() {
        for ci in 0..c_in {
            for co in 0..c_out {
                sums[row * c_out + co] += x[row * c_in + ci] * f64::from(weights[ci * c_out + co]);
            }
        }
    }
    finish(pixels, c_out, &sums, epilogue, out);
}

/// Reference of [`crate::conv1x1_data_grad`].
pub fn conv1x1_data_grad(
    pixels: Pixels,
    dy: &[f32],
    c_out: usize,
    weights: &[f32],
    sink: Sink<'_>,
) {
    let c_in = sink.channels();
    let mut dx = vec![0.0; pixels.total() * c_in];
    for row in 0..pixels.total() {
        for ci in 0..c_in {
            for co in 0..c_out {
                dx[row * c_in + ci] +=
                    f64::from(dy[row * c_out + co]) * f64::from(weights[ci * c_out + co]);
            }
        }
    }
    deliver(pixels, &dx, sink);
}

/// Reference of [`crate::conv1x1_weight_grad`].
pub fn conv1x1_weight_grad(
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    let c_in = source.channels();
    let x = materialize(pixels, source);
    let mut sums = vec![0.0; c_in * c_out];
    for row in 0..pixels.total() {
        for ci in 0..c_in {
            for co in 0..c_out {
                sums[ci * c_out + co] += x[row * c_in + ci] * f64::from(dy[row * c_out + co]);
            }
        }
    }
    for (dw, sum) in dw.iter_mut().zip(sums) {
        *dw = sum as f32;
    }
}

/// Reference of [`crate::sum_pixels`].
pub fn sum_pixels(pixels: Pixels, dy: &[f32], channels: usize, sums: &mut [f32]) {
    for n in 0..pixels.n {
        for channel in 0..channels {
            let mut sum = 0.0;
            for pixel in 0..pixels.per_image() {
                sum += f64::from(dy[(n * pixels.per_image() + pixel) * channels + channel]);
            }
            sums[n * channels + channel] = sum as f32;
        }
    }
}

/// Reference of [`crate::upsample_nearest`].
pub fn upsample_nearest(pixels: Pixels, channels: usize, x: &[f32], y: &mut [f32]) {
    for n in 0..pixels.n {
        for row in 0..2 * pixels.h {
            for column in 0..2 * pixels.w {
                let from = ((n * pixels.h + row / 2) * pixels.w + column / 2) * channels;
                let to = ((n * 2 * pixels.h + row) * 2 * pixels.w + column) * channels;
                y[to..to + channels].copy_from_slice(&x[from..from + channels]);
            }
        }
    }
}

/// Reference of [`crate::upsample_nearest_backward`].
pub fn upsample_nearest_backward(pixels: Pixels, channels: usize, dy: &[f32], dx: &mut [f32]) {
    let upsampled = Pixels::new(pixels.n, 2 * pixels.h, 2 * pixels.w);
    let dy: Vec<f64> = dy.iter().map(|&dy| f64::from(dy)).collect();
    deliver(upsampled, &dy, Sink::new(dx, channels).upsampled());
}

/// Reference of [`crate::group_norm_stats`].
pub fn group_norm_stats(
    pixels: Pixels,
    source: &Source<'_>,
    groups: usize,
    eps: f32,
) -> GroupNormStats {
    let c = source.channels();
    let x = materialize(pixels, source);
    let per_group = c / groups;
    let mut stats = GroupNormStats { mean: Vec::new(), rstd: Vec::new() };
    for n in 0..pixels.n {
        for group in 0..groups {
            let values = || {
                (0..pixels.per_image())
                    .flat_map(|pixel| {
                        let first = (n * pixels.per_image() + pixel) * c + group * per_group;
                        &x[first..first + per_group]
                    })
                    .copied()
            };
            let count = (pixels.per_image() * per_group) as f64;
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
            stats.mean.push(mean as f32);
            stats.rstd.push((1.0 / (variance + f64::from(eps)).sqrt()) as f32);
        }
    }
    stats
}

/// Reference of [`crate::group_norm()`].
pub fn group_norm(pixels: Pixels, source: &Source<'_>, norm: &GroupNorm<'_>, y: &mut [f32]) {
    let c = source.channels();
    let x = materialize(pixels, source);
    let (groups, per_group) = (norm.groups, c / norm.groups);
    for (i, y) in y.iter_mut().enumerate() {
        let (n, channel) = (i / (pixels.per_image() * c), i % c);
        let group = n * groups + channel / per_group;
        let normalized =
            (x[i] - f64::from(norm.stats.mean[group])) * f64::from(norm.stats.rstd[group]);
        let [gamma, beta] = norm.affine_of(n, c).map(|values| f64::from(values[channel]));
        let affine = normalized * gamma + beta;
        let kept = norm.dropout.map_or(1.0, |dropout| dropout_factor(dropout, i));
        *y = (activate(norm.activation, affine) * kept) as f32;
    }
}

/// What dropout multiplies element `index` by: 0, or 1 / (1 − rate).
pub fn dropout_factor(dropout: Dropout, index: usize) -> f64 {
    f64::from(dropout.factor(index as u32))
}

/// Reference of [`crate::group_norm_backward`].
pub fn group_norm_backward(
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    dy: &[f32],
    sink: Sink<'_>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let c = source.channels();
    let x = materialize(pixels, source);
    let (groups, per_group) = (norm.groups, c / norm.groups);
    let place = |i: usize| {
        let (n, channel) = (i / (pixels.per_image() * c), i % c);
        let affine = if norm.per_image { n * c + channel } else { channel };
        (n * groups + channel / per_group, affine)
    };
    let mut normalized = vec![0.0; x.len()];
    let mut dz = vec![0.0; x.len()];
    let (mut dgamma64, mut dbeta64) = (vec![0.0; norm.gamma.len()], vec![0.0; norm.gamma.len()]);
    // Per group: the sums of dz·gamma and of dz·gamma·normalized.
    let (mut sum, mut sum_normalized) =
        (vec![0.0; pixels.n * groups], vec![0.0; pixels.n * groups]);
    for i in 0..x.len() {
        let (group, place) = place(i);
        let gamma = f64::from(norm.gamma[place]);
        normalized[i] =
            (x[i] - f64::from(norm.stats.mean[group])) * f64::from(norm.stats.rstd[group]);
        let affine = normalized[i] * gamma + f64::from(norm.beta[place]);
        let kept = norm.dropout.map_or(1.0, |dropout| dropout_factor(dropout, i));
        dz[i] = f64::from(dy[i]) * kept * activate_derivative(norm.activation, affine);
        dgamma64[place] += dz[i] * normalized[i];
        dbeta64[place] += dz[i];
        sum[group] += dz[i] * gamma;
        sum_normalized[group] += dz[i] * gamma * normalized[i];
    }
    let count = (pixels.per_image() * per_group) as f64;
    let dx: Vec<f64> = (0..x.len())
        .map(|i| {
            let (group, place) = place(i);
            f64::from(norm.stats.rstd[group])
                * (dz[i] * f64::from(norm.gamma[place])
                    - sum[group] / count
                    - normalized[i] * sum_normalized[group] / count)
        })
        .collect();
    for (to, from) in dgamma.iter_mut().zip(dgamma64) {
        *to = from as f32;
    }
    for (to, from) in dbeta.iter_mut().zip(dbeta64) {
        *to = from as f32;
    }
    deliver(pixels, &dx, sink);
}

/// One head of an attention: its image and first channel.
#[derive(Clone, Copy)]
struct Head {
    shape: AttentionShape,
    image: usize,
    channel: usize,
}

impl Head {
    fn all(shape: AttentionShape) -> impl Iterator<Item = Self> {
        let heads = (0..shape.n).flat_map(move |n| (0..shape.heads).map(move |head| (n, head)));
        heads.map(move |(image, head)| Head { shape, image, channel: head * shape.width() })
    }

    /// The place of a channel of the head at a pixel.
    fn at(self, pixel: usize, channel: usize) -> usize {
        let AttentionShape { pixels, channels, .. } = self.shape;
        (self.image * pixels + pixel) * channels + self.channel + channel
    }

    /// The attention weights: softmax over the keys of scale · q·kᵀ, `[P, P]`.
    fn weights(self, q: &[f32], k: &[f32]) -> Vec<f64> {
        let pixels = self.shape.pixels;
        let mut weights = vec![0.0; pixels * pixels];
        for i in 0..pixels {
            let row = &mut weights[i * pixels..][..pixels];
            for (j, score) in row.iter_mut().enumerate() {
                for channel in 0..self.shape.width() {
                    *score += f64::from(q[self.at(i, channel)]) * f64::from(k[self.at(j, channel)]);
                }
                *score *= f64::from(self.shape.scale);
            }
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for score in row.iter_mut() {
                *score = (*score - highest).exp();
            }
            let sum: f64 = row.iter().sum();
            for score in row.iter_mut() {
                *score /= sum;
            }
        }
        weights
    }
}

/// Reference of [`crate::attention()`].
pub fn attention(shape: AttentionShape, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
    let pixels = shape.pixels;
    for head in Head::all(shape) {
        let weights = head.weights(q, k);
        for i in 0..pixels {
            for channel in 0..shape.width() {
                let sum: f64 = (0..pixels)
                    .map(|j| weights[i * pixels + j] * f64::from(v[head.at(j, channel)]))
                    .sum();
                out[head.at(i, channel)] = sum as f32;
            }
        }
    }
}

/// Reference of [`crate::attention_backward`].
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let pixels = shape.pixels;
    for head in Head::all(shape) {
        let weights = head.weights(q, k);
        let value = |values: &[f32], pixel, channel| f64::from(values[head.at(pixel, channel)]);
        let mut dscores = vec![0.0; pixels * pixels];
        for i in 0..pixels {
            let mut dweights = vec![0.0; pixels];
            for (j, dweight) in dweights.iter_mut().enumerate() {
                for channel in 0..shape.width() {
                    *dweight += value(dout, i, channel) * value(v, j, channel);
                }
            }
            let row = &weights[i * pixels..][..pixels];
            let mean: f64 = row.iter().zip(&dweights).map(|(p, d)| p * d).sum();
            for j in 0..pixels {
                dscores[i * pixels + j] = row[j] * (dweights[j] - mean) * f64::from(shape.scale);
            }
        }
        for i in 0..pixels {
            for channel in 0..shape.width() {
                let (mut sum_q, mut sum_k, mut sum_v) = (0.0, 0.0, 0.0);
                for j in 0..pixels {
                    sum_q += dscores[i * pixels + j] * value(k, j, channel);
                    sum_k += dscores[j * pixels + i] * value(q, j, channel);
                    sum_v += weights[j * pixels + i] * value(dout, j, channel);
                }
                let place = head.at(i, channel);
                dq[place] = sum_q as f32;
                dk[place] = sum_k as f32;
                dv[place] = sum_v as f32;
            }
        }
    }
}

/// Reference of [`crate::muon_step`]: the iteration as the paper writes it, on the whole matrix.
pub fn muon_step(muon: &MuonStep, shape: [usize; 2], p: &mut [f32], g: &[f32], m: &mut [f32]) {
    let [rows, columns] = shape;
    let (momentum, scale) = (f64::from(MOMENTUM), f64::from(muon.gradient_scale));
    let mut x = vec![0.0; p.len()];
    for i in 0..p.len() {
        let gradient = scale * f64::from(g[i]);
        let average = momentum * f64::from(m[i]) + (1.0 - momentum) * gradient;
        m[i] = average as f32;
        x[i] = momentum * average + (1.0 - momentum) * gradient;
    }
    let norm = x.iter().map(|value| value * value).sum::<f64>().sqrt() + 1e-12;
    x.iter_mut().for_each(|value| *value /= norm);
    // Entry (i, j) of a · b, where b has `columns` columns.
    let product = |a: &[f64], b: &[f64], rows: usize, inner: usize, columns: usize| {
        let entry = |at: usize| -> f64 {
            let (i, j) = (at / columns, at % columns);
            (0..inner).map(|k| a[i * inner + k] * b[k * columns + j]).sum()
        };
        (0..rows * columns).map(entry).collect::<Vec<f64>>()
    };
    let [a, b, c] = POLYNOMIAL.map(f64::from);
    for _ in 0..N_ITERATIONS {
        let turned: Vec<f64> = (0..x.len()).map(|at| x[at % rows * columns + at / rows]).collect();
        let gram = product(&x, &turned, rows, columns, rows);
        let square = product(&gram, &gram, rows, rows, rows);
        let step: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
        let moved = product(&step, &x, rows, rows, columns);
        x.iter_mut().zip(&moved).for_each(|(x, moved)| *x = a * *x + moved);
    }
    let rms = f64::from(UPDATE_RMS) * (rows.max(columns) as f64).sqrt();
    let (lr, decay) = (f64::from(muon.lr), f64::from(muon.weight_decay));
    for i in 0..p.len() {
        p[i] = (f64::from(p[i]) * (1.0 - lr * decay) - lr * rms * x[i]) as f32;
    }
}

/// Reference of [`crate::adam_step`].
pub fn adam_step(adam: &AdamStep, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let correction1 = 1.0 - f64::from(adam.beta1).powf(adam.step as f64);
    let correction2 = 1.0 - f64::from(adam.beta2).powf(adam.step as f64);
    let (beta1, beta2) = (f64::from(adam.beta1), f64::from(adam.beta2));
    for i in 0..p.len() {
        let gradient = f64::from(g[i]) * f64::from(adam.gradient_scale);
        let m64 = beta1 * f64::from(m[i]) + (1.0 - beta1) * gradient;
        let v64 = beta2 * f64::from(v[i]) + (1.0 - beta2) * gradient * gradient;
        let step = (m64 / correction1) / ((v64 / correction2).sqrt() + f64::from(adam.eps));
        let decayed = f64::from(p[i]) * (1.0 - f64::from(adam.lr) * f64::from(adam.weight_decay));
        p[i] = (decayed - f64::from(adam.lr) * step) as f32;
        m[i] = m64 as f32;
        v[i] = v64 as f32;
    }
}

/// Reference of [`crate::ema_update`].
pub fn ema_update(decay: f32, average: &mut [f32], values: &[f32]) {
    for (average, &value) in average.iter_mut().zip(values) {
        let (old, new) = (f64::from(*average), f64::from(value));
        *average = (old + (1.0 - f64::from(decay)) * (new - old)) as f32;
    }
}
