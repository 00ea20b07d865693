//! The layers of a network as one list, made from its configuration.
//!
//! Everything that is known about a network without its weights follows from this list: the names
//! and shapes of its parameters, their initial values and number, the arithmetic of a forward pass
//! and the memory of a training step. The forward pass follows it stage by stage.
//!
//! Every layer has exactly two parameters, a weight and a bias (of a normalization: scale and
//! shift), so the number of a layer in the list says where its parameters are.

use super::config::{Middle, TimeScaleShift, UNetConfig};
use super::layout::Layout;
use kao_kernels::Padding;

/// The name of the layer that takes tags to the time embedding.
pub const TAG_EMBEDDING: &str = "tag_embedding";

/// Of the channels of the layers at full resolution, one in so many is a feature that the last
/// patches give besides their prediction.
const FEATURES_SHARE: usize = 4;

/// The number of a layer in [`Layers::list`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerId(usize);

impl LayerId {
    /// The index of its weight among the parameters.
    pub fn weight(self) -> usize {
        2 * self.0
    }

    /// The index of its bias among the parameters.
    pub fn bias(self) -> usize {
        2 * self.0 + 1
    }

    /// Its place in [`Layers::list`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a convolution does to the sides of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Stride 1, padding 1.
    SameSize,
    /// Stride 2.
    Stride2(Padding),
    /// Nearest-neighbour upsampling by 2, then stride 1 and padding 1.
    Upsampled,
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A matrix `[C_in, C_out]` and a bias, applied to rows.
    Linear,
    /// The same, applied to every pixel.
    Conv1x1,
    /// A 3×3 convolution `[3, 3, C_in, C_out]` with a bias.
    Conv3x3(Resolution),
    /// The scale and shift `[C]` of a group normalization.
    GroupNorm,
}

/// An elementary layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name in the original's checkpoints, without the `unet.` before it.
    pub name: String,
    /// What it computes.
    pub kind: LayerKind,
    /// Channels of its input.
    pub c_in: usize,
    /// Channels of its output.
    pub c_out: usize,
    /// Pixels of its output, for one image.
    pub pixels: usize,
    /// How its values begin.
    pub initial: Initial,
}

impl Layer {
    /// The shape of its weight in memory.
    pub fn weight_shape(&self) -> Vec<usize> {
        match self.kind {
            LayerKind::Linear | LayerKind::Conv1x1 => vec![self.c_in, self.c_out],
            LayerKind::Conv3x3(_) => vec![3, 3, self.c_in, self.c_out],
            LayerKind::GroupNorm => vec![self.c_out],
        }
    }

    /// How its weight lies in files.
    pub fn weight_layout(&self) -> Layout {
        match self.kind {
            LayerKind::Linear => Layout::Linear,
            LayerKind::Conv1x1 => Layout::Conv1x1,
            LayerKind::Conv3x3(_) => Layout::Conv3x3,
            LayerKind::GroupNorm => Layout::Vector,
        }
    }

    /// The number of inputs that one output depends on, which the spread of initial values follows
    /// from; none for a normalization, which begins as the identity.
    pub fn fan_in(&self) -> Option<usize> {
        match self.kind {
            LayerKind::Linear | LayerKind::Conv1x1 => Some(self.c_in),
            LayerKind::Conv3x3(_) => Some(9 * self.c_in),
            LayerKind::GroupNorm => None,
        }
    }

    /// Multiplications and additions for one image, counted as a direct computation has them. Those
    /// of normalizations are not counted.
    pub fn flop(&self) -> usize {
        let values = self.pixels.saturating_mul(self.c_out);
        values.saturating_mul(2 * self.fan_in().unwrap_or(0))
    }

    /// Those that the products of the CPU kernels really are. Winograd's F(4×4, 3×3) makes 16 pixels
    /// of 36 products a pair of channels, where a direct convolution takes 144; behind an upsampling
    /// it makes 64 pixels of 4 · 25.
    fn cpu_flop(&self) -> usize {
        let (tile_pixels, products) = match self.kind {
            LayerKind::Conv3x3(Resolution::SameSize) => (16, 36),
            LayerKind::Conv3x3(Resolution::Upsampled) => (64, 100),
            _ => return self.flop(),
        };
        let tiles = self.pixels.div_ceil(tile_pixels);
        tiles.saturating_mul(2 * products).saturating_mul(self.c_in).saturating_mul(self.c_out)
    }
}

/// The layers of a residual block, in the order in which they compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidualBlock {
    /// Before the first convolution.
    pub norm1: LayerId,
    /// C_in to C_out.
    pub conv1: LayerId,
    /// From the time embedding to C_out, or to twice as many.
    pub time: LayerId,
    /// Whether these are a scale and a shift behind the second normalization, rather than added
    /// before it.
    pub scale_shift: bool,
    /// Before the second convolution.
    pub norm2: LayerId,
    /// C_out to C_out.
    pub conv2: LayerId,
    /// Around both, where C_in is not C_out.
    pub shortcut: Option<LayerId>,
    /// After the block, where the level has it.
    pub attention: Option<Attention>,
}

