//! Many images through a sampler, batch by batch.
//!
//! Image k has its noise whatever the batch size, so the batch size is a matter of memory and
//! speed alone.

use super::{Progress, SamplerConfig, draws_noise, sample};
use crate::denoiser::Denoiser;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::{GivenNoise, NoisingNoise, SeededNoise};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;

/// Where x_T and the noise of the steps come from.
#[derive(Clone, Debug)]
pub enum Start {
    /// From the streams of a seed.
    Seed {
        /// The seed.
        seed: u64,
        /// How many images.
        count: usize,
        /// `[C, H, W]` of each.
        image_shape: [usize; 3],
    },
    /// From given arrays.
    Given {
        /// x_T, `[N, C, H, W]`; or images at the noise level of the walk's first step.
        x_t: Images,
        /// The noise of each step, `[N, C, H, W]` each, first used first; may be empty where the
        /// walk draws none.
        z: Vec<Images>,
    },
    /// From given images, with the noise of the steps from the streams of a seed.
    Noised {
        /// Images at the noise level of the walk's first step, `[N, C, H, W]`.
        x_t: Images,
        /// The seed. Step k draws from draw k + 1 of [`Purpose::Noising`](crate::noise::Purpose).
        seed: u64,
    },
}

impl Start {
    /// How many images there will be.
    pub fn count(&self) -> usize {
        match self {
            Start::Seed { count, .. } => *count,
            Start::Given { x_t, .. } | Start::Noised { x_t, .. } => x_t.len(),
        }
    }
}

/// Walks all images of `start` down `walk`, `batch_size` at a time.
///
/// `observer` is called after every step of every batch with the number of the batch's first image.
///
/// # Errors
/// As [`sample`]; and when the batch size is 0, or the given noise does not fit the walk.
pub fn generate(
    denoiser: &dyn Denoiser,
    schedule: &NoiseSchedule,
    walk: &[Step],
    config: SamplerConfig,
    start: &Start,
    batch_size: usize,
    observer: &mut dyn FnMut(usize, Progress<'_>) -> Result<()>,
) -> Result<Images> {
    if batch_size == 0 {
        return Err(Error::out_of_range("batch size", 0, "at least 1"));
    }
    check_noise(start, walk, config)?;
    let count = start.count();
    if count == 0 {
        return Err(Error::out_of_range("count", 0, "at least 1"));
    }
    let mut all: Option<Images> = None;
    for first in (0..count).step_by(batch_size) {
        let n = batch_size.min(count - first);
        let observer = &mut |progress: Progress<'_>| observer(first, progress);
        let images = match start {
            Start::Seed { seed, image_shape, .. } => {
                let noise = SeededNoise { seed: *seed, first_image: first as u64 };
                let x = noise.x_t(n, *image_shape);
                sample(denoiser, schedule, walk, config, x, &noise, observer)?
            }
            Start::Given { x_t, z } => {
                let noise = GivenNoise { steps: z, first_image: first };
                let x = x_t.slice(first..first + n);
                sample(denoiser, schedule, walk, config, x, &noise, observer)?
            }
            Start::Noised { x_t, seed } => {
                let noise = NoisingNoise { seed: *seed, first_image: first as u64 };
                let x = x_t.slice(first..first + n);
                sample(denoiser, schedule, walk, config, x, &noise, observer)?
            }
        };
        match &mut all {
            // Room for all at once: growing would hold most images twice.
            None => all = Some(images.with_room_for(count)?),
            Some(all) => all.append(&images)?,
        }
    }
    Ok(all.expect("there is at least one batch"))
}

fn check_noise(start: &Start, walk: &[Step], config: SamplerConfig) -> Result<()> {
    let Start::Given { x_t, z } = start else { return Ok(()) };
    if !draws_noise(config.method) {
        return Ok(());
    }
    if z.len() < walk.len() {
        return Err(Error::invalid(
            "noise",
            format!("`z` holds {} steps; this walk has {} and is stochastic", z.len(), walk.len()),
        ));
    }
    match z.iter().find(|step| step.shape() != x_t.shape()) {
        Some(step) => Err(Error::invalid(
            "noise",
            format!("`z` is {:?} per step; `x_T` is {:?}", step.shape(), x_t.shape()),
        )),
        None => Ok(()),
    }
}
