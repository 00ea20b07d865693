//! What a run takes, before it begins: memory, disk, time.

use super::config::{Preset, TrainConfig};
use super::pictures::validated;
use super::reduction;
use crate::dataset::{Folder, SplitConfig};
use crate::error::{Error, Result};
use serde::Serialize;

/// Bytes of a value.
const F32: u64 = 4;

/// Memory of the program itself: code, threads, buffers of the pool.
const PROGRAM_BYTES: u64 = 96 << 20;

/// A forward pass takes about this share of the time of a training step.
const FORWARD_SHARE: f64 = 0.3;

/// What a run takes, as far as it is known without training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunEstimate {
    /// Parameters, as PyTorch counts them.
    pub n_parameters: usize,
    /// Pictures to train on.
    pub training_pictures: usize,
    /// Pictures to validate with.
    pub validation_pictures: usize,
    /// Pictures that are kept for tests of the finished model.
    pub test_pictures: usize,
    /// Steps that remain.
    pub steps_left: u64,
    /// Steps of a pass over the training pictures.
    pub steps_per_epoch: f64,
    /// Passes over the training pictures in the whole run.
    pub epochs: f64,
    /// Pictures that pass through the network together, at most.
    pub micro_batch_size: usize,
    /// Memory at the peak, in bytes.
    pub memory_bytes: u64,
    /// Size of a checkpoint, in bytes.
    pub checkpoint_bytes: u64,
    /// The most checkpoints that are kept.
    pub n_checkpoints: u64,
}

impl TrainConfig {
    /// What the run takes on the pictures of `folder`, from step `n_steps` on.
    ///
    /// # Errors
    /// None in practice: the pictures can be split.
    pub fn estimate(&self, folder: &Folder, n_steps: u64) -> Result<RunEstimate> {
        let split = folder.split(&SplitConfig::default())?;
        let steps_per_epoch = split.train.len().max(1) as f64 / self.batch_size as f64;
        Ok(RunEstimate {
            n_parameters: self.model.parameter_count(),
            training_pictures: split.train.len(),
            validation_pictures: match self.validation_images {
                0 => 0,
                _ => validated(split.validation.len(), self).count(),
            },
            test_pictures: split.test.len(),
            steps_left: self.steps.saturating_sub(n_steps),
            steps_per_epoch,
            epochs: self.steps as f64 / steps_per_epoch,
            micro_batch_size: self.batch_size.div_ceil(self.n_micro_batches()),
            memory_bytes: self.estimated_bytes(folder.n_in_memory()),
            checkpoint_bytes: self.checkpoint_bytes(),
            n_checkpoints: (self.keep_checkpoints as u64).saturating_add(1),
        })
    }

    /// Seconds that the run takes from step `n_steps` on when training processes
    /// `images_per_second`: training steps, validations and sample grids.
    pub fn estimated_seconds(&self, n_steps: u64, images_per_second: f64) -> f64 {
        let n_left = self.steps.saturating_sub(n_steps) as f64;
        let n_validations = n_left / self.save_every as f64;
        let n_sampled = self.sample_count as f64 * self.sample_steps as f64;
        // With the averaged weights and with the raw weights.
        let n_validated = 2.0 * self.validation_images as f64;
        let n_forward = n_validations * (n_sampled + n_validated);
        (n_left * self.batch_size as f64 + n_forward * FORWARD_SHARE) / images_per_second
    }

    /// The presets whose runs take less time than this run takes from step `n_steps` on, with the
    /// seconds that they take, where training processes `images_per_second` here. Empty where the
    /// architecture is not that of a preset.
    pub fn faster_presets(&self, n_steps: u64, images_per_second: f64) -> Vec<(Preset, f64)> {
        let Some(preset) = Preset::of_architecture(&self.model) else { return Vec::new() };
        let seconds = self.estimated_seconds(n_steps, images_per_second);
        let faster = Preset::ALL.into_iter().filter_map(|other| {
            let ratio = other.reference_speed() / preset.reference_speed();
            let takes = other.config().estimated_seconds(0, images_per_second * ratio);
            (ratio > 1.0 && takes < seconds).then_some((other, takes))
        });
        faster.collect()
    }

