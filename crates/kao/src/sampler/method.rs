//! What a sampling method is.

use super::process::Process;
use crate::error::Result;
use crate::images::Images;
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Step};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A sampling method with its settings. To add one, implement this in a file of its own and add a
/// line to the registry.
pub trait Method: Copy + Default + PartialEq + Serialize + DeserializeOwned {
    /// What users read of the method.
    const DESCRIPTION: Description;

    /// Checks the settings, as far as can be told without a schedule.
    ///
    /// # Errors
    /// Names the setting, such as `sampler.eta`.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// How many steps are taken over `n_timesteps` timesteps where nobody says.
    fn default_steps(&self, n_timesteps: usize) -> usize {
        const FEW: usize = 20;
        FEW.min(n_timesteps)
    }

    /// How often the network is evaluated for each image in `n_steps` steps that end at `end`.
    fn n_evaluations(&self, n_steps: usize, end: End) -> usize {
        let _ = end;
        n_steps
    }

    /// Computes the coefficients of `steps`, which descend within the schedule, and returns the loop
    /// over them.
    ///
    /// # Errors
    /// When the settings do not fit the steps.
    fn plan(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop>;
}

/// What users read of a sampling method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name on command lines, in files and in the texts of pictures.
    pub name: &'static str,
    /// Other names that are accepted.
    pub aliases: &'static [&'static str],
    /// The name in prose.
    pub title: &'static str,
    /// One line for help: the paper, and what it is good for.
    pub about: &'static str,
}

/// The loop of a method over the steps that it was planned for.
pub struct Loop {
    pub(super) n_evaluations: usize,
    pub(super) draws_noise: bool,
    pub(super) run: Box<Run>,
}

/// Takes a batch at the noise level of the first step to where the last step arrives.
type Run = dyn Fn(&mut Process<'_>, Images) -> Result<Images> + Send + Sync;

impl Loop {
    /// `run` takes a batch of images through all steps; for each image it evaluates the network
    /// `n_evaluations` times. `draws_noise` says whether it ever asks for the noise of a step.
    pub fn new(
        n_evaluations: usize,
        draws_noise: bool,
        run: impl Fn(&mut Process<'_>, Images) -> Result<Images> + Send + Sync + 'static,
    ) -> Self {
        Loop { n_evaluations, draws_noise, run: Box::new(run) }
    }
}
