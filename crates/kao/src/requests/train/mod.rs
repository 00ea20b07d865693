//! A training run.

mod configuration;
mod planned;
mod together;

pub use planned::{PlannedRun, TrainedRun};

use super::{Compute, Estimate, Request};
use crate::control::Control;
use crate::dataset::{Cache, CacheConfig, Classes};
use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::quantities::optional_size;
use crate::ranks::Group;
use crate::train::{Decay, Optimizer, TimestepSampling, TrainConfig};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Trains a model on a folder of pictures, or resumes a run.
///
/// A run begins with the configuration of a preset, a file or a model; what is given here besides
/// takes the place of its entries, which [`TrainConfig`] explains. A run
/// that is resumed begins with its own configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// The folder of pictures, of files or of tar archives, or archives: `shards-{000..099}.tar`.
    pub data: Option<PathBuf>,
    /// Where the pictures are kept while the run uses them. The run is the same.
    pub cache: Cache,
    /// The folder for pictures that are kept on disk.
    pub cache_dir: Option<PathBuf>,
    /// The run directory.
    pub out: PathBuf,
    /// The name of the preset to start from. By default one is chosen by the size of the pictures.
    pub preset: Option<String>,
    /// A TOML file to start from, such as the `config.toml` of a run.
    pub config: Option<PathBuf>,
    /// Resumes from the newest checkpoint of the run directory.
    pub resume: bool,
    /// A model whose weights the run begins with; also its architecture, schedule and prediction,
    /// where neither a preset nor a file is given.
    pub from: Option<PathBuf>,
    /// Training steps of the whole run.
    pub steps: Option<u64>,
    /// Passes over the training pictures, in place of steps.
    pub epochs: Option<u64>,
    /// Pictures per training step.
    pub batch_size: Option<usize>,
    /// Pictures that pass through the network together.
    pub micro_batch_size: Option<usize>,
    /// Bytes of memory to stay within, by choosing the micro-batch size. In JSON also a text, `"4GiB"`.
    #[serde(with = "optional_size")]
    pub memory: Option<u64>,
    /// Recompute activations in the backward pass.
    pub gradient_checkpointing: bool,
    /// What the network predicts.
    pub prediction: Option<Prediction>,
    /// How timesteps are drawn.
    pub timestep_sampling: Option<TimestepSampling>,
    /// γ of the min-SNR loss weights.
    pub min_snr_gamma: Option<f64>,
    /// How much more errors in the middle of a picture count.
    pub loss_focus: Option<f64>,
    /// Dropout probability.
    pub dropout: Option<f64>,
    /// The update rule.
    pub optimizer: Option<Optimizer>,
    /// Weight decay of `adamw` and `muon`.
    pub weight_decay: Option<f64>,
    /// The highest learning rate. Without `final_learning_rate` the final one changes in proportion.
    pub learning_rate: Option<f64>,
    /// The learning-rate schedule after the warm-up.
    pub learning_rate_decay: Option<Decay>,
    /// The learning rate at the last step.
    pub final_learning_rate: Option<f64>,
    /// Steps of the warm-up.
    pub warmup_steps: Option<u64>,
    /// The largest norm of gradients.
    pub max_gradient_norm: Option<f64>,
    /// Half-life of the averaged weights, in pictures.
    pub ema_halflife: Option<f64>,
    /// Train without the tags of the pictures.
    pub no_tags: bool,
    /// What besides files of tags says of pictures what they show.
    pub classes: Option<Classes>,
    /// Leave out tags that fewer training pictures have; by default fewer than 10.
    pub min_tag_count: Option<u64>,
    /// The probability that a picture is seen without its tags.
    pub tag_dropout: Option<f64>,
    /// Do not mirror pictures at random.
    pub no_flip: bool,
    /// Random seed.
    pub seed: Option<u64>,
    /// Steps between validations, sample grids and checkpoints.
    pub save_every: Option<u64>,
    /// How many of the newest checkpoints are kept.
    pub keep_checkpoints: Option<usize>,
    /// Steps between lines of the log.
    pub log_every: Option<u64>,
    /// Validation pictures used, at most.
    pub validation_images: Option<usize>,
    /// Images in a sample grid.
    pub sample_count: Option<usize>,
    /// Sampling steps of a sample grid.
    pub sample_steps: Option<usize>,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Train {
    fn cache(&self) -> CacheConfig {
        CacheConfig { cache: self.cache, dir: self.cache_dir.clone() }
    }
}

