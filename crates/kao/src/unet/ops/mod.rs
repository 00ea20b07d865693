//! The operations of the network: the one place where it is decided how they are computed.
//!
//! Blocks call these and nothing else. Feature maps are channels-last, `[N, H, W, C]`. Each
//! operation is as large as fusion pays (normalization, activation and dropout on the way into a
//! convolution; biases and the residual on the way out).

mod stock;

use super::config::Activation;
use super::layers::{Conv3x3, GroupNorm, Linear};
use burn::tensor::Tensor;
pub use kao_kernels::Dropout;

/// A feature map, or two that lie side by side along the channels.
#[derive(Clone, Debug)]
pub enum Features {
    /// `[N, H, W, C]`.
    Whole(Tensor<4>),
    /// `[N, H, W, C_first]` and `[N, H, W, C_second]`, meaning their concatenation.
    Pair(Tensor<4>, Tensor<4>),
}

impl From<Tensor<4>> for Features {
    fn from(x: Tensor<4>) -> Self {
        Features::Whole(x)
    }
}

impl Features {
    /// Channels of all parts together.
    pub fn channels(&self) -> usize {
        match self {
            Features::Whole(x) => x.dims()[3],
            Features::Pair(first, second) => first.dims()[3] + second.dims()[3],
        }
    }

    /// As one tensor.
    pub fn joined(self) -> Tensor<4> {
        match self {
            Features::Whole(x) => x,
            Features::Pair(first, second) => Tensor::cat(vec![first, second], 3),
        }
    }
}

/// Normalization over 32 groups, then the activation, then dropout.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a> {
    /// Scale and shift.
    pub norm: &'a GroupNorm,
    /// Applied after them; none in attention.
    pub activation: Option<Activation>,
    /// Applied last; none outside training.
    pub dropout: Option<Dropout>,
}

/// What is added to a convolution's output.
#[derive(Clone, Debug, Default)]
pub struct Addends {
    /// `[N, C_out]`, the same for all pixels of an image.
    pub image_bias: Option<Tensor<2>>,
    /// `[N, H, W, C_out]`.
    pub residual: Option<Tensor<4>>,
}

/// 3×3 convolution, stride 1, padding 1: `[N, H, W, C_in]` to `[N, H, W, C_out]`.
pub fn conv3x3(
    x: Features,
    prologue: Option<Prologue<'_>>,
    conv: &Conv3x3,
    addends: Addends,
) -> Tensor<4> {
    stock::conv3x3(x, prologue, conv, addends)
}

/// 3×3 convolution, stride 2, padding 1: `[N, H, W, C]` to `[N, H/2, W/2, C_out]`.
pub fn downsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    stock::downsample(x, conv)
}

/// Nearest ×2, then a 3×3 convolution: `[N, H, W, C]` to `[N, 2H, 2W, C_out]`.
pub fn upsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    stock::upsample(x, conv)
}

/// 1×1 convolution: `[N, H, W, C_in]` to `[N, H, W, C_out]`.
pub fn conv1x1(x: Features, conv: &Linear, residual: Option<Tensor<4>>) -> Tensor<4> {
    stock::conv1x1(x, conv, residual)
}

/// Normalization (with what follows it) alone: `[N, H, W, C]` to the same.
pub fn group_norm(x: Tensor<4>, prologue: Prologue<'_>) -> Tensor<4> {
    stock::group_norm(x, prologue)
}

/// softmax(q·kᵀ · C^-½)·v over the pixels of each image, one head; all `[N, H, W, C]`.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    stock::attention(q, k, v)
}

/// Fully connected layer: `[N, C_in]` to `[N, C_out]`.
pub fn linear(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    stock::linear(x, layer)
}

/// The activation alone.
pub fn activation(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    stock::activate(x, activation)
}
