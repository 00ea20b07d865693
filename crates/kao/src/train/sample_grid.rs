//! The sample grid of a run: the same noise in every grid, so that grids differ by the weights alone.

use super::config::TrainConfig;
use super::reports::SAMPLING;
use crate::control::{Control, Report};
use crate::error::Result;
use crate::images::Images;
use crate::model::Model;
use crate::render::{self, Layout};
use crate::sampler::{Method, SamplerConfig, Start, generate};
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Spacing, walk};
use std::path::Path;

/// Columns of a sample grid.
pub const SAMPLE_COLUMNS: usize = 8;

/// The seed of the noise of sample grids, the same for every run.
pub(super) const SAMPLE_SEED: u64 = 999;

/// The sampler of sample grids.
const METHOD: Method = Method::DpmPlusPlus { eta: 0.0 };

/// Samples the images of a grid, `[N, C, H, W]`, with `model`, which a run of `config` trains.
///
/// # Errors
/// When sampling fails, or `control` stops it.
pub(super) fn sample(
    model: &Model,
    config: &TrainConfig,
    schedule: &NoiseSchedule,
    control: &dyn Control,
) -> Result<Images> {
    let n_timesteps = schedule.n_timesteps();
    let walk = walk(Spacing::Trailing, config.sample_steps, n_timesteps, End::Clean)?;
    let start = Start::Seed {
        seed: SAMPLE_SEED,
        count: config.sample_count,
        image_shape: config.model.image_size,
    };
    let n_evaluations = walk.len().saturating_mul(config.sample_count) as u64;
    let mut n_done = 0;
    generate(
        &model.network,
        schedule,
        &walk,
        SamplerConfig { method: METHOD, clip: false },
        &start,
        config.micro_batch_size,
        &mut |_, progress| {
            n_done += progress.x.len() as u64;
            let total = Some(n_evaluations);
            control.check(&Report::progress(SAMPLING, n_done, total, "network evaluations"))
        },
    )
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
        ("sampler", format!("{}, {} steps, eta 0", METHOD.name(), config.sample_steps)),
        ("seed", SAMPLE_SEED.to_string()),
    ];
    render::write_png(path, &picture, &texts)
}
