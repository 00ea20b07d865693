//! The operations of the forward pass in Burn's tensors.
//!
//! Feature maps are channels-last, contiguous in memory. Convolutions are told so by a permuted
//! view, and what they return lies in the same order.

use crate::unet::layers::{Attention, Layer, LayerId, LayerKind, ResidualBlock, Resolution};
use crate::unet::operations::{BlockInput, Operations};
use crate::unet::{Activation, UNet};
use burn_tensor::module::conv2d;
use burn_tensor::ops::ConvOptions;
use burn_tensor::{Tensor, TensorData, activation};
use kao_kernels::reference::dropout_factor;
use kao_kernels::{Dropout, Padding};

/// The parameters of a layer on the device.
#[derive(Clone, Debug)]
pub(super) struct LayerTensors {
    /// Of a linear layer or 1×1 convolution `[C_in, C_out]`; of a 3×3 convolution
    /// `[C_out, 9·C_in]`, the order in which Burn's kernels read it; of a normalization `[1, C]`.
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl LayerTensors {
    /// Those of every layer, from parameters in the order of [`UNet::values`].
    pub(super) fn of(network: &UNet, parameters: &[Tensor<1>]) -> Vec<Self> {
        let layers = network.layers().list.iter().zip(parameters.chunks_exact(2));
        let tensors = layers.map(|(layer, parameters)| LayerTensors {
            weight: weight(layer, parameters[0].clone()),
            bias: parameters[1].clone(),
        });
        tensors.collect()
    }
}

fn weight(layer: &Layer, values: Tensor<1>) -> Tensor<2> {
    let (c_in, c_out) = (layer.c_in, layer.c_out);
    match layer.kind {
        LayerKind::Linear | LayerKind::Conv1x1 => values.reshape([c_in, c_out]),
        // Transposed here once, or every pass would do it.
        LayerKind::Conv3x3(_) => {
            let filters = values.reshape([9 * c_in, c_out]).permute([1, 0]);
            filters.reshape([c_out * 9 * c_in]).reshape([c_out, 9 * c_in])
        }
        LayerKind::GroupNorm => values.reshape([1, c_out]),
    }
}

/// Runs the operations on the device of its parameters; where those are recorded, so are the
/// operations.
pub(super) struct BurnEngine<'a> {
    network: &'a UNet,
    layers: &'a [LayerTensors],
}

impl<'a> BurnEngine<'a> {
    pub(super) fn new(network: &'a UNet, layers: &'a [LayerTensors]) -> Self {
        BurnEngine { network, layers }
    }

    fn weight(&self, layer: LayerId) -> Tensor<2> {
        self.layers[layer.index()].weight.clone()
    }

    fn bias(&self, layer: LayerId) -> Tensor<1> {
        self.layers[layer.index()].bias.clone()
    }

    fn activate<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.network.config().activation {
            Activation::Hardswish => x.clone() * (x + 3.0).clamp(0.0, 6.0).div_scalar(6.0),
            Activation::Silu => activation::silu(x),
        }
    }

    /// `[rows, C_in]` to `[rows, C_out]`.
    fn matrix(&self, x: Tensor<2>, layer: LayerId) -> Tensor<2> {
        x.matmul(self.weight(layer)) + self.bias(layer).unsqueeze()
    }

    fn conv1x1(&self, x: Tensor<4>, layer: LayerId) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let y = self.matrix(x.reshape([n * h * w, c]), layer);
        let c_out = y.dims()[1];
        y.reshape([n, h, w, c_out])
    }

    fn convolution(&self, x: Tensor<4>, id: LayerId) -> Tensor<4> {
        let layer = self.network.layers().get(id);
        let LayerKind::Conv3x3(resolution) = layer.kind else {
            unreachable!("the list of layers says which are 3×3 convolutions")
        };
        let (x, stride, padding) = match resolution {
            Resolution::SameSize => (x, 1, 1),
            Resolution::Stride2(Padding::Around) => (x, 2, 1),
            Resolution::Stride2(Padding::Behind) => (padded_behind(x), 2, 0),
            Resolution::Upsampled => (upsample(x), 1, 1),
        };
        let weight = self.weight(id).reshape([layer.c_out, 3, 3, layer.c_in]);
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        let channels_second = [0, 3, 1, 2];
        let (x, weight) = (x.permute(channels_second), weight.permute(channels_second));
        let y = conv2d(x, weight, Some(self.bias(id)), options);
        y.permute([0, 2, 3, 1])
    }

    fn norm(&self, x: Tensor<4>, id: LayerId) -> Tensor<4> {
        let groups = self.network.config().norm_groups;
        let [n, h, w, c] = x.dims();
        // Sums over pixels first: they run along memory, and what is left is small.
        let pixels = x.reshape([n, h * w, c]);
        let count = (h * w * c / groups) as f64;
        let per_group =
            |sums: Tensor<3>| sums.reshape([n, groups, c / groups]).sum_dim(2).div_scalar(count);
        let spread = |values: Tensor<3>| values.expand([n, groups, c / groups]).reshape([n, 1, c]);
        let mean = spread(per_group(pixels.clone().sum_dim(1)));
        let centred = pixels - mean;
        let variance = per_group((centred.clone() * centred.clone()).sum_dim(1));
        let deviation = (variance + self.network.config().norm_eps).sqrt();
        let scale = spread(deviation.recip()) * self.weight(id).reshape([1, 1, c]);
        (centred * scale + self.bias(id).reshape([1, 1, c])).reshape([n, h, w, c])
    }
}

