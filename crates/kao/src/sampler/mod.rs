//! Samplers: from noise to images, one file per method.
//!
//! A sampler walks an explicit list of steps with a [`Denoiser`] it knows nothing else about.
//! State is `f32` on the host, coefficients are `f64`. All samplers have one signature, so that
//! whoever calls them chooses by value ([`Method`]).

mod ddim;
mod ddpm;
mod dpm;
mod generate;

pub use generate::{Start, generate};

use crate::denoiser::{Conditions, Denoiser, Split, Splitter};
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::noise::NoiseSource;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which sampler, with its own settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Song et al. 2021 (DDIM).
    Ddim {
        /// 0 is deterministic; 1 has the posterior variance of DDPM. At least 0, and at most what
        /// the walk allows (1 always is).
        eta: f64,
    },
    /// Lu et al. 2022 (DPM-Solver++, second order, multistep): as DDIM, but a step takes into
    /// account how x̂_0 changed since the one before.
    DpmPlusPlus {
        /// As in DDIM.
        eta: f64,
    },
    /// Ho et al. 2020 (DDPM).
    Ddpm {
        /// The variance of the noise of each step.
        variance: Variance,
        /// Whether the last step draws noise too, as the original does.
        final_noise: bool,
    },
}

impl Method {
    /// As it is written on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Method::Ddim { .. } => "ddim",
            Method::DpmPlusPlus { .. } => "dpm++",
            Method::Ddpm { .. } => "ddpm",
        }
    }
}

/// The variance of the noise of a DDPM step (Ho et al. 2020, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variance {
    /// σ² = β: right for x_0 ~ N(0, 1).
    Beta,
    /// σ² = β (1 − ᾱ_prev) / (1 − ᾱ): right for a single point.
    Posterior,
}

/// A sampler and what it does with x̂_0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Which sampler.
    pub method: Method,
    /// Whether x̂_0 is held within `[-1, 1]` at every step, ε̂ derived anew from it.
    pub clip: bool,
}

/// What an observer sees after each step.
pub struct Progress<'a> {
    /// Position of the step in the walk, from 0.
    pub step_index: usize,
    /// Steps in the walk.
    pub n_steps: usize,
    /// The step just made.
    pub step: Step,
    /// The state it arrived at, `[N, C, H, W]`.
    pub x: &'a Images,
    /// The clean images predicted in this step, `[N, C, H, W]`.
    pub x0_hat: &'a Images,
}

