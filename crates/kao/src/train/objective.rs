//! What a training step minimizes: the mean squared error of the prediction.

use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::{Purpose, Stream};
use crate::schedule::NoiseSchedule;
use crate::unet::UNet;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use rayon::prelude::*;

/// Noisy images with what the network shall say of them.
#[derive(Clone, Debug)]
pub struct NoisyBatch {
    /// x_t, `[N, C, H, W]`.
    pub x_t: Images,
    /// One timestep per image.
    pub timesteps: Vec<usize>,
    /// What is to be predicted: ε, x_0 or v, `[N, C, H, W]`.
    pub target: Images,
}

impl NoisyBatch {
    /// Noises `x_0` to `timesteps` with `epsilon` (all `[N, C, H, W]`).
    ///
    /// # Errors
    /// When the shapes do not agree, or a timestep is not below T.
    pub fn new(
        schedule: &NoiseSchedule,
        prediction: Prediction,
        x_0: &Images,
        timesteps: Vec<usize>,
        epsilon: &Images,
    ) -> Result<Self> {
        if x_0.shape() != epsilon.shape() || timesteps.len() != x_0.len() {
            return Err(Error::invalid(
                "training batch",
                format!(
                    "images {:?}, noise {:?} and {} timesteps do not agree",
                    x_0.shape(),
                    epsilon.shape(),
                    timesteps.len()
                ),
            ));
        }
        if let Some(t) = timesteps.iter().find(|&&t| t >= schedule.n_timesteps()) {
            return Err(Error::invalid(
                "timestep",
                format!("{t} found; expected below {}", schedule.n_timesteps()),
            ));
        }
        let mut x_t = Images::zeros(x_0.shape());
        let mut target = Images::zeros(x_0.shape());
        let size = x_0.image_len().max(1);
        x_t.data_mut()
            .par_chunks_exact_mut(size)
            .zip(target.data_mut().par_chunks_exact_mut(size))
            .enumerate()
            .for_each(|(k, (x_t, target))| {
                let (x_0, epsilon, t) = (x_0.image(k), epsilon.image(k), timesteps[k]);
                schedule.add_noise(x_0, epsilon, t, x_t);
                match prediction {
                    Prediction::Epsilon => target.copy_from_slice(epsilon),
                    Prediction::X0 => target.copy_from_slice(x_0),
                    Prediction::V => {
                        let alpha_bar = schedule.alpha_bar(t);
                        let (signal, noise) =
                            (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
                        for ((target, &x_0), &epsilon) in target.iter_mut().zip(x_0).zip(epsilon) {
                            *target = signal * epsilon - noise * x_0;
                        }
                    }
                }
            });
        Ok(NoisyBatch { x_t, timesteps, target })
    }

    /// Noises image k of `x_0` with the stream of `purpose` and number `first + k`: a uniform
    /// timestep, then ε. Images keep their noise however they are batched.
    ///
    /// # Errors
    /// None in practice: the shapes agree by construction.
    pub fn drawn(
        schedule: &NoiseSchedule,
        prediction: Prediction,
        x_0: &Images,
        seed: u64,
        purpose: Purpose,
        first: u64,
    ) -> Result<Self> {
        let mut epsilon = Images::zeros(x_0.shape());
        let size = x_0.image_len().max(1);
        let timesteps = epsilon
            .data_mut()
            .par_chunks_exact_mut(size)
            .enumerate()
            .map(|(k, epsilon)| {
                let mut stream = Stream::new(seed, purpose, first + k as u64, 0);
                let timestep = stream.below(schedule.n_timesteps());
                stream.fill_normal(epsilon);
                timestep
            })
            .collect();
        NoisyBatch::new(schedule, prediction, x_0, timesteps, &epsilon)
    }
}

/// The mean squared error of `unet` on `batch`, as a scalar that gradients can be taken of.
///
/// `dropout_seed` turns dropout on.
pub fn loss(
    unet: &UNet,
    batch: &NoisyBatch,
    dropout_seed: Option<u64>,
    device: &Device,
) -> Tensor<1> {
    let x_t = crate::unet::to_device(&batch.x_t, device);
    let target = crate::unet::to_device(&batch.target, device);
    let difference = unet.forward(x_t, &batch.timesteps, dropout_seed) - target;
    (difference.clone() * difference).mean()
}

/// The gradient of every parameter on the host, in memory order, in field order. A parameter that
/// the loss does not depend on has zeros.
pub fn host_gradients(unet: &UNet, gradients: &mut Gradients) -> Vec<Vec<f32>> {
    let mut collected = Collected { gradients, values: Vec::new() };
    unet.visit(&mut collected);
    collected.values
}

struct Collected<'a> {
    gradients: &'a mut Gradients,
    values: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collected<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = match param.val().grad_remove(self.gradients) {
            Some(gradient) => {
                gradient.into_data().try_into_vec::<f32>().expect("gradients are f32")
            }
            None => vec![0.0; param.lazy_shape().num_elements()],
        };
        self.values.push(values);
    }
}
