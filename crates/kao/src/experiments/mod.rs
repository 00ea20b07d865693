//! What a user asks for by name, built from the rooms below: sampling runs, recovery, the sweep of
//! published runs, evaluation, measurements.
//!
//! Experiments compute and describe; where results are written and how progress is shown is for the
//! program.

mod evaluate;
mod measure;
mod recover;
mod sampling;
mod sweep;

pub use evaluate::{
    DistanceAndFloor, EvaluateConfig, Evaluation, LevelEvaluation, Nearness, evaluate,
};
pub use measure::{KernelShare, MeasureConfig, Measurement, Timing, measure};
pub use recover::{RecoverConfig, Recovery, recover, visible_noise};
pub use sampling::{SampleConfig, Sampled, sample_images};
pub use sweep::{SweepConfig, SweepRun, published_runs, sweep};
