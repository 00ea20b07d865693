//! DPM-Solver++(2M) for the diffusion SDE, its midpoint variant (Lu et al. 2022, section 5;
//! `sample_dpmpp_2m_sde` of k-diffusion).
//!
//! η scales how much the SDE diffuses: over a step whose signal-to-noise ratio changes by h in
//! λ = ln(√ᾱ / √(1 − ᾱ)), the share 1 − e^(−2ηh) of the variance of the noise is fresh. DDIM's η, as
//! `dpm++` has it, scales the standard deviation of the fresh noise instead. At 0 and at 1 both are
//! the same.

use super::ddim::{self, check_eta};
use super::dpm::{Update, second_order};
use super::level::Level;
use super::{Description, Loop, Method};
use crate::error::Result;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// DPM-Solver++(2M) SDE: as DPM-Solver++(2M), with fresh noise in each step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmPlusPlusSde {
    /// η, from 0 to 1: 0 is DPM-Solver++(2M), 1 the reverse SDE of Song et al. 2021.
    pub eta: f64,
}

impl Default for DpmPlusPlusSde {
    /// The reverse SDE.
    fn default() -> Self {
        DpmPlusPlusSde { eta: 1.0 }
    }
}

impl Method for DpmPlusPlusSde {
    const DESCRIPTION: Description = Description {
        name: "dpm++-sde",
        aliases: &["dpmpp-sde"],
        title: "DPM-Solver++ SDE",
        about: "DPM-Solver++(2M) SDE, Lu et al. 2022: with fresh noise in each step",
    };

    fn validate(&self) -> Result<()> {
        check_eta(self.eta)
    }

    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
        let first_order = |step: &Step| {
            let [from, to] = Level::ends(schedule, step);
            // e^(−ηh)
            let kept = (to.sigma / from.sigma).powf(self.eta);
            ddim::Update {
                from_x0: to.signal,
                from_epsilon: to.noise * kept,
                sigma: to.noise * (1.0 - kept * kept).max(0.0).sqrt(),
            }
        };
        let updates = (0..steps.len())
            .map(|i| Update::new(schedule, steps, i, first_order(&steps[i])))
            .collect();
        Ok(second_order(updates, self.eta > 0.0))
    }
}
