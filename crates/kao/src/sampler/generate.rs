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
use crate::noise::{GivenNoise, NoiseSource, NoisingNoise, SeededNoise};

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
        /// x_T, `[N, C, H, W]`; or images at the noise level of the first step.
        x_t: Images,
        /// The noise of each step, `[N, C, H, W]` each, first used first; may be empty where the
        /// sampler draws none.
        z: Vec<Images>,
    },
    /// From given images, with the noise of the steps from the streams of a seed.
    Noised {
        /// Images at the noise level of the first step, `[N, C, H, W]`.
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

    /// x_T of the images `first .. first + n`, and where the noise of their steps comes from.
    fn batch(&self, first: usize, n: usize) -> (Images, Box<dyn NoiseSource + '_>) {
        match self {
            Start::Seed { seed, image_shape, .. } => {
                let noise = SeededNoise { seed: *seed, first_image: first as u64 };
                (noise.x_t(n, *image_shape), Box::new(noise))
            }
            Start::Given { x_t, z } => {
                let noise = GivenNoise { steps: z, first_image: first };
                (x_t.slice(first..first + n), Box::new(noise))
            }
            Start::Noised { x_t, seed } => {
                let noise = NoisingNoise { seed: *seed, first_image: first as u64 };
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
        let mut all: Option<Images> = None;
        for first in (0..count).step_by(batch_size) {
            let n = batch_size.min(count - first);
            let (x, noise) = start.batch(first, n);
            let conditions = conditions.slice(first..first + n);
            let batch = Batch { x, noise: &*noise, conditions: &conditions };
            let observer = &mut |observation: Observation<'_>| observer(first, observation);
            let images = plan.run(denoiser, batch, observer, &evaluations)?;
            match &mut all {
                // Room for all at once: growing would hold most images twice.
                None => all = Some(images.with_room_for(count)?),
                Some(all) => all.append(&images)?,
            }
        }
        Ok(all.expect("there is at least one batch"))
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
