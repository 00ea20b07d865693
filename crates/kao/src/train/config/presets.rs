//! Named configurations.

use super::{Decay, TAG_DROPOUT, TrainConfig};
use crate::denoiser::Prediction;
use crate::sampler::SamplingDefaults;
use crate::schedule::{ScheduleConfig, ScheduleKind};
use crate::train::adam::Optimizer;
use crate::train::objective::TimestepSampling;
use crate::unet::{Activation, UNetConfig};
use crate::vocabulary::Vocabulary;
use std::path::PathBuf;

/// A named configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The original's: 64×64, 25.4 million parameters, batch 128.
    Anime64,
    /// 64×64, 4.8 million parameters on patches of 2×2 pixels: hours on a laptop. The built-in model
    /// grew from this architecture.
    Small64,
    /// 32×32, 1.1 million parameters: minutes on a laptop.
    Tiny,
    /// As `anime64`, but with SiLU: diffusers has no hardswish, and opens what this trains.
    Diffusers64,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 4] =
        [Preset::Anime64, Preset::Small64, Preset::Tiny, Preset::Diffusers64];

    /// The name in command lines and files.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Anime64 => "anime64",
            Preset::Small64 => "small64",
            Preset::Tiny => "tiny",
            Preset::Diffusers64 => "diffusers64",
        }
    }

    /// The preset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The preset of the architecture `model`, whatever its dropout and its number of tags.
    pub fn of_architecture(model: &UNetConfig) -> Option<Self> {
        Preset::ALL.into_iter().find(|preset| {
            let of_preset = preset.config().model;
            let UNetConfig { dropout, n_tags, .. } = of_preset;
            UNetConfig { dropout, n_tags, ..model.clone() } == of_preset
        })
    }

    /// Training speed in pictures per second on two idle cores of an AMD EPYC (Zen 5, AVX-512).
    /// Other machines differ, but the ratios between presets are about the same.
    pub fn reference_speed(self) -> f64 {
        match self {
            Preset::Anime64 | Preset::Diffusers64 => 17.0,
            Preset::Small64 => 120.0,
            Preset::Tiny => 450.0,
        }
    }

    /// The preset for pictures with `side` pixels on the shorter side: the largest that does not
    /// enlarge them and that a laptop trains in an evening. `anime64` is never chosen.
    pub fn for_side(side: usize) -> Self {
        match side {
            0..64 => Preset::Tiny,
            _ => Preset::Small64,
        }
    }

    /// The configuration that it stands for, without a folder of pictures.
    pub fn config(self) -> TrainConfig {
        let anime64 = TrainConfig {
            data: PathBuf::new(),
            // 500 epochs of the original's 63,632 pictures.
            steps: 236_000,
            batch_size: 128,
            micro_batch_size: 16,
            gradient_checkpointing: false,
            initial_model: None,
            optimizer: Optimizer::Adam,
            weight_decay: 0.0,
            learning_rate: 1e-4,
            warmup_steps: 0,
            learning_rate_decay: Decay::Constant,
            final_learning_rate: 0.0,
            max_gradient_norm: 0.0,
            ema_halflife_images: 500_000.0,
            horizontal_flip: true,
            seed: 999,
            log_every: 10,
            save_every: 1000,
            keep_checkpoints: 2,
            validation_images: 512,
            sample_count: 64,
            sample_steps: 20,
            prediction: Prediction::Epsilon,
            timestep_sampling: TimestepSampling::Uniform,
            min_snr_gamma: 0.0,
            loss_focus: 0.0,
            classes: None,
            tag_dropout: TAG_DROPOUT,
            model: UNetConfig::default(),
            schedule: ScheduleConfig::default(),
            sampling: SamplingDefaults::default(),
            tags: Vocabulary::default(),
        };
        let karras = ScheduleConfig { kind: ScheduleKind::Karras, ..ScheduleConfig::default() };
        match self {
            Preset::Anime64 => anime64,
            Preset::Diffusers64 => TrainConfig {
                model: UNetConfig { activation: Activation::Silu, ..UNetConfig::default() },
                ..anime64
            },
            Preset::Small64 => TrainConfig {
                steps: 12_000,
                batch_size: 32,
                micro_batch_size: 32,
                learning_rate: 6e-4,
                warmup_steps: 200,
                learning_rate_decay: Decay::Cosine,
                final_learning_rate: 2e-5,
                max_gradient_norm: 1.0,
                ema_halflife_images: 30_000.0,
                save_every: 250,
                validation_images: 256,
                prediction: Prediction::V,
                timestep_sampling: TimestepSampling::Cosine,
                schedule: karras,
                model: UNetConfig {
                    patch_size: 2,
                    ch: 64,
                    ch_mult: vec![1, 1, 2],
                    attn: vec![1, 2],
                    num_res_blocks: 2,
                    dropout: 0.0,
                    activation: Activation::Silu,
                    norm_groups: 8,
                    ..UNetConfig::default()
                },
                ..anime64
            },
            Preset::Tiny => TrainConfig {
                steps: 3000,
                batch_size: 32,
                micro_batch_size: 32,
                learning_rate: 5e-4,
                warmup_steps: 100,
                max_gradient_norm: 1.0,
                ema_halflife_images: 20_000.0,
                save_every: 250,
                validation_images: 128,
                // Predicting v and drawing noise levels as the cosine schedule has them keeps the
                // first sampling steps well-conditioned: faces appear after some thousand pictures,
                // where ε and the linear schedule need many times that.
                prediction: Prediction::V,
                timestep_sampling: TimestepSampling::Cosine,
                schedule: karras,
                model: UNetConfig {
                    image_size: [3, 32, 32],
                    ch: 32,
                    ch_mult: vec![1, 2, 2],
                    attn: vec![2],
                    num_res_blocks: 1,
                    dropout: 0.0,
                    activation: Activation::Hardswish,
                    norm_groups: 8,
                    ..UNetConfig::default()
                },
                ..anime64
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_chosen_that_does_not_enlarge_and_takes_no_days() {
        let chosen = [16, 32, 63, 64, 500].map(|side| Preset::for_side(side).name());
        assert_eq!(chosen, ["tiny", "tiny", "tiny", "small64", "small64"]);
    }
}