/// Tags of fewer training pictures are left out where no other number is given.
pub const MIN_TAG_COUNT: u64 = 10;

impl Train {
    /// Checks everything about the run and loads its pictures. A new run writes nothing yet; of a run
    /// that is resumed, damaged checkpoints are set aside. The run directory is locked until the
    /// result is run or dropped.
    ///
    /// # Errors
    /// When anything is wrong with the request, the pictures, the model to begin with, the run to
    /// resume or the run directory; the first fault is named.
    pub fn plan(&self, control: &dyn Control) -> Result<PlannedRun> {
        self.validate()?;
        planned::plan(self, true, control)
    }

    /// As [`plan`](Self::plan), for a run on the ranks of `group` together, each of which makes this
    /// call with the same request. Rank 0 plans; the others load the pictures, and need not see
    /// the run directory.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), at every rank; when ranks do not agree, see
    /// [`agreement`](crate::ranks::agreement); when a rank is gone.
    pub fn plan_with(&self, group: &dyn Group, control: &dyn Control) -> Result<PlannedRun> {
        match group.size() {
            1 => self.plan(control),
            _ => together::plan(self, group, control),
        }
    }

    /// As [`plan`](Self::plan), to see what the run takes: nothing is locked or written, and the
    /// result cannot be run.
    ///
    /// # Errors
    /// As [`plan`](Self::plan): a dry run fails where the run would.
    pub fn dry_run(&self, control: &dyn Control) -> Result<PlannedRun> {
        self.validate()?;
        planned::plan(self, false, control)
    }
}

/// What training on so many pictures takes.
fn estimated(config: &TrainConfig, n_images: u64) -> Estimate {
    Estimate {
        memory_bytes: config.estimated_bytes(0),
        n_evaluations: n_images,
        operations: 3.0 * n_images as f64 * config.model.cpu_forward_flop() as f64,
    }
}

impl Train {
    /// What [`PlannedRun::measured_speed`] takes, a few steps of the run.
    ///
    /// # Errors
    /// When the configuration cannot be read, or is impossible.
    pub fn estimate_of_measuring(&self) -> Result<Estimate> {
        let config = self.configuration()?;
        let measured = planned::measuring(&config);
        let n_images = measured.batch_size * (measured.n_rounds + measured.n_warmup);
        Ok(estimated(&config, n_images as u64))
    }
}

impl Request for Train {
    const COMMAND: &'static str = "train";
    type Outcome = TrainedRun;

    fn validate(&self) -> Result<()> {
        self.compute.validate()?;
        if self.out.as_os_str().is_empty() {
            return Err(Error::invalid("out", "none given; expected a run directory to write"));
        }
        let exclusive = [
            ("preset", self.preset.is_some(), "config", self.config.is_some()),
            ("steps", self.steps.is_some(), "epochs", self.epochs.is_some()),
            ("memory", self.memory.is_some(), "micro_batch_size", self.micro_batch_size.is_some()),
            ("no_tags", self.no_tags, "classes", self.classes.is_some()),
            ("no_tags", self.no_tags, "min_tag_count", self.min_tag_count.is_some()),
            ("no_tags", self.no_tags, "tag_dropout", self.tag_dropout.is_some()),
        ];
        if let Some((field, _, other, _)) = exclusive.iter().find(|(_, one, _, two)| *one && *two) {
            return Err(Error::invalid(*field, format!("cannot be given together with `{other}`")));
        }
        if self.epochs == Some(0) {
            return Err(Error::out_of_range("epochs", 0, "at least 1"));
        }
        match self.dropout.filter(|p| !(0.0..1.0).contains(p)) {
            Some(p) => Err(Error::out_of_range("dropout", p, "at least 0 and below 1")),
            None => Ok(()),
        }
    }

    /// The memory of the run apart from its pictures, and the passes of its training steps; a step
    /// takes about three forward passes for each picture. [`dry_run`](Self::dry_run) says more.
    fn estimate(&self) -> Result<Estimate> {
        let config = self.configuration()?;
        Ok(estimated(&config, config.steps.saturating_mul(config.batch_size as u64)))
    }

    /// Trains to the last step, or until `control` stops the run; then the run saves and ends. What
    /// is reported is listed in [`reports`](crate::train::reports).
    fn run(&self, control: &dyn Control) -> Result<TrainedRun> {
        self.plan(control)?.run(control)
    }
}
