//! Weights as the kernels multiply with them.
//!
//! In training they change with every step, and the kernels bring them into their form on the way.
//! For sampling they are prepared once. There is no cache to forget: whoever samples owns them, and
//! the network that they belong to cannot change meanwhile.

use super::CpuEngine;
use super::attention::{PreparedAttention, Projection};
use crate::unet::UNet;
use crate::unet::layers::{Attention, Layer, LayerId, LayerKind, Resolution};
use kao_kernels::{PreparedConv1x1, PreparedConv3x3, PreparedConv3x3Stride2, Weights};
use std::sync::OnceLock;

/// The weights of a network, layer by layer, each prepared when it is first used. They take up to
/// four times the memory of the plain ones.
#[derive(Debug)]
pub(in crate::unet) struct Prepared {
    layers: Vec<OnceLock<PreparedLayer>>,
}

#[derive(Debug)]
enum PreparedLayer {
    Matrix(PreparedConv1x1),
    Conv3x3(PreparedConv3x3),
    Stride2(PreparedConv3x3Stride2),
    /// All projections of an attention, in the place of the first.
    Attention(PreparedAttention),
}

impl Prepared {
    pub(in crate::unet) fn new(network: &UNet) -> Self {
        Prepared { layers: network.layers().list.iter().map(|_| OnceLock::new()).collect() }
    }
}

impl<'a> CpuEngine<'a> {
    /// The layer `id` as `prepare` makes it of its weight and channels, where a network is used
    /// for more than one pass.
    fn prepared_layer(
        &self,
        id: LayerId,
        prepare: impl FnOnce(&[f32], usize, usize) -> PreparedLayer,
    ) -> Option<&'a PreparedLayer> {
        let place = &self.prepared?.layers[id.index()];
        let Layer { c_in, c_out, .. } = self.layer(id);
        Some(place.get_or_init(|| prepare(self.weight(id), *c_in, *c_out)))
    }

    pub(super) fn matrix(&self, id: LayerId) -> Weights<'a, PreparedConv1x1> {
        let prepared = self.prepared_layer(id, |weight, c_in, c_out| {
            PreparedLayer::Matrix(PreparedConv1x1::new(weight, c_in, c_out))
        });
        match prepared {
            Some(PreparedLayer::Matrix(prepared)) => Weights::Prepared(prepared),
            _ => Weights::Plain(self.weight(id)),
        }
    }

    /// The weights of a 3×3 convolution at stride 1, for a pass of so many images.
    pub(super) fn conv3x3_weights(
        &self,
        id: LayerId,
        n_images: usize,
    ) -> Weights<'a, PreparedConv3x3> {
        let layer = self.layer(id);
        let upsampled = layer.kind == LayerKind::Conv3x3(Resolution::Upsampled);
        if !self.network.layers().is_prepared(id, n_images) {
            return Weights::Plain(self.weight(id));
        }
        let prepared = self.prepared_layer(id, |weight, c_in, c_out| {
            PreparedLayer::Conv3x3(match upsampled {
                true => PreparedConv3x3::for_upsampled(weight, c_in, c_out),
                false => PreparedConv3x3::new(weight, c_in, c_out),
            })
        });
        match prepared {
            Some(PreparedLayer::Conv3x3(prepared)) => Weights::Prepared(prepared),
            _ => Weights::Plain(self.weight(id)),
        }
    }

    pub(super) fn stride2_weights(&self, id: LayerId) -> Weights<'a, PreparedConv3x3Stride2> {
        let prepared = self.prepared_layer(id, |weight, c_in, c_out| {
            PreparedLayer::Stride2(PreparedConv3x3Stride2::new(weight, c_in, c_out))
        });
        match prepared {
            Some(PreparedLayer::Stride2(prepared)) => Weights::Prepared(prepared),
            _ => Weights::Plain(self.weight(id)),
        }
    }

    /// The projections of an attention.
    pub(super) fn prepared_attention(&self, layers: &Attention) -> Option<&'a PreparedAttention> {
        let prepared = self.prepared_layer(layers.q, |_, _, _| {
            let Attention { q, k, v, proj, .. } = layers;
            let projections = [q, k, v, proj].map(|&id| Projection::new(self.network, id));
            PreparedLayer::Attention(PreparedAttention::new(projections))
        });
        match prepared {
            Some(PreparedLayer::Attention(prepared)) => Some(prepared),
            _ => None,
        }
    }
}
