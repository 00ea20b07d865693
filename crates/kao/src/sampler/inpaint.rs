//! Inpainting: a part of each image is known, the rest is generated to go with it.
//!
//! The known part is the business of a denoiser that wraps the network ([`Masked`]): what is known
//! is not predicted, so any sampler takes the known pixels along the exact way from their noise to
//! themselves. RePaint (Lugmayr et al. 2022, algorithm 1) puts the known picture with fresh noise in
//! their place after each step instead; the two agree in distribution, and with DDPM's noise each
//! step draws from the forward process given where it came from.
//!
//! What is generated this way fits badly at first, as each step sees only what the one before made
//! of it. So RePaint goes back up by some steps and down again, several times ([`Jumps`]).

use super::generate::Start;
use super::process::{Evaluations, unobserved};
use super::{Batch, Plan};
use crate::control::Control;
use crate::denoiser::{Conditions, Denoiser, Prediction, PredictionConverter};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::NoiseSource;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use rayon::prelude::*;

/// The most that a part of the way can be gone.
const MAX_TIMES: usize = 1000;

/// How often parts of the way are gone again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jumps {
    /// Steps that are gone back up at a time.
    pub length: usize,
    /// How often each part of the way is gone; 1 is once, without jumps.
    pub times: usize,
}

impl Jumps {
    /// The length that RePaint uses: 10 of its 250 steps, and the same share of others.
    pub fn default_length(n_steps: usize) -> usize {
        (10 * n_steps).div_ceil(250).max(1)
    }

    /// Checks that there is something to do, and not without an end.
    ///
    /// # Errors
    /// When one of the numbers is 0, or the way is to be gone more than 1000 times.
    pub fn validate(&self) -> Result<()> {
        if self.length == 0 {
            return Err(Error::out_of_range("jump_length", 0, "at least 1"));
        }
        if !(1..=MAX_TIMES).contains(&self.times) {
            let allowed = format!("between 1 and {MAX_TIMES}");
            return Err(Error::out_of_range("jumps", self.times, allowed));
        }
        Ok(())
    }
}

/// A part of a route: noise is added first, where there is any, then steps are taken down.
struct Leg {
    /// The noise that leads back up: x becomes `signal` x + `noise` z.
    up: Option<Up>,
    /// The plan of the steps down, among those of the route.
    plan: usize,
}

#[derive(Clone, Copy)]
struct Up {
    signal: f64,
    noise: f64,
}

/// The way down through a timestep sequence, with jumps back up.
pub struct Route {
    timesteps: Vec<usize>,
    plans: Vec<Plan>,
    legs: Vec<Leg>,
}

impl Route {
    /// The way through `steps` with `jumps`, as the schedule of RePaint's program has it: after every
    /// `length` steps, counted from the end, the last `length` of them are gone again until they have
    /// been gone `times` times. `plan` plans a part of the steps, and gets whether others follow it.
    ///
    /// # Errors
    /// When `plan` fails, a number of `jumps` is 0, or there are no steps.
    pub fn new(
        schedule: &NoiseSchedule,
        steps: &[Step],
        jumps: Jumps,
        mut plan: impl FnMut(Vec<Step>, bool) -> Result<Plan>,
    ) -> Result<Self> {
        jumps.validate()?;
        let (n_steps, length) = (steps.len(), jumps.length);
        if n_steps == 0 {
            return Err(Error::out_of_range("steps", 0, "at least 1"));
        }
        let timesteps = steps.iter().map(|step| step.t).collect();
        let mut route = Route { timesteps, plans: Vec::new(), legs: Vec::new() };
        let mut add = |from: usize, to: usize, route: &mut Route| {
            route.plans.push(plan(steps[from..to].to_vec(), to < n_steps)?);
            Ok::<usize, Error>(route.plans.len() - 1)
        };
        // Steps are counted from the noise, so the state before step k has the noise of `steps[k]`.
        let mut turns: Vec<usize> = match jumps.times {
            1 => Vec::new(),
            _ => (length..n_steps).rev().step_by(length).collect(),
        };
        turns.reverse();
        let mut at = 0;
        for turn in turns {
            let plan = add(at, turn, &mut route)?;
            route.legs.push(Leg { up: None, plan });
            let start = turn - length;
            // Noise of all single training steps between at once: their product in distribution.
            let kept = schedule.alpha_bar(steps[start].t) / schedule.alpha_bar(steps[turn].t);
            let up = Up { signal: kept.sqrt(), noise: (1.0 - kept).max(0.0).sqrt() };
            let plan = if start == at { plan } else { add(start, turn, &mut route)? };
            route.legs.extend((1..jumps.times).map(|_| Leg { up: Some(up), plan }));
            at = turn;
        }
        let plan = add(at, n_steps, &mut route)?;
        route.legs.push(Leg { up: None, plan });
        Ok(route)
    }

