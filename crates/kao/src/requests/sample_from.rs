//! The fluent way to sample from a model that is loaded already.

use super::{Sample, Sampled};
use crate::control::{Control, Unattended};
use crate::denoiser::Conditions;
use crate::error::Result;
use crate::model::Model;
use crate::sampler::{Sampler, SnapshotsConfig};
use crate::timesteps::{End, Spacing};
use std::path::Path;

/// Images to sample from a model; made by [`Sample::from`]. What is not said is as in [`Sample`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sampled before `run`"]
pub struct SampleFrom<'m> {
    model: &'m Model,
    request: Sample,
    conditions: Conditions,
    snapshots: Option<SnapshotsConfig>,
}

impl Sample {
    /// The fluent way to ask for images of a model that is loaded already:
    /// `Sample::from(&model).seed(7).count(16).run()`.
    pub fn from(model: &Model) -> SampleFrom<'_> {
        let (conditions, snapshots) = (Conditions::none(), None);
        SampleFrom { model, request: Sample::default(), conditions, snapshots }
    }
}

impl SampleFrom<'_> {
    /// Seed of the noise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.request.seed = seed;
        self
    }

    /// How many images.
    pub fn count(mut self, count: usize) -> Self {
        self.request.count = Some(count);
        self
    }

    /// The method, such as `Ddim { eta: 0.5 }`.
    pub fn sampler(mut self, sampler: impl Into<Sampler>) -> Self {
        self.request.sampling.sampler = Some(sampler.into());
        self
    }

    /// How many steps.
    pub fn steps(mut self, steps: usize) -> Self {
        self.request.sampling.steps = Some(steps);
        self
    }

    /// How the visited timesteps are spread.
    pub fn spacing(mut self, spacing: Spacing) -> Self {
        self.request.sampling.spacing = Some(spacing);
        self
    }

    /// Where the timestep sequence ends.
    pub fn end(mut self, end: End) -> Self {
        self.request.sampling.end = Some(end);
        self
    }

    /// Clamps x̂_0 to `[-1, 1]` at every step.
    pub fn clip(mut self) -> Self {
        self.request.sampling.clip = true;
        self
    }

    /// Images at a time: a matter of memory and speed.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.request.batch_size = batch_size;
        self
    }

    /// Takes the noise of a file, see [`Sample::noise`].
    pub fn noise(mut self, path: impl AsRef<Path>) -> Self {
        self.request.noise = Some(path.as_ref().to_path_buf());
        self
    }

    /// Tags that every image is asked to have, separated by commas.
    pub fn tags(mut self, tags: &str) -> Self {
        self.request.wishes.tags = Some(tags.to_owned());
        self
    }

    /// Tags that guidance leads away from.
    pub fn avoid(mut self, tags: &str) -> Self {
        self.request.wishes.avoid = Some(tags.to_owned());
        self
    }

    /// How strongly images are led to what is asked for; 1 is no guidance.
    pub fn guidance(mut self, guidance: f64) -> Self {
        self.request.wishes.guidance = Some(guidance);
        self
    }

    /// What each image is asked to show, in the place of tags by name.
    pub fn conditions(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self
    }

    /// Takes snapshots of the process.
    pub fn snapshots(mut self, snapshots: SnapshotsConfig) -> Self {
        self.snapshots = Some(snapshots);
        self
    }

    /// Writes a grid of the images to a PNG file, each image to a file of its own in a folder (`dir/`),
    /// or an animation of the process; see [`Sample::out`].
    pub fn out(mut self, path: impl AsRef<Path>) -> Self {
        self.request.out = Some(path.as_ref().to_path_buf());
        self
    }

    /// Samples.
    ///
    /// # Errors
    /// When something does not fit the model or the memory, or a file cannot be written.
    pub fn run(&self) -> Result<Sampled> {
        self.run_with(&Unattended)
    }

    /// Samples; `control` gets reports of the progress.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when `control` stops the work.
    pub fn run_with(&self, control: &dyn Control) -> Result<Sampled> {
        let name = format!("fingerprint {}", self.model.fingerprint());
        let SampleFrom { model, request, conditions, snapshots } = self;
        if let Some(snapshots) = snapshots {
            snapshots.validate()?;
        }
        request.run_with(model, &name, conditions, *snapshots, control)
    }
}
