//! The forward pass, written once over the operations that an engine computes.
//!
//! An operation is as large as fusion pays, up to a whole residual block: what lies between the
//! convolutions of a block is the engine's own business. There are three engines: the CPU kernels
//! (`cpu`), Burn's tensors on a GPU (`gpu`, behind a cargo feature), and the reference kernels,
//! whose plain loops the tests hold the other two against.

use super::layers::{Attention, LayerId, Layers, ResidualBlock, Skip, StageKind};
use kao_kernels::Dropout;

/// What goes into a residual block: a feature map, and on the way up the one beside it along the
/// channels.
#[derive(Clone, Debug)]
pub(super) struct BlockInput<M> {
    /// `[N, H, W, C_first]`.
    pub(super) x: M,
    /// `[N, H, W, C_second]`.
    pub(super) skip: Option<M>,
}

/// The operations of a forward pass. Feature maps are channels-last, `[N, H, W, C]`.
pub(super) trait Operations {
    /// A feature map `[N, H, W, C]`. A clone is another handle on the same values.
    type Map: Clone;
    /// A matrix `[N, C]`, one row an image.
    type Rows: Clone;

    /// x·weight + bias: `[N, C_in]` to `[N, C_out]`.
    fn linear(&mut self, x: &Self::Rows, layer: LayerId) -> Self::Rows;

    /// The sum of two matrices `[N, C]`.
    fn add_rows(&mut self, a: Self::Rows, b: Self::Rows) -> Self::Rows;

    /// The network's activation alone.
    fn activation(&mut self, x: Self::Rows) -> Self::Rows;

    /// The 3×3 convolution `conv`, at the resolution that its kind says; where there is a `norm`,
    /// of the normalized and activated x.
    fn conv3x3(&mut self, x: Self::Map, norm: Option<LayerId>, conv: LayerId) -> Self::Map;

    /// conv2(drop(act(norm2(conv1(act(norm1(x))) + `time`)))) + shortcut(x): `[N, H, W, C_in]` to
    /// `[N, H, W, C_out]`; `time` `[N, C_out]` is the same for all pixels of an image.
    ///
    /// Where the block is one of scale and shift, `time` `[N, 2·C_out]` is both side by side, and
    /// the second normalization becomes norm2(conv1(…)) · (1 + scale) + shift.
    fn residual_block(
        &mut self,
        input: BlockInput<Self::Map>,
        time: Self::Rows,
        block: &ResidualBlock,
        dropout: Option<Dropout>,
    ) -> Self::Map;

    /// x + proj(softmax(q·kᵀ · C^-½)·v) with q, k and v from norm(x), one head over the pixels of
    /// each image: `[N, H, W, C]` to the same.
    fn attention(&mut self, x: Self::Map, layers: &Attention) -> Self::Map;

    /// `first` and `second` side by side along the channels, and of each the p² channels that are
    /// the pixels of one patch laid out as pixels: `[N, H/p, W/p, C_first·p²]` and
    /// `[N, H/p, W/p, C_second·p²]` to `[N, H, W, C_first + C_second]`.
    fn to_pixels(&mut self, first: Self::Map, second: Self::Map) -> Self::Map;

    /// `y` `[N, H, W, C]` plus the first C channels of `x` `[N, H, W, C + …]`.
    fn add_first_channels(&mut self, y: Self::Map, x: Self::Map) -> Self::Map;
}

/// What a forward pass begins with.
pub(super) struct Inputs<O: Operations> {
    /// The noisy images in patches, `[N, H/p, W/p, C·p²]`.
    pub(super) x: O::Map,
    /// One row of the time table per image, `[N, ch]`.
    pub(super) time: O::Rows,
    /// For each image 1 where it has the tag and 0 where it has not, `[N, n_tags]`; not read where
    /// the network knows no tags.
    pub(super) tags: Option<O::Rows>,
}

/// The prediction for the noisy images of `inputs`: as they are, `[N, H/p, W/p, C·p²]`, or behind
/// layers at full resolution `[N, H, W, C]`.
pub(super) fn forward<O: Operations>(
    ops: &mut O,
    layers: &Layers,
    inputs: Inputs<O>,
    dropout: &mut DropoutMasks,
) -> O::Map {
    let Inputs { x, time, tags } = inputs;
    let [first, second] = layers.time;
    let time = ops.linear(&time, first);
    let time = ops.activation(time);
    let mut time = ops.linear(&time, second);
    if let (Some(layer), Some(tags)) = (layers.tags, &tags) {
        let tags = ops.linear(tags, layer);
        time = ops.add_rows(time, tags);
    }
    let time = ops.activation(time);

    let mut h = ops.conv3x3(x.clone(), None, layers.head);
    let mut skips = vec![h.clone()];
    for stage in &layers.stages {
        h = match &stage.kind {
            StageKind::Resample(conv) => ops.conv3x3(h, None, *conv),
            StageKind::Block(block) => {
                let skip = match stage.skip {
                    Skip::Pop => skips.pop(),
                    Skip::Push | Skip::None => None,
                };
                let of_block = ops.linear(&time, block.time);
                let input = BlockInput { x: h, skip };
                let h = ops.residual_block(input, of_block, block, dropout.next());
                match &block.attention {
                    Some(attention) => ops.attention(h, attention),
                    None => h,
                }
            }
        };
        if stage.skip == Skip::Push {
            skips.push(h.clone());
        }
    }
    let y = ops.conv3x3(h, Some(layers.tail_norm), layers.tail);
    let Some(detail) = &layers.detail else { return y };
    let pixels = ops.to_pixels(y, x);
    let h = ops.conv3x3(pixels.clone(), None, detail.conv1);
    let y = ops.conv3x3(h, Some(detail.norm), detail.conv2);
    ops.add_first_channels(y, pixels)
}

/// Hands every residual block a dropout mask of its own.
pub(super) struct DropoutMasks {
    rate: f32,
    seed: Option<u64>,
}

impl DropoutMasks {
    /// Masks drawn from `seed`; without one, or at rate 0, nothing is dropped.
    pub(super) fn new(rate: f64, seed: Option<u64>) -> Self {
        DropoutMasks { rate: rate as f32, seed }
    }

    fn next(&mut self) -> Option<Dropout> {
        let seed = self.seed.as_mut()?;
        // An odd constant: 2^64 blocks before a seed returns.
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.rate > 0.0).then_some(Dropout { rate: self.rate, seed: *seed })
    }
}
