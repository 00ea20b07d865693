//! Single-head self-attention over the pixels, as a residual.

use super::layers::{GroupNorm, Initializer, Linear, Preparation};
use super::ops::{self, AttentionLayers};
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
        let Attention { norm, q, k, v, proj } = self;
        ops::attention(x, AttentionLayers { norm, q, k, v, proj })
    }

    /// See `UNet::prepared`.
    pub(super) fn prepare(&mut self, preparation: Preparation) {
        let Attention { q, k, v, proj, .. } = self;
        [q, k, v, proj].into_iter().for_each(|layer| layer.prepare(preparation));
    }
}