/// The layers of an attention block over the pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Before all else.
    pub norm: LayerId,
    /// To the queries.
    pub q: LayerId,
    /// To the keys.
    pub k: LayerId,
    /// To the values.
    pub v: LayerId,
    /// After the attention.
    pub proj: LayerId,
    /// The number of heads, each with its share of the channels.
    pub heads: usize,
}

/// What a stage has to do with the skip connections, which lead from the way down to the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Nothing.
    None,
    /// Its output is also kept for the way up.
    Push,
    /// Its input has the last kept feature map beside it, along the channels.
    Pop,
}

/// A step on the way of the feature map through the network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a network has some twenty")]
pub enum StageKind {
    /// A residual block.
    Block(ResidualBlock),
    /// A convolution that changes the resolution.
    Resample(LayerId),
}

/// A stage, and its part in the skip connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it computes.
    pub kind: StageKind,
    /// What it has to do with the skip connections.
    pub skip: Skip,
}

/// All layers of a network, and the order in which they compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Every layer, in the order of the parameters in files.
    pub list: Vec<Layer>,
    /// The two linear layers of the time embedding.
    pub time: [LayerId; 2],
    /// The first convolution.
    pub head: LayerId,
    /// From its output to the input of the last one.
    pub stages: Vec<Stage>,
    /// The normalization before the last convolution.
    pub tail_norm: LayerId,
    /// The last convolution, but for those of `detail`.
    pub tail: LayerId,
    /// From the tags of an image to its time embedding, where the model knows tags.
    pub tags: Option<LayerId>,
    /// What follows at full resolution, if anything.
    pub detail: Option<Detail>,
}

/// The layers at full resolution behind a network that sees patches. Their input is, pixel by pixel,
/// what the network predicts, some more features, and the noisy image; what they compute is added
/// to the prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The first convolution.
    pub conv1: LayerId,
    /// After it.
    pub norm: LayerId,
    /// To the channels of the image. It begins at zero, so that an untrained one does nothing.
    pub conv2: LayerId,
}

/// How the values of a layer begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Uniform within ±1/√(fan in), PyTorch's default.
    Uniform,
    /// Scale 1 and shift 0, of a normalization.
    Identity,
    /// Zero: the layer does nothing until it is trained.
    Zero,
}

impl Layers {
    /// The layers of a network of this configuration, which is taken to be possible.
    pub fn new(config: &UNetConfig) -> Self {
        Builder::new(config).build()
    }

    /// The layer with this number.
    pub fn get(&self, id: LayerId) -> &Layer {
        &self.list[id.0]
    }

    /// The channels of the input and of the output of a block.
    pub fn block_channels(&self, block: &ResidualBlock) -> [usize; 2] {
        let conv = self.get(block.conv1);
        [conv.c_in, conv.c_out]
    }

    /// The residual blocks, in the order in which they compute.
    fn blocks(&self) -> impl Iterator<Item = &ResidualBlock> {
        self.stages.iter().filter_map(|stage| match &stage.kind {
            StageKind::Block(block) => Some(block),
            StageKind::Resample(_) => None,
        })
    }

    /// Multiplications and additions of one forward pass for one image, as a direct computation of
    /// its convolutions, linear layers and attention has them.
    pub fn forward_flop(&self) -> u64 {
        let layers = self.list.iter().map(Layer::flop);
        let attention = self.blocks().filter_map(|block| block.attention.as_ref()).map(|layers| {
            // Queries times keys, weights times values.
            let Layer { pixels, c_out, .. } = self.get(layers.q);
            4usize.saturating_mul(*pixels).saturating_mul(*pixels).saturating_mul(*c_out)
        });
        layers.chain(attention).fold(0, usize::saturating_add) as u64
    }

    /// Of [`forward_flop`](Self::forward_flop), what the CPU engine really multiplies and adds: less,
    /// by Winograd's convolutions and by attention of one head with two projections in place of four.
    /// The transforms to and from the Winograd domain are not counted.
    pub fn cpu_forward_flop(&self) -> u64 {
        let layers: u64 = self.list.iter().map(|layer| layer.cpu_flop() as u64).sum();
        let attention = self.blocks().filter_map(|block| block.attention.as_ref()).map(|layers| {
            let Layer { pixels, c_out, .. } = *self.get(layers.q);
            let saved = if layers.heads == 1 { 2 * self.get(layers.q).flop() } else { 0 };
            (4 * pixels * pixels * c_out) as i64 - saved as i64
        });
        layers.saturating_add_signed(attention.sum())
    }

