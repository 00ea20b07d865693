//! A summary of a run, from its directory alone.
//!
//! This module only reads. Damaged files do not make it fail: what cannot be read is listed among
//! the problems.

use super::checkpoint::{self, Position};
use super::config::TrainConfig;
use super::history::{History, Trend, ValidationReport};
use super::rank_times::RanksReport;
use super::run_dir::{CHECKPOINTS, CONFIG_FILE, LOCK_FILE, LOG_FILE, SAMPLES};
use crate::error::{Error, Result};
use crate::formats;
use crate::locks::is_locked;
use crate::model::{ModelConfig, RUN_MODEL};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The state of a run.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The run directory.
    pub path: PathBuf,
    /// Whether a training process is writing to it now; `None` where the file system offers no
    /// locks.
    pub running: Option<bool>,
    /// Steps done, according to the log and the checkpoints.
    pub step: u64,
    /// Steps in all.
    pub total_steps: Option<u64>,
    /// Pictures seen.
    pub images: u64,
    /// Passes over the training pictures; known once a model has been written.
    pub epochs: Option<f64>,
    /// The newest validation.
    #[serde(rename = "last_look")]
    pub last_validation: Option<ValidationReport>,
    /// The validation with the lowest loss.
    #[serde(rename = "best_look")]
    pub best_validation: Option<ValidationReport>,
    /// Where the validation loss is going.
    pub trend: Option<Trend>,
    /// Pictures per second in the newest steps.
    pub images_per_second: Option<f64>,
    /// How the ranks of the run fared in the newest steps; `None` where it has one alone.
    pub ranks: Option<RanksReport>,
    /// Seconds spent on training steps.
    pub training_seconds: f64,
    /// Seconds that the remaining steps take at this speed.
    pub seconds_left: Option<f64>,
    /// How many checkpoints there are.
    pub n_checkpoints: usize,
    /// The newest checkpoint whose header can be read.
    pub checkpoint: Option<NewestCheckpoint>,
    /// How many sample grids there are.
    pub n_samples: usize,
    /// The newest of them.
    pub sample: Option<PathBuf>,
    /// All of them, oldest first.
    #[serde(skip)]
    pub samples: Vec<PathBuf>,
    /// The model to sample from.
    pub model: Option<PathBuf>,
    /// What is damaged, one line each.
    pub problems: Vec<String>,
    /// What the log holds.
    #[serde(skip)]
    pub history: History,
}

/// A checkpoint to resume from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewestCheckpoint {
    /// Its file.
    pub path: PathBuf,
    /// The steps done when it was written.
    pub step: u64,
    /// Seconds since it was written.
    pub age_seconds: Option<f64>,
}

impl Summary {
    /// Summarizes the run in `path`.
    ///
    /// # Errors
    /// When `path` is no run directory, or cannot be read.
    pub fn of(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut problems = Vec::new();
        let checkpoints = checkpoint::list(&path.join(CHECKPOINTS))?;
        let model_path = path.join(RUN_MODEL);
        let is_run = !checkpoints.is_empty()
            || [RUN_MODEL, CONFIG_FILE, LOG_FILE].iter().any(|name| path.join(name).is_file());
        if !is_run {
            // Where the folder does not exist, this gives the reason.
            std::fs::read_dir(&path).map_err(|error| Error::io("read", &path, error))?;
            let problem = "a folder without a model or checkpoints";
            return Err(Error::malformed(&path, problem)
                .with_hint("give a folder that `kao train` wrote, or a file"));
        }

        let history =
            readable(History::read(path.join(LOG_FILE)), &mut problems).unwrap_or_default();
        if history.skipped > 0 {
            let log = path.join(LOG_FILE);
            let n = history.skipped;
            let words = if n == 1 { "1 line is".to_owned() } else { format!("{n} lines are") };
            problems.push(format!("`{}`: {words} broken and skipped", log.display()));
        }
        let newest = newest_checkpoint(&checkpoints, &mut problems);
        let config = match TrainConfig::read(&path.join(CONFIG_FILE)) {
            Ok(config) => Some(config),
            Err(error) => {
                problems.push(error.to_string());
                newest.as_ref().map(|(_, position)| position.config.clone())
            }
        };
        let has_model = model_path.is_file();
        let n_pictures = match has_model {
            true => readable(n_training_pictures(&model_path), &mut problems).flatten(),
            false => None,
        };
        let samples = samples(&path.join(SAMPLES), &mut problems);

        let position = newest.as_ref().map(|(_, position)| position);
        let step = history.last_step().unwrap_or(0).max(position.map_or(0, |at| at.n_steps));
        let images = history.last.map_or(0, |last| last.images);
        let images = images.max(position.map_or(0, |at| at.n_images));
        let total_steps = config.as_ref().map(|config| config.steps);
        let seconds_left = config.as_ref().zip(history.images_per_second).map(|(config, speed)| {
            config.steps.saturating_sub(step) as f64 * config.batch_size as f64 / speed
        });
        Ok(Summary {
            running: is_locked(&path.join(LOCK_FILE)),
            step,
            total_steps,
            images,
            epochs: n_pictures.map(|n| images as f64 / n as f64),
            last_validation: history.validations.last().cloned(),
            best_validation: history.best.clone(),
            trend: history.trend(),
            images_per_second: history.images_per_second,
            ranks: history.ranks.clone(),
            training_seconds: history.training_seconds,
            seconds_left: seconds_left.filter(|seconds| seconds.is_finite()),
            n_checkpoints: checkpoints.len(),
            checkpoint: newest.map(|(checkpoint, _)| checkpoint),
            n_samples: samples.len(),
            sample: samples.last().cloned(),
            samples,
            model: has_model.then_some(model_path),
            problems,
            history,
            path,
        })
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.total_steps.is_some_and(|total| self.step >= total)
    }
}

/// The value that was read; an error becomes a problem.
fn readable<T>(read: Result<T>, problems: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| problems.push(error.to_string())).ok()
}

fn newest_checkpoint(
    paths: &[PathBuf],
    problems: &mut Vec<String>,
) -> Option<(NewestCheckpoint, Position)> {
    paths.iter().rev().find_map(|path| {
        let position = readable(checkpoint::peek(path), problems)?;
        let written = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
        let newest = NewestCheckpoint {
            path: path.clone(),
            step: position.n_steps,
            age_seconds: age.map(|age| age.as_secs_f64()),
        };
        Some((newest, position))
    })
}

/// How many pictures the model at `path` was trained on, where its metadata says so.
fn n_training_pictures(path: &Path) -> Result<Option<u64>> {
    let contents = formats::peek(path)?;
    let config = ModelConfig::from_metadata(path, contents.format, &contents.metadata)?;
    let n_pictures = config.training.get("pictures").and_then(serde_json::Value::as_u64);
    Ok(n_pictures.filter(|n| *n > 0))
}

/// The sample grids, oldest first.
fn samples(folder: &Path, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        entries => readable(entries.map_err(|error| Error::io("read", folder, error)), problems),
    };
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut samples: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("step-") && name.ends_with(".png")
        })
        .collect();
    samples.sort();
    samples
}
