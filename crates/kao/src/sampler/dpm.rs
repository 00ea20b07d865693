//! DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), with the noise of DDIM.
//!
//! DDIM holds x̂_0 fixed over a step, which is exact to first order in the step's length; here x̂_0
//! goes on in λ = ln(√ᾱ / √(1 − ᾱ)) along the straight line through it and that of the step
//! before, which is exact to second order and costs no further pass through the network.

use super::{Update, ddim};
use crate::error::Result;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;

/// A step of DDIM with x̂_0 + h / (2 h_before) (x̂_0 − x̂_0 of the step before) in place of x̂_0,
/// where h is the difference in λ that a step makes.
///
/// The first step of a walk has none before it, and the last may be far longer than those before,
/// at the clean image without end: both are DDIM's, which costs no order.
pub(super) fn update(
    schedule: &NoiseSchedule,
    walk: &[Step],
    step_index: usize,
    eta: f64,
) -> Result<Update> {
    let step = walk[step_index];
    let update = ddim::update(schedule, step, eta)?;
    let signal_to_noise = |t: usize| schedule.alpha_bar(t) / (1.0 - schedule.alpha_bar(t));
    let lambda = |t: usize| 0.5 * signal_to_noise(t).ln();
    let is_inner = step_index > 0 && step_index + 1 < walk.len();
    let Some(t_prev) = step.t_prev.filter(|_| is_inner) else { return Ok(update) };
    let h = lambda(t_prev) - lambda(step.t);
    let h_before = lambda(step.t) - lambda(walk[step_index - 1].t);
    if h_before <= 0.0 {
        return Ok(update);
    }
    // How much of x̂_0 is in the result, seeing that ε̂ = (x_t − √ᾱ x̂_0) / √(1 − ᾱ).
    let share = update.from_x0 - update.from_epsilon * signal_to_noise(step.t).sqrt();
    let correction = share * h / (2.0 * h_before);
    Ok(Update { from_x0: update.from_x0 + correction, from_x0_before: -correction, ..update })
}
