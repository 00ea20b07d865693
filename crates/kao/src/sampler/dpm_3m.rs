//! DPM-Solver++(3M) (Lu et al. 2022), the multistep method of third order.
//!
//! As DPM-Solver++(2M), but x̂_0 goes on in λ = ln(√ᾱ / √(1 − ᾱ)) along the parabola through it and
//! those of the two steps before. That costs no further evaluation of the network.
//!
//! The programs in use (that of the paper's authors, diffusers, k-diffusion) take half of the
//! parabola's curvature, which makes theirs a method of second order. Tests hold this one to order 3,
//! and to the values of diffusers with half of it.

use super::level::Level;
use super::{Description, Loop, Method};
use crate::denoiser::Denoised;
use crate::error::Result;
use crate::images::Images;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// With fewer steps than this, the last step but one is of second order.
const FEW_STEPS: usize = 15;

/// DPM-Solver++(3M): a step takes into account how x̂_0 changed over the two before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmPlusPlus3M {}

impl Method for DpmPlusPlus3M {
    const DESCRIPTION: Description = Description {
        name: "dpm++-3m",
        aliases: &["dpmpp-3m"],
        title: "DPM-Solver++(3M)",
        about: "Lu et al. 2022, third order",
    };

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        Ok(third_order(schedule, steps, 1.0))
    }
}

/// The loop over the steps. Of the parabola's curvature the share `curvature` is taken: all of it
/// makes the method one of third order.
pub(super) fn third_order(schedule: &NoiseSchedule, steps: &[Step], curvature: f64) -> Loop {
    let updates: Vec<Update> =
        (0..steps.len()).map(|i| Update::new(schedule, steps, i, curvature)).collect();
    Loop::new(steps.len(), false, move |process, mut x| {
        // x̂_0 of the step before, and of the one before that.
        let mut before = [Images::zeros(x.shape()), Images::zeros(x.shape())];
        for (i, update) in updates.iter().enumerate() {
            let denoised = process.denoise(&x, process.steps()[i].t)?;
            let [weight, weight_1, weight_2] = update.from_x0;
            let next = process.update(i, &x, 0.0, |k, _| {
                let Denoised { x0, epsilon } = denoised.at(k);
                let [x0_1, x0_2] = [0, 1].map(|step| f64::from(before[step].data()[k]));
                weight * x0 + weight_1 * x0_1 + weight_2 * x0_2 + update.from_epsilon * epsilon
            });
            process.arrived(i, &next, &denoised)?;
            let [one_before, _] = before;
            before = [denoised.x0(), one_before];
            x = next;
        }
        Ok(x)
    })
}

/// The coefficients of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Update {
    /// Of x̂_0, that of the step before, and that of the one before that.
    from_x0: [f64; 3],
    from_epsilon: f64,
}

impl Update {
    /// The orders of the first steps rise as there are steps to look back on. The last step may be
    /// far longer than those before, at the clean image without end, and stays of first order; where
    /// there are few steps, so that the one before it is long too, that one is of second order.
    fn new(schedule: &NoiseSchedule, steps: &[Step], i: usize, curvature: f64) -> Self {
        let [from, to] = Level::ends(schedule, &steps[i]);
        let first_order = Update { from_x0: [to.signal, 0.0, 0.0], from_epsilon: to.noise };
        let n_after = steps.len() - 1 - i;
        let largest = match n_after {
            0 => 1,
            1 if steps.len() < FEW_STEPS => 2,
            _ => 3,
        };
        // The length of step j in λ.
        let length = |j: usize| {
            let [from, to] = Level::ends(schedule, &steps[j]);
            to.lambda - from.lambda
        };
        let n_before = (1..largest.min(i + 1)).take_while(|&back| length(i - back) > 0.0).count();
        let h = to.lambda - from.lambda;
        if n_before == 0 || h <= 0.0 {
            return first_order;
        }
        // Over the step x̂_0 is a polynomial of λ: x̂_0 + d_1 (λ − λ_from) / h + d_2 ((λ − λ_from) / h)².
        // The integrals of its terms are α (1 + (e^(−h) − 1) / h) and α (1 − 2 (e^(−h) − 1 + h) / h²).
        let decay = (-h).exp_m1();
        if n_before == 1 {
            // x̂_0 at the middle of the step, which differs from the line's integral in higher orders.
            let slope = -0.5 * to.signal * decay * h / length(i - 1);
            let from_x0 = [to.signal + slope, -slope, 0.0];
            return Update { from_x0, ..first_order };
        }
        let [r, r_1] = [1, 2].map(|back| length(i - back) / h);
        // Weights of the three x̂_0 in the differences of first and second order.
        let difference = [1.0 / r, -1.0 / r, 0.0];
        let difference_1 = [0.0, 1.0 / r_1, -1.0 / r_1];
        let second = [0, 1, 2].map(|k| (difference[k] - difference_1[k]) / (r + r_1));
        let first = [0, 1, 2].map(|k| difference[k] + r * second[k]);
        let along_first = to.signal * (decay / h + 1.0);
        let along_second = curvature * to.signal * (1.0 - 2.0 * (decay + h) / (h * h));
        let mut from_x0 = [0, 1, 2].map(|k| along_first * first[k] + along_second * second[k]);
        from_x0[0] += to.signal;
        Update { from_x0, ..first_order }
    }
}
