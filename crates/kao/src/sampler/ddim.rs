//! DDIM (Song, Meng & Ermon 2021, equations 12 and 16).

use super::Update;
use crate::error::{Error, Result};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;

/// x_prev = √ᾱ_prev x̂_0 + √(1 − ᾱ_prev − σ²) ε̂ + σ z, with
/// σ = η √((1 − ᾱ_prev) / (1 − ᾱ_t) · (1 − ᾱ_t / ᾱ_prev)).
pub(super) fn update(schedule: &NoiseSchedule, step: Step, eta: f64) -> Result<Update> {
    let alpha_bar = schedule.alpha_bar(step.t);
    let alpha_bar_prev = schedule.alpha_bar_at(step.t_prev);
    let sigma = eta
        * ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * (1.0 - alpha_bar / alpha_bar_prev)).sqrt();
    let direction = 1.0 - alpha_bar_prev - sigma * sigma;
    // At η = 1 rounding may leave a hair less than nothing.
    if !(eta >= 0.0 && direction > -1e-12) {
        return Err(Error::out_of_range("eta", eta, "between 0 and 1"));
    }
    let from_epsilon = direction.max(0.0).sqrt();
    Ok(Update {
        from_x: 0.0,
        from_x0: alpha_bar_prev.sqrt(),
        from_x0_before: 0.0,
        from_epsilon,
        sigma,
    })
}
