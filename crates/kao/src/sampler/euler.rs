//! Euler's method on the probability-flow ODE in σ-space (Karras et al. 2022, algorithm 1 without
//! its correction).
//!
//! With σ = √((1 − ᾱ) / ᾱ) and the image as x / √ᾱ = x_0 + σ ε, the ODE is dx/dσ = (x − x̂_0) / σ.

use super::level::Level;
use super::{Description, Loop, Method};
use crate::error::Result;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// Euler's method in σ-space: exact to first order in the length of a step, and up to rounding the
/// same as DDIM without noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Euler {}

impl Method for Euler {
    const DESCRIPTION: Description = Description {
        name: "euler",
        aliases: &[],
        title: "Euler",
        about: "Karras et al. 2022, first order: DDIM without noise, in other variables",
    };

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let levels: Vec<[Level; 2]> =
            steps.iter().map(|step| Level::ends(schedule, step)).collect();
        Ok(Loop::new(steps.len(), false, move |process, mut x| {
            for (i, [from, to]) in levels.iter().enumerate() {
                let denoised = process.denoise(&x, process.steps()[i].t)?;
                let next = process.update(i, &x, 0.0, |k, _| {
                    let scaled = f64::from(x.data()[k]) / from.signal;
                    let slope = (scaled - denoised.at(k).x0) / from.sigma;
                    to.signal * (scaled + (to.sigma - from.sigma) * slope)
                });
                process.arrived(i, &next, &denoised)?;
                x = next;
            }
            Ok(x)
        }))
    }
}
