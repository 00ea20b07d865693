//! The operations on the CPU, by the kernels of `kao-kernels`, with hand-written gradients.
//!
//! What they mean is said by `stock`; here is only how they are computed. One file per operation;
//! `bridge` knows Burn, the others know the kernels.

mod attention;
mod bridge;
mod convolution;
mod linear;
mod normalization;
mod residual_block;

use super::{AttentionLayers, Dropout, Features, Prologue, ResidualLayers};
use crate::unet::config::Activation;
use crate::unet::layers::{Conv3x3, Linear};
pub(in crate::unet) use attention::{PreparedAttention, Projection};
use bridge::run;
use burn::backend::DispatchTensor;
use burn::module::Param;
use burn::tensor::Tensor;
use convolution::{Convolution, Resolution};

pub(super) fn conv3x3(x: Tensor<4>, prologue: Option<Prologue<'_>>, conv: &Conv3x3) -> Tensor<4> {
    let norm = prologue.map(|prologue| prologue.norm);
    let operation = Convolution {
        resolution: Resolution::Same,
        norm_groups: norm.map_or(1, |norm| norm.groups),
        activation: kernel_activation(prologue.map(|prologue| prologue.activation)),
        prepared: conv.prepared.clone(),
    };
    let gamma = norm.and_then(|norm| parameter(&norm.gamma));
    let beta = norm.and_then(|norm| parameter(&norm.beta));
    let [weight, bias] = conv3x3_parameters(conv);
    run(operation, [Some(x.into_dispatch()), weight, bias, gamma, beta])
}

pub(super) fn downsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    resample(x, conv, Resolution::Halved)
}

pub(super) fn upsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    resample(x, conv, Resolution::Doubled)
}

fn resample(x: Tensor<4>, conv: &Conv3x3, resolution: Resolution) -> Tensor<4> {
    let activation = kernel_activation(None);
    let prepared = conv.prepared.clone();
    let operation = Convolution { resolution, norm_groups: 1, activation, prepared };
    let [weight, bias] = conv3x3_parameters(conv);
    run(operation, [Some(x.into_dispatch()), weight, bias, None, None])
}

pub(super) fn residual_block(
    x: Features,
    image_bias: Tensor<2>,
    layers: ResidualLayers<'_>,
    dropout: Option<Dropout>,
) -> Tensor<4> {
    let ResidualLayers { norm1, conv1, norm2, conv2, shortcut, activation } = layers;
    let operation = residual_block::ResidualBlock {
        norm_groups: norm1.groups,
        activation: kernel_activation(Some(activation)),
        dropout,
        prepared: [conv1.prepared.clone(), conv2.prepared.clone()],
        prepared_shortcut: shortcut.and_then(|shortcut| shortcut.prepared.clone()),
    };
    let (x, skip) = match x {
        Features::Whole(x) => (x, None),
        Features::Pair(x, skip) => (x, Some(skip.into_dispatch())),
    };
    let [weight1, bias1] = conv3x3_parameters(conv1);
    let [weight2, bias2] = conv3x3_parameters(conv2);
    let [weight, bias] = shortcut.map_or([None, None], matrix_parameters);
    let operands = [
        Some(x.into_dispatch()),
        skip,
        Some(image_bias.into_dispatch()),
        parameter(&norm1.gamma),
        parameter(&norm1.beta),
        weight1,
        bias1,
        parameter(&norm2.gamma),
        parameter(&norm2.beta),
        weight2,
        bias2,
        weight,
        bias,
    ];
    run(operation, operands)
}

pub(super) fn attention(x: Tensor<4>, layers: AttentionLayers<'_>) -> Tensor<4> {
    let AttentionLayers { norm, q, k, v, proj, prepared } = layers;
    let operation = attention::Attention { norm_groups: norm.groups, prepared: prepared.cloned() };
    let [[weight_q, bias_q], [weight_k, bias_k], [weight_v, bias_v], [weight, bias]] =
        [q, k, v, proj].map(matrix_parameters);
    let operands = [
        Some(x.into_dispatch()),
        parameter(&norm.gamma),
        parameter(&norm.beta),
        weight_q,
        bias_q,
        weight_k,
        bias_k,
        weight_v,
        bias_v,
        weight,
        bias,
    ];
    run(operation, operands)
}

pub(super) fn linear(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    let [weight, bias] = matrix_parameters(layer);
    let operation = linear::Linear { prepared: layer.prepared.clone() };
    run(operation, [Some(x.into_dispatch()), weight, bias])
}

pub(super) fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    let operation = linear::Pointwise(kernel_activation(Some(activation)));
    run(operation, [Some(x.into_dispatch())])
}

fn conv3x3_parameters(conv: &Conv3x3) -> [Option<DispatchTensor>; 2] {
    [parameter(&conv.weight), parameter(&conv.bias)]
}

fn matrix_parameters(layer: &Linear) -> [Option<DispatchTensor>; 2] {
    [parameter(&layer.weight), parameter(&layer.bias)]
}

fn parameter<const D: usize>(parameter: &Param<Tensor<D>>) -> Option<DispatchTensor> {
    Some(parameter.val().into_dispatch())
}

fn kernel_activation(activation: Option<Activation>) -> kao_kernels::Activation {
    match activation {
        None => kao_kernels::Activation::Identity,
        Some(Activation::Silu) => kao_kernels::Activation::Silu,
        Some(Activation::Hardswish) => kao_kernels::Activation::Hardswish,
    }
}
