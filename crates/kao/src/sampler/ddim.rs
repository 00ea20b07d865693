//! DDIM (Song, Meng & Ermon 2021, equations 12 and 16).

use super::{Description, Loop, Method};
use crate::denoiser::Denoised;
use crate::error::{Error, Result};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// DDIM: exact to first order in the length of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ddim {
    /// η, from 0 to 1: 0 is deterministic; 1 has the posterior variance of DDPM.
    pub eta: f64,
}

impl Method for Ddim {
    const DESCRIPTION: Description = Description {
        name: "ddim",
        aliases: &[],
        title: "DDIM",
        about: "Song et al. 2021, as published",
    };

    fn validate(&self) -> Result<()> {
        check_eta(self.eta)
    }

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let updates: Vec<Update> =
            steps.iter().map(|&step| Update::new(schedule, step, self.eta)).collect();
        Ok(Loop::new(steps.len(), self.eta > 0.0, move |process, mut x| {
            for (i, &Update { from_x0, from_epsilon, sigma }) in updates.iter().enumerate() {
                let denoised = process.denoise(&x, process.steps()[i].t)?;
                let next = process.update(i, &x, sigma, |k, noise| {
                    let Denoised { x0, epsilon } = denoised.at(k);
                    from_x0 * x0 + from_epsilon * epsilon + noise
                });
                process.arrived(i, &next, &denoised)?;
                x = next;
            }
            Ok(x)
        }))
    }
}

/// Checks η, as all methods do that have the noise of DDIM.
///
/// # Errors
/// When it is not between 0 and 1.
pub fn check_eta(eta: f64) -> Result<()> {
    match (0.0..=1.0).contains(&eta) {
        true => Ok(()),
        false => Err(Error::out_of_range("sampler.eta", eta, "between 0 and 1")),
    }
}

/// The coefficients of one step: x_prev = √ᾱ_prev x̂_0 + √(1 − ᾱ_prev − σ²) ε̂ + σ z, with
/// σ = η √((1 − ᾱ_prev) / (1 − ᾱ_t) · (1 − ᾱ_t / ᾱ_prev)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Update {
    pub from_x0: f64,
    pub from_epsilon: f64,
    pub sigma: f64,
}

impl Update {
    /// `eta` is between 0 and 1.
    pub fn new(schedule: &NoiseSchedule, step: Step, eta: f64) -> Self {
        let alpha_bar = schedule.alpha_bar(step.t);
        let alpha_bar_prev = schedule.alpha_bar_at(step.t_prev);
        let sigma = eta
            * ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * (1.0 - alpha_bar / alpha_bar_prev))
                .sqrt();
        // At η = 1 rounding may leave a hair less than nothing.
        let from_epsilon = (1.0 - alpha_bar_prev - sigma * sigma).max(0.0).sqrt();
        Update { from_x0: alpha_bar_prev.sqrt(), from_epsilon, sigma }
    }
}
