//! A method, planned for the steps that it is to take.

use super::method::Loop;
use super::process::{Evaluations, Observation, Process, unobserved};
use crate::control::{Control, Unattended};
use crate::denoiser::{Clipping, Conditions, Denoiser};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::NoiseSource;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use std::fmt;

/// A sampling method, planned for the steps of one timestep sequence over one noise schedule.
///
/// Made by [`SamplingConfig::plan`](super::SamplingConfig::plan) or
/// [`Sampler::plan`](super::Sampler::plan). It depends on no network, and serves any number of
/// batches.
pub struct Plan {
    schedule: NoiseSchedule,
    steps: Vec<Step>,
    clipping: Clipping,
    method: Loop,
}

/// A batch to sample.
pub struct Batch<'a> {
    /// Images at the noise level of the first step, `[N, C, H, W]`.
    pub x: Images,
    /// Where the noise of the steps comes from.
    pub noise: &'a dyn NoiseSource,
    /// What the images are asked to show, in the order of `x`.
    pub conditions: &'a Conditions,
}

impl Plan {
    /// `plan` is called once the steps are known to descend within the schedule.
    pub(super) fn new(
        schedule: &NoiseSchedule,
        steps: Vec<Step>,
        clipping: Clipping,
        plan: impl FnOnce(&NoiseSchedule, &[Step]) -> Result<Loop>,
    ) -> Result<Self> {
        check_steps(&steps, schedule)?;
        let method = plan(schedule, &steps)?;
        Ok(Plan { schedule: schedule.clone(), steps, clipping, method })
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How often the network is evaluated for each image: what an image costs.
    pub fn n_evaluations(&self) -> usize {
        self.method.n_evaluations
    }

    /// Whether any step draws noise.
    pub fn draws_noise(&self) -> bool {
        self.method.draws_noise
    }

    /// Takes `x` (`[N, C, H, W]`, at the noise level of the first step) through all steps and
    /// returns the images that the last one arrives at, not clamped to [-1, 1].
    ///
    /// # Errors
    /// When the denoiser fails, or images are not finite after a step.
    pub fn sample(
        &self,
        denoiser: &dyn Denoiser,
        x: Images,
        noise: &dyn NoiseSource,
    ) -> Result<Images> {
        let batch = Batch { x, noise, conditions: &Conditions::none() };
        self.sample_observed(denoiser, batch, &mut unobserved, &Unattended)
    }

    /// As [`sample`](Self::sample), with conditions; `observer` is called after every step.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample), and when `control` stops the work.
    pub fn sample_observed(
        &self,
        denoiser: &dyn Denoiser,
        batch: Batch<'_>,
        observer: &mut dyn FnMut(Observation<'_>),
        control: &dyn Control,
    ) -> Result<Images> {
        let n_total = self.n_evaluations().saturating_mul(batch.x.len());
        self.run(denoiser, batch, observer, &Evaluations::new(control, n_total))
    }

    pub(super) fn run(
        &self,
        denoiser: &dyn Denoiser,
        batch: Batch<'_>,
        observer: &mut dyn FnMut(Observation<'_>),
        evaluations: &Evaluations<'_>,
    ) -> Result<Images> {
        let Batch { x, noise, conditions } = batch;
        let (schedule, steps, clipping) = (&self.schedule, &self.steps[..], self.clipping);
        let mut process = Process {
            denoiser,
            schedule,
            steps,
            clipping,
            noise,
            conditions,
            observer,
            evaluations,
        };
        (self.method.run)(&mut process, x)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { steps, clipping, .. } = self;
        f.debug_struct("Plan")
            .field("steps", steps)
            .field("clipping", clipping)
            .finish_non_exhaustive()
    }
}

fn check_steps(steps: &[Step], schedule: &NoiseSchedule) -> Result<()> {
    let n_timesteps = schedule.n_timesteps();
    for step in steps {
        if step.t >= n_timesteps || step.t_prev.is_some_and(|t_prev| t_prev > step.t) {
            return Err(Error::invalid(
                "timesteps",
                format!(
                    "step {} -> {:?} found; expected a step down within 0..{n_timesteps}",
                    step.t, step.t_prev
                ),
            ));
        }
    }
    Ok(())
}
