//! Heun's method on the probability-flow ODE in σ-space (Karras et al. 2022, algorithm 1).
//!
//! With σ = √((1 − ᾱ) / ᾱ) and the image as x / √ᾱ = x_0 + σ ε, the ODE is dx/dσ = (x − x̂_0) / σ. A
//! step goes along the mean of its slope at both ends, the second one where Euler's method arrives.
//! At the clean image (σ = 0) there is no slope, so a step that ends there is Euler's.

use super::level::Level;
use super::{Description, Loop, Method};
use crate::error::Result;
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Step};
use serde::{Deserialize, Serialize};

/// Heun's method in σ-space: exact to second order in the length of a step, for two evaluations of
/// the network in each step but a last one that ends at the clean image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heun {}

impl Method for Heun {
    const DESCRIPTION: Description = Description {
        name: "heun",
        aliases: &[],
        title: "Heun",
        about: "Karras et al. 2022, second order: two evaluations of the network a step",
    };

    fn n_evaluations(&self, n_steps: usize, end: End) -> usize {
        match end {
            End::Clean => (2 * n_steps).saturating_sub(1),
            End::FirstTimestep => 2 * n_steps,
        }
    }

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let levels: Vec<[Level; 2]> =
            steps.iter().map(|step| Level::ends(schedule, step)).collect();
        let n_corrected = steps.iter().filter(|step| step.t_prev.is_some()).count();
        Ok(Loop::new(steps.len() + n_corrected, false, move |process, mut x| {
            for (i, [from, to]) in levels.iter().enumerate() {
                let Step { t, t_prev } = process.steps()[i];
                let denoised = process.denoise(&x, t)?;
                let scaled = |k: usize| f64::from(x.data()[k]) / from.signal;
                let slope = |k: usize| (scaled(k) - denoised.at(k).x0) / from.sigma;
                let along = |k: usize, slope: f64| {
                    to.signal * (scaled(k) + (to.sigma - from.sigma) * slope)
                };
                let mut next = process.update(i, &x, 0.0, |k, _| along(k, slope(k)));
                if let Some(t_prev) = t_prev {
                    let arrived = process.denoise(&next, t_prev)?;
                    let slope_there = |k: usize| {
                        (f64::from(next.data()[k]) / to.signal - arrived.at(k).x0) / to.sigma
                    };
                    let corrected = process
                        .update(i, &x, 0.0, |k, _| along(k, (slope(k) + slope_there(k)) / 2.0));
                    next = corrected;
                }
                process.arrived(i, &next, &denoised)?;
                x = next;
            }
            Ok(x)
        }))
    }
}
