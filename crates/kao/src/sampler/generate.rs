//! Many images through a sampler, batch by batch.
//!
//! Image k has its noise whatever the batch size, so the batch size is a matter of memory and
//! speed alone.

use super::process::{Evaluations, Observation};
use super::{Batch, Plan};
use crate::control::Control;
use crate::denoiser::{Conditions, Denoiser};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::{GivenNoise, NoiseSource, NumberedNoise, SeededNoise};
use std::fmt;
use std::sync::Arc;

/// Where x_T and the noise of the steps come from.
#[derive(Clone)]
pub enum Start {
    /// From the streams of a seed: its first images.
    Seed {
        /// The seed.
        seed: u64,
        /// How many images.
        count: usize,
        /// `[C, H, W]` of each.
        image_shape: [usize; 3],
    },
    /// From the streams of a seed: images of any numbers.
    Numbered {
        /// The streams.
        noise: NumberedNoise,
        /// `[C, H, W]` of each image.
        image_shape: [usize; 3],
    },
    /// From given arrays.
    Given {
        /// x_T, `[N, C, H, W]`; or images at the noise level of the first step.
        x_t: Images,
        /// The noise of each step, `[N, C, H, W]` each, first used first; may be empty where the
        /// sampler draws none.
        z: Vec<Images>,
    },
    /// From given images, with the noise of the steps from anywhere.
    Images {
        /// Images at the noise level of the first step, `[N, C, H, W]`.
        x_t: Images,
        /// The noise of the steps, for images by their position in `x_t`.
        noise: Arc<dyn NoiseSource + Send>,
    },
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Start::Seed { .. } => "Seed",
            Start::Numbered { .. } => "Numbered",
            Start::Given { .. } => "Given",
            Start::Images { .. } => "Images",
        };
        f.debug_struct(name).field("count", &self.count()).finish_non_exhaustive()
    }
}

/// The noise of images from a position on.
struct FromImage<'a> {
    noise: &'a dyn NoiseSource,
    first_image: usize,
}

impl NoiseSource for FromImage<'_> {
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        self.noise.fill(step_index, self.first_image + image, z);
    }
}

impl Start {
    /// How many images there will be.
    pub fn count(&self) -> usize {
        match self {
            Start::Seed { count, .. } => *count,
            Start::Numbered { noise, .. } => noise.numbers.len(),
            Start::Given { x_t, .. } | Start::Images { x_t, .. } => x_t.len(),
        }
    }

    /// x_T of the images `first .. first + n`, and where the noise of their steps comes from.
    pub(super) fn batch(&self, first: usize, n: usize) -> (Images, Box<dyn NoiseSource + '_>) {
        match self {
            Start::Seed { seed, image_shape, .. } => {
                let noise = SeededNoise { seed: *seed, first_image: first as u64 };
                (noise.x_t(n, *image_shape), Box::new(noise))
            }
            Start::Numbered { noise, image_shape } => {
                let x_t = noise.initial(first, n, *image_shape);
                (x_t, Box::new(FromImage { noise, first_image: first }))
            }
            Start::Given { x_t, z } => {
                let noise = GivenNoise { steps: z, first_image: first };
                (x_t.slice(first..first + n), Box::new(noise))
            }
            Start::Images { x_t, noise } => {
                let noise = FromImage { noise: &**noise, first_image: first };
                (x_t.slice(first..first + n), Box::new(noise))
            }
        }
    }

    /// x_T of the first `n` images.
    pub(super) fn first_x_t(&self, n: usize) -> Images {
        self.batch(0, n).0
    }
}

/// Any number of images to generate, a few at a time.
pub struct Generation<'a> {
    /// The network.
    pub denoiser: &'a dyn Denoiser,
    /// The sampler, planned for the schedule of the network.
    pub plan: &'a Plan,
    /// What to start from.
    pub start: &'a Start,
    /// What the images are asked to show.
    pub conditions: &'a Conditions,
    /// Images at a time, at least 1.
    pub batch_size: usize,
}

impl Generation<'_> {
    /// Generates all images, not clamped to [-1, 1]. `observer` is called after every step of every
    /// batch with the number of the batch's first image.
    ///
    /// # Errors
    /// When the batch size or the number of images is 0, the given noise does not fit the plan, the
    /// denoiser fails, images are not finite after a step, or `control` stops the work.
    pub fn run(
        &self,
        observer: &mut dyn FnMut(usize, Observation<'_>),
        control: &dyn Control,
    ) -> Result<Images> {
        let count = self.start.count();
        let mut all: Option<Images> = None;
        let mut collect = |_: usize, images: Images| {
            match &mut all {
                // Room for all at once: growing would hold most images twice.
                None => all = Some(images.with_room_for(count)?),
                Some(all) => all.append(&images)?,
            }
            Ok(())
        };
        self.run_batches(observer, &mut collect, control)?;
        Ok(all.expect("there is at least one batch"))
    }

    /// As [`run`](Self::run), but holds one batch at a time: `done` gets the number of each batch's
    /// first image and its images.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when `done` fails.
    pub fn run_batches(
        &self,
        observer: &mut dyn FnMut(usize, Observation<'_>),
        done: &mut dyn FnMut(usize, Images) -> Result<()>,
        control: &dyn Control,
    ) -> Result<()> {
        let Generation { denoiser, plan, start, conditions, batch_size } = *self;
        if batch_size == 0 {
            return Err(Error::out_of_range("batch_size", 0, "at least 1"));
        }
        check_noise(start, plan)?;
        let count = start.count();
        if count == 0 {
            return Err(Error::out_of_range("count", 0, "at least 1"));
        }
        let evaluations = Evaluations::new(control, plan.n_evaluations().saturating_mul(count));
        for first in (0..count).step_by(batch_size) {
            let n = batch_size.min(count - first);
            let (x, noise) = start.batch(first, n);
            let conditions = conditions.slice(first..first + n);
            let batch = Batch { x, noise: &*noise, conditions: &conditions };
            let observer = &mut |observation: Observation<'_>| observer(first, observation);
            done(first, plan.run(denoiser, batch, observer, &evaluations)?)?;
        }
        Ok(())
    }
}

fn check_noise(start: &Start, plan: &Plan) -> Result<()> {
    let Start::Given { x_t, z } = start else { return Ok(()) };
    if !plan.draws_noise() {
        return Ok(());
    }
    let n_steps = plan.steps().len();
    if z.len() < n_steps {
        let problem =
            format!("`z` holds {} steps; the sampler draws noise in each of {n_steps}", z.len());
        return Err(Error::invalid("noise", problem));
    }
    match z.iter().find(|step| step.shape() != x_t.shape()) {
        Some(step) => Err(Error::invalid(
            "noise",
            format!("`z` is {:?} per step; `x_T` is {:?}", step.shape(), x_t.shape()),
        )),
        None => Ok(()),
    }
}