/// Walks `x` (`[N, C, H, W]`, at the noise level of the walk's first step) down `walk` and returns
/// where it arrives, unclipped.
///
/// `observer` is called after every step; an error from it ends the walk.
///
/// # Errors
/// When the walk leaves the schedule or goes up, η does not fit the walk, the denoiser or the
/// observer fails, or a state is not finite.
pub fn sample(
    denoiser: &dyn Denoiser,
    schedule: &NoiseSchedule,
    walk: &[Step],
    config: SamplerConfig,
    mut x: Images,
    noise: &dyn NoiseSource,
    observer: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<Images> {
    check_walk(walk, schedule)?;
    let updates = updates(schedule, walk, config.method)?;
    let mut x0_hat = Images::zeros(x.shape());
    for (step_index, (&step, update)) in walk.iter().zip(&updates).enumerate() {
        let predicted = denoiser.predict(&x, &vec![step.t; x.len()], &Conditions::none())?;
        let splitter =
            Splitter::new(schedule.alpha_bar(step.t), denoiser.prediction(), config.clip);
        update.apply(&splitter, &mut x, &predicted, &mut x0_hat, |image, z| {
            noise.fill(step_index, image, z);
        });
        let n_steps = walk.len();
        check_finite(&x, step_index, n_steps, step)?;
        observer(Progress { step_index, n_steps, step, x: &x, x0_hat: &x0_hat })?;
    }
    Ok(x)
}

/// The updates of all steps: what does not fit shows before the first step, not after an hour.
fn updates(schedule: &NoiseSchedule, walk: &[Step], method: Method) -> Result<Vec<Update>> {
    let update = |(step_index, &step)| match method {
        Method::Ddim { eta } => ddim::update(schedule, step, eta),
        Method::DpmPlusPlus { eta } => dpm::update(schedule, walk, step_index, eta),
        Method::Ddpm { variance, final_noise } => {
            let is_last = step_index + 1 == walk.len();
            Ok(ddpm::update(schedule, step, variance, final_noise || !is_last))
        }
    };
    walk.iter().enumerate().map(update).collect()
}

/// An observer that watches nothing.
pub fn unobserved(_: Progress<'_>) -> Result<()> {
    Ok(())
}

/// Whether a walk with this method ever draws noise.
pub fn draws_noise(method: Method) -> bool {
    !matches!(method, Method::Ddim { eta: 0.0 } | Method::DpmPlusPlus { eta: 0.0 })
}

/// Weights that are finite may still lead to values that are not.
fn check_finite(x: &Images, step_index: usize, n_steps: usize, step: Step) -> Result<()> {
    let Some(value) = x.data().par_iter().find_any(|value| !value.is_finite()) else {
        return Ok(());
    };
    let problem = format!(
        "an image holds {value} after step {} of {n_steps}, at timestep {}",
        step_index + 1,
        step.t
    );
    let hint = "the model is of no use: take an earlier checkpoint, or train it anew at a lower \
                learning rate";
    Err(Error::from(ErrorKind::NotFinite { problem }).with_hint(hint))
}

fn check_walk(walk: &[Step], schedule: &NoiseSchedule) -> Result<()> {
    let n_timesteps = schedule.n_timesteps();
    for step in walk {
        if step.t >= n_timesteps || step.t_prev.is_some_and(|t_prev| t_prev > step.t) {
            return Err(Error::invalid(
                "walk",
                format!(
                    "step {} -> {:?} found; expected a step down within 0..{n_timesteps}",
                    step.t, step.t_prev
                ),
            ));
        }
    }
    Ok(())
}

/// One step as a linear update of each value:
/// x_prev = `from_x` · x_t + `from_x0` · x̂_0 + `from_x0_before` · (x̂_0 of the step before) +
/// `from_epsilon` · ε̂ + `sigma` · z.
struct Update {
    from_x: f64,
    from_x0: f64,
    from_x0_before: f64,
    from_epsilon: f64,
    sigma: f64,
}

impl Update {
    /// Applies the update to every image of `x` in place. `x0_hat` holds x̂_0 of the step before, and
    /// afterwards that of this one. Noise is drawn only where σ is not zero.
    fn apply(
        &self,
        splitter: &Splitter,
        x: &mut Images,
        predicted: &Images,
        x0_hat: &mut Images,
        draw: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let Update { from_x, from_x0, from_x0_before, from_epsilon, sigma } = *self;
        let size = x.image_len().max(1);
        let images = x.data_mut().par_chunks_exact_mut(size);
        let others = predicted.data().par_chunks_exact(size);
        let kept = x0_hat.data_mut().par_chunks_exact_mut(size);
        images.zip(others).zip(kept).enumerate().for_each(|(image, ((x, predicted), kept))| {
            let mut z = Vec::new();
            if sigma > 0.0 {
                z.resize(size, 0.0);
                draw(image, &mut z);
            }
            for (i, (x, &predicted)) in x.iter_mut().zip(predicted).enumerate() {
                let Split { x0_hat, epsilon } = splitter.split(*x, predicted);
                let noise = z.get(i).map_or(0.0, |&z| sigma * f64::from(z));
                let before = f64::from(std::mem::replace(&mut kept[i], x0_hat as f32));
                *x = (from_x * f64::from(*x)
                    + from_x0 * x0_hat
                    + from_x0_before * before
                    + from_epsilon * epsilon
                    + noise) as f32;
            }
        });
    }
}

#[cfg(test)]
mod tests;
