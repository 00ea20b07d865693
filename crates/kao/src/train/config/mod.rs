//! What a training run depends on.
//!
//! [`TrainConfig`] is the request: plain data with the defaults of a [`Preset`], read from a TOML
//! file, a command line or a program. Here are its entries and what follows from them as a run goes
//! on; which configurations are possible is checked in `limits`, and what may change within a run in
//! `changes`.

mod changes;
mod file;
mod limits;
mod presets;

pub use presets::Preset;

use super::adam::Optimizer;
use super::objective::{ObjectiveConfig, TimestepSampling};
use super::path_text;
use super::step::{StepConfig, UpdateConfig};
use crate::dataset::{Classes, Folder, SplitConfig};
use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::sampler::SamplingDefaults;
use crate::schedule::ScheduleConfig;
use crate::unet::UNetConfig;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that a run depends on, except where it is written. Stored as `config.toml` in the run
/// directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The folder of pictures.
    #[serde(with = "path_text")]
    pub data: PathBuf,
    /// Training steps of the whole run.
    pub steps: u64,
    /// Pictures per training step.
    pub batch_size: usize,
    /// Pictures that pass through the network together. Memory grows with it; the gradients are
    /// the same except for rounding.
    pub micro_batch_size: usize,
    /// Save only the inputs of the network's blocks for the backward pass, and recompute the
    /// activations within: less memory, a third more time, the same bytes.
    pub gradient_checkpointing: bool,
    /// A model whose weights the run begins with, in place of random ones.
    #[serde(with = "path_text::optional", skip_serializing_if = "Option::is_none")]
    pub initial_model: Option<PathBuf>,
    /// The update rule.
    pub optimizer: Optimizer,
    /// Weight decay of `adamw` and `muon`: in a step each weight loses this share of itself times the learning
    /// rate.
    pub weight_decay: f64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps of the warm-up, over which the learning rate grows from 0.
    pub warmup_steps: u64,
    /// The learning-rate schedule after the warm-up.
    pub learning_rate_decay: Decay,
    /// The learning rate at the last step.
    pub final_learning_rate: f64,
    /// Gradients with a larger norm are scaled down to it; 0 never scales them.
    pub max_gradient_norm: f64,
    /// Half-life of the averaged weights, in pictures seen.
    pub ema_halflife_images: f64,
    /// Mirror pictures at random.
    pub horizontal_flip: bool,
    /// Random seed of initial weights, order of pictures, noise and dropout.
    pub seed: u64,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Steps between validations, sample grids and checkpoints.
    pub save_every: u64,
    /// How many of the newest checkpoints are kept; the one with the lowest validation loss is kept
    /// besides.
    pub keep_checkpoints: usize,
    /// Validation pictures used, at most.
    pub validation_images: usize,
    /// Images in a sample grid; with 0 no grid is made.
    pub sample_count: usize,
    /// Sampling steps of a sample grid.
    pub sample_steps: usize,
    /// What the network predicts.
    pub prediction: Prediction,
    /// How timesteps are drawn.
    pub timestep_sampling: TimestepSampling,
    /// γ of the min-SNR weights (Hang et al. 2023); with 0 all timesteps have the same weight.
    pub min_snr_gamma: f64,
    /// How much more errors in the middle of a picture count: their weight is 1 + f in the middle
    /// for 1 far from it; with 0 all places have the same weight.
    #[serde(skip_serializing_if = "is_zero")]
    pub loss_focus: f64,
    /// What besides files of tags says of pictures what they show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// The probability that a picture is seen without its tags.
    #[serde(skip_serializing_if = "is_default_tag_dropout")]
    pub tag_dropout: f64,
    /// The architecture.
    pub model: UNetConfig,
    /// The noise schedule.
    pub schedule: ScheduleConfig,
    /// How the model is to be sampled, as far as the model that the run begins with says.
    #[serde(skip_serializing_if = "SamplingDefaults::is_none")]
    pub sampling: SamplingDefaults,
    /// The tags that the model learns; none where it is trained without.
    #[serde(skip_serializing_if = "Vocabulary::is_empty")]
    pub tags: Vocabulary,
}

/// The usual [`tag_dropout`](TrainConfig::tag_dropout).
pub(super) const TAG_DROPOUT: f64 = 0.15;

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_default_tag_dropout(value: &f64) -> bool {
    *value == TAG_DROPOUT
}