    /// How often the network is evaluated for each image.
    pub fn n_evaluations(&self) -> usize {
        let of_leg = |leg: &Leg| self.plans[leg.plan].n_evaluations();
        self.legs.iter().map(of_leg).fold(0, usize::saturating_add)
    }
}

/// What is known of images.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The pictures, `[P, C, H, W]`.
    pub pictures: &'a Images,
    /// Of each picture and pixel the share of the steps in which it is generated, `[P, 1, H, W]`: 0 is
    /// known, 1 unknown. What lies between is known until no more than that share of the steps is
    /// left, as if it had a strength of its own (Levin & Fried 2023).
    pub masks: &'a Images,
    /// The picture that each image belongs to.
    pub picture_of: &'a [usize],
}

impl Known<'_> {
    /// For image `image`, the known value and the share of each of its values.
    fn values(&self, image: usize) -> impl Iterator<Item = (f32, f32)> + '_ {
        let picture = self.picture_of[image];
        let mask = self.masks.image(picture);
        let known = self.pictures.image(picture).iter();
        known.zip(mask.iter().cycle()).map(|(&known, &share)| (known, share))
    }
}

/// A denoiser that predicts only what is not known: of known pixels, x̂_0 is the known picture.
pub struct Masked<'a> {
    /// Predicts everything.
    pub denoiser: &'a dyn Denoiser,
    /// The noise levels of its timesteps.
    pub schedule: &'a NoiseSchedule,
    /// The timesteps of all steps, highest first.
    pub timesteps: &'a [usize],
    /// What is known of the images of a batch, in its order.
    pub known: Known<'a>,
}

impl Masked<'_> {
    /// The share of the steps that is left at timestep `t`.
    fn left(&self, t: usize) -> f32 {
        let n_left = self.timesteps.iter().filter(|step| **step <= t).count();
        n_left as f32 / self.timesteps.len().max(1) as f32
    }
}

impl Denoiser for Masked<'_> {
    fn predict(
        &self,
        x_t: &Images,
        timesteps: &[usize],
        conditions: &Conditions,
    ) -> Result<Images> {
        let mut predicted = self.denoiser.predict(x_t, timesteps, conditions)?;
        let prediction = self.denoiser.prediction();
        let Masked { schedule, known, .. } = *self;
        let left: Vec<f32> = timesteps.iter().map(|&t| self.left(t)).collect();
        let size = x_t.image_len().max(1);
        predicted.data_mut().par_chunks_exact_mut(size).enumerate().for_each(|(k, values)| {
            let alpha_bar = schedule.alpha_bar(timesteps[k]);
            let converter = PredictionConverter::new(alpha_bar, prediction, false);
            let pixels = x_t.image(k).iter().zip(known.values(k));
            for (value, (&x_t, (known, share))) in values.iter_mut().zip(pixels) {
                *value = match share >= left[k] {
                    true => converter.convert(x_t, *value).x0 as f32,
                    false => known,
                };
            }
        });
        Ok(predicted)
    }

    fn prediction(&self) -> Prediction {
        Prediction::X0
    }
}

