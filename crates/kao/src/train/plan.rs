//! What a run will take, before it begins.

use super::config::TrainConfig;
use crate::error::{Error, Result};

/// Bytes of a value.
const F32: u64 = 4;

/// What the program itself takes: code, threads, buffers of the pool.
const PROGRAM_BYTES: u64 = 96 << 20;

impl TrainConfig {
    /// Bytes of memory that the run takes at its peak with `n_pictures` pictures in all; an estimate
    /// on the high side for the CPU, held against measurements in ARCHITECTURE.md.
    pub fn estimated_bytes(&self, n_pictures: usize) -> u64 {
        let weights = (self.model.parameter_count() as u64).saturating_mul(F32);
        let image = self.model.image_size.iter().product::<usize>() as u64;
        let together = self.micro_batch_size.min(self.batch_size);

        // Weights, their average, two moments; and the sum of the gradients over micro-batches.
        let state = weights.saturating_mul(if together < self.batch_size { 5 } else { 4 });
        let pictures = image.saturating_mul(n_pictures as u64);
        // Pictures, noisy ones, targets and noise of a step; of the validation set for good.
        let n_values = self
            .batch_size
            .saturating_add(together.saturating_mul(3))
            .saturating_add(self.validation_images.saturating_mul(4));
        let values = image.saturating_mul(n_values as u64).saturating_mul(F32);

        let kept = self.model.training_values(self.gradient_checkpointing) as u64;
        let step = kept.saturating_mul(together as u64).saturating_mul(F32);
        // What is freed comes back in pieces that do not always fit. The gradients of the parameters
        // grow while the feature maps are freed.
        let step = step.saturating_add(step / 10).max(weights);
        // A network to look with: weights, what the kernels make of them, the file to write.
        let look = weights.saturating_mul(7);
        [PROGRAM_BYTES, state, pictures, values, step.max(look)]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Bytes of a checkpoint's file.
    pub fn checkpoint_bytes(&self) -> u64 {
        (self.model.parameter_count() as u64).saturating_mul(4 * F32)
    }

    /// The largest micro-batch with which the run is estimated to stay within `limit` bytes.
    ///
    /// # Errors
    /// When not even one picture at a time does.
    pub fn micro_batch_within(&self, limit: u64, n_pictures: usize) -> Result<usize> {
        let bytes = |micro_batch_size: usize| {
            TrainConfig { micro_batch_size, ..self.clone() }.estimated_bytes(n_pictures)
        };
        let fits = |n: &usize| bytes(*n) <= limit;
        // The same number of parts, all but the last as large as can be, if they are made even.
        let Some(most) = (1..=self.batch_size).rev().find(fits) else {
            let needed = bytes(1) as f64 / f64::from(1 << 30);
            let problem = format!(
                "{:.2} GiB found; this run takes some {needed:.2} GiB with one picture at a time",
                limit as f64 / f64::from(1 << 30)
            );
            let error = Error::invalid("memory", problem);
            return Err(match self.gradient_checkpointing {
                true => error,
                false => error.with_hint("--gradient-checkpointing takes less"),
            });
        };
        Ok(self.batch_size.div_ceil(self.batch_size.div_ceil(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;
    use proptest::prelude::*;

    #[test]
    fn the_original_fits_four_gibibytes() {
        let config = Preset::Anime64.config();
        let limit = 4 << 30;
        let n = config.micro_batch_within(limit, 63_632).unwrap();
        assert!((8..=64).contains(&n), "{n}");
        let chosen = TrainConfig { micro_batch_size: n, ..config.clone() };
        assert!(chosen.estimated_bytes(63_632) <= limit);
        let saving = TrainConfig { gradient_checkpointing: true, ..config.clone() };
        assert!(saving.micro_batch_within(limit, 63_632).unwrap() > n);
        let error = config.micro_batch_within(1 << 28, 63_632).unwrap_err();
        assert!(error.to_string().starts_with("memory: 0.25 GiB found"), "{error}");
    }

    proptest! {
        #[test]
        fn more_memory_is_never_fewer_pictures(batch_size in 1usize..200, half_gibibytes in 4u64..40) {
            let config = TrainConfig { batch_size, ..Preset::Anime64.config() };
            let limit = half_gibibytes << 29;
            let n = config.micro_batch_within(limit, 1000).unwrap();
            prop_assert!(n <= batch_size && n <= config.micro_batch_within(2 * limit, 1000).unwrap());
            let chosen = TrainConfig { micro_batch_size: n, ..config };
            prop_assert!(chosen.estimated_bytes(1000) <= limit);
        }
    }
}
