//! The sample grid of a run: the same noise in every grid, so that grids differ by the weights alone.

use super::config::TrainConfig;
use crate::control::Control;
use crate::denoiser::Conditions;
use crate::error::Result;
use crate::images::Images;
use crate::model::Model;
use crate::noise::{ImageNumbers, NumberedNoise, Purpose};
use crate::render::{self, Layout};
use crate::sampler::{DpmPlusPlus, Generation, Sampler, SamplingConfig, Start};
use crate::schedule::NoiseSchedule;
use std::ops::Range;
use std::path::Path;

/// Columns of a sample grid.
pub const SAMPLE_COLUMNS: usize = 8;

/// The seed of the noise of sample grids, the same for every run.
pub(super) const SAMPLE_SEED: u64 = 999;

/// The sampler of sample grids.
const SAMPLER: Sampler = Sampler::DpmPlusPlus(DpmPlusPlus { eta: 0.0 });

/// Samples these `images` of a grid, `[N, C, H, W]`, with `model`, which a run of `config` trains;
/// `conditions` are those of the whole grid. An image does not depend on the others.
///
/// # Errors
/// When sampling fails, or `control` stops it.
pub(super) fn sample(
    model: &Model,
    config: &TrainConfig,
    schedule: &NoiseSchedule,
    conditions: &Conditions,
    images: Range<usize>,
    control: &dyn Control,
) -> Result<Images> {
    let image_shape @ [c, h, w] = config.model.image_size;
    if images.is_empty() {
        return Ok(Images::zeros([0, c, h, w]));
    }
    let sampling = SamplingConfig {
        sampler: Some(SAMPLER),
        steps: Some(config.sample_steps),
        ..SamplingConfig::default()
    };
    let numbers = ImageNumbers::From { first: images.start as u64, count: images.len() };
    let noise = NumberedNoise { seed: SAMPLE_SEED, purpose: Purpose::Sampling, numbers };
    let start = Start::Numbered { noise, image_shape };
    let generation = Generation {
        denoiser: &model.network,
        plan: &sampling.plan(schedule)?,
        start: &start,
        conditions: &conditions.slice(images),
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
