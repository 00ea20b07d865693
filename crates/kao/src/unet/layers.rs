//! The elementary layers: parameters and nothing else.
//!
//! What is computed with them is in `ops`. Weights lie as the channels-last kernels want them; how
//! they lie in files is for `parameters` to know.

use crate::noise::{Purpose, Stream};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

/// Draws initial values: PyTorch's default for convolutions and linear layers, uniform within
/// ±1/√(fan in), weights and biases alike; each parameter from a stream of its own.
pub(super) struct Initializer<'a> {
    pub(super) seed: u64,
    pub(super) device: &'a Device,
    pub(super) n_drawn: u64,
}

impl Initializer<'_> {
    fn uniform<const D: usize>(&mut self, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        let mut stream = Stream::new(self.seed, Purpose::Initialization, self.n_drawn, 0);
        self.n_drawn += 1;
        let bound = 1.0 / (fan_in as f64).sqrt();
        let n = shape.iter().product();
        let values: Vec<f32> =
            (0..n).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect();
        self.parameter(values, shape)
    }

    fn filled(&self, value: f32, length: usize) -> Param<Tensor<1>> {
        self.parameter(vec![value; length], [length])
    }

    fn parameter<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), self.device)
    }
}

/// A 3×3 convolution with bias. What stride or upsampling it runs at is not its business.
#[derive(Module, Debug)]
pub struct Conv3x3 {
    /// `[3, 3, C_in, C_out]`.
    pub weight: Param<Tensor<4>>,
    /// `[C_out]`.
    pub bias: Param<Tensor<1>>,
}

impl Conv3x3 {
    pub(super) fn init(c_in: usize, c_out: usize, init: &mut Initializer<'_>) -> Self {
        let fan_in = 9 * c_in;
        Conv3x3 {
            weight: init.uniform([3, 3, c_in, c_out], fan_in),
            bias: init.uniform([c_out], fan_in),
        }
    }
}

/// A matrix and a bias: a linear layer, or a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[C_in, C_out]`.
    pub weight: Param<Tensor<2>>,
    /// `[C_out]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    pub(super) fn init(c_in: usize, c_out: usize, init: &mut Initializer<'_>) -> Self {
        Linear { weight: init.uniform([c_in, c_out], c_in), bias: init.uniform([c_out], c_in) }
    }
}

/// The affine part of a group normalization.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[C]`.
    pub gamma: Param<Tensor<1>>,
    /// `[C]`.
    pub beta: Param<Tensor<1>>,
}

impl GroupNorm {
    pub(super) fn init(width: usize, init: &mut Initializer<'_>) -> Self {
        GroupNorm { gamma: init.filled(1.0, width), beta: init.filled(0.0, width) }
    }
}
