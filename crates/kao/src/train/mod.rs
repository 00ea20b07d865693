//! Training: the loop, what it minimizes, the optimizer, checkpoints.
//!
//! A run is a function of its configuration and its pictures: noise, order and dropout come from
//! (seed, position), never from a state that could be lost. The loop knows no terminal; whoever
//! watches gets [`Event`]s and may answer that it is enough.

pub mod adam;
pub mod checkpoint;
mod config;
pub mod curves;
pub mod events;
pub mod history;
pub mod objective;
mod path_text;
mod plan;
mod run;
mod run_dir;
pub mod summary;
mod validation;

pub use config::{Decay, Optimizer, Preset, TimestepSampling, TrainConfig};
pub use history::StepReport;
pub use run::{Event, Outcome, SAMPLE_COLUMNS, check_initial_model, check_pictures, train};
pub use run_dir::{CHECKPOINTS, CONFIG_FILE, LOG_FILE, RunDir};
pub use validation::{Validation, ValidationLoss};
