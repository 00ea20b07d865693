//! UniPC of second order (Zhao et al. 2023): a predictor, and a corrector that costs nothing.
//!
//! The predictor with B(h) = e^h − 1 (`bh2`) is DPM-Solver++(2M)'s step. Once the network has been
//! evaluated where it arrived, that x̂_0 corrects the step that led there (algorithm 1), and the next
//! step begins at the corrected images, without evaluating the network on them.

use super::level::Level;
use super::{Description, Loop, Method};
use crate::error::Result;
use crate::images::Images;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// UniPC-2: as cheap as DPM-Solver++(2M), with a corrector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UniPc {}

impl Method for UniPc {
    const DESCRIPTION: Description = Description {
        name: "unipc",
        aliases: &[],
        title: "UniPC",
        about: "UniPC-2 (bh2), Zhao et al. 2023: DPM-Solver++(2M) with a corrector",
    };

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let updates: Vec<Update> =
            (0..steps.len()).map(|i| Update::new(schedule, steps, i)).collect();
        Ok(Loop::new(steps.len(), false, move |process, mut x| {
            // Of the step before: where it began, x̂_0 there, and x̂_0 of the step before that.
            let mut before: Option<[Images; 3]> = None;
            for (i, update) in updates.iter().enumerate() {
                let denoised = process.denoise(&x, process.steps()[i].t)?;
                let start = match &before {
                    None => x.clone(),
                    Some([start, x0, x0_before]) => {
                        let [from_start, from_x0, from_x0_before, from_arrived] =
                            updates[i - 1].corrector;
                        process.update(i, start, 0.0, |k, _| {
                            from_start * f64::from(start.data()[k])
                                + from_x0 * f64::from(x0.data()[k])
                                + from_x0_before * f64::from(x0_before.data()[k])
                                + from_arrived * denoised.at(k).x0
                        })
                    }
                };
                let x0_before = match before {
                    None => Images::zeros(x.shape()),
                    Some([_, x0, _]) => x0,
                };
                let [from_start, from_x0, from_x0_before] = update.predictor;
                let next = process.update(i, &start, 0.0, |k, _| {
                    from_start * f64::from(start.data()[k])
                        + from_x0 * denoised.at(k).x0
                        + from_x0_before * f64::from(x0_before.data()[k])
                });
                process.arrived(i, &next, &denoised)?;
                before = Some([start, denoised.x0(), x0_before]);
                x = next;
            }
            Ok(x)
        }))
    }
}

/// The coefficients of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Update {
    /// Of the images where the step begins, x̂_0 there, and x̂_0 of the step before.
    predictor: [f64; 3],
    /// Of the same, and of x̂_0 where the step arrived.
    corrector: [f64; 4],
}

impl Update {
    /// The first step and the last are of first order, as those of DPM-Solver++(2M) and for the same
    /// reasons. Where the last step arrives the network is not evaluated, so it is not corrected.
    fn new(schedule: &NoiseSchedule, steps: &[Step], i: usize) -> Self {
        let [from, to] = Level::ends(schedule, &steps[i]);
        let from_start = to.noise / from.noise;
        let h = to.lambda - from.lambda;
        if h <= 0.0 {
            return Update { predictor: [1.0, 0.0, 0.0], corrector: [1.0, 0.0, 0.0, 0.0] };
        }
        // B(h) of the paper's bh2, for predictions of x_0: e^(−h) − 1.
        let b = (-h).exp_m1();
        let gain = -to.signal * b;
        let first_order = [from_start, gain, 0.0];
        // Of the difference of x̂_0 where the step arrived and where it began; the paper's ρ.
        let corrected = |weights: [f64; 2]| {
            let [towards_before, towards_arrived] = weights.map(|weight| gain * weight);
            let from_x0 = gain - towards_before - towards_arrived;
            [from_start, from_x0, towards_before, towards_arrived]
        };
        let length_before = match i.checked_sub(1) {
            Some(before) if i + 1 < steps.len() => {
                let [from, to] = Level::ends(schedule, &steps[before]);
                to.lambda - from.lambda
            }
            _ => 0.0,
        };
        if length_before <= 0.0 {
            return Update { predictor: first_order, corrector: corrected([0.0, 0.5]) };
        }
        // Where the step before began, in units of this one's length: to the other side of its start.
        let r = -length_before / h;
        let slope = 0.5 * gain / r;
        let predictor = [from_start, gain - slope, slope];
        // The conditions of second order for ρ (equation 10 of the paper): ρ_1 + ρ_2 = φ_1 and
        // r ρ_1 + ρ_2 = φ_2, where ρ_1 belongs to the difference towards the step before over r.
        let phi = b / -h - 1.0;
        let phi_1 = phi / b;
        let phi_2 = 2.0 * (phi / -h - 0.5) / b;
        let towards_before = (phi_1 - phi_2) / (1.0 - r);
        let corrector = corrected([towards_before / r, phi_1 - towards_before]);
        Update { predictor, corrector }
    }
}
