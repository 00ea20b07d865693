//! A training step: the gradients of a batch of pictures, and the update by them.
//!
//! Everything that a step depends on is an argument: the state that it changes, the pictures and
//! their numbers (from which their random numbers follow), the noise schedule and the settings.
//! Where pictures come from, and what is logged and saved, is known elsewhere.

use super::adam::{Optimizer, OptimizerState};
use super::objective::{LossGradients, NoisyBatch, ObjectiveConfig, StepPart, loss_gradients};
use super::reduction::{Addend, TreeSum};
use crate::dataset::Batch;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::noise::{Purpose, Stream};
use crate::schedule::NoiseSchedule;
use crate::unet::{GradientConfig, UNet, add_values};
use kao_kernels::AdamStep;
use rayon::prelude::*;
use std::ops::Range;

/// A loss from which training does not recover: a network that always predicts zero has one of
/// about 1.
pub const MAX_LOSS: f64 = 100.0;

/// What a training step changes.
#[derive(Clone, Debug)]
pub struct TrainState {
    /// The network.
    pub unet: UNet,
    /// Its moments and the averaged weights.
    pub optimizer: OptimizerState,
}

impl TrainState {
    /// The state before the first step.
    pub fn new(unet: UNet) -> Self {
        let optimizer = OptimizerState::new(&unet);
        TrainState { unet, optimizer }
    }
}

/// The settings of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepConfig {
    /// What is minimized.
    pub objective: ObjectiveConfig,
    /// Pictures that pass through the network together; at least 1.
    pub micro_batch_size: usize,
    /// Recompute activations in the backward pass instead of saving them in the forward pass.
    pub gradient_checkpointing: bool,
    /// How the weights follow from the gradients.
    pub update: UpdateConfig,
}

/// The settings of the update of weights and average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateConfig {
    /// The rule.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay (Loshchilov & Hutter 2019); 0 is plain Adam.
    pub weight_decay: f64,
    /// Gradients with a larger norm are scaled down to it; 0 never scales them.
    pub max_gradient_norm: f64,
    /// The share of the averaged weights that remains.
    pub ema_decay: f64,
}

/// What is known of a step afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// The loss before the update.
    pub loss: f64,
    /// The norm of its gradients, before they were scaled.
    pub gradient_norm: f64,
}

/// One step with everything it depends on besides the state and the pictures.
#[derive(Clone, Copy, Debug)]
pub struct TrainStep<'a> {
    /// The noise schedule.
    pub schedule: &'a NoiseSchedule,
    /// Where the gradients are computed.
    pub device: &'a Device,
    /// The settings.
    pub config: StepConfig,
}

