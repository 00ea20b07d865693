//! Noise levels, in the variables of the solvers.

use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;

/// A noise level: x = √ᾱ x_0 + √(1 − ᾱ) ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    /// √ᾱ, α in the papers on DPM-Solver.
    pub signal: f64,
    /// √(1 − ᾱ), σ in the papers on DPM-Solver.
    pub noise: f64,
    /// √((1 − ᾱ) / ᾱ), σ in Karras et al. 2022; 0 for the clean image.
    pub sigma: f64,
    /// ln(√ᾱ / √(1 − ᾱ)); infinite for the clean image.
    pub lambda: f64,
}

impl Level {
    /// The level of a share ᾱ of the variance, in (0, 1].
    pub fn new(alpha_bar: f64) -> Self {
        let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let sigma = ((1.0 - alpha_bar) / alpha_bar).sqrt();
        Level { signal, noise, sigma, lambda: 0.5 * (alpha_bar / (1.0 - alpha_bar)).ln() }
    }

    /// Where a step begins and where it arrives.
    pub fn ends(schedule: &NoiseSchedule, step: &Step) -> [Self; 2] {
        [schedule.alpha_bar(step.t), schedule.alpha_bar_at(step.t_prev)].map(Level::new)
    }
}
