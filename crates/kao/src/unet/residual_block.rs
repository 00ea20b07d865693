//! The residual block: two convolutions, the time embedding between them, a shortcut around them.

use super::attention::Attention;
use super::config::Activation;
use super::layers::{Conv3x3, GroupNorm, Initializer, Linear};
use super::ops::{self, Addends, Dropout, Features, Prologue};
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
        let normalized =
            |norm, dropout| Some(Prologue { norm, activation: Some(self.activation), dropout });
        let image_bias = Some(ops::linear(time, &self.time));
        let h = ops::conv3x3(
            x.clone(),
            normalized(&self.norm1, None),
            &self.conv1,
            Addends { image_bias, residual: None },
        );
        let residual = Some(match &self.shortcut {
            Some(shortcut) => ops::conv1x1(x, shortcut, None),
            None => x.joined(),
        });
        let h = ops::conv3x3(
            h.into(),
            normalized(&self.norm2, dropout),
            &self.conv2,
            Addends { image_bias: None, residual },
        );
        match &self.attention {
            Some(attention) => attention.forward(h),
            None => h,
        }
    }
}
