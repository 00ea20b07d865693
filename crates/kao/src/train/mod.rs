//! Training: what is minimized, the training step, and runs with checkpoints and logs.
//!
//! [`Training`] makes a run from a [`TrainConfig`]. A run is a function of its configuration and its
//! pictures: noise, order and dropout follow from the seed and the number of a picture, never from a
//! state that could be lost. From the inside out:
//!
//! - [`objective`]: noisy pictures, the loss of a network on them, and its gradients;
//! - [`reduction`]: the order in which the gradients of micro-batches are summed;
//! - [`adam`]: the update of weights, moments and averaged weights;
//! - [`step`]: the three above as one training step;
//! - `team`: the ranks that share the work of a run, and `exchange`, the sum of their gradients;
//! - `run`: the loop, with [`Validation`], sample grids, logs and [`checkpoint`]s as parts of their
//!   own;
//! - [`history`], [`summary`], [`curves`]: reading what a run has logged.
//!
//! A run knows no terminal. It reports to a [`Control`](crate::control::Control), which may stop it;
//! [`reports`] lists what it reports.

pub mod adam;
pub mod checkpoint;
mod config;
pub mod curves;
mod divergence;
mod estimate;
pub mod events;
mod exchange;
pub mod facts;
pub mod history;
mod log;
pub mod muon;
pub mod objective;
mod output;
mod path_text;
mod pictures;
mod rank_times;
pub mod reduction;
pub mod reports;
mod run;
mod run_dir;
mod sample_grid;
mod start;
pub mod step;
pub mod summary;
mod team;
#[cfg(test)]
mod team_tests;
#[cfg(test)]
mod tests;
pub mod timelapse;
mod validation;

pub use adam::Optimizer;
pub use config::{Decay, Preset, TrainConfig};
pub use estimate::RunEstimate;
pub use history::StepReport;
pub use objective::TimestepSampling;
pub use pictures::fingerprint;
pub use rank_times::RanksReport;
pub use run::{Trained, Training};
pub use run_dir::{CHECKPOINTS, CONFIG_FILE, LOG_FILE, Occupied, RunDir, SAMPLES};
pub use sample_grid::SAMPLE_COLUMNS;
pub use start::{check_initial_model, check_pictures, check_steps};
pub use validation::{Validation, ValidationLoss};
