//! Recovery: real images, noised part of the way, denoised again.

use crate::control::Control;
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::model::Model;
use crate::noise::{Purpose, Stream};
use crate::sampler::{Generation, Sampler, Start};
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Spacing, Step, sequence, starting_at, visited};

/// A recovery experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecoverConfig {
    /// Steps of noise, 1 to T: the images are taken to timestep `t` − 1.
    pub t: usize,
    /// Steps back down; by default every timestep below `t`.
    pub n_steps: Option<usize>,
    /// How to step back down.
    pub sampler: Sampler,
    /// Do as the original does: run the sampler over its whole range 999 … 1, as if the slightly
    /// noisy images were pure noise. It fails, and is here to be shown.
    pub origin_bug: bool,
    /// Seed of the noise.
    pub seed: u64,
    /// Images per pass through the network.
    pub batch_size: usize,
}

impl RecoverConfig {
    /// The steps back down over a schedule of `n_timesteps`.
    ///
    /// # Errors
    /// When `t` or the number of steps is out of range.
    pub fn sequence(&self, n_timesteps: usize) -> Result<Vec<Step>> {
        let RecoverConfig { t, n_steps, origin_bug, .. } = *self;
        if t == 0 || t > n_timesteps {
            return Err(Error::out_of_range("t", t, format!("between 1 and {n_timesteps}")));
        }
        if let Some(n) = n_steps
            && !origin_bug
            && !(1..=t).contains(&n)
        {
            let allowed = format!("between 1 and {t}, the steps of noise that are added");
            return Err(Error::out_of_range("steps", n, allowed));
        }
        if origin_bug {
            let n_steps = n_steps.unwrap_or(n_timesteps);
            sequence(Spacing::Linear, n_steps, n_timesteps, End::FirstTimestep)
        } else {
            let below = visited(Spacing::Trailing, n_steps.unwrap_or(t), t)?;
            Ok(starting_at(&crate::timesteps::through(&below, End::Clean), t - 1))
        }
    }
}

/// Steps of noise with which there is something to see, and something left to recover: as many
/// tenths of the schedule as it takes until noise is a tenth of the variance. That is 100 of 1000
/// with the original's linear schedule, 300 with the `karras` one.
pub fn visible_noise(schedule: &NoiseSchedule) -> usize {
    const SHARE_OF_NOISE: f64 = 0.1;
    let n_timesteps = schedule.n_timesteps();
    let mut tenths = (1..=10).map(|n| (n * n_timesteps / 10).max(1));
    let noisy = |t: &usize| 1.0 - schedule.alpha_bar(t - 1) >= SHARE_OF_NOISE;
    tenths.find(noisy).unwrap_or(n_timesteps)
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The images with noise, `[N, C, H, W]`.
    pub noisy: Images,
    /// The images recovered from them.
    pub recovered: Images,
    /// Mean PSNR of the noisy images against the originals, in dB, both clamped to `[-1, 1]`.
    pub noisy_psnr: f64,
    /// Mean PSNR of the recovered images against the originals.
    pub recovered_psnr: f64,
}

/// Noises `originals` (`[N, C, H, W]`) and recovers them with `model`.
///
/// # Errors
/// When `t` or the number of steps is out of range, the images are not of the model's shape, or
/// `control` stops the run.
pub fn recover(
    model: &Model,
    originals: &Images,
    config: &RecoverConfig,
    control: &dyn Control,
) -> Result<Recovery> {
    let n_timesteps = model.schedule.n_timesteps();
    let RecoverConfig { t, sampler, seed, batch_size, .. } = *config;
    let plan = sampler.plan(&model.schedule, config.sequence(n_timesteps)?, false)?;

    let mut noisy = Images::zeros(originals.shape());
    let mut epsilon = vec![0.0; originals.image_len()];
    for k in 0..originals.len() {
        Stream::new(seed, Purpose::Noising, k as u64, 0).fill_normal(&mut epsilon);
        model.schedule.add_noise(originals.image(k), &epsilon, t - 1, noisy.image_mut(k));
    }

    let generation = Generation {
        denoiser: &model.network,
        plan: &plan,
        start: &Start::Noised { x_t: noisy.clone(), seed },
        conditions: &Conditions::none(),
        batch_size,
    };
    let recovered = generation.run(&mut |_, _| {}, control)?;
    Ok(Recovery {
        noisy_psnr: mean_psnr(originals, &noisy),
        recovered_psnr: mean_psnr(originals, &recovered),
        noisy,
        recovered,
    })
}

/// Peak signal-to-noise ratio in dB, the mean over the images; the peak is the whole range of 2.
fn mean_psnr(originals: &Images, others: &Images) -> f64 {
    let psnr = |k: usize| {
        let pairs = originals.image(k).iter().zip(others.image(k));
        let clamped = |v: f32| f64::from(v).clamp(-1.0, 1.0);
        let sum: f64 = pairs.map(|(&a, &b)| (clamped(a) - clamped(b)).powi(2)).sum();
        10.0 * (4.0 * originals.image_len() as f64 / sum).log10()
    };
    (0..originals.len()).map(psnr).sum::<f64>() / originals.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{ScheduleConfig, ScheduleKind};

    #[test]
    fn the_default_noise_can_be_seen_under_any_schedule() {
        let t = |kind, n_timesteps| {
            let config = ScheduleConfig { kind, n_timesteps, ..ScheduleConfig::default() };
            visible_noise(&NoiseSchedule::new(config).unwrap())
        };
        assert_eq!(t(ScheduleKind::Linear, 1000), 100);
        assert_eq!(t(ScheduleKind::Karras, 1000), 300);
        // Shorter than ten timesteps, and so short that there never is so much noise.
        assert!((1..=4).contains(&t(ScheduleKind::Karras, 4)));
        assert_eq!(t(ScheduleKind::Linear, 2), 2);
    }

    #[test]
    fn psnr_of_a_known_difference() {
        // An error of 0.2 of a range of 2 everywhere: 20 dB.
        let a = Images::from_vec([1, 1, 1, 4], vec![0.0, 0.1, -0.3, 0.5]).unwrap();
        let b = Images::from_vec([1, 1, 1, 4], vec![0.2, 0.3, -0.1, 0.7]).unwrap();
        assert!((mean_psnr(&a, &b) - 20.0).abs() < 1e-4);
    }
}
