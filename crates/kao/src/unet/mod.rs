//! The noise-prediction UNet, in Burn.
//!
//! One definition serves training and sampling on every device. Feature maps are channels-last;
//! everything hot goes through [`ops`]. This room knows the denoiser contract (see [`Network`]) but
//! no sampler, and neither files nor training.

mod attention;
mod config;
mod layers;
mod layout;
mod network;
pub mod ops;
pub mod parameters;
mod residual_block;
mod time_embedding;

pub use config::{Activation, UNetConfig};
pub use layout::Layout;
pub use network::Network;
pub(crate) use network::to_device;
pub use parameters::ParameterSpec;

use crate::error::Result;
use burn::module::{Module, ModuleMapper};
use burn::tensor::{Device, Tensor};
use config::Layer;
use layers::{Conv3x3, GroupNorm, Initializer, Preparation};
use ops::{Dropout, Features, Prologue};
use residual_block::ResidualBlock;
use time_embedding::TimeEmbedding;

/// One entry of the down or up path.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has some twenty")]
enum Stage {
    /// A residual block.
    Block(ResidualBlock),
    /// A convolution that changes the resolution.
    Resample(Conv3x3),
}

/// The network.
///
/// Fields stand in the order of [`UNetConfig::parameters`]: that is how parameters get their names.
#[derive(Module, Debug)]
pub struct UNet {
    time_embedding: TimeEmbedding,
    head: Conv3x3,
    down: Vec<Stage>,
    middle: Vec<ResidualBlock>,
    up: Vec<Stage>,
    tail_norm: GroupNorm,
    tail: Conv3x3,
    #[module(skip)]
    config: UNetConfig,
}

impl UNet {
    /// A network with random weights, the same for the same seed on every device.
    ///
    /// # Errors
    /// When the configuration is impossible; nothing is allocated then.
    pub fn init(config: &UNetConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::build(config, Some(seed), device)
    }

    /// A network that waits for its weights, to be given by [`with_values`](Self::with_values) or
    /// [`with_tensors`](Self::with_tensors): nothing is drawn that would be thrown away.
    ///
    /// # Errors
    /// When the configuration is impossible; nothing is allocated then.
    pub fn zeros(config: &UNetConfig, device: &Device) -> Result<Self> {
        Self::build(config, None, device)
    }

    fn build(config: &UNetConfig, seed: Option<u64>, device: &Device) -> Result<Self> {
        config.validate()?;
        let init = &mut Initializer { seed, device, norm_groups: config.norm_groups, n_drawn: 0 };
        let plan = config.plan();
        let stages = |layers: &[Layer], init: &mut Initializer<'_>| {
            layers.iter().map(|&layer| stage(layer, config, init)).collect()
        };
        let time_embedding = TimeEmbedding::init(config, init);
        let [channels, _, _] = config.patched_size();
        let head = Conv3x3::init(channels, config.ch, init);
        let down = stages(&plan.down, init);
        let middle = plan
            .middle
            .iter()
            .filter_map(|&layer| match stage(layer, config, init) {
                Stage::Block(block) => Some(block),
                Stage::Resample(_) => None,
            })
            .collect();
        let up = stages(&plan.up, init);
        let tail_norm = GroupNorm::init(config.width(0), init);
        let tail = Conv3x3::init(config.width(0), channels, init);
        let config = config.clone();
        Ok(UNet { time_embedding, head, down, middle, up, tail_norm, tail, config })
    }

    /// The configuration.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The prediction for `x` (`[N, H, W, C]`, channels-last, of the
    /// [patched size](UNetConfig::patched_size)) at one timestep per image.
    ///
    /// `dropout_seed` turns dropout on, its masks drawn from it; sampling gives `None`.
    ///
    /// # Panics
    /// When a timestep is not below T, or the shapes do not fit the configuration.
    pub fn forward(
        &self,
        x: Tensor<4>,
        timesteps: &[usize],
        dropout_seed: Option<u64>,
    ) -> Tensor<4> {
        let mut dropout = DropoutMasks { rate: self.config.dropout as f32, seed: dropout_seed };
        let activation = self.config.activation;
        let time = self.time_embedding.forward(timesteps, &x.device());
        let time = ops::activation(time, activation);

        let mut h = ops::conv3x3(x, None, &self.head);
        let mut skips = vec![h.clone()];
        for stage in &self.down {
            h = match stage {
                Stage::Block(block) => block.forward(h.into(), time.clone(), dropout.next()),
                Stage::Resample(conv) => ops::downsample(h, conv),
            };
            skips.push(h.clone());
        }
        for block in &self.middle {
            h = block.forward(h.into(), time.clone(), dropout.next());
        }
        for stage in &self.up {
            h = match stage {
                Stage::Block(block) => {
                    let skip = skips.pop().expect("the up path pops what the down path pushed");
                    block.forward(Features::Pair(h, skip), time.clone(), dropout.next())
                }
                Stage::Resample(conv) => ops::upsample(h, conv),
            };
        }
        ops::conv3x3(h, Some(Prologue { norm: &self.tail_norm, activation }), &self.tail)
    }

    /// The same network, its weights also in the form that the CPU kernels multiply with, so that
    /// they are not brought into it for every pass: for sampling. It takes four times their memory,
    /// and lasts until the parameters change. On devices without kernels nothing changes.
    #[must_use]
    pub fn prepared(mut self) -> Self {
        if !ops::has_kernels(&self.head.bias.val().device()) {
            return self;
        }
        self.prepare(Preparation::Make);
        self
    }

    /// Changes parameters.
    pub(crate) fn map_parameters(mut self, mapper: &mut impl ModuleMapper) -> Self {
        // What was prepared is of the old ones.
        self.prepare(Preparation::Drop);
        self.map(mapper)
    }

    fn prepare(&mut self, preparation: Preparation) {
        self.time_embedding.prepare(preparation);
        self.head.prepare(preparation);
        for stage in &mut self.down {
            match stage {
                Stage::Block(block) => block.prepare(preparation),
                Stage::Resample(conv) => conv.prepare_halving(preparation),
            }
        }
        for block in &mut self.middle {
            block.prepare(preparation);
        }
        for stage in &mut self.up {
            match stage {
                Stage::Block(block) => block.prepare(preparation),
                Stage::Resample(conv) => conv.prepare_doubling(preparation),
            }
        }
        self.tail.prepare(preparation);
    }
}

fn stage(layer: Layer, config: &UNetConfig, init: &mut Initializer<'_>) -> Stage {
    match layer {
        Layer::Block { c_in, c_out, attention } => Stage::Block(ResidualBlock::init(
            [c_in, c_out],
            config.time_width(),
            attention,
            config.activation,
            init,
        )),
        Layer::Resample { c_in, c_out } => Stage::Resample(Conv3x3::init(c_in, c_out, init)),
    }
}

/// Hands every block a mask of its own.
struct DropoutMasks {
    rate: f32,
    seed: Option<u64>,
}

impl DropoutMasks {
    fn next(&mut self) -> Option<Dropout> {
        let seed = self.seed.as_mut()?;
        // An odd constant: 2^64 blocks before a seed returns.
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.rate > 0.0).then_some(Dropout { rate: self.rate, seed: *seed })
    }
}
