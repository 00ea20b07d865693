//! The log of a run: every line goes to the run's JSON lines and to TensorBoard event files.

use super::config::TrainConfig;
use super::events::EventFile;
use super::history::{StepReport, ValidationReport};
use super::rank_times::RanksReport;
use super::run_dir::RunDir;
use crate::error::{Error, Result};
use serde_json::json;
use std::path::Path;

/// Writes the log of a run, and holds what the next line sums up.
#[derive(Debug)]
pub(super) struct RunLog<'a> {
    run_dir: &'a RunDir,
    events: EventFile,
    steps_per_line: u64,
    last_step: u64,
    batch_size: u64,
    since_line: Sums,
}

/// Sums over the steps since the last line.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    n_steps: u64,
    losses: f64,
    seconds: f64,
}

impl<'a> RunLog<'a> {
    /// The log of a run of `config` whose next step is `first_step`; a new run gives 0.
    pub(super) fn new(run_dir: &'a RunDir, config: &TrainConfig, first_step: u64) -> Self {
        RunLog {
            run_dir,
            events: EventFile::new(run_dir.logs(), first_step),
            steps_per_line: config.log_every,
            last_step: config.steps,
            batch_size: config.batch_size as u64,
            since_line: Sums::default(),
        }
    }

    /// A step that took `seconds`. Writes a line when one is due, with how the `ranks` of the run
    /// fared, where it has several.
    pub(super) fn step(
        &mut self,
        report: &StepReport,
        seconds: f64,
        ranks: impl FnOnce() -> Option<RanksReport>,
    ) -> Result<()> {
        let sums = &mut self.since_line;
        sums.n_steps += 1;
        sums.losses += report.loss;
        sums.seconds += seconds;
        let is_due = report.step.is_multiple_of(self.steps_per_line);
        if !is_due && report.step != self.last_step {
            return Ok(());
        }
        let Sums { n_steps, losses, seconds } = std::mem::take(sums);
        let line = StepReport {
            loss: losses / n_steps as f64,
            images_per_second: (n_steps * self.batch_size) as f64 / seconds,
            ..*report
        };
        let mut values = vec![
            ("loss/training", line.loss),
            ("gradient_norm", line.gradient_norm),
            ("learning_rate", line.learning_rate),
            ("images_per_second", line.images_per_second),
        ];
        let mut object = json!(line);
        if let Some(ranks) = ranks() {
            values.extend([
                ("ranks/slowest_images_per_second", ranks.images_per_second[ranks.slowest]),
                ("ranks/communication", ranks.communication),
                ("ranks/waiting", ranks.waiting),
            ]);
            object["ranks"] = json!(ranks);
        }
        self.run_dir.log(&object)?;
        self.events.scalars(line.step, &values)
    }

    /// A validation.
    pub(super) fn validation(&mut self, report: &ValidationReport) -> Result<()> {
        self.run_dir.log(&json!(report))?;
        let raw = report.raw_validation_loss.map(|loss| ("loss/validation_raw".to_owned(), loss));
        let by_t = report.validation_by_t.iter().map(|range| {
            (format!("validation_by_t/{:04}-{:04}", range.from, range.to - 1), range.loss)
        });
        let values: Vec<_> = [("loss/validation".to_owned(), report.validation_loss)]
            .into_iter()
            .chain(raw)
            .chain(by_t)
            .collect();
        let values: Vec<_> = values.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.events.scalars(report.step, &values)
    }

    /// The sample grid of step `step`, which was written to `path`.
    pub(super) fn sample_grid(&mut self, step: u64, path: &Path) -> Result<()> {
        let png = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        self.events.image(step, "samples", &png)
    }

    /// Makes sure that the events written so far survive a power failure.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.events.flush()
    }
}