impl TrainStep<'_> {
    /// Makes the step on `batch`, whose pictures have the numbers `first_image` and up in the run.
    ///
    /// # Errors
    /// When loss or gradients are not finite or beyond [`MAX_LOSS`] (the state is unchanged then),
    /// or the device fails.
    pub fn run(
        &self,
        state: &mut TrainState,
        batch: &Batch,
        first_image: u64,
    ) -> Result<StepResult> {
        let found = self.gradients(&state.unet, batch, first_image)?;
        self.update(state, &found)
    }

    /// The mean loss over `batch` and its gradients, summed over micro-batches by the fixed tree of
    /// [`reduction`](super::reduction).
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When the batch is empty.
    pub fn gradients(&self, unet: &UNet, batch: &Batch, first_image: u64) -> Result<LossGradients> {
        let n_micro_batches = self.n_micro_batches(batch);
        let mut sum = TreeSum::new(n_micro_batches);
        for k in 0..n_micro_batches {
            sum.add(k..k + 1, self.micro_batch(unet, batch, first_image, k)?);
        }
        Ok(sum.into_total().expect("every micro-batch was added"))
    }

    /// How many micro-batches `batch` has.
    pub fn n_micro_batches(&self, batch: &Batch) -> usize {
        batch.images.len().div_ceil(self.config.micro_batch_size)
    }

    /// The part of the loss and the gradients that micro-batch `k` of `batch` contributes. It
    /// depends on no other micro-batch.
    ///
    /// # Errors
    /// When the device fails.
    pub fn micro_batch(
        &self,
        unet: &UNet,
        batch: &Batch,
        first_image: u64,
        k: usize,
    ) -> Result<LossGradients> {
        let batch_size = batch.images.len();
        let pictures = self.pictures_of(k..k + 1, batch_size);
        let micro_batch = batch.slice(pictures.clone());
        let offset = pictures.start;
        let part = StepPart { first_image: first_image + offset as u64, offset, batch_size };
        self.gradients_of_part(unet, &micro_batch, part)
    }

    /// Which pictures of a step of `batch_size` are in these micro-batches.
    pub fn pictures_of(&self, micro_batches: Range<usize>, batch_size: usize) -> Range<usize> {
        let start = |k: usize| batch_size.min(k.saturating_mul(self.config.micro_batch_size));
        start(micro_batches.start)..start(micro_batches.end)
    }

    /// As [`micro_batch`](Self::micro_batch), of the pictures of a micro-batch alone, which are
    /// `part` of the step.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradients_of_part(
        &self,
        unet: &UNet,
        micro_batch: &Batch,
        part: StepPart,
    ) -> Result<LossGradients> {
        let StepConfig { objective, gradient_checkpointing, .. } = self.config;
        let noisy = NoisyBatch::drawn(self.schedule, &objective, micro_batch, part)?;
        // Draw 1 of the first picture's stream: draw 0 is its timestep and noise.
        let mut stream = Stream::new(objective.seed, Purpose::Training, part.first_image, 1);
        let passes = GradientConfig {
            dropout_seed: Some(stream.bits()),
            checkpointing: gradient_checkpointing,
        };
        let share = micro_batch.images.len() as f64 / part.batch_size as f64;
        loss_gradients(unet, &noisy, share, passes, self.device)
    }

    /// Updates weights, moments and averaged weights by the gradients of the whole batch.
    ///
    /// # Errors
    /// When loss or gradients are not finite or beyond [`MAX_LOSS`]; the state is unchanged then.
    pub fn update(&self, state: &mut TrainState, found: &LossGradients) -> Result<StepResult> {
        let LossGradients { loss, gradients } = found;
        let (loss, gradient_norm) = (*loss, norm(gradients));
        if !(loss < MAX_LOSS && gradient_norm.is_finite()) {
            let step = state.optimizer.n_steps.saturating_add(1);
            let problem = format!("step {step} has loss {loss}, gradient norm {gradient_norm}");
            return Err(Error::from(ErrorKind::Diverged { problem }));
        }
        let UpdateConfig { optimizer, learning_rate, weight_decay, max_gradient_norm, ema_decay } =
            self.config.update;
        let gradient_scale = match max_gradient_norm {
            0.0 => 1.0,
            most => (most / gradient_norm).min(1.0) as f32,
        };
        let adam = AdamStep {
            lr: learning_rate as f32,
            weight_decay: weight_decay as f32,
            gradient_scale,
            ..AdamStep::default()
        };
        state.optimizer.step(&mut state.unet, gradients, optimizer, adam, ema_decay as f32);
        Ok(StepResult { loss, gradient_norm })
    }
}

/// The sum over micro-batches, each already multiplied by its share of the step.
impl Addend for LossGradients {
    fn add(&mut self, right: Self) {
        self.loss += right.loss;
        let pairs = self.gradients.par_iter_mut().zip(&right.gradients);
        pairs.for_each(|(sum, values)| add_values(sum, values));
    }
}

