//! Ancestral sampling (Ho, Jain & Abbeel 2020, equation 11 and section 3.2).

use super::{Update, Variance};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;

/// x_prev = (x_t − β / √(1 − ᾱ_t) ε̂) / √α + σ z, where α = ᾱ_t / ᾱ_prev and β = 1 − α belong to the
/// step: for t_prev = t − 1 they are the schedule's, and a walk may stride.
pub(super) fn update(
    schedule: &NoiseSchedule,
    step: Step,
    variance: Variance,
    draws_noise: bool,
) -> Update {
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
        from_x0: 0.0,
        from_x0_before: 0.0,
        from_epsilon: -beta / ((1.0 - alpha_bar).sqrt() * alpha.sqrt()),
        sigma: if draws_noise { variance.sqrt() } else { 0.0 },
    }
}
