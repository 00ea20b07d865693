//! Single-head self-attention over the pixels, as a residual.

use super::layers::{GroupNorm, Initializer, Linear};
use super::ops::{self, Prologue};
use burn::module::Module;
use burn::tensor::Tensor;

/// x + proj(softmax(q·kᵀ · C^-½)·v), with q, k and v from the normalized x.
#[derive(Module, Debug)]
pub struct Attention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
}

impl Attention {
    pub(super) fn init(width: usize, init: &mut Initializer<'_>) -> Self {
        let norm = GroupNorm::init(width, init);
        let [q, k, v, proj] = [(); 4].map(|()| Linear::init(width, width, init));
        Attention { norm, q, k, v, proj }
    }

    /// `[N, H, W, C]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let prologue = Prologue { norm: &self.norm, activation: None, dropout: None };
        let h = ops::group_norm(x.clone(), prologue);
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|layer| ops::conv1x1(h.clone().into(), layer, None));
        ops::conv1x1(ops::attention(q, k, v).into(), &self.proj, Some(x))
    }
}