/// The Euclidean norm of all gradients together, summed in an order that no thread changes.
fn norm(gradients: &[Vec<f32>]) -> f64 {
    const CHUNK: usize = 1 << 14;
    let sum = |part: &[f32]| part.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
    let sums: Vec<f64> = gradients.par_iter().flat_map(|g| g.par_chunks(CHUNK).map(sum)).collect();
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::Prediction;
    use crate::noise::SeededNoise;
    use crate::schedule::ScheduleConfig;
    use crate::train::TimestepSampling;
    use crate::unet::UNetConfig;

    const N_IMAGES: usize = 7;

    fn unet() -> UNet {
        let config = UNetConfig {
            image_size: [1, 8, 8],
            ch: 8,
            ch_mult: vec![1, 2],
            attn: vec![1],
            num_res_blocks: 1,
            dropout: 0.2,
            norm_groups: 2,
            ..UNetConfig::default()
        };
        UNet::init(&config, 3).unwrap()
    }

    fn batch() -> Batch {
        let images = SeededNoise { seed: 4, first_image: 0 }.x_t(N_IMAGES, [1, 8, 8]);
        Batch { images, indices: (0..N_IMAGES).collect(), tags: vec![vec![]; N_IMAGES] }
    }

    fn with_step<R>(micro_batch_size: usize, body: impl FnOnce(TrainStep<'_>) -> R) -> R {
        let config = StepConfig {
            objective: ObjectiveConfig {
                prediction: Prediction::V,
                timestep_sampling: TimestepSampling::Stratified,
                min_snr_gamma: 5.0,
                loss_focus: 2.0,
                tag_dropout: 0.0,
                seed: 1,
            },
            micro_batch_size,
            gradient_checkpointing: false,
            update: UpdateConfig {
                optimizer: Optimizer::Adam,
                learning_rate: 1e-3,
                weight_decay: 0.0,
                max_gradient_norm: 1.0,
                ema_decay: 0.9,
            },
        };
        let schedule = NoiseSchedule::new(ScheduleConfig::default()).unwrap();
        body(TrainStep { schedule: &schedule, device: &Device::Cpu, config })
    }

    #[test]
    fn one_micro_batch_has_the_gradients_of_the_batch() {
        let (unet, batch) = (unet(), batch());
        let found = with_step(N_IMAGES, |step| step.gradients(&unet, &batch, 21).unwrap());
        let schedule = NoiseSchedule::new(ScheduleConfig::default()).unwrap();
        let part = StepPart { first_image: 21, offset: 0, batch_size: N_IMAGES };
        let objective = with_step(1, |step| step.config.objective);
        let noisy = NoisyBatch::drawn(&schedule, &objective, &batch, part).unwrap();
        let dropout_seed = Some(Stream::new(1, Purpose::Training, 21, 1).bits());
        let passes = GradientConfig { dropout_seed, checkpointing: false };
        let expected = loss_gradients(&unet, &noisy, 1.0, passes, &Device::Cpu).unwrap();
        assert!(found == expected);
    }

    #[test]
    fn gradients_do_not_depend_on_who_computes_which_micro_batch() {
        let (unet, batch) = (unet(), batch());
        with_step(2, |step| {
            let expected = step.gradients(&unet, &batch, 70).unwrap();
            let n = step.n_micro_batches(&batch);
            assert_eq!(n, 4);
            // The workers of each micro-batch, in the order in which they compute.
            for workers in [[0, 0, 1, 1], [0, 1, 1, 1], [2, 0, 1, 0], [3, 2, 1, 0]] {
                let mut whole = TreeSum::new(n);
                for worker in (0..4).rev() {
                    let mut sum = TreeSum::new(n);
                    for k in (0..n).filter(|&k| workers[k] == worker) {
                        sum.add(k..k + 1, step.micro_batch(&unet, &batch, 70, k).unwrap());
                    }
                    sum.into_subtrees().for_each(|(leaves, sum)| whole.add(leaves, sum));
                }
                assert!(whole.into_total().unwrap() == expected, "workers {workers:?}");
            }
        });
    }

    #[test]
    fn micro_batches_change_a_step_by_rounding_alone() {
        let (unet, batch) = (
            UNet::init(&UNetConfig { dropout: 0.0, ..unet().config().clone() }, 3).unwrap(),
            batch(),
        );
        let of = |size| with_step(size, |step| step.gradients(&unet, &batch, 0).unwrap());
        let whole = of(N_IMAGES);
        for size in [1, 2, 3, 6] {
            let parts = of(size);
            assert!((parts.loss / whole.loss - 1.0).abs() < 1e-6, "{size}");
            for (parts, whole) in parts.gradients.iter().zip(&whole.gradients) {
                let largest = whole.iter().fold(1e-3f32, |most, g| most.max(g.abs()));
                for (a, b) in parts.iter().zip(whole) {
                    assert!((a - b).abs() < 1e-5 * largest, "{size}: {a} and {b} of {largest}");
                }
            }
        }
    }

    #[test]
    fn a_diverged_step_changes_nothing() {
        let mut state = TrainState::new(unet());
        let before = state.clone();
        with_step(N_IMAGES, |step| {
            let n = state.unet.values().len();
            for loss in [f64::NAN, f64::INFINITY, MAX_LOSS] {
                let found = LossGradients { loss, gradients: vec![vec![0.0; 3]; n] };
                let error = step.update(&mut state, &found).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Diverged { .. }), "{error}");
                assert!(error.to_string().contains("step 1 has loss"), "{error}");
            }
            let mut found = step.gradients(&state.unet, &batch(), 0).unwrap();
            found.gradients[0][0] = f32::NAN;
            assert!(step.update(&mut state, &found).is_err());
        });
        assert_eq!(state.unet.values(), before.unet.values());
        assert_eq!(state.optimizer, before.optimizer);
    }
}