impl Default for TrainConfig {
    /// The `anime64` preset.
    fn default() -> Self {
        Preset::Anime64.config()
    }
}

/// The learning-rate schedule after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// The learning rate stays.
    Constant,
    /// It falls by half a cosine.
    Cosine,
    /// It falls by the same amount each step.
    Linear,
}

impl TrainConfig {
    /// A configuration that trains a network like `model`: its architecture, schedule, prediction and
    /// tags, and the rest of the `small64` preset.
    pub fn of_model(model: ModelConfig) -> Self {
        let ModelConfig { unet: model, schedule, prediction, tags, sampling, .. } = model;
        // The guide suits those very weights.
        let sampling = SamplingDefaults { steps: None, guide: None, ..sampling };
        TrainConfig { model, schedule, prediction, tags, sampling, ..Preset::Small64.config() }
    }

    /// Changes the highest learning rate, and the final one in proportion.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.final_learning_rate *= learning_rate / self.learning_rate;
        self.learning_rate = learning_rate;
    }

    /// Sets the number of steps to that of so many passes over `n_pictures` training pictures.
    ///
    /// # Errors
    /// When `epochs` is 0, or the pictures seen in them cannot be counted.
    pub fn set_epochs(&mut self, epochs: u64, n_pictures: usize) -> Result<()> {
        if epochs == 0 {
            return Err(Error::out_of_range("epochs", 0, "at least 1"));
        }
        let n_images = epochs.checked_mul(n_pictures as u64).ok_or_else(|| {
            Error::invalid("epochs", format!("{epochs} are more steps than can be counted"))
        })?;
        self.steps = n_images.div_ceil(self.batch_size as u64).max(1);
        Ok(())
    }

    /// The model that this run trains.
    pub fn model_config(&self) -> ModelConfig {
        let (tags, sampling) = (self.tags.clone(), self.sampling);
        let schedule = self.schedule.clone();
        let config = ModelConfig::new(self.model.clone(), schedule, self.prediction);
        ModelConfig { tags, sampling, ..config }
    }

    /// Trains with the tags that at least `min_count` of the training pictures of `folder` have.
    /// How many rarer tags there are besides.
    ///
    /// # Errors
    /// None in practice: the shares of the split are possible.
    pub fn take_tags(&mut self, folder: &Folder, min_count: u64) -> Result<usize> {
        let split = folder.split(&SplitConfig::default())?;
        let pictures = split.train.iter().map(|&index| folder.tags_of(index));
        let (tags, n_rare) = Vocabulary::of_pictures(pictures, min_count);
        self.model.n_tags = tags.len();
        self.tags = tags;
        Ok(n_rare)
    }

    /// What the run minimizes.
    pub fn objective(&self) -> ObjectiveConfig {
        ObjectiveConfig {
            prediction: self.prediction,
            timestep_sampling: self.timestep_sampling,
            min_snr_gamma: self.min_snr_gamma,
            loss_focus: self.loss_focus,
            tag_dropout: self.tag_dropout,
            seed: self.seed,
        }
    }

    /// The settings of the training step after `n_steps` steps and `n_images` pictures.
    pub fn step_config(&self, n_steps: u64, n_images: u64) -> StepConfig {
        StepConfig {
            objective: self.objective(),
            micro_batch_size: self.micro_batch_size,
            gradient_checkpointing: self.gradient_checkpointing,
            update: UpdateConfig {
                optimizer: self.optimizer,
                learning_rate: self.learning_rate_at(n_steps),
                weight_decay: self.weight_decay,
                max_gradient_norm: self.max_gradient_norm,
                ema_decay: self.ema_decay_at(n_images.saturating_add(self.batch_size as u64)),
            },
        }
    }

    /// Passes through the network in a training step, each with the gradients of one micro-batch.
    pub fn n_micro_batches(&self) -> usize {
        self.batch_size.div_ceil(self.micro_batch_size.max(1))
    }

    /// The learning rate of the step after `n_steps` steps.
    pub fn learning_rate_at(&self, n_steps: u64) -> f64 {
        if n_steps < self.warmup_steps {
            // Computed in floating point, where adding 1 to the largest integer does not overflow.
            return self.learning_rate
                * ((n_steps as f64 + 1.0) / (self.warmup_steps as f64 + 1.0));
        }
        let falling_steps = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let fallen = ((n_steps - self.warmup_steps) as f64 / falling_steps).min(1.0);
        let left = match self.learning_rate_decay {
            Decay::Constant => return self.learning_rate,
            Decay::Linear => 1.0 - fallen,
            Decay::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * fallen)),
        };
        self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * left
    }

    /// The share of the averaged weights that remains after a step at whose end `n_images` pictures
    /// have been seen. Early in a run the half-life is a twentieth of that number, so that the
    /// average soon forgets the random initial weights (Karras et al. 2022, "EDM").
    pub fn ema_decay_at(&self, n_images: u64) -> f64 {
        const RAMP: f64 = 0.05;
        let halflife = self.ema_halflife_images.min(RAMP * n_images as f64);
        if halflife <= 0.0 { 0.0 } else { 0.5f64.powf(self.batch_size as f64 / halflife) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_become_steps() {
        let mut config = TrainConfig { batch_size: 32, ..Preset::Tiny.config() };
        for (epochs, n_pictures, expected) in [(1, 64, 2), (3, 65, 7), (1, 1, 1)] {
            config.set_epochs(epochs, n_pictures).unwrap();
            assert_eq!(config.steps, expected);
        }
        assert!(config.set_epochs(0, 64).is_err() && config.set_epochs(u64::MAX, 2).is_err());
    }

    #[test]
    fn the_final_learning_rate_keeps_its_share() {
        let mut config =
            TrainConfig { learning_rate: 1e-3, final_learning_rate: 1e-4, ..Preset::Tiny.config() };
        config.set_learning_rate(4e-3);
        assert_eq!(config.learning_rate, 4e-3);
        assert!((config.final_learning_rate / 4e-4 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_learning_rate_warms_up_and_the_average_forgets_its_start() {
        let config = TrainConfig { warmup_steps: 9, learning_rate: 1.0, ..Preset::Tiny.config() };
        let rates: Vec<f64> = (0..12).map(|step| config.learning_rate_at(step)).collect();
        assert!(rates.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!((rates[0], rates[9], rates[11]), (0.1, 1.0, 1.0));
        assert_eq!(config.ema_decay_at(0), 0.0);
        assert!(config.ema_decay_at(1000) < config.ema_decay_at(100_000));
        let settled = config.ema_decay_at(u64::MAX).powf(config.ema_halflife_images / 32.0);
        assert!((settled - 0.5).abs() < 1e-9);
    }

    #[test]
    fn no_number_of_steps_wraps_around() {
        let run = TrainConfig { learning_rate: 1.0, steps: u64::MAX, ..Preset::Tiny.config() };
        for warmup_steps in [u64::MAX - 1, u64::MAX] {
            let config = TrainConfig { warmup_steps, ..run.clone() };
            let [first, last] = [0, u64::MAX].map(|step| config.learning_rate_at(step));
            assert!(first > 0.0 && first < 1e-19, "{first}");
            assert!((last - 1.0).abs() < 1e-12, "{last}");
        }
        let config = TrainConfig {
            batch_size: usize::MAX,
            micro_batch_size: usize::MAX,
            validation_images: usize::MAX,
            ..run
        };
        assert!(config.estimated_bytes(usize::MAX) == u64::MAX);
    }

    #[test]
    fn the_learning_rate_falls_to_its_end() {
        let run = TrainConfig {
            steps: 110,
            warmup_steps: 10,
            learning_rate: 1.0,
            final_learning_rate: 0.1,
            ..Preset::Tiny.config()
        };
        for (decay, halfway) in [(Decay::Linear, 0.55), (Decay::Cosine, 0.55)] {
            let config = TrainConfig { learning_rate_decay: decay, ..run.clone() };
            let rates: Vec<f64> = (0..=120).map(|step| config.learning_rate_at(step)).collect();
            assert_eq!(rates[10], 1.0, "{decay:?}");
            assert!(rates[10..].windows(2).all(|pair| pair[0] >= pair[1]), "{decay:?}");
            assert!((rates[60] - halfway).abs() < 1e-9, "{decay:?}: {}", rates[60]);
            assert!((rates[110] - 0.1).abs() < 1e-12 && rates[120] == rates[110], "{decay:?}");
        }
    }
}
