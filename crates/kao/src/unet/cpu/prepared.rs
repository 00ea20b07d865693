//! Weights as the kernels multiply with them.
//!
//! In training they change with every step, and the kernels bring them into their form on the way.
//! For sampling they are prepared once. There is no cache to forget: whoever samples owns them.

use super::CpuEngine;
use super::attention::{PreparedAttention, Projection};
use crate::unet::UNet;
use crate::unet::layers::{LayerId, LayerKind, Resolution, StageKind};
use kao_kernels::{PreparedConv1x1, PreparedConv3x3, PreparedConv3x3Stride2, Weights};
use rayon::prelude::*;

/// The weights of a network, layer by layer. They take up to four times the memory of the plain
/// ones.
#[derive(Debug)]
pub(in crate::unet) struct Prepared {
    layers: Vec<PreparedLayer>,
}

#[derive(Debug)]
enum PreparedLayer {
    /// A normalization, or a projection that is merged with another.
    None,
    Matrix(PreparedConv1x1),
    Conv3x3(PreparedConv3x3),
    Stride2(PreparedConv3x3Stride2),
    /// All projections of an attention, in the place of the first.
    Attention(PreparedAttention),
}

impl Prepared {
    pub(in crate::unet) fn new(network: &UNet) -> Self {
        let values = network.values();
        let attentions: Vec<_> = network
            .layers()
            .stages
            .iter()
            .filter_map(|stage| match &stage.kind {
                StageKind::Block(block) => block.attention.as_ref(),
                StageKind::Resample(_) => None,
            })
            .map(|layers| [layers.q, layers.k, layers.v, layers.proj])
            .collect();
        let prepare = |index: usize| {
            let layer = &network.layers().list[index];
            let (weight, c_in, c_out) = (&values[2 * index], layer.c_in, layer.c_out);
            if let Some(ids) = attentions.iter().find(|ids| ids.iter().any(|id| id.index() == index))
            {
                let projections = ids.map(|id| Projection::new(network, id));
                return match ids[0].index() == index {
                    true => PreparedLayer::Attention(PreparedAttention::new(projections)),
                    false => PreparedLayer::None,
                };
            }
            match layer.kind {
                LayerKind::GroupNorm => PreparedLayer::None,
                LayerKind::Linear | LayerKind::Conv1x1 => {
                    PreparedLayer::Matrix(PreparedConv1x1::new(weight, c_in, c_out))
                }
                LayerKind::Conv3x3(Resolution::SameSize) => {
                    PreparedLayer::Conv3x3(PreparedConv3x3::new(weight, c_in, c_out))
                }
                LayerKind::Conv3x3(Resolution::Upsampled) => {
                    PreparedLayer::Conv3x3(PreparedConv3x3::for_upsampled(weight, c_in, c_out))
                }
                LayerKind::Conv3x3(Resolution::Stride2) => {
                    PreparedLayer::Stride2(PreparedConv3x3Stride2::new(weight, c_in, c_out))
                }
            }
        };
        let n = network.layers().list.len();
        Prepared { layers: (0..n).into_par_iter().map(prepare).collect() }
    }
}

impl<'a> CpuEngine<'a> {
    fn prepared_layer(&self, id: LayerId) -> &'a PreparedLayer {
        match self.prepared {
            Some(prepared) => &prepared.layers[id.index()],
            None => &PreparedLayer::None,
        }
    }

    pub(super) fn matrix(&self, id: LayerId) -> Weights<'a, PreparedConv1x1> {
        match self.prepared_layer(id) {
            PreparedLayer::Matrix(prepared) => Weights::Prepared(prepared),
            _ => Weights::Plain(self.weight(id)),
        }
    }

    pub(super) fn conv3x3_weights(&self, id: LayerId) -> Weights<'a, PreparedConv3x3> {
        match self.prepared_layer(id) {
            PreparedLayer::Conv3x3(prepared) => Weights::Prepared(prepared),
            _ => Weights::Plain(self.weight(id)),
        }
    }

    pub(super) fn stride2_weights(&self, id: LayerId) -> Weights<'a, PreparedConv3x3Stride2> {
        match self.prepared_layer(id) {
            PreparedLayer::Stride2(prepared) => Weights::Prepared(prepared),
            _ => Weights::Plain(self.weight(id)),
        }
    }

    /// The projections of the attention whose first one is `id`.
    pub(super) fn prepared_attention(&self, id: LayerId) -> Option<&'a PreparedAttention> {
        match self.prepared_layer(id) {
            PreparedLayer::Attention(prepared) => Some(prepared),
            _ => None,
        }
    }
}
