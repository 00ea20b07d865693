//! Ancestral sampling (Ho, Jain & Abbeel 2020, equation 11 and section 3.2).

use super::{Description, Loop, Method};
use crate::error::Result;
use crate::named::names;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// DDPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ddpm {
    /// The variance of the noise of each step; by default the posterior's, or what the model's
    /// configuration says.
    pub variance: Option<Variance>,
    /// Whether the last step draws noise too, as the original does.
    pub final_noise: bool,
}

/// The variance of the noise of a DDPM step (Ho et al. 2020, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variance {
    /// σ² = β: right for x_0 ~ N(0, 1).
    Beta,
    /// σ² = β (1 − ᾱ_prev) / (1 − ᾱ): right for a single point.
    #[default]
    Posterior,
}

names!(Variance, "sampler.variance", { Beta => "beta", Posterior => "posterior" });

impl Method for Ddpm {
    const DESCRIPTION: Description =
        Description { name: "ddpm", aliases: &[], title: "DDPM", about: "Ho et al. 2020" };

    fn default_steps(&self, n_timesteps: usize) -> usize {
        n_timesteps
    }

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let last = steps.len().saturating_sub(1);
        let draws_noise = |i| i < last || self.final_noise;
        let variance = self.variance.unwrap_or_default();
        let update = |(i, &step)| Update::new(schedule, step, variance, draws_noise(i));
        let updates: Vec<Update> = steps.iter().enumerate().map(update).collect();
        Ok(Loop::new(steps.len(), true, move |process, mut x| {
            for (i, &Update { from_x, from_epsilon, sigma }) in updates.iter().enumerate() {
                let denoised = process.denoise(&x, process.steps()[i].t)?;
                let next = process.update(i, &x, sigma, |k, noise| {
                    from_x * f64::from(x.data()[k]) + from_epsilon * denoised.at(k).epsilon + noise
                });
                process.arrived(i, &next, &denoised)?;
                x = next;
            }
            Ok(x)
        }))
    }
}

/// The coefficients of one step: x_prev = (x_t − β / √(1 − ᾱ_t) ε̂) / √α + σ z, where
/// α = ᾱ_t / ᾱ_prev and β = 1 − α belong to the step: for t_prev = t − 1 they are the schedule's,
/// and a sequence may skip timesteps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Update {
    pub from_x: f64,
    pub from_epsilon: f64,
    pub sigma: f64,
}

impl Update {
    pub fn new(
        schedule: &NoiseSchedule,
        step: Step,
        variance: Variance,
        draws_noise: bool,
    ) -> Self {
        let alpha_bar = schedule.alpha_bar(step.t);
        let alpha_bar_prev = schedule.alpha_bar_at(step.t_prev);
        let alpha = alpha_bar / alpha_bar_prev;
        let beta = 1.0 - alpha;
        let variance = match variance {
            Variance::Beta => beta,
            Variance::Posterior => beta * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar),
        };
        Update {
            from_x: alpha.sqrt().recip(),
            from_epsilon: -beta / ((1.0 - alpha_bar).sqrt() * alpha.sqrt()),
            sigma: if draws_noise { variance.sqrt() } else { 0.0 },
        }
    }
}
