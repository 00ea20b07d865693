//! Snapshots of the process: the first images, at moments spread from noise to image.

use super::generate::Start;
use super::process::Observation;
use crate::error::{Error, Result};
use crate::images::Images;

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

/// Collects snapshots of the first images, whatever batches they come in.
pub struct Snapshots {
    /// After how many steps each is taken; 0 is x_T.
    after_steps: Vec<usize>,
    frames: Vec<Images>,
}

impl Snapshots {
    /// Of `n_steps` steps from `start`.
    pub fn new(config: SnapshotsConfig, n_steps: usize, start: &Start) -> Self {
        let n_images = config.n_images.min(start.count());
        // There are no more than the start and what each step arrives at.
        let n_snapshots = config.n_snapshots.min(n_steps + 1);
        let last = n_snapshots.saturating_sub(1).max(1);
        // One snapshot alone is the result.
        let mut after_steps: Vec<usize> = match n_snapshots {
            1 => vec![n_steps],
            n => (0..n).map(|snapshot| (snapshot * n_steps + last / 2) / last).collect(),
        };
        after_steps.dedup();
        let frames = vec![start.first_x_t(n_images); after_steps.len()];
        Snapshots { after_steps, frames }
    }

    /// Takes what is wanted of a step of the batch whose first image is image `first`.
    pub fn record(&mut self, first: usize, observation: &Observation<'_>) {
        for (frame, &after) in self.frames.iter_mut().zip(&self.after_steps) {
            if after == observation.step_index + 1 {
                let end = frame.len().min(first + observation.x.len());
                for image in first..end {
                    frame.image_mut(image).copy_from_slice(observation.x.image(image - first));
                }
            }
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
        let many = after(15, 1000);
        assert_eq!((many[0], many[14], many.len()), (0, 1000, 15));
    }
}
