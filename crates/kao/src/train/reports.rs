//! What a run reports to its [`Control`], and how it learns that it should stop.
//!
//! | stage | when | values | besides |
//! |---|---|---|---|
//! | [`TRAINING`] | once, before the first step | `parameters`, `training_pictures`, `validation_pictures`, `test_pictures` | |
//! | [`TRAINING`] | after every step | `images`, `loss`, `gradient_norm`, `learning_rate`, `images_per_second` | |
//! | [`TRAINING`] | of a run on several ranks, in every step, to ask whether it is to stop | | |
//! | [`VALIDATION`] | before every batch of images | | |
//! | [`VALIDATION`] | at the end | `step`, `validation_loss`, `raw_validation_loss`, `is_best` (0 or 1) | |
//! | [`VALIDATION`] | after the model is written | `step` | the file |
//! | [`SAMPLING`] | after every network evaluation of a grid | | |
//! | [`SAMPLING`] | at the end | `step` | the images of the grid as the preview, and its file |
//! | [`SAVING`] | after every checkpoint | `step` | the file |
//!
//! `done` and `total` count what the report's unit says; where there are values, they count training
//! steps. Warnings come as messages, before the first step.

use super::history::{StepReport, ValidationReport};
use crate::control::{Control, Report};
use crate::images::Images;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The stage of training steps.
pub const TRAINING: &str = "training";
/// The stage of a validation.
pub const VALIDATION: &str = "validation";
/// The stage of a sample grid.
pub const SAMPLING: &str = "sampling";
/// The stage of writing checkpoints.
pub const SAVING: &str = "saving";

/// Passes reports on, and remembers whether one was answered with `Break`: a run saves before it
/// ends.
pub(super) struct Watch<'a> {
    control: &'a dyn Control,
    total_steps: u64,
    is_stopped: AtomicBool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(control: &'a dyn Control, total_steps: u64) -> Self {
        Watch { control, total_steps, is_stopped: AtomicBool::new(false) }
    }

    /// Whether the run is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// The run is about to make the step after `n_steps`. The answer is not remembered: a run that
    /// is to stop already makes one step, so that there is something to save.
    pub(super) fn started(&self, n_steps: u64, n_parameters: usize, n_pictures: [usize; 3]) {
        let [training, validation, test] = n_pictures.map(|n| n as f64);
        let values = [
            ("parameters", n_parameters as f64),
            ("training_pictures", training),
            ("validation_pictures", validation),
            ("test_pictures", test),
        ];
        let report = Report { values: &values, ..self.steps(TRAINING, n_steps) };
        let _ = self.control.report(&report);
    }

    /// Asks whether the run is to stop, in the middle of the step after `n_steps`.
    pub(super) fn wants_stop(&self, n_steps: u64) -> bool {
        self.passed_on(&self.steps(TRAINING, n_steps));
        self.is_stopped()
    }

    /// Something to tell the user once, before the first step; the answer is not remembered.
    pub(super) fn warning(&self, message: &str) {
        let message = format!("warning: {message}");
        let _ = self.control.report(&Report::message(TRAINING, &message));
    }

    /// A training step was made.
    pub(super) fn stepped(&self, report: &StepReport) {
        let values = [
            ("images", report.images as f64),
            ("loss", report.loss),
            ("gradient_norm", report.gradient_norm),
            ("learning_rate", report.learning_rate),
            ("images_per_second", report.images_per_second),
        ];
        self.passed_on(&Report { values: &values, ..self.steps(TRAINING, report.step) });
    }

    /// A validation came to its end.
    pub(super) fn validated(&self, found: &ValidationReport, is_best: bool) {
        let values = [
            ("step", found.step as f64),
            ("validation_loss", found.validation_loss),
            ("raw_validation_loss", found.raw_validation_loss.unwrap_or(f64::NAN)),
            ("is_best", f64::from(u8::from(is_best))),
        ];
        let report = self.steps(VALIDATION, found.step);
        self.passed_on(&Report { values: &values, ..report });
    }

    /// A sample grid was made, and written to `file` where the run has a directory.
    pub(super) fn sampled(&self, n_steps: u64, images: &Images, file: Option<&Path>) {
        let report = self.steps(SAMPLING, n_steps);
        let values = [("step", n_steps as f64)];
        self.passed_on(&Report { values: &values, preview: Some(images), file, ..report });
    }

    /// The model was written to `file`.
    pub(super) fn wrote_model(&self, n_steps: u64, file: &Path) {
        self.wrote(VALIDATION, n_steps, file);
    }

    /// A checkpoint was written to `file`.
    pub(super) fn saved(&self, n_steps: u64, file: &Path) {
        self.wrote(SAVING, n_steps, file);
    }

    fn wrote(&self, stage: &'static str, n_steps: u64, file: &Path) {
        let values = [("step", n_steps as f64)];
        let report = self.steps(stage, n_steps);
        self.passed_on(&Report { values: &values, file: Some(file), ..report });
    }

    fn steps(&self, stage: &'static str, n_steps: u64) -> Report<'static> {
        Report::progress(stage, n_steps, Some(self.total_steps), "steps")
    }

    /// Passes a report on whose answer counts after the next step.
    fn passed_on(&self, report: &Report<'_>) {
        let _ = self.report(report);
    }
}

impl Control for Watch<'_> {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        let answer = self.control.report(report);
        if answer.is_break() {
            self.is_stopped.store(true, Ordering::Relaxed);
        }
        answer
    }
}
