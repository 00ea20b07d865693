//! What a user sees of a run: a line of progress, and a line for what happens once.

use super::plan;
use crate::interrupt::{self, Saving};
use crate::output::one_line;
use crate::progress::Progress;
use crate::usage;
use kao::control::{Control, Report};
use kao::quantities::counted;
use kao::train::TrainConfig;
use kao::train::reports::{SAVING, TRAINING, VALIDATION};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long, the speed of the first steps is known well enough to estimate the time of the run.
const FIRST_STEPS: Duration = Duration::from_secs(3);

/// Shows the progress of a run, and stops it when the user asks for that.
pub(super) struct TrainingProgress<'a> {
    config: &'a TrainConfig,
    progress: Progress,
    started: Instant,
    state: Mutex<State>,
}

/// What changes from report to report.
#[derive(Default)]
struct State {
    loss: RunningMean,
    images_per_second: RunningMean,
    /// The step of the newest checkpoint.
    saved_at: Option<u64>,
    /// Whether the time of the run was estimated.
    time_is_known: bool,
    /// Held from the moment on when there is something to save.
    saving: Option<Saving>,
}

impl<'a> TrainingProgress<'a> {
    /// For a run of `config` that has done `n_steps_before`.
    pub(super) fn new(config: &'a TrainConfig, n_steps_before: u64) -> Self {
        let progress = Progress::new("training", config.steps, "steps").starting_at(n_steps_before);
        TrainingProgress { config, progress, started: Instant::now(), state: Mutex::default() }
    }

    /// Removes the line of progress. The run counts as saving as long as the result is held.
    pub(super) fn finish(self) -> Option<Saving> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).saving
    }

    fn started(&self, report: &Report<'_>, n_parameters: f64) {
        let n_pictures = |set| value(report, set).unwrap_or_default() as u64;
        self.progress.say(&format!(
            "{:.2} M parameters; {} to train on, {} to validate, {} to test",
            n_parameters / 1e6,
            counted(n_pictures("training_pictures"), "picture"),
            n_pictures("validation_pictures"),
            n_pictures("test_pictures")
        ));
        let total = report.total.unwrap_or_default();
        let n_left = total.saturating_sub(report.done);
        self.progress.say(&format!("{n_left} of {total} steps to go"));
        if let Some(time) = plan::time_elsewhere(self.config, report.done) {
            self.progress.say(&time);
        }
    }

    fn stepped(&self, report: &Report<'_>, loss: f64, state: &mut State) {
        state.loss.add(loss);
        state.images_per_second.add(value(report, "images_per_second").unwrap_or_default());
        let speed = state.images_per_second.value;
        if !state.time_is_known && self.started.elapsed() >= FIRST_STEPS {
            state.time_is_known = true;
            self.progress.say(&plan::time_here(self.config, report.done, speed));
        }
        self.progress.set_with(report.done, || {
            let mut words = format!("loss {:.4}, {speed:.0} images/s", state.loss.value);
            if let Some(step) = state.saved_at {
                words += &format!(", saved at {step}");
            }
            words
        });
    }

    fn validated(&self, report: &Report<'_>, loss: f64) {
        let raw_loss = value(report, "raw_validation_loss").unwrap_or_default();
        let is_best = value(report, "is_best").is_some_and(|is_best| is_best > 0.0);
        let best = if is_best { ", the best so far" } else { "" };
        self.progress.say(&format!(
            "step {}: validation loss {loss:.5}{best}; raw weights {raw_loss:.5}",
            report.done
        ));
    }
}

impl Control for TrainingProgress<'_> {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |name| value(report, name);
        if let Some(message) = report.message {
            self.progress.say(&one_line(&usage::with_flags(message)));
        }
        match report.stage {
            TRAINING => {
                if let Some(n_parameters) = of("parameters") {
                    state.saving = Some(Saving::begin());
                    self.started(report, n_parameters);
                }
                if let Some(loss) = of("loss") {
                    self.stepped(report, loss, &mut state);
                }
            }
            VALIDATION => {
                if let Some(loss) = of("validation_loss") {
                    self.validated(report, loss);
                }
            }
            SAVING => state.saved_at = Some(report.done),
            _ => {}
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The measurement of this name.
fn value(report: &Report<'_>, name: &str) -> Option<f64> {
    report.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// An exponentially weighted mean for display.
#[derive(Default)]
struct RunningMean {
    value: f64,
    n: u32,
}

impl RunningMean {
    fn add(&mut self, value: f64) {
        self.n += 1;
        let share = (1.0 / f64::from(self.n)).max(0.02);
        self.value += share * (value - self.value);
    }
}