impl Operations for BurnEngine<'_> {
    type Map = Tensor<4>;
    type Rows = Tensor<2>;

    fn linear(&mut self, x: &Tensor<2>, layer: LayerId) -> Tensor<2> {
        self.matrix(x.clone(), layer)
    }

    fn activation(&mut self, x: Tensor<2>) -> Tensor<2> {
        self.activate(x)
    }

    fn conv3x3(&mut self, x: Tensor<4>, norm: Option<LayerId>, conv: LayerId) -> Tensor<4> {
        let x = match norm {
            Some(norm) => self.activate(self.norm(x, norm)),
            None => x,
        };
        self.convolution(x, conv)
    }

    fn add_rows(&mut self, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        a + b
    }

    fn to_pixels(&mut self, first: Tensor<4>, second: Tensor<4>) -> Tensor<4> {
        let p = self.network.config().patch_size;
        let x = Tensor::cat(vec![first, second], 3);
        let [n, h, w, c] = x.dims();
        let c = c / (p * p);
        let x = x.reshape([n, h, w, c, p, p]).permute([0, 1, 4, 2, 5, 3]);
        x.reshape([n, h * p, w * p, c])
    }

    fn add_first_channels(&mut self, y: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let c = y.dims()[3];
        y + x.narrow(3, 0, c)
    }

    fn residual_block(
        &mut self,
        input: BlockInput<Tensor<4>>,
        time: Tensor<2>,
        block: &ResidualBlock,
        dropout: Option<Dropout>,
    ) -> Tensor<4> {
        let x = match input.skip {
            Some(skip) => Tensor::cat(vec![input.x, skip], 3),
            None => input.x,
        };
        let h = self.activate(self.norm(x.clone(), block.norm1));
        let h = self.convolution(h, block.conv1);
        let [n, _, _, c] = h.dims();
        let rows = |first: usize| time.clone().narrow(1, first, c).reshape([n, 1, 1, c]);
        let h = match block.scale_shift {
            true => self.norm(h, block.norm2) * (rows(0) + 1.0) + rows(c),
            false => self.norm(h + rows(0), block.norm2),
        };
        let mut h = self.activate(h);
        if let Some(dropout) = dropout {
            h = h.clone() * mask(dropout, &h);
        }
        let around = match block.shortcut {
            Some(shortcut) => self.conv1x1(x, shortcut),
            None => x,
        };
        self.convolution(h, block.conv2) + around
    }

    fn attention(&mut self, x: Tensor<4>, layers: &Attention) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let normalized = self.norm(x.clone(), layers.norm);
        let heads = layers.heads;
        // Of each head a matrix of its own.
        let [q, k, v] = [layers.q, layers.k, layers.v].map(|layer| {
            let y = self.conv1x1(normalized.clone(), layer);
            y.reshape([n, h * w, heads, c / heads]).swap_dims(1, 2)
        });
        let scale = (c as f64 / heads as f64).powf(-0.5);
        let weights = activation::softmax(q.matmul(k.swap_dims(2, 3)).mul_scalar(scale), 3);
        let attended = weights.matmul(v).swap_dims(1, 2).reshape([n, h, w, c]);
        x + self.conv1x1(attended, layers.proj)
    }
}

/// With a row of zeros at the bottom and a column at the right.
fn padded_behind(x: Tensor<4>) -> Tensor<4> {
    let ([n, h, w, c], device) = (x.dims(), x.device());
    let x = Tensor::cat(vec![x, Tensor::zeros([n, 1, w, c], &device)], 1);
    Tensor::cat(vec![x, Tensor::zeros([n, h + 1, 1, c], &device)], 2)
}

/// Each pixel as a square of four.
fn upsample(x: Tensor<4>) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let wide = x.reshape([n, h, 1, w, 1, c]).expand([n, h, 2, w, 2, c]);
    wide.reshape([n, 2 * h, 2 * w, c])
}

/// The factors of the dropout, of the shape of `like`: those of the CPU, to the bit.
fn mask(dropout: Dropout, like: &Tensor<4>) -> Tensor<4> {
    let shape = like.dims();
    let factor = |i| dropout_factor(dropout, i) as f32;
    let factors: Vec<f32> = (0..shape.iter().product()).map(factor).collect();
    Tensor::from_data(TensorData::new(factors, shape), &like.device())
}