/// Noise of which so many draws are used already.
struct Later<'a> {
    noise: &'a dyn NoiseSource,
    n_drawn: usize,
}

impl NoiseSource for Later<'_> {
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        self.noise.fill(self.n_drawn + step_index, image, z);
    }
}

/// Any number of images to generate of which a part is known, a few at a time.
pub struct Inpainting<'a> {
    /// The network.
    pub denoiser: &'a dyn Denoiser,
    /// Its noise levels.
    pub schedule: &'a NoiseSchedule,
    /// The way down.
    pub route: &'a Route,
    /// What to start from: at known pixels the known picture with the noise of the first step.
    pub start: &'a Start,
    /// What the images are asked to show.
    pub conditions: &'a Conditions,
    /// What is known of each image; nothing where all of it is to be generated.
    pub known: Option<Known<'a>>,
    /// Images at a time, at least 1.
    pub batch_size: usize,
}

impl Inpainting<'_> {
    /// Generates all images, not clamped to [-1, 1]; known pixels are those of the pictures, exactly.
    /// `done` gets the number of each batch's first image and its images.
    ///
    /// # Errors
    /// When the batch size is 0, the denoiser or `done` fails, images are not finite after a step, or
    /// `control` stops the work.
    pub fn run_batches(
        &self,
        done: &mut dyn FnMut(usize, Images) -> Result<()>,
        control: &dyn Control,
    ) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::out_of_range("batch_size", 0, "at least 1"));
        }
        let (count, route) = (self.start.count(), self.route);
        let n_evaluations = route.n_evaluations().saturating_mul(count);
        let evaluations = Evaluations::new(control, n_evaluations);
        for first in (0..count).step_by(self.batch_size) {
            let n = self.batch_size.min(count - first);
            let (mut x, noise) = self.start.batch(first, n);
            let conditions = self.conditions.slice(first..first + n);
            let known = self.known.map(|known| {
                let picture_of = &known.picture_of[first..first + n];
                Known { picture_of, ..known }
            });
            let (denoiser, schedule) = (self.denoiser, self.schedule);
            let timesteps = &route.timesteps[..];
            let masked = known.map(|known| Masked { denoiser, schedule, timesteps, known });
            let denoiser = masked.as_ref().map_or(denoiser, |masked| masked as &dyn Denoiser);
            let mut n_drawn = 0;
            for leg in &route.legs {
                if let Some(up) = leg.up {
                    x = up.from(&x, &Later { noise: &*noise, n_drawn });
                    n_drawn += 1;
                }
                let plan = &route.plans[leg.plan];
                let noise = Later { noise: &*noise, n_drawn };
                let batch = Batch { x, noise: &noise, conditions: &conditions };
                x = plan.run(denoiser, batch, &mut unobserved, &evaluations)?;
                n_drawn += plan.steps().len();
            }
            if let Some(known) = known {
                for k in 0..n {
                    for (value, (known, share)) in x.image_mut(k).iter_mut().zip(known.values(k)) {
                        if share == 0.0 {
                            *value = known;
                        }
                    }
                }
            }
            done(first, x)?;
        }
        Ok(())
    }
}

impl Up {
    fn from(&self, x: &Images, noise: &dyn NoiseSource) -> Images {
        let mut above = Images::zeros(x.shape());
        let size = x.image_len().max(1);
        above.data_mut().par_chunks_exact_mut(size).enumerate().for_each(|(k, above)| {
            let mut z = vec![0.0; size];
            noise.fill(0, k, &mut z);
            for ((above, &x), &z) in above.iter_mut().zip(x.image(k)).zip(&z) {
                *above = (self.signal * f64::from(x) + self.noise * f64::from(z)) as f32;
            }
        });
        above
    }
}

#[cfg(test)]
mod tests;
