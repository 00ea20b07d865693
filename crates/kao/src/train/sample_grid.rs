//! The sample grid of a run: the same noise in every grid, so that grids differ by the weights alone.

use super::config::TrainConfig;
use crate::control::Control;
use crate::denoiser::Conditions;
use crate::error::Result;
use crate::images::Images;
use crate::model::Model;
use crate::render::{self, Layout};
use crate::sampler::{DpmPlusPlus, Generation, Sampler, SamplingConfig, Start};
use crate::schedule::NoiseSchedule;
use std::path::Path;

/// Columns of a sample grid.
pub const SAMPLE_COLUMNS: usize = 8;

/// The seed of the noise of sample grids, the same for every run.
pub(super) const SAMPLE_SEED: u64 = 999;

/// The sampler of sample grids.
const SAMPLER: Sampler = Sampler::DpmPlusPlus(DpmPlusPlus { eta: 0.0 });

/// Samples the images of a grid, `[N, C, H, W]`, under `conditions`, with `model`, which a run of
/// `config` trains.
///
/// # Errors
/// When sampling fails, or `control` stops it.
pub(super) fn sample(
    model: &Model,
    config: &TrainConfig,
    schedule: &NoiseSchedule,
    conditions: &Conditions,
    control: &dyn Control,
) -> Result<Images> {
    let sampling = SamplingConfig {
        sampler: Some(SAMPLER),
        steps: Some(config.sample_steps),
        ..SamplingConfig::default()
    };
    let start = Start::Seed {
        seed: SAMPLE_SEED,
        count: config.sample_count,
        image_shape: config.model.image_size,
    };
    let generation = Generation {
        denoiser: &model.network,
        plan: &sampling.plan(schedule)?,
        start: &start,
        conditions,
        batch_size: config.micro_batch_size,
    };
    generation.run(&mut |_, _| {}, control)
}

/// Writes `images` as a grid to `path`, with what they are in the file's texts.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(
    path: &Path,
    images: &Images,
    config: &TrainConfig,
    n_steps: u64,
) -> Result<()> {
    let picture = render::grid(images, SAMPLE_COLUMNS, &Layout::default())?;
    let texts = [
        ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("step", n_steps.to_string()),
        ("sampler", format!("{}, {} steps, eta 0", SAMPLER.name(), config.sample_steps)),
        ("seed", SAMPLE_SEED.to_string()),
    ];
    render::write_png(path, &picture, &texts)
}