    /// Bytes of memory that the run takes at its peak with `n_pictures` pictures in all. The estimate
    /// for the CPU is rather too high than too low; ARCHITECTURE.md compares it with measurements.
    pub fn estimated_bytes(&self, n_pictures: usize) -> u64 {
        let weights = (self.model.parameter_count() as u64).saturating_mul(F32);
        let image = self.model.image_size.iter().product::<usize>() as u64;
        let together = self.micro_batch_size.min(self.batch_size);

        // Weights, their average, two moments; and sums of gradients over micro-batches.
        let n_sums = reduction::max_held(self.n_micro_batches());
        let state = weights.saturating_mul(4 + u64::from(n_sums));
        let pictures = image.saturating_mul(n_pictures as u64);
        // The pictures of a step; noisy images, targets and noise of a micro-batch; those of the
        // validation set, which stay.
        let n_values = self
            .batch_size
            .saturating_add(together.saturating_mul(3))
            .saturating_add(self.validation_images.saturating_mul(4));
        let values = image.saturating_mul(n_values as u64).saturating_mul(F32);

        let saved = self.model.training_values(self.gradient_checkpointing) as u64;
        let step = saved.saturating_mul(together as u64).saturating_mul(F32);
        // Freed memory is not always of the size that is needed next. The gradients of the parameters
        // grow while the feature maps are freed.
        let step = step.saturating_add(step / 10).max(weights);
        // A validation has a network of its own: weights, what the kernels make of them, and the file
        // that is written.
        let validation = weights.saturating_mul(7);
        [PROGRAM_BYTES, state, pictures, values, step.max(validation)]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Bytes of a checkpoint's file.
    pub fn checkpoint_bytes(&self) -> u64 {
        (self.model.parameter_count() as u64).saturating_mul(4 * F32)
    }

    /// The largest micro-batch with which the run is estimated to need at most `limit` bytes of
    /// memory.
    ///
    /// # Errors
    /// When every micro-batch needs more.
    pub fn micro_batch_within(&self, limit: u64, n_pictures: usize) -> Result<usize> {
        let bytes = |micro_batch_size: usize| {
            TrainConfig { micro_batch_size, ..self.clone() }.estimated_bytes(n_pictures)
        };
        // More micro-batches have more sums of gradients, so the smallest is not always the one that
        // needs the least.
        let Some(most) = (1..=self.batch_size).rev().find(|&n| bytes(n) <= limit) else {
            let least = (1..=self.batch_size).map(bytes).min().unwrap_or(0);
            let gibibytes = |bytes: u64| format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30));
            let allowed = format!("at least {} for this run", gibibytes(least));
            let error = Error::out_of_range("memory", gibibytes(limit), allowed);
            return Err(match self.gradient_checkpointing {
                true => error,
                false => error.with_hint("with `gradient_checkpointing` it needs less"),
            });
        };
        // The same number of micro-batches, evened out.
        Ok(self.batch_size.div_ceil(self.batch_size.div_ceil(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;
    use proptest::prelude::*;

    #[test]
    fn the_original_fits_four_gibibytes() {
        let config = Preset::Anime64.config();
        let limit = 4 << 30;
        let n = config.micro_batch_within(limit, 63_632).unwrap();
        assert!((8..=64).contains(&n), "{n}");
        let chosen = TrainConfig { micro_batch_size: n, ..config.clone() };
        assert!(chosen.estimated_bytes(63_632) <= limit);
        let saving = TrainConfig { gradient_checkpointing: true, ..config.clone() };
        let bytes = |config: &TrainConfig| {
            TrainConfig { micro_batch_size: n, ..config.clone() }.estimated_bytes(63_632)
        };
        assert!(bytes(&saving) < bytes(&config));
        let within = |config: &TrainConfig| config.micro_batch_within(3 << 30, 63_632).unwrap();
        assert!(within(&saving) > within(&config), "{} {}", within(&saving), within(&config));
        let error = config.micro_batch_within(1 << 28, 63_632).unwrap_err();
        assert!(error.to_string().starts_with("memory 0.25 GiB: must be at least 2."), "{error}");
    }

    #[test]
    fn faster_presets_are_named_with_their_times() {
        let names = |preset: Preset| {
            let faster = preset.config().faster_presets(0, preset.reference_speed());
            faster.into_iter().map(|(preset, _)| preset.name()).collect::<Vec<_>>()
        };
        assert_eq!(names(Preset::Anime64), ["small64", "tiny"]);
        assert_eq!(names(Preset::Small64), ["tiny"]);
        assert_eq!(names(Preset::Tiny), [""; 0]);
        let (_, seconds) = Preset::Small64.config().faster_presets(0, 120.0)[0];
        assert_eq!(seconds, Preset::Tiny.config().estimated_seconds(0, 450.0));
    }

    #[test]
    fn sums_of_gradients_take_memory() {
        let config = Preset::Anime64.config();
        let of = |micro_batch_size| {
            TrainConfig { micro_batch_size, ..config.clone() }.estimated_bytes(10)
        };
        // In 4 micro-batches instead of 2, half as much is saved for the backward pass and half as
        // many noisy images, targets and noises are there, but one more sum.
        let saved = 4 * config.model.training_values(false) as u64;
        let image = 3 * 64 * 64 * 4;
        let weights = 4 * config.model.parameter_count() as u64;
        let less = 32 * (saved + 3 * image) + (64 * saved / 10 - 32 * saved / 10);
        assert_eq!(of(64) - of(32), less - weights);
    }

    proptest! {
        #[test]
        fn more_memory_is_never_fewer_pictures(batch_size in 1usize..200, half_gibibytes in 4u64..40) {
            let config = TrainConfig { batch_size, ..Preset::Anime64.config() };
            let limit = half_gibibytes << 29;
            let n = config.micro_batch_within(limit, 1000).unwrap();
            prop_assert!(n <= batch_size && n <= config.micro_batch_within(2 * limit, 1000).unwrap());
            let chosen = TrainConfig { micro_batch_size: n, ..config };
            prop_assert!(chosen.estimated_bytes(1000) <= limit);
        }
    }
}
