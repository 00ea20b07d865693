//! The validation loss: always the same pictures, timesteps and noise, by the averaged weights.

use super::objective::NoisyBatch;
use crate::denoiser::{Denoiser, Prediction};
use crate::error::Result;
use crate::images::Images;
use crate::noise::{Purpose, Stream};
use crate::schedule::NoiseSchedule;

/// Fixed noisy images to compare weights by.
#[derive(Debug)]
pub struct Validation {
    batch: NoisyBatch,
}

impl Validation {
    /// Noises each of `images` once, at timesteps spread evenly over the schedule.
    ///
    /// # Errors
    /// None in practice: the shapes agree by construction.
    pub fn new(
        schedule: &NoiseSchedule,
        prediction: Prediction,
        images: &Images,
        seed: u64,
    ) -> Result<Self> {
        let mut epsilon = Images::zeros(images.shape());
        for k in 0..images.len() {
            let mut stream = Stream::new(seed, Purpose::Validation, k as u64, 0);
            stream.fill_normal(epsilon.image_mut(k));
        }
        let n = images.len();
        let timesteps = (0..n).map(|k| (2 * k + 1) * schedule.n_timesteps() / (2 * n)).collect();
        let batch = NoisyBatch::new(schedule, prediction, images, timesteps, &epsilon)?;
        Ok(Validation { batch })
    }

    /// The mean squared error of `denoiser`, `batch_size` images at a time. `watcher` is asked before
    /// each batch whether to go on.
    ///
    /// # Errors
    /// When the denoiser fails, or the watcher ends it.
    pub fn loss(
        &self,
        denoiser: &dyn Denoiser,
        batch_size: usize,
        watcher: &mut dyn FnMut() -> Result<()>,
    ) -> Result<f64> {
        let NoisyBatch { x_t, timesteps, target, .. } = &self.batch;
        let mut sum = 0.0;
        for first in (0..x_t.len()).step_by(batch_size.max(1)) {
            watcher()?;
            let range = first..(first + batch_size.max(1)).min(x_t.len());
            let predicted =
                denoiser.predict(&x_t.slice(range.clone()), &timesteps[range.clone()])?;
            let target = target.slice(range);
            let pairs = predicted.data().iter().zip(target.data());
            sum += pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        }
        Ok(sum / x_t.data().len().max(1) as f64)
    }
}