    /// Values that a training step holds in memory for one image, at its peak: what the forward
    /// pass saved for the backward pass, and the gradients on their way. An estimate, for the CPU.
    ///
    /// With `checkpointing` only what goes into a block and comes out of it is saved.
    pub fn training_values(&self, checkpointing: bool) -> usize {
        let mut ends = self.get(self.head).pixels * (2 * self.get(self.tail).c_out);
        if let Some(detail) = &self.detail {
            // The input and what lies between the two convolutions, each with its gradient.
            let conv = self.get(detail.conv1);
            ends += conv.pixels * 2 * (conv.c_in + conv.c_out);
        }
        let mut saved = ends + self.get(self.head).pixels * self.get(self.head).c_out;
        let mut widest = 0;
        for stage in &self.stages {
            let (layer, [within, ends_within]) = match &stage.kind {
                StageKind::Resample(conv) => (self.get(*conv), [0; 2]),
                StageKind::Block(block) => {
                    let conv = self.get(block.conv1);
                    // The output of the first convolution; of an attention, its input, queries and
                    // weighted values, and with several heads keys and values.
                    let maps = match &block.attention {
                        None => 1,
                        Some(Attention { heads: 1, .. }) => 4,
                        Some(_) => 6,
                    };
                    // What comes out of a block goes into its attention, whose output is the next input.
                    let n_ends = usize::from(block.attention.is_some());
                    (conv, [maps * conv.c_out, n_ends * conv.c_out])
                }
            };
            // The input is the output of the stage before, and of the one that the skip is from.
            saved +=
                layer.pixels * (layer.c_out + if checkpointing { ends_within } else { within });
            widest = widest.max(layer.pixels * (layer.c_in + layer.c_out + within));
        }
        // While a block goes back, there are its gradients and what its kernels work with.
        saved + widest
    }
}

/// Writes down the layers in order.
struct Builder<'a> {
    config: &'a UNetConfig,
    list: Vec<Layer>,
    /// Pixels of the feature map at this point.
    pixels: usize,
}

impl<'a> Builder<'a> {
    fn new(config: &'a UNetConfig) -> Self {
        let [_, h, w] = config.patched_size();
        Builder { config, list: Vec::new(), pixels: h * w }
    }

    fn build(mut self) -> Layers {
        let config = self.config;
        let [channels, _, _] = config.patched_size();
        let n_levels = config.ch_mult.len();
        let time_width = config.time_width();
        let time = "time_embedding.time_embedding";
        let first_width = config.first_width();
        let time = [
            self.linear(&format!("{time}.1"), first_width, time_width),
            self.linear(&format!("{time}.3"), time_width, time_width),
        ];
        let head = self.conv3x3("head", channels, first_width, Resolution::SameSize);
        let mut stages = Vec::new();
        let mut width = first_width;
        let mut skips = vec![width];
        let mut index = 0;
        for level in 0..n_levels {
            for _ in 0..config.num_res_blocks {
                let name = format!("downblocks.{index}");
                let widths = [width, config.width(level)];
                let block = self.block(&name, widths, config.has_attention(level));
                stages.push(Stage { kind: StageKind::Block(block), skip: Skip::Push });
                width = config.width(level);
                skips.push(width);
                index += 1;
            }
            if level + 1 < n_levels {
                let name = format!("downblocks.{index}.net");
                let conv = self.conv3x3(&name, width, width, Resolution::Stride2(config.padding()));
                stages.push(Stage { kind: StageKind::Resample(conv), skip: Skip::Push });
                skips.push(width);
                index += 1;
            }
        }
        let middle: &[bool] = match config.middle {
            Middle::Attention => &[true, false],
            Middle::Plain => &[false, false],
            Middle::None => &[],
        };
        for (index, &attention) in middle.iter().enumerate() {
            let block = self.block(&format!("middle_blocks.{index}"), [width; 2], attention);
            stages.push(Stage { kind: StageKind::Block(block), skip: Skip::None });
        }
        index = 0;
        for level in (0..n_levels).rev() {
            for _ in 0..=config.num_res_blocks {
                let skip = skips.pop().expect("the way up pops what the way down pushed");
                let name = format!("upblocks.{index}");
                let widths = [width + skip, config.width(level)];
                let block = self.block(&name, widths, config.has_attention_up(level));
                stages.push(Stage { kind: StageKind::Block(block), skip: Skip::Pop });
                width = config.width(level);
                index += 1;
            }
            if level > 0 {
                let name = format!("upblocks.{index}.net");
                let conv = self.conv3x3(&name, width, width, Resolution::Upsampled);
                stages.push(Stage { kind: StageKind::Resample(conv), skip: Skip::None });
                index += 1;
            }
        }
        let tail_norm = self.norm("tail.0", config.width(0));
        let patch_area = config.patch_size * config.patch_size;
        let features = config.detail_channels / FEATURES_SHARE;
        let c_out = channels + features * patch_area;
        let tail = self.conv3x3("tail.2", config.width(0), c_out, Resolution::SameSize);
        let tags = (config.n_tags > 0).then(|| {
            let id = self.linear(TAG_EMBEDDING, config.n_tags, time_width);
            self.list[id.0].initial = Initial::Zero;
            id
        });
        let detail = (config.detail_channels > 0).then(|| {
            let [c, h, w] = config.image_size;
            self.pixels = h * w;
            let same = Resolution::SameSize;
            let width = config.detail_channels;
            let conv1 = self.conv3x3("detail.0", c + features + c, width, same);
            let norm = self.norm("detail.1", width);
            let conv2 = self.conv3x3("detail.3", width, c, same);
            self.list[conv2.0].initial = Initial::Zero;
            Detail { conv1, norm, conv2 }
        });
        Layers { list: self.list, time, head, stages, tail_norm, tail, tags, detail }
    }

