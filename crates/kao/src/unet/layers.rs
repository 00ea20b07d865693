//! The elementary layers: parameters and nothing else.
//!
//! What is computed with them is in `ops`. Weights lie as the channels-last kernels want them; how
//! they lie in files is for `parameters` to know.

use crate::noise::{Purpose, Stream};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kao_kernels::{PreparedConv1x1, PreparedConv3x3, PreparedConv3x3Stride2};
use std::sync::Arc;

/// Draws initial values: PyTorch's default for convolutions and linear layers, uniform within
/// ±1/√(fan in), weights and biases alike; each parameter from a stream of its own.
pub(super) struct Initializer<'a> {
    /// Without one, what would be random is zero.
    pub(super) seed: Option<u64>,
    pub(super) device: &'a Device,
    pub(super) norm_groups: usize,
    pub(super) n_drawn: u64,
}

impl Initializer<'_> {
    fn uniform<const D: usize>(&mut self, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        let n = shape.iter().product();
        let Some(seed) = self.seed else { return self.parameter(vec![0.0; n], shape) };
        let mut stream = Stream::new(seed, Purpose::Initialization, self.n_drawn, 0);
        self.n_drawn += 1;
        let bound = 1.0 / (fan_in as f64).sqrt();
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
    /// The weights as the kernels want them; see `UNet::prepared`.
    #[module(skip)]
    pub(super) prepared: Option<PreparedConv>,
}

/// Weights of a [`Conv3x3`] that were prepared for what it is used for.
#[derive(Clone, Debug)]
pub(super) enum PreparedConv {
    /// Stride 1, behind an upsampling or not.
    Keeping(Arc<PreparedConv3x3>),
    /// Stride 2.
    Halving(Arc<PreparedConv3x3Stride2>),
}

/// Whether prepared weights are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Preparation {
    Make,
    Drop,
}

/// Weights of a [`Linear`], prepared.
pub(super) type PreparedMatrix = Arc<PreparedConv1x1>;

impl Conv3x3 {
    pub(super) fn init(c_in: usize, c_out: usize, init: &mut Initializer<'_>) -> Self {
        let fan_in = 9 * c_in;
        Conv3x3 {
            weight: init.uniform([3, 3, c_in, c_out], fan_in),
            bias: init.uniform([c_out], fan_in),
            prepared: None,
        }
    }

    /// For use at stride 1.
    pub(super) fn prepare(&mut self, preparation: Preparation) {
        self.prepare_as(preparation, |weight, c_in, c_out| {
            PreparedConv::Keeping(Arc::new(PreparedConv3x3::new(weight, c_in, c_out)))
        });
    }

    /// For use behind an upsampling.
    pub(super) fn prepare_doubling(&mut self, preparation: Preparation) {
        self.prepare_as(preparation, |weight, c_in, c_out| {
            PreparedConv::Keeping(Arc::new(PreparedConv3x3::for_upsampled(weight, c_in, c_out)))
        });
    }

    /// For use at stride 2.
    pub(super) fn prepare_halving(&mut self, preparation: Preparation) {
        self.prepare_as(preparation, |weight, c_in, c_out| {
            PreparedConv::Halving(Arc::new(PreparedConv3x3Stride2::new(weight, c_in, c_out)))
        });
    }

    fn prepare_as(
        &mut self,
        preparation: Preparation,
        make: impl FnOnce(&[f32], usize, usize) -> PreparedConv,
    ) {
        self.prepared = (preparation == Preparation::Make).then(|| {
            let [_, _, c_in, c_out] = self.weight.dims();
            make(&host_values(&self.weight), c_in, c_out)
        });
    }
}

/// A matrix and a bias: a linear layer, or a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[C_in, C_out]`.
    pub weight: Param<Tensor<2>>,
    /// `[C_out]`.
    pub bias: Param<Tensor<1>>,
    /// The weights as the kernels want them; see `UNet::prepared`.
    #[module(skip)]
    pub(super) prepared: Option<PreparedMatrix>,
}

impl Linear {
    pub(super) fn init(c_in: usize, c_out: usize, init: &mut Initializer<'_>) -> Self {
        Linear {
            weight: init.uniform([c_in, c_out], c_in),
            bias: init.uniform([c_out], c_in),
            prepared: None,
        }
    }

    pub(super) fn prepare(&mut self, preparation: Preparation) {
        self.prepared = (preparation == Preparation::Make).then(|| {
            let [c_in, c_out] = self.weight.dims();
            Arc::new(PreparedConv1x1::new(&host_values(&self.weight), c_in, c_out))
        });
    }
}

/// The affine part of a group normalization.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[C]`.
    pub gamma: Param<Tensor<1>>,
    /// `[C]`.
    pub beta: Param<Tensor<1>>,
    /// Divides C.
    #[module(skip)]
    pub groups: usize,
}

impl GroupNorm {
    pub(super) fn init(width: usize, init: &mut Initializer<'_>) -> Self {
        let (gamma, beta) = (init.filled(1.0, width), init.filled(0.0, width));
        GroupNorm { gamma, beta, groups: init.norm_groups }
    }
}

pub(super) fn host_values<const D: usize>(weight: &Param<Tensor<D>>) -> Vec<f32> {
    weight.val().into_data().try_into_vec().expect("parameters are f32")
}
