//! Snapshots of the process: the first images, at moments spread from noise to image.

use super::generate::Start;
use super::process::Observation;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::named::names;

/// Which images, and how many snapshots of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotsConfig {
    /// The first so many images.
    pub n_images: usize,
    /// Snapshots, spread evenly from x_T to the result, both included where there are two or more.
    /// There are at most as many as steps, and one.
    pub n_snapshots: usize,
}

impl Default for SnapshotsConfig {
    /// 6 images, 15 snapshots.
    fn default() -> Self {
        SnapshotsConfig { n_images: 6, n_snapshots: 15 }
    }
}

impl SnapshotsConfig {
    /// Checks that there is something to take.
    ///
    /// # Errors
    /// When one of the numbers is 0.
    pub fn validate(&self) -> Result<()> {
        for (field, n) in [("strip_images", self.n_images), ("strip_snapshots", self.n_snapshots)] {
            if n == 0 {
                return Err(Error::out_of_range(field, 0, "at least 1"));
            }
        }
        Ok(())
    }
}

/// What a snapshot shows of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotOf {
    /// The state of the sampler, which begins as noise.
    #[default]
    State,
    /// x̂_0, the clean image that the network predicts from that state: of images whose state is
    /// still mostly noise it shows what they will be.
    X0,
}

names!(SnapshotOf, "strip_of", { State => "state" or "x", X0 => "x0" });

/// Collects snapshots of the first images, whatever batches they come in.
pub struct Snapshots {
    /// After how many steps each is taken; 0 is x_T.
    after_steps: Vec<usize>,
    of: SnapshotOf,
    frames: Vec<Images>,
}

impl Snapshots {
    /// Of `n_steps` steps from `start`.
    pub fn new(config: SnapshotsConfig, n_steps: usize, start: &Start) -> Self {
        Snapshots::of(SnapshotOf::State, config, n_steps, start)
    }

    /// The same of the state or of what is predicted from it. Nothing is predicted before the first
    /// step, so those of x̂_0 begin after it; the last one is the result in either case.
    pub fn of(of: SnapshotOf, config: SnapshotsConfig, n_steps: usize, start: &Start) -> Self {
        let n_images = config.n_images.min(start.count());
        let first = match of {
            SnapshotOf::State => 0,
            SnapshotOf::X0 => 1.min(n_steps),
        };
        // There are no more than the start and what each step arrives at.
        let n_snapshots = config.n_snapshots.min(n_steps - first + 1);
        let last = n_snapshots.saturating_sub(1).max(1);
        // One snapshot alone is the result.
        let mut after_steps: Vec<usize> = match n_snapshots {
            1 => vec![n_steps],
            n => (0..n).map(|at| first + (at * (n_steps - first) + last / 2) / last).collect(),
        };
        after_steps.dedup();
        let frames = vec![start.first_x_t(n_images); after_steps.len()];
        Snapshots { after_steps, of, frames }
    }

    /// Takes what is wanted of a step of the batch whose first image is image `first`.
    pub fn record(&mut self, first: usize, observation: &Observation<'_>) {
        let n_done = observation.step_index + 1;
        let wanted = self.after_steps.iter().position(|&after| after == n_done);
        let n_images = self.frames.first().map_or(0, Images::len);
        let Some(wanted) = wanted.filter(|_| first < n_images) else { return };
        let predicted = match self.of {
            SnapshotOf::X0 if n_done < observation.n_steps => Some(observation.denoised.x0()),
            _ => None,
        };
        let x = predicted.as_ref().unwrap_or(observation.x);
        let frame = &mut self.frames[wanted];
        for image in first..n_images.min(first + x.len()) {
            frame.image_mut(image).copy_from_slice(x.image(image - first));
        }
    }

    /// The snapshots, noise first.
    pub fn into_frames(self) -> Vec<Images> {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_spread_from_noise_to_image() {
        let start = Start::Seed { seed: 0, count: 10, image_shape: [1, 2, 2] };
        let after = |n_snapshots, n_steps| {
            Snapshots::new(SnapshotsConfig { n_images: 6, n_snapshots }, n_steps, &start)
                .after_steps
        };
        assert_eq!(after(3, 10), [0, 5, 10]);
        assert_eq!(after(15, 5), [0, 1, 2, 3, 4, 5]);
        assert_eq!(after(1, 10), [10]);
        assert_eq!(after(usize::MAX, 3), [0, 1, 2, 3]);
        let predicted = |n_snapshots, n_steps| {
            let config = SnapshotsConfig { n_images: 6, n_snapshots };
            Snapshots::of(SnapshotOf::X0, config, n_steps, &start).after_steps
        };
        assert_eq!(predicted(3, 9), [1, 5, 9]);
        assert_eq!(predicted(15, 3), [1, 2, 3]);
        assert_eq!(predicted(15, 1), [1]);
        let many = after(15, 1000);
        assert_eq!((many[0], many[14], many.len()), (0, 1000, 15));
    }
}
