//! The time embedding: a fixed table of sines and cosines, then two linear layers.

use super::config::{Activation, UNetConfig};
use super::layers::{Initializer, Linear, Preparation};
use super::ops;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// The table's rows through Linear, activation, Linear.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    linear1: Linear,
    linear2: Linear,
    /// `[T, ch]`; not trained, but a checkpoint brings its own.
    #[module(skip)]
    table: Vec<f32>,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    activation: Activation,
}

impl TimeEmbedding {
    pub(super) fn init(config: &UNetConfig, init: &mut Initializer<'_>) -> Self {
        TimeEmbedding {
            linear1: Linear::init(config.ch, config.time_width(), init),
            linear2: Linear::init(config.time_width(), config.time_width(), init),
            table: sinusoids(config.num_steps, config.ch),
            width: config.ch,
            activation: config.activation,
        }
    }

    /// One row per image, `[N, 4·ch]`.
    ///
    /// # Panics
    /// When a timestep is not below T.
    pub fn forward(&self, timesteps: &[usize], device: &Device) -> Tensor<2> {
        let rows: Vec<f32> = timesteps
            .iter()
            .flat_map(|&t| &self.table[t * self.width..(t + 1) * self.width])
            .copied()
            .collect();
        let rows = Tensor::from_data(TensorData::new(rows, [timesteps.len(), self.width]), device);
        let h = ops::activation(ops::linear(rows, &self.linear1), self.activation);
        ops::linear(h, &self.linear2)
    }

    /// See `UNet::prepared`.
    pub(super) fn prepare(&mut self, preparation: Preparation) {
        self.linear1.prepare(preparation);
        self.linear2.prepare(preparation);
    }

    pub(super) fn table(&self) -> &[f32] {
        &self.table
    }

    /// Takes a table `[T, ch]` from a checkpoint.
    pub(super) fn set_table(&mut self, table: Vec<f32>) {
        debug_assert_eq!(table.len(), self.table.len());
        self.table = table;
    }
}

/// Row t is [sin(t·f_0) …, cos(t·f_0) …] with f_k = exp(−k · ln(10000) / (half − 1)) for
/// k < half = width / 2.
fn sinusoids(n_rows: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |k: usize| (-(k as f64) * 10_000f64.ln() / (half as f64 - 1.0)).exp();
    let mut table = Vec::with_capacity(n_rows * width);
    for t in 0..n_rows {
        let phases = || (0..half).map(|k| t as f64 * frequency(k));
        table.extend(phases().map(|phase| libm::sin(phase) as f32));
        table.extend(phases().map(|phase| libm::cos(phase) as f32));
    }
    table
}
