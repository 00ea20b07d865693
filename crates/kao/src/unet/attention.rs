//! Single-head self-attention over the pixels, as a residual.

use super::layers::{GroupNorm, Initializer, Linear, Preparation, host_values};
use super::ops::{self, AttentionLayers, PreparedAttention, Projection};
use burn::module::Module;
use burn::tensor::Tensor;
use std::sync::Arc;

/// x + proj(softmax(q·kᵀ · C^-½)·v), with q, k and v from the normalized x.
#[derive(Module, Debug)]
pub struct Attention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
    /// See `UNet::prepared`.
    #[module(skip)]
    prepared: Option<Arc<PreparedAttention>>,
}

impl Attention {
    pub(super) fn init(width: usize, init: &mut Initializer<'_>) -> Self {
        let norm = GroupNorm::init(width, init);
        let [q, k, v, proj] = [(); 4].map(|()| Linear::init(width, width, init));
        Attention { norm, q, k, v, proj, prepared: None }
    }

    /// `[N, H, W, C]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Attention { norm, q, k, v, proj, prepared } = self;
        let prepared = prepared.as_ref();
        ops::attention(x, AttentionLayers { norm, q, k, v, proj, prepared })
    }

    /// See `UNet::prepared`.
    pub(super) fn prepare(&mut self, preparation: Preparation) {
        let Attention { q, k, v, proj, .. } = &*self;
        self.prepared = (preparation == Preparation::Make).then(|| {
            let layers = [q, k, v, proj].map(|layer| {
                let Linear { weight, bias, .. } = layer;
                (host_values(weight), host_values(bias))
            });
            let projections = layers.each_ref().map(|(weight, bias)| Projection { weight, bias });
            Arc::new(PreparedAttention::new(projections))
        });
    }
}
