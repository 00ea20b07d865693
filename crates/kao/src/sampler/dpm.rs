//! DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), with the noise of DDIM.
//!
//! DDIM holds x̂_0 fixed over a step, which is exact to first order in the step's length; here x̂_0
//! goes on in λ = ln(√ᾱ / √(1 − ᾱ)) along the straight line through it and that of the step
//! before, which is exact to second order and costs no further evaluation of the network.

use super::ddim::{self, check_eta};
use super::{Description, Loop, Method};
use crate::denoiser::Denoised;
use crate::error::Result;
use crate::images::Images;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// DPM-Solver++(2M): as DDIM, but a step takes into account how x̂_0 changed since the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmPlusPlus {
    /// As in DDIM.
    pub eta: f64,
}

impl Method for DpmPlusPlus {
    const DESCRIPTION: Description = Description {
        name: "dpm++",
        aliases: &["dpmpp"],
        title: "DPM-Solver++",
        about: "DPM-Solver++(2M), Lu et al. 2022: better pictures in few steps",
    };

    fn validate(&self) -> Result<()> {
        check_eta(self.eta)
    }

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let first_order = |step: Step| ddim::Update::new(schedule, step, self.eta);
        let updates = (0..steps.len())
            .map(|i| Update::new(schedule, steps, i, first_order(steps[i])))
            .collect();
        Ok(second_order(updates, self.eta > 0.0))
    }
}

/// The loop over steps with these coefficients.
pub(super) fn second_order(updates: Vec<Update>, draws_noise: bool) -> Loop {
    Loop::new(updates.len(), draws_noise, move |process, mut x| {
        // x̂_0 of the step before.
        let mut before = Images::zeros(x.shape());
        for (i, update) in updates.iter().enumerate() {
            let denoised = process.denoise(&x, process.steps()[i].t)?;
            let next = process.update(i, &x, update.sigma, |k, noise| {
                let Denoised { x0, epsilon } = denoised.at(k);
                update.from_x0 * x0
                    + update.from_x0_before * f64::from(before.data()[k])
                    + update.from_epsilon * epsilon
                    + noise
            });
            process.arrived(i, &next, &denoised)?;
            before = denoised.x0();
            x = next;
        }
        Ok(x)
    })
}

/// The coefficients of one step: those of a method of first order with x̂_0 + h / (2 h_before)
/// (x̂_0 − x̂_0 of the step before) in place of x̂_0, where h is the difference in λ that a step makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Update {
    from_x0: f64,
    from_x0_before: f64,
    from_epsilon: f64,
    sigma: f64,
}

impl Update {
    /// Step `i` of `steps`, where `first_order` takes it with x̂_0 held fixed.
    ///
    /// The first step of a sequence has none before it, and the last may be far longer than those
    /// before, at the clean image without end: both stay of first order, which costs the whole none.
    pub fn new(
        schedule: &NoiseSchedule,
        steps: &[Step],
        i: usize,
        first_order: ddim::Update,
    ) -> Self {
        let ddim::Update { from_x0, from_epsilon, sigma } = first_order;
        let first_order = Update { from_x0, from_x0_before: 0.0, from_epsilon, sigma };
        let signal_to_noise = |t: usize| schedule.alpha_bar(t) / (1.0 - schedule.alpha_bar(t));
        let lambda = |t: usize| 0.5 * signal_to_noise(t).ln();
        let is_inner = i > 0 && i + 1 < steps.len();
        let Some(t_prev) = steps[i].t_prev.filter(|_| is_inner) else { return first_order };
        let h = lambda(t_prev) - lambda(steps[i].t);
        let h_before = lambda(steps[i].t) - lambda(steps[i - 1].t);
        if h_before <= 0.0 {
            return first_order;
        }
        // How much of x̂_0 is in the result, seeing that ε̂ = (x_t − √ᾱ x̂_0) / √(1 − ᾱ).
        let share = from_x0 - from_epsilon * signal_to_noise(steps[i].t).sqrt();
        let correction = share * h / (2.0 * h_before);
        Update { from_x0: from_x0 + correction, from_x0_before: -correction, ..first_order }
    }
}
