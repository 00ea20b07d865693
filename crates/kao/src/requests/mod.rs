//! Requests: what a user asks for, as plain data.
//!
//! There is one structure per task, with all defaults in its `Default`. A request is written as
//! JSON (unknown fields are refused), says what is wrong with it before any work begins, estimates
//! what the work takes, runs it, and can be written as the `kao …` command line that repeats it. All
//! front ends (the terminal, a server, a program of one's own) ask through these, so the same
//! request gives the same bytes from any of them.
//!
//! Errors name the field that they are about, such as `steps` or `model.path`; a front end says it
//! in words of its own. Progress, and whether to go on, is the business of a
//! [`Control`].

mod benchmark;
mod command_line;
mod compare;
mod compute;
mod convert;
mod destinations;
mod distances;
mod draw;
mod edit;
mod encode;
mod estimate;
mod evaluate;
mod evaluation;
mod fetch;
mod interpolate;
mod kernel_sets;
mod latents;
mod measure;
mod model;
mod noise_file;
mod other_noise;
mod pictures;
mod prepare;
mod provenance;
mod recover;
mod sample;
mod sample_from;
mod selection;
mod series;
mod sweep;
mod train;
mod wishes;

pub use benchmark::{Benchmark, Benchmarked, preset_named};
pub use command_line::{CommandLine, flag, quoted};
pub use compare::{Compare, Compared, ComparedImages, Comparison, PlannedComparison};
pub use compute::Compute;
pub use convert::{Convert, Converted, Target};
pub use distances::{DistanceAndFloor, KernelEvaluation};
pub use draw::{Draw, Drawn};
pub use edit::{Edit, Edited};
pub use encode::{Encode, Encoded};
pub use estimate::Estimate;
pub use evaluate::{Evaluate, Evaluated, SampledPart, TagAccuracy};
pub use evaluation::{Evaluation, EvaluationConfig, LevelEvaluation, Nearness, evaluate};
pub use fetch::{Fetch, Fetched};
pub use interpolate::{Interpolate, Interpolated};
pub use measure::{KernelShare, MeasureConfig, Measurement, Timing, measure};
pub use model::ModelSource;
pub use other_noise::OtherNoise;
pub use prepare::Prepare;
pub use provenance::Provenance;
pub use recover::{Recover, Recovered, visible_noise};
pub use sample::{Sample, Sampled};
pub use sample_from::SampleFrom;
pub use sweep::{Sweep, SweepRun, Swept, published_runs};
pub use train::{MIN_TAG_COUNT, PlannedRun, Train, TrainedRun};
pub use wishes::Wishes;

use crate::control::Control;
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A task with everything that it depends on.
pub trait Request: Default + Serialize + DeserializeOwned {
    /// The command of the program `kao` that does the same.
    const COMMAND: &'static str;

    /// The fields that the command takes by their position.
    const POSITIONAL: &'static [&'static str] = &[];

    /// What comes of it.
    type Outcome;

    /// Checks everything that can be told without reading a file.
    ///
    /// # Errors
    /// Names the field, what was found and what was expected.
    fn validate(&self) -> Result<()>;

    /// What the work takes, as far as it is known beforehand. Reads the configuration of the model,
    /// not its weights.
    ///
    /// # Errors
    /// When the model cannot be read, or the request does not fit it.
    fn estimate(&self) -> Result<Estimate>;

    /// Does the work. Whatever can be wrong with the request is found before it begins.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); when a file cannot be read or written, when the request does
    /// not fit the model, the pictures or the memory, or when `control` stops the work.
    fn run(&self, control: &dyn Control) -> Result<Self::Outcome>;

    /// The command line of the program `kao` that repeats the request.
    ///
    /// # Errors
    /// When a path is not Unicode.
    fn command_line(&self) -> Result<CommandLine> {
        CommandLine::of(self)
    }

    /// A request from JSON. What is not given is as by default; unknown fields are refused.
    ///
    /// # Errors
    /// When it is no such request.
    fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| Error::invalid("request", error))
    }

    /// The request as JSON.
    ///
    /// # Errors
    /// When a path is not Unicode.
    fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::invalid("request", error))
    }
}

/// Refuses fields that are 0.
fn check_at_least_one(fields: &[(&str, usize)]) -> Result<()> {
    match fields.iter().find(|(_, n)| *n == 0) {
        Some((field, _)) => Err(Error::out_of_range(*field, 0, "at least 1")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
