//! What a run writes to its directory: checkpoints, the model to sample from, sample grids, the log.

use super::checkpoint::{self, Position};
use super::config::TrainConfig;
use super::log::RunLog;
use super::run_dir::RunDir;
use super::sample_grid;
use super::step::TrainState;
use crate::error::Result;
use crate::formats::StoreAs;
use crate::images::Images;
use crate::model::{Model, ModelConfig};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The files of a run.
#[derive(Debug)]
pub(super) struct RunOutput<'a> {
    run_dir: &'a RunDir,
    pub(super) log: RunLog<'a>,
    last_checkpoint: Option<PathBuf>,
}

impl<'a> RunOutput<'a> {
    /// The files of a run of `config` in `run_dir`; a run that is resumed has done
    /// `n_steps_before`.
    pub(super) fn new(
        run_dir: &'a RunDir,
        config: &TrainConfig,
        n_steps_before: Option<u64>,
    ) -> Self {
        let first_step = n_steps_before.map_or(0, |n_steps| n_steps.saturating_add(1));
        let checkpoints = run_dir.checkpoints();
        RunOutput {
            run_dir,
            log: RunLog::new(run_dir, config, first_step),
            last_checkpoint: n_steps_before.map(|n_steps| checkpoint::path(&checkpoints, n_steps)),
        }
    }

    /// The newest checkpoint that this run has written or was resumed from.
    pub(super) fn last_checkpoint(&self) -> Option<&Path> {
        self.last_checkpoint.as_deref()
    }

    /// Writes a checkpoint, and removes those that are no longer to be kept.
    pub(super) fn save(&mut self, position: &Position, state: &TrainState) -> Result<PathBuf> {
        let path = checkpoint::path(&self.run_dir.checkpoints(), position.n_steps);
        checkpoint::write(&path, position, &state.unet, &state.optimizer)?;
        self.run_dir.retain_checkpoints(position.config.keep_checkpoints, position.best_step)?;
        self.log.flush()?;
        self.last_checkpoint = Some(path.clone());
        Ok(path)
    }

    /// Whether there is a model to sample from.
    pub(super) fn has_model(&self) -> bool {
        self.run_dir.model().exists()
    }

    /// Writes the model to sample from.
    pub(super) fn write_model(&self, model: &Model) -> Result<PathBuf> {
        let path = self.run_dir.model();
        model.save(&path, StoreAs::F32)?;
        Ok(path)
    }

    /// Writes the sample grid of step `n_steps`, and logs it.
    pub(super) fn write_grid(
        &mut self,
        images: &Images,
        config: &TrainConfig,
        n_steps: u64,
    ) -> Result<PathBuf> {
        let path = self.run_dir.sample(n_steps);
        sample_grid::write(&path, images, config, n_steps)?;
        self.log.sample_grid(n_steps, &path)?;
        Ok(path)
    }
}

/// Writes into a model's configuration how the model was trained.
pub(super) fn describe(model: &mut ModelConfig, position: &Position, n_training_pictures: usize) {
    let config = &position.config;
    let entries = [
        ("steps", json!(position.n_steps)),
        ("images", json!(position.n_images)),
        ("weights", json!("exponential moving average")),
        ("ema_halflife_images", json!(config.ema_halflife_images)),
        ("batch_size", json!(config.batch_size)),
        ("learning_rate", json!(config.learning_rate)),
        ("seed", json!(config.seed)),
        ("pictures", json!(n_training_pictures)),
        ("data_fingerprint", json!(position.data_fingerprint)),
        ("validation_loss", json!(position.best_validation_loss)),
        ("program", json!(concat!("kao ", env!("CARGO_PKG_VERSION")))),
    ];
    model.training.extend(entries.map(|(key, value)| (key.to_owned(), value)));
}