    fn block(&mut self, name: &str, [c_in, c_out]: [usize; 2], attention: bool) -> ResidualBlock {
        let same = Resolution::SameSize;
        let scale_shift = self.config.resnet_time_scale_shift == TimeScaleShift::ScaleShift;
        ResidualBlock {
            norm1: self.norm(&format!("{name}.block1.0"), c_in),
            conv1: self.conv3x3(&format!("{name}.block1.2"), c_in, c_out, same),
            time: self.linear(
                &format!("{name}.temb_proj.1"),
                self.config.time_width(),
                if scale_shift { 2 * c_out } else { c_out },
            ),
            scale_shift,
            norm2: self.norm(&format!("{name}.block2.0"), c_out),
            conv2: self.conv3x3(&format!("{name}.block2.3"), c_out, c_out, same),
            shortcut: (c_in != c_out)
                .then(|| self.conv1x1(&format!("{name}.shortcut"), c_in, c_out)),
            attention: attention.then(|| Attention {
                norm: self.norm(&format!("{name}.attn.norm"), c_out),
                q: self.conv1x1(&format!("{name}.attn.proj_q"), c_out, c_out),
                k: self.conv1x1(&format!("{name}.attn.proj_k"), c_out, c_out),
                v: self.conv1x1(&format!("{name}.attn.proj_v"), c_out, c_out),
                proj: self.conv1x1(&format!("{name}.attn.proj"), c_out, c_out),
                heads: self.config.heads(c_out),
            }),
        }
    }

    fn linear(&mut self, name: &str, c_in: usize, c_out: usize) -> LayerId {
        self.add(name, LayerKind::Linear, c_in, c_out, 1)
    }

    fn conv1x1(&mut self, name: &str, c_in: usize, c_out: usize) -> LayerId {
        self.add(name, LayerKind::Conv1x1, c_in, c_out, self.pixels)
    }

    fn conv3x3(&mut self, name: &str, c_in: usize, c_out: usize, to: Resolution) -> LayerId {
        self.pixels = match to {
            Resolution::SameSize => self.pixels,
            Resolution::Stride2(_) => self.pixels / 4,
            Resolution::Upsampled => self.pixels * 4,
        };
        self.add(name, LayerKind::Conv3x3(to), c_in, c_out, self.pixels)
    }

    fn norm(&mut self, name: &str, width: usize) -> LayerId {
        self.add(name, LayerKind::GroupNorm, width, width, self.pixels)
    }

    fn add(
        &mut self,
        name: &str,
        kind: LayerKind,
        c_in: usize,
        c_out: usize,
        pixels: usize,
    ) -> LayerId {
        let initial = match kind {
            LayerKind::GroupNorm => Initial::Identity,
            LayerKind::Linear | LayerKind::Conv1x1 | LayerKind::Conv3x3(_) => Initial::Uniform,
        };
        self.list.push(Layer { name: name.to_owned(), kind, c_in, c_out, pixels, initial });
        LayerId(self.list.len() - 1)
    }
}

impl UNetConfig {
    /// Multiplications and additions of one forward pass for one image, as a direct computation of
    /// its convolutions, linear layers and attention has them.
    pub fn forward_flop(&self) -> u64 {
        Layers::new(self).forward_flop()
    }

    /// What of [`forward_flop`](Self::forward_flop) the CPU engine really computes; see
    /// [`Layers::cpu_forward_flop`].
    pub fn cpu_forward_flop(&self) -> u64 {
        Layers::new(self).cpu_forward_flop()
    }

    /// Values that a training step holds in memory for one image, at its peak; see
    /// [`Layers::training_values`].
    pub fn training_values(&self, checkpointing: bool) -> usize {
        Layers::new(self).training_values(checkpointing)
    }
}
