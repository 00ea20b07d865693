//! The residual block: two convolutions, the time embedding between them, a shortcut around them.

use super::attention::Attention;
use super::config::Activation;
use super::layers::{Conv3x3, GroupNorm, Initializer, Linear, Preparation};
use super::ops::{self, Dropout, Features, ResidualLayers};
use burn::module::Module;
use burn::tensor::Tensor;

/// One residual block, with attention after it where the level has it.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv3x3,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv3x3,
    shortcut: Option<Linear>,
    attention: Option<Attention>,
    #[module(skip)]
    activation: Activation,
}

impl ResidualBlock {
    pub(super) fn init(
        [c_in, c_out]: [usize; 2],
        time_width: usize,
        has_attention: bool,
        activation: Activation,
        init: &mut Initializer<'_>,
    ) -> Self {
        ResidualBlock {
            norm1: GroupNorm::init(c_in, init),
            conv1: Conv3x3::init(c_in, c_out, init),
            time: Linear::init(time_width, c_out, init),
            norm2: GroupNorm::init(c_out, init),
            conv2: Conv3x3::init(c_out, c_out, init),
            shortcut: (c_in != c_out).then(|| Linear::init(c_in, c_out, init)),
            attention: has_attention.then(|| Attention::init(c_out, init)),
            activation,
        }
    }

    /// `x` of `[N, H, W, C_in]` to `[N, H, W, C_out]`; `time` is the activated time embedding,
    /// `[N, 4·ch]`.
    pub fn forward(&self, x: Features, time: Tensor<2>, dropout: Option<Dropout>) -> Tensor<4> {
        let image_bias = ops::linear(time, &self.time);
        let layers = ResidualLayers {
            norm1: &self.norm1,
            conv1: &self.conv1,
            norm2: &self.norm2,
            conv2: &self.conv2,
            shortcut: self.shortcut.as_ref(),
            activation: self.activation,
        };
        let h = ops::residual_block(x, image_bias, layers, dropout);
        match &self.attention {
            Some(attention) => attention.forward(h),
            None => h,
        }
    }

    /// See `UNet::prepared`.
    pub(super) fn prepare(&mut self, preparation: Preparation) {
        self.conv1.prepare(preparation);
        self.time.prepare(preparation);
        self.conv2.prepare(preparation);
        self.shortcut.iter_mut().for_each(|layer| layer.prepare(preparation));
        self.attention.iter_mut().for_each(|attention| attention.prepare(preparation));
    }
}
