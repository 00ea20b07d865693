//! Euler's method with ancestral sampling: each step goes further down than it is to arrive, and
//! noise is added to make up for it (`sample_euler_ancestral` of k-diffusion, Crowson 2022).
//!
//! With σ_up² = η² σ_to² (σ_from² − σ_to²) / σ_from² and σ_down² = σ_to² − σ_up², a step is Euler's
//! from σ_from to σ_down, and then noise of the standard deviation σ_up. Up to rounding that is DDIM
//! with the same η, in other variables; here η is 1 unless it is given.

use super::ddim::check_eta;
use super::level::Level;
use super::{Description, Loop, Method};
use crate::error::Result;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// Euler ancestral: the means of its steps are exact to first order in their length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EulerAncestral {
    /// η, from 0 to 1: 0 is Euler's method; 1 has the posterior variance of DDPM.
    pub eta: f64,
}

impl Default for EulerAncestral {
    /// As noisy as DDPM.
    fn default() -> Self {
        EulerAncestral { eta: 1.0 }
    }
}

impl Method for EulerAncestral {
    const DESCRIPTION: Description = Description {
        name: "euler-a",
        aliases: &["euler-ancestral"],
        title: "Euler ancestral",
        about: "k-diffusion's: Euler with fresh noise in each step, which is DDIM with η = 1",
    };

    fn validate(&self) -> Result<()> {
        check_eta(self.eta)
    }

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let moves: Vec<Move> =
            steps.iter().map(|step| Move::new(Level::ends(schedule, step), self.eta)).collect();
        Ok(Loop::new(steps.len(), self.eta > 0.0, move |process, mut x| {
            for (i, Move { from, to, sigma_down, sigma_up }) in moves.iter().enumerate() {
                let denoised = process.denoise(&x, process.steps()[i].t)?;
                let next = process.update(i, &x, *sigma_up, |k, noise| {
                    let scaled = f64::from(x.data()[k]) / from.signal;
                    let slope = (scaled - denoised.at(k).x0) / from.sigma;
                    to.signal * (scaled + (sigma_down - from.sigma) * slope + noise)
                });
                process.arrived(i, &next, &denoised)?;
                x = next;
            }
            Ok(x)
        }))
    }
}

/// One step.
struct Move {
    from: Level,
    to: Level,
    sigma_down: f64,
    sigma_up: f64,
}

impl Move {
    /// `eta` is between 0 and 1.
    fn new([from, to]: [Level; 2], eta: f64) -> Self {
        let removed = 1.0 - (to.sigma / from.sigma).powi(2);
        let sigma_up = (eta * to.sigma * removed.max(0.0).sqrt()).min(to.sigma);
        let sigma_down = (to.sigma.powi(2) - sigma_up.powi(2)).max(0.0).sqrt();
        Move { from, to, sigma_down, sigma_up }
    }
}
