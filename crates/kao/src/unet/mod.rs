//! The noise-prediction UNet.
//!
//! [`layers`] is the network as a list of layers, [`parameters`] their values by name,
//! `operations` the forward pass over what an engine computes, `cpu` the engine of the CPU with its
//! gradients, `graph` the same pass as a graph of ONNX operators, and [`Network`] the whole as a denoiser. This module knows the denoiser contract but
//! no sampler, and neither files nor training.

mod config;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod graph;
pub mod layers;
mod layout;
mod memory;
mod network;
mod open;
mod operations;
pub mod parameters;
mod patches;
#[cfg(test)]
mod reference;
#[cfg(feature = "gpu")]
mod self_test;
#[cfg(test)]
mod tests;
mod time_table;

pub use config::{Activation, Middle, TimeScaleShift, UNetConfig};
pub(crate) use cpu::add_values;
pub use layers::Layers;
pub use layout::Layout;
pub use network::Network;
pub use parameters::ParameterSpec;

use crate::denoiser::Conditions;
use crate::device::Device;
use crate::error::Result;
use crate::images::Images;
use operations::DropoutMasks;

/// A network: its layers, and the values of their parameters on the host.
#[derive(Clone, Debug)]
pub struct UNet {
    config: UNetConfig,
    layers: Layers,
    /// A weight and a bias for each layer, in memory order.
    values: Vec<Vec<f32>>,
    /// `[T, first width]`; not trained, but a checkpoint brings its own.
    time_table: Vec<f32>,
}

/// What a network predicts from: noisy images, each at a timestep and under a condition of its own.
#[derive(Clone, Copy, Debug)]
pub struct NoisyImages<'a> {
    /// `[N, C, H, W]`.
    pub x_t: &'a Images,
    /// One for each image, below T.
    pub timesteps: &'a [usize],
    /// The tags of each image, below the number of tags that the network knows.
    pub conditions: &'a Conditions,
}

/// How the gradients of a batch are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GradientConfig {
    /// Turns dropout on, its masks drawn from this seed.
    pub dropout_seed: Option<u64>,
    /// Save only the input of each block in the forward pass, and compute what lies within again in
    /// the backward pass: less memory, a third more time, the same bytes.
    pub checkpointing: bool,
}

impl UNet {
    /// A network with random weights, the same for the same seed on every device.
    ///
    /// # Errors
    /// When the configuration is impossible; nothing is allocated then.
    pub fn init(config: &UNetConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        let values = parameters::initial_values(&Layers::new(config), seed);
        Self::from_values(config, values)
    }

    /// A network with these values of its parameters, given as [`values`](Self::values) gives them.
    ///
    /// # Errors
    /// When the configuration is impossible.
    ///
    /// # Panics
    /// When the values do not fit the configuration.
    pub fn from_values(config: &UNetConfig, values: Vec<Vec<f32>>) -> Result<Self> {
        config.validate()?;
        let layers = Layers::new(config);
        let lens = config.parameters().into_iter().map(|spec| spec.len());
        assert!(lens.eq(values.iter().map(Vec::len)), "as many values as the layers have");
        let time_table = time_table::sinusoids(config);
        Ok(UNet { config: config.clone(), layers, values, time_table })
    }

    /// The configuration.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The values of every parameter in memory order, in the order of [`UNetConfig::parameters`].
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The same, to be changed in place; lengths must stay.
    pub fn values_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.values
    }

    /// The table of the time embedding, `[T, first width]`.
    pub fn time_table(&self) -> &[f32] {
        &self.time_table
    }

    /// The rows of the time table for these timesteps, `[N, first width]`.
    ///
    /// # Panics
    /// When a timestep is not below T.
    fn time_rows(&self, timesteps: &[usize]) -> Vec<f32> {
        let width = self.config.first_width();
        let rows = timesteps.iter().map(|&t| &self.time_table[t * width..(t + 1) * width]);
        rows.flatten().copied().collect()
    }

    /// The images as the network sees them, `[N, H/p, W/p, C·p²]`.
    fn input_map(&self, x_t: &Images) -> Vec<f32> {
        let mut map = patches::to_map(x_t, self.config.patch_size);
        if self.config.center_input_sample {
            map.iter_mut().for_each(|value| *value = 2.0 * *value - 1.0);
        }
        map
    }

    /// 1 for each tag of each image, `[N, n_tags]`; none where the network knows no tags.
    ///
    /// # Panics
    /// When a tag is not below their number.
    fn tag_rows(&self, images: NoisyImages<'_>) -> Option<Vec<f32>> {
        let n_tags = self.config.n_tags;
        let mut rows = vec![0.0; images.x_t.len() * n_tags];
        for (k, row) in rows.chunks_exact_mut(n_tags.max(1)).enumerate() {
            images.conditions.of(k).iter().for_each(|&tag| row[tag] = 1.0);
        }
        (n_tags > 0).then_some(rows)
    }

    fn dropout_masks(&self, seed: Option<u64>) -> DropoutMasks {
        DropoutMasks::new(self.config.dropout, seed)
    }

    /// Predicts for `images`, hands the prediction to `loss_gradient`, which answers with the gradient of the loss with respect to it (both
    /// `[N, C, H, W]`), and carries that gradient back: `sink` gets the index and the gradient of
    /// every parameter, each once, in whatever order they are found.
    ///
    /// # Errors
    /// Those of the closure, or of the device.
    ///
    /// # Panics
    /// When a timestep is not below T, a tag is unknown, or the shapes do not fit the configuration.
    pub fn gradients(
        &self,
        images: NoisyImages<'_>,
        config: GradientConfig,
        device: &Device,
        loss_gradient: &mut (dyn FnMut(&Images) -> Result<Images> + Send),
        sink: &mut (dyn FnMut(usize, Vec<f32>) + Send),
    ) -> Result<()> {
        match device {
            Device::Cpu => cpu::gradients(self, images, config, loss_gradient, sink),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => {
                gpu::gradients(self, images, config, device, loss_gradient, sink)
            }
        }
    }
}
