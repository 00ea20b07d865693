//! The validation loss: always the same pictures, timesteps and noise, so that the losses of two
//! steps differ by the weights alone.

use super::history::RangeLoss;
use super::objective::NoisyBatch;
use super::reports::VALIDATION;
use crate::control::{Control, Report};
use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::error::Result;
use crate::images::Images;
use crate::noise::{Purpose, Stream};
use crate::schedule::NoiseSchedule;
use std::ops::Range;

/// The validation loss is also given for so many ranges of timesteps.
const N_RANGES: usize = 4;

/// A fixed batch of noisy pictures.
#[derive(Debug)]
pub struct Validation {
    batch: NoisyBatch,
    n_timesteps: usize,
}

/// The result of a validation.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationLoss {
    /// The mean squared error over all values.
    pub mean: f64,
    /// The same by ranges of timesteps, low noise first.
    pub by_t: Vec<RangeLoss>,
}

impl Validation {
    /// Adds noise to each of `images` (`[N, C, H, W]`), which have `tags`, once, at timesteps spread evenly over the
    /// schedule.
    ///
    /// # Errors
    /// None in practice: the shapes agree by construction.
    pub fn new(
        schedule: &NoiseSchedule,
        prediction: Prediction,
        images: &Images,
        tags: &Conditions,
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
        let batch = batch.under(tags.clone());
        Ok(Validation { batch, n_timesteps: schedule.n_timesteps() })
    }

    /// The mean squared error of `denoiser`, computed for `batch_size` images at a time. Progress is
    /// reported before each batch.
    ///
    /// # Errors
    /// When the denoiser fails, or `control` stops the work.
    pub fn loss(
        &self,
        denoiser: &dyn Denoiser,
        batch_size: usize,
        control: &dyn Control,
    ) -> Result<ValidationLoss> {
        self.errors(denoiser, 0..self.len(), batch_size, control).map(|errors| self.mean(&errors))
    }

    /// How many images there are.
    pub(super) fn len(&self) -> usize {
        self.batch.x_t.len()
    }

    /// The squared error of each of `images`, summed over its values, as [`loss`](Self::loss)
    /// computes it. It does not depend on the other images.
    pub(super) fn errors(
        &self,
        denoiser: &dyn Denoiser,
        images: Range<usize>,
        batch_size: usize,
        control: &dyn Control,
    ) -> Result<Vec<f64>> {
        let NoisyBatch { x_t, timesteps, conditions, target, .. } = &self.batch;
        let batch_size = batch_size.max(1);
        let mut errors = Vec::with_capacity(images.len());
        for first in images.clone().step_by(batch_size) {
            let (done, total) = ((first - images.start) as u64, Some(images.len() as u64));
            control.check(&Report::progress(VALIDATION, done, total, "images"))?;
            let range = first..images.end.min(first.saturating_add(batch_size));
            let predicted = denoiser.predict(
                &x_t.slice(range.clone()),
                &timesteps[range.clone()],
                &conditions.slice(range.clone()),
            )?;
            errors.extend(range.enumerate().map(|(k, image)| {
                let pairs = predicted.image(k).iter().zip(target.image(image));
                pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            }));
        }
        Ok(errors)
    }

    /// The loss when the images have these [`errors`](Self::errors).
    pub(super) fn mean(&self, errors: &[f64]) -> ValidationLoss {
        let NoisyBatch { x_t, timesteps, .. } = &self.batch;
        let mean = |errors: &[f64]| {
            errors.iter().sum::<f64>() / (errors.len() * x_t.image_len()).max(1) as f64
        };
        let bounds = (0..=N_RANGES).map(|k| k * self.n_timesteps / N_RANGES);
        let bounds: Vec<usize> = bounds.collect();
        let by_t = bounds.windows(2).filter_map(|bounds| {
            let (from, to) = (bounds[0], bounds[1]);
            // Timesteps increase from picture to picture.
            let first = timesteps.partition_point(|&t| t < from);
            let end = timesteps.partition_point(|&t| t < to);
            (first < end).then(|| RangeLoss { from, to, loss: mean(&errors[first..end]) })
        });
        ValidationLoss { mean: mean(errors), by_t: by_t.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Unattended;
    use crate::noise::SeededNoise;
    use crate::schedule::ScheduleConfig;

    /// Predicts that there is no noise.
    struct Blind;

    impl Denoiser for Blind {
        fn predict(&self, x_t: &Images, _: &[usize], _: &Conditions) -> Result<Images> {
            Ok(Images::zeros(x_t.shape()))
        }

        fn prediction(&self) -> Prediction {
            Prediction::Epsilon
        }
    }

    #[test]
    fn the_mean_is_that_of_its_ranges_whatever_the_batch() {
        let schedule = NoiseSchedule::new(ScheduleConfig::default()).unwrap();
        let images = SeededNoise { seed: 1, first_image: 0 }.x_t(10, [3, 8, 8]);
        let validation =
            Validation::new(&schedule, Prediction::Epsilon, &images, &Conditions::none(), 5)
                .unwrap();
        let loss = validation.loss(&Blind, 4, &Unattended).unwrap();
        assert_eq!(loss, validation.loss(&Blind, 10, &Unattended).unwrap());
        let bounds: Vec<_> = loss.by_t.iter().map(|range| (range.from, range.to)).collect();
        assert_eq!(bounds, [(0, 250), (250, 500), (500, 750), (750, 1000)]);
        // Pictures of the ten at t = 50, 150, ... in each range.
        let sum: f64 =
            loss.by_t.iter().zip([2.0, 3.0, 2.0, 3.0]).map(|(range, n)| range.loss * n).sum();
        assert!((sum / 10.0 - loss.mean).abs() < 1e-12);
        assert!((loss.mean - 1.0).abs() < 0.2, "the noise itself: {}", loss.mean);
    }
}
