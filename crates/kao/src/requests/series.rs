//! Runs of a model one after another into a folder, of which those are kept that were made before.
//!
//! A run has pictures and a record beside them. The record alone proves nothing: another series may
//! have been stopped between writing a picture and its record, and pictures may have been deleted. So
//! a run counts as made when its record and the texts of all its pictures say so.

use crate::control::{Control, Report};
use crate::denoiser::{Conditions, Denoiser};
use crate::error::{Error, Result};
use crate::files::{atomic_write, read_to_string_regular};
use crate::locks::FolderLock;
use crate::model::Model;
use crate::noise::SeededNoise;
use crate::quantities::{counted, estimate};
use crate::render;
use crate::shard::Shard;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs into one folder.
pub(super) struct Series<'a> {
    folder: &'a Path,
    stage: &'static str,
    control: &'a dyn Control,
    _lock: FolderLock,
}

/// One run, and how it is known.
pub(super) struct PlannedRun {
    /// The stem of its files.
    pub name: String,
    /// How it comes to be, as its pictures and its record say it.
    pub description: Vec<(String, String)>,
    /// Its pictures.
    pub pictures: [PathBuf; 2],
}

/// What is remembered of a finished run, beside its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record<T> {
    pub description: Vec<(String, String)>,
    pub seconds: f64,
    #[serde(flatten)]
    pub more: T,
}

impl<'a> Series<'a> {
    /// Makes the folder, and takes it for `kao COMMAND` alone; a shard of it shares the folder with
    /// others. Reports are of `stage`.
    ///
    /// # Errors
    /// When the folder cannot be made, or another process writes to it.
    pub fn begin(
        folder: &'a Path,
        stage: &'static str,
        command: &str,
        shard: Option<Shard>,
        control: &'a dyn Control,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        let other = format!("another `kao {command}`");
        let lock = match shard {
            None => FolderLock::take(folder, &other)?,
            Some(_) => FolderLock::share(folder, &other)?,
        };
        Ok(Series { folder, stage, control, _lock: lock })
    }

    fn record_path(&self, run: &PlannedRun) -> PathBuf {
        self.folder.join(format!("{}.json", run.name))
    }

    /// For each run the record of it, where it was made before.
    ///
    /// # Errors
    /// When `control` stops the work.
    pub fn kept<T: DeserializeOwned>(&self, runs: &[PlannedRun]) -> Result<Vec<Option<Record<T>>>> {
        let kept = |run: &PlannedRun| {
            let record = read_record(&self.record_path(run), &run.description)
                .filter(|_| run.pictures.iter().all(|path| is_of(path, &run.description)));
            if record.is_some() {
                self.say(&format!("{}: done before", run.name))?;
            }
            Ok(record)
        };
        runs.iter().map(kept).collect()
    }

    /// Says how long it takes to make `n_runs` with so many evaluations of the network, each of one
    /// image, and so many seconds of other work. For that, some evaluations are made and timed.
    ///
    /// # Errors
    /// When the network fails, or `control` stops the work.
    pub fn say_how_long(
        &self,
        model: &Model,
        n_runs: usize,
        n_evaluations: usize,
        batch_size: usize,
        other_seconds: f64,
    ) -> Result<()> {
        if n_runs == 0 {
            return Ok(());
        }
        let seconds = n_evaluations as f64 * seconds_per_evaluation(model, batch_size)?;
        self.say(&format!(
            "{} with {}: about {}",
            counted(n_runs as u64, "run"),
            counted(n_evaluations as u64, "evaluation") + " of the network",
            estimate(seconds + other_seconds)
        ))
    }

    /// Remembers a run whose pictures are written.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn remember<T: Serialize>(&self, run: &PlannedRun, record: &Record<T>) -> Result<()> {
        let path = self.record_path(run);
        let json =
            serde_json::to_string_pretty(record).map_err(|error| Error::malformed(&path, error))?;
        atomic_write(&path, |file| file.write_all(json.as_bytes()))
    }

    /// Tells the user something.
    ///
    /// # Errors
    /// When `control` stops the work.
    pub fn say(&self, message: &str) -> Result<()> {
        self.control.check(&Report::message(self.stage, message))
    }
}

/// Measured on a few batches, after one that prepares the weights.
fn seconds_per_evaluation(model: &Model, batch_size: usize) -> Result<f64> {
    const ENOUGH_SECONDS: f64 = 1.0;
    const MOST_BATCHES: usize = 8;
    let x = SeededNoise { seed: 0, first_image: 0 }.x_t(batch_size, model.config.unet.image_size);
    let timesteps = vec![model.schedule.n_timesteps() - 1; batch_size];
    let evaluate = || model.network.predict(&x, &timesteps, &Conditions::none());
    evaluate()?;
    let (started, mut n_batches) = (Instant::now(), 0);
    while n_batches < MOST_BATCHES && started.elapsed().as_secs_f64() < ENOUGH_SECONDS {
        evaluate()?;
        n_batches += 1;
    }
    Ok(started.elapsed().as_secs_f64() / (n_batches * batch_size) as f64)
}

/// The record of a run that was finished with the same description.
fn read_record<T: DeserializeOwned>(
    path: &Path,
    description: &[(String, String)],
) -> Option<Record<T>> {
    const MAX_BYTES: u64 = 1 << 20;
    let text = read_to_string_regular(path, MAX_BYTES).ok()?;
    let record: Record<T> = serde_json::from_str(&text).ok()?;
    (record.description == description).then_some(record)
}

/// Whether the picture at `path` says that it was made as `description` does.
fn is_of(path: &Path, description: &[(String, String)]) -> bool {
    let Ok(texts) = render::read_png_text(path) else { return false };
    // Pictures cannot hold zero bytes.
    let expected = description.iter().map(|(key, text)| (key.clone(), text.replace('\0', " ")));
    texts == expected.collect()
}

/// Text as HTML has it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
