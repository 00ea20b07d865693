//! The operations in stock Burn, for every device: the meaning of the fast ones.

use super::{AttentionLayers, Dropout, Features, Prologue, ResidualLayers};
use crate::unet::config::Activation;
use crate::unet::layers::{Conv3x3, GroupNorm, Linear};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData, activation};
use kao_kernels::reference::dropout_factor;

const NORM_EPSILON: f64 = 1e-5;

pub(super) fn conv3x3(x: Tensor<4>, prologue: Option<Prologue<'_>>, conv: &Conv3x3) -> Tensor<4> {
    let x = match prologue {
        Some(Prologue { norm, activation }) => activate(group_norm(x, norm), activation),
        None => x,
    };
    convolve(x, conv, 1)
}

pub(super) fn downsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    convolve(x, conv, 2)
}

pub(super) fn upsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let wide = x.reshape([n, h, 1, w, 1, c]).expand([n, h, 2, w, 2, c]);
    convolve(wide.reshape([n, 2 * h, 2 * w, c]), conv, 1)
}

pub(super) fn residual_block(
    x: Features,
    image_bias: Tensor<2>,
    layers: ResidualLayers<'_>,
    dropout: Option<Dropout>,
) -> Tensor<4> {
    let ResidualLayers { norm1, conv1, norm2, conv2, shortcut, activation } = layers;
    let x = x.joined();
    let h = convolve(activate(group_norm(x.clone(), norm1), activation), conv1, 1);
    let [n, c] = image_bias.dims();
    let h = h + image_bias.reshape([n, 1, 1, c]);
    let mut h = activate(group_norm(h, norm2), activation);
    if let Some(dropout) = dropout {
        h = h.clone() * mask(dropout, &h);
    }
    let around = match shortcut {
        Some(shortcut) => conv1x1(x, shortcut),
        None => x,
    };
    convolve(h, conv2, 1) + around
}

pub(super) fn attention(x: Tensor<4>, layers: AttentionLayers<'_>) -> Tensor<4> {
    let AttentionLayers { norm, q, k, v, proj, .. } = layers;
    let [n, h, w, c] = x.dims();
    let normalized = group_norm(x.clone(), norm);
    let [q, k, v] =
        [q, k, v].map(|layer| conv1x1(normalized.clone(), layer).reshape([n, h * w, c]));
    let scale = (c as f64).powf(-0.5);
    let weights = activation::softmax(q.matmul(k.swap_dims(1, 2)).mul_scalar(scale), 2);
    x + conv1x1(weights.matmul(v).reshape([n, h, w, c]), proj)
}

fn conv1x1(x: Tensor<4>, conv: &Linear) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let y = linear(x.reshape([n * h * w, c]), conv);
    let c_out = y.dims()[1];
    y.reshape([n, h, w, c_out])
}

fn group_norm(x: Tensor<4>, norm: &GroupNorm) -> Tensor<4> {
    let GroupNorm { gamma, beta, groups } = norm;
    let groups = *groups;
    let [n, h, w, c] = x.dims();
    // Sums over pixels first: they run along memory, and what is left is small.
    let pixels = x.clone().reshape([n, h * w, c]);
    let count = (h * w * c / groups) as f64;
    let per_group =
        |sums: Tensor<3>| sums.reshape([n, groups, c / groups]).sum_dim(2).div_scalar(count);
    let spread = |values: Tensor<3>| values.expand([n, groups, c / groups]).reshape([n, 1, c]);
    let mean = spread(per_group(pixels.clone().sum_dim(1)));
    let centred = pixels - mean;
    let variance = per_group((centred.clone() * centred.clone()).sum_dim(1));
    let scale = spread((variance + NORM_EPSILON).sqrt().recip()) * gamma.val().reshape([1, 1, c]);
    (centred * scale + beta.val().reshape([1, 1, c])).reshape([n, h, w, c])
}

pub(super) fn linear(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    x.matmul(layer.weight.val()) + layer.bias.val().unsqueeze()
}

pub(super) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Hardswish => x.clone() * (x + 3.0).clamp(0.0, 6.0).div_scalar(6.0),
        Activation::Silu => activation::silu(x),
    }
}

/// `[N, H, W, C_in]` to `[N, H/stride, W/stride, C_out]`, padding 1.
fn convolve(x: Tensor<4>, conv: &Conv3x3, stride: usize) -> Tensor<4> {
    let options = ConvOptions::new([stride; 2], [1; 2], [1; 2], 1);
    let weight = conv.weight.val().permute([3, 2, 0, 1]);
    let y = conv2d(x.permute([0, 3, 1, 2]), weight, Some(conv.bias.val()), options);
    let [n, c, h, w] = y.dims();
    // The reshape lays the permuted view out anew: elementwise work on views is slow.
    y.permute([0, 2, 3, 1]).reshape([n * h * w, c]).reshape([n, h, w, c])
}

/// The factors of the dropout, of the shape of `like`.
fn mask(dropout: Dropout, like: &Tensor<4>) -> Tensor<4> {
    let shape = like.dims();
    let factor = |i| dropout_factor(dropout, i) as f32;
    let factors: Vec<f32> = (0..shape.iter().product()).map(factor).collect();
    Tensor::from_data(TensorData::new(factors, shape), &like.device())
}
