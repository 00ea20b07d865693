//! What a training step minimizes: the mean squared error of the prediction, weighted by timestep
//! and by place where that is asked for.

use crate::dataset::Batch;
use crate::denoiser::{Conditions, Prediction};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::{Purpose, Stream};
use crate::schedule::NoiseSchedule;
use crate::unet::{GradientConfig, NoisyImages, UNet};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What a training step minimizes, and where its random numbers come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectiveConfig {
    /// What the network predicts.
    pub prediction: Prediction,
    /// How timesteps are drawn.
    pub timestep_sampling: TimestepSampling,
    /// γ of the min-SNR weights (Hang et al. 2023); with 0 all timesteps have the same weight.
    pub min_snr_gamma: f64,
    /// How much more errors in the middle of a picture count, as [`focus_weights`] has it; with 0
    /// all places have the same weight.
    pub loss_focus: f64,
    /// The probability that a picture is seen without its tags, 0 to 1.
    pub tag_dropout: f64,
    /// Random seed of timesteps, noise, dropout and tags.
    pub seed: u64,
}

/// How the timesteps of a step's pictures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestepSampling {
    /// Each by itself, uniformly.
    Uniform,
    /// Each from its own equal share of the schedule: the gradient varies less.
    Stratified,
    /// Noise levels as often as the squared cosine schedule has them, whatever the schedule (a
    /// logistic density of the log SNR; Kingma & Gao 2023), each from its own equal share of them.
    /// A schedule made for sampling in few steps has many timesteps of high noise, where there is
    /// little to learn.
    Cosine,
    /// Noise levels as Karras et al. 2022 train on them, whatever the schedule: the logarithm of σ,
    /// the noise beside the signal, is normal with mean −1.2 and deviation 1.2, and each level comes
    /// from its own equal share of that density. Half of the pictures have σ below 0.3, where lines
    /// and textures are decided; of the cosine's levels a fifth are there.
    Lognormal,
}

impl TimestepSampling {
    /// The share of the variance that is the image's at the quantile `share` of the noise levels,
    /// the least noisy first; `None` where timesteps are drawn and not noise levels.
    fn alpha_bar(self, share: f64) -> Option<f64> {
        match self {
            TimestepSampling::Uniform | TimestepSampling::Stratified => None,
            TimestepSampling::Cosine => {
                let cosine = libm::cos(share * std::f64::consts::FRAC_PI_2);
                Some(cosine * cosine)
            }
            TimestepSampling::Lognormal => {
                let sigma =
                    libm::exp(LOG_SIGMA_MEAN + LOG_SIGMA_DEVIATION * normal_quantile(share));
                Some(1.0 / (1.0 + sigma * sigma))
            }
        }
    }
}

const LOG_SIGMA_MEAN: f64 = -1.2;
const LOG_SIGMA_DEVIATION: f64 = 1.2;

/// The value that a standard normal variable is below with probability `p`, between -9 and 9.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    // 18 divided by 2⁵³ is about the precision of the result.
    for _ in 0..53 {
        let middle = 0.5 * (low + high);
        let below = 0.5 * libm::erfc(-middle * std::f64::consts::FRAC_1_SQRT_2);
        if below < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Noisy images with what the network is to predict of them.
#[derive(Clone, Debug)]
pub struct NoisyBatch {
    /// x_t, `[N, C, H, W]`.
    pub x_t: Images,
    /// One timestep per image.
    pub timesteps: Vec<usize>,
    /// What each image is asked to show.
    pub conditions: Conditions,
    /// What is to be predicted: ε, x_0 or v, `[N, C, H, W]`.
    pub target: Images,
    /// The weight of each image's error; `None` where all weights are 1.
    pub weights: Option<Vec<f32>>,
    /// The weight of the error at each place, `[H, W]`; `None` where all weights are 1.
    pub place_weights: Option<Vec<f32>>,
}

impl NoisyBatch {
    /// Adds the noise `epsilon` to `x_0` (both `[N, C, H, W]`) at `timesteps`, without conditions.
    ///
    /// # Errors
    /// When the shapes do not agree, or a timestep is not below T.
    pub fn new(
        schedule: &NoiseSchedule,
        prediction: Prediction,
        x_0: &Images,
        timesteps: Vec<usize>,
        epsilon: &Images,
    ) -> Result<Self> {
        if x_0.shape() != epsilon.shape() || timesteps.len() != x_0.len() {
            return Err(Error::invalid(
                "training batch",
                format!(
                    "images {:?}, noise {:?} and {} timesteps do not agree",
                    x_0.shape(),
                    epsilon.shape(),
                    timesteps.len()
                ),
            ));
        }
        if let Some(t) = timesteps.iter().find(|&&t| t >= schedule.n_timesteps()) {
            return Err(Error::invalid(
                "timestep",
                format!("{t} found; expected below {}", schedule.n_timesteps()),
            ));
        }
        let mut x_t = Images::zeros(x_0.shape());
        let mut target = Images::zeros(x_0.shape());
        let size = x_0.image_len().max(1);
        x_t.data_mut()
            .par_chunks_exact_mut(size)
            .zip(target.data_mut().par_chunks_exact_mut(size))
            .enumerate()
            .for_each(|(k, (x_t, target))| {
                let (x_0, epsilon, t) = (x_0.image(k), epsilon.image(k), timesteps[k]);
                schedule.add_noise(x_0, epsilon, t, x_t);
                match prediction {
                    Prediction::Epsilon => target.copy_from_slice(epsilon),
                    Prediction::X0 => target.copy_from_slice(x_0),
                    Prediction::V => {
                        let alpha_bar = schedule.alpha_bar(t);
                        let (signal, noise) =
                            (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
                        for ((target, &x_0), &epsilon) in target.iter_mut().zip(x_0).zip(epsilon) {
                            *target = signal * epsilon - noise * x_0;
                        }
                    }
                }
            });
        let conditions = Conditions::none();
        Ok(NoisyBatch { x_t, timesteps, conditions, target, weights: None, place_weights: None })
    }

    /// What a training step minimizes over the pictures of `batch`: picture k gets its timestep and
    /// then its ε from the training stream of number `part.first_image + k`, so the noise of a
    /// picture does not depend on how pictures are batched.
    ///
    /// # Errors
    /// None in practice: the shapes agree by construction.
    pub fn drawn(
        schedule: &NoiseSchedule,
        config: &ObjectiveConfig,
        batch: &Batch,
        part: StepPart,
    ) -> Result<Self> {
        let x_0 = &batch.images;
        let n_timesteps = schedule.n_timesteps();
        let mut epsilon = Images::zeros(x_0.shape());
        let size = x_0.image_len().max(1);
        let timesteps: Vec<usize> = epsilon
            .data_mut()
            .par_chunks_exact_mut(size)
            .enumerate()
            .map(|(k, epsilon)| {
                let number = part.first_image + k as u64;
                let mut stream = Stream::new(config.seed, Purpose::Training, number, 0);
                let mut share = || {
                    let share = (part.offset + k) as f64 + stream.uniform();
                    share / part.batch_size as f64
                };
                let timestep = match config.timestep_sampling {
                    TimestepSampling::Uniform => stream.below(n_timesteps),
                    sampling => {
                        let share = share();
                        match sampling.alpha_bar(share) {
                            Some(alpha_bar) => schedule.timestep_at(alpha_bar),
                            None => ((share * n_timesteps as f64) as usize).min(n_timesteps - 1),
                        }
                    }
                };
                stream.fill_normal(epsilon);
                timestep
            })
            .collect();
        let weights = (config.min_snr_gamma > 0.0).then(|| {
            let weight = |&t: &usize| {
                min_snr_weight(schedule.alpha_bar(t), config.prediction, config.min_snr_gamma)
                    as f32
            };
            timesteps.iter().map(weight).collect()
        });
        let conditions = Conditions::new(
            (0..x_0.len())
                .map(|k| seen_tags(config, &batch.tags[k], part.first_image + k as u64))
                .collect(),
        );
        let batch = NoisyBatch::new(schedule, config.prediction, x_0, timesteps, &epsilon)?;
        let [_, _, height, width] = x_0.shape();
        let place_weights =
            (config.loss_focus > 0.0).then(|| focus_weights(height, width, config.loss_focus));
        Ok(NoisyBatch { weights, place_weights, conditions, ..batch })
    }

    /// The same under `conditions`.
    #[must_use]
    pub fn under(self, conditions: Conditions) -> Self {
        NoisyBatch { conditions, ..self }
    }

    /// The weighted mean squared error of `prediction` times `share`, summed image by image in f64,
    /// and its gradient with respect to the prediction, `[N, C, H, W]`.
    fn error(&self, prediction: &Images, share: f64) -> (f64, Images) {
        let n_values = prediction.data().len().max(1) as f64;
        let mut gradient = Images::zeros(prediction.shape());
        let size = prediction.image_len().max(1);
        let places = self.place_weights.as_deref();
        let sums: Vec<f64> = gradient
            .data_mut()
            .par_chunks_exact_mut(size)
            .enumerate()
            .map(|(k, gradient)| {
                let weight = self.weights.as_ref().map_or(1.0, |weights| f64::from(weights[k]));
                let scale = (2.0 * share * weight / n_values) as f32;
                let pairs = prediction.image(k).iter().zip(self.target.image(k));
                let mut sum = 0.0;
                for (i, (gradient, (prediction, target))) in
                    gradient.iter_mut().zip(pairs).enumerate()
                {
                    // Places are numbered alike in each channel.
                    let weight = places.map_or(1.0, |weights| weights[i % weights.len()]);
                    let difference = prediction - target;
                    *gradient = scale * weight * difference;
                    sum += f64::from(weight) * f64::from(difference).powi(2);
                }
                weight * sum
            })
            .collect();
        (share * sums.iter().sum::<f64>() / n_values, gradient)
    }
}

/// The tags with which the picture of number `number` is seen: none with the probability
/// `tag_dropout`; otherwise each is kept with one probability, drawn anew for every picture: 1 − u²
/// for a uniform u, 2/3 in the mean. So the network learns from no tags, from all, and from any part
/// of them, since people ask for one thing or for ten; and more often from most of them, since every
/// tag that is left out teaches nothing.
fn seen_tags(config: &ObjectiveConfig, tags: &[usize], number: u64) -> Vec<usize> {
    if tags.is_empty() {
        return Vec::new();
    }
    // Draw 2 of the picture's stream: 0 is its timestep and noise, 1 the dropout of a batch.
    let mut stream = Stream::new(config.seed, Purpose::Training, number, 2);
    if stream.uniform() < config.tag_dropout {
        return Vec::new();
    }
    let kept_share = 1.0 - stream.uniform().powi(2);
    tags.iter().copied().filter(|_| stream.uniform() < kept_share).collect()
}

/// Which pictures of a run, and of one of its steps, a micro-batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepPart {
    /// The number of its first picture, counted from the beginning of the run.
    pub first_image: u64,
    /// The same, counted from the beginning of the step.
    pub offset: usize,
    /// Pictures of the whole step.
    pub batch_size: usize,
}

/// The weight of an error at the level ᾱ such that the error of x̂_0 counts min(SNR, γ), with
/// SNR = ᾱ / (1 − ᾱ) (Hang et al. 2023, "Efficient diffusion training via min-SNR weighting").
pub fn min_snr_weight(alpha_bar: f64, prediction: Prediction, gamma: f64) -> f64 {
    // An error e of ε is one of e / √SNR of x_0, an error of v one of e / √(SNR + 1). Written with
    // 1 / SNR, which is finite where ᾱ is 1.
    let noise_to_signal = (1.0 - alpha_bar) / alpha_bar;
    let clipped = (gamma * noise_to_signal).min(1.0);
    match prediction {
        Prediction::Epsilon => clipped,
        Prediction::V => clipped / (1.0 + noise_to_signal),
        Prediction::X0 if noise_to_signal > 0.0 => clipped / noise_to_signal,
        Prediction::X0 => gamma,
    }
}

/// The share of a picture's side at which the excess weight of [`focus_weights`] has fallen by √e.
const FOCUS_RADIUS: f64 = 0.15;

/// The weight of the error at each place of a picture, `[H, W]`, 1 in the mean: proportional to
/// 1 + f exp(−r² / (2 · 0.15²)) for a `focus` f, where r is the distance from the middle, measured
/// in sides of the picture. Whatever the weights, the error is least where every value is predicted
/// as well as can be; they say only what is learned first. In a portrait the middle holds the eyes:
/// a few per cent of the values, and the first thing that people look at.
pub fn focus_weights(height: usize, width: usize, focus: f64) -> Vec<f32> {
    let bell = |k: usize, side: usize| {
        let distance = (k as f64 + 0.5) / side as f64 - 0.5;
        libm::exp(-distance * distance / (2.0 * FOCUS_RADIUS * FOCUS_RADIUS))
    };
    let rows: Vec<f64> = (0..height).map(|y| bell(y, height)).collect();
    let columns: Vec<f64> = (0..width).map(|x| bell(x, width)).collect();
    let mean = |bells: &[f64]| bells.iter().sum::<f64>() / bells.len().max(1) as f64;
    let mean_weight = 1.0 + focus * mean(&rows) * mean(&columns);
    let weight = |place: usize| 1.0 + focus * rows[place / width] * columns[place % width];
    (0..height * width).map(|place| (weight(place) / mean_weight) as f32).collect()
}

/// A loss and its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct LossGradients {
    /// The loss.
    pub loss: f64,
    /// With respect to every parameter, in memory order, as [`UNet::values`] has them.
    pub gradients: Vec<Vec<f32>>,
}

/// The weighted mean squared error of `unet` on `batch`, and its gradients; both times `share`, the
/// micro-batch's share of the pictures of a step.
///
/// # Errors
/// When the device fails.
pub fn loss_gradients(
    unet: &UNet,
    batch: &NoisyBatch,
    share: f64,
    config: GradientConfig,
    device: &Device,
) -> Result<LossGradients> {
    let mut loss = 0.0;
    let mut gradients = vec![Vec::new(); unet.values().len()];
    unet.gradients(
        NoisyImages { x_t: &batch.x_t, timesteps: &batch.timesteps, conditions: &batch.conditions },
        config,
        device,
        &mut |prediction| {
            let (value, gradient) = batch.error(prediction, share);
            loss = value;
            Ok(gradient)
        },
        &mut |index, gradient| gradients[index] = gradient,
    )?;
    Ok(LossGradients { loss, gradients })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{ScheduleConfig, ScheduleKind};
    use proptest::prelude::*;

    const SHAPE: [usize; 4] = [64, 1, 2, 2];

    const OBJECTIVE: ObjectiveConfig = ObjectiveConfig {
        prediction: Prediction::V,
        timestep_sampling: TimestepSampling::Stratified,
        min_snr_gamma: 0.0,
        loss_focus: 0.0,
        tag_dropout: 0.15,
        seed: 999,
    };

    fn drawn(
        schedule: &ScheduleConfig,
        config: &ObjectiveConfig,
        images: &Images,
        first_image: u64,
        offset: usize,
    ) -> NoisyBatch {
        let schedule = NoiseSchedule::new(schedule).unwrap();
        let part = StepPart { first_image, offset, batch_size: 64 };
        let n = images.len();
        let batch =
            Batch { images: images.clone(), indices: (0..n).collect(), tags: vec![vec![]; n] };
        NoisyBatch::drawn(&schedule, config, &batch, part).unwrap()
    }

    #[test]
    fn a_stratified_step_takes_one_timestep_from_each_share() {
        let schedule = ScheduleConfig::default();
        let images = Images::zeros(SHAPE);
        let step = drawn(&schedule, &OBJECTIVE, &images, 128, 0);
        for (k, &t) in step.timesteps.iter().enumerate() {
            assert!((k * 1000 / 64..=(k + 1) * 1000 / 64).contains(&t), "picture {k}: {t}");
        }
        // A step in parts draws the same.
        let part = drawn(&schedule, &OBJECTIVE, &images.slice(40..64), 168, 40);
        assert_eq!(part.timesteps, step.timesteps[40..]);
        assert_eq!(part.x_t, step.x_t.slice(40..64));
    }

    #[test]
    fn noise_levels_come_on_any_schedule() {
        let schedule = ScheduleConfig { kind: ScheduleKind::Karras, ..Default::default() };
        for sampling in [TimestepSampling::Cosine, TimestepSampling::Lognormal] {
            let config = ObjectiveConfig { timestep_sampling: sampling, ..OBJECTIVE };
            let step = drawn(&schedule, &config, &Images::zeros(SHAPE), 128, 0);
            let schedule = NoiseSchedule::new(&schedule).unwrap();
            for (k, &t) in step.timesteps.iter().enumerate() {
                let level = |share: f64| sampling.alpha_bar(share).unwrap();
                let (least, most) = (level((k + 1) as f64 / 64.0), level(k as f64 / 64.0));
                // The table's next entry at or below, or its last.
                assert!(schedule.alpha_bar(t) <= most, "{sampling:?}, picture {k}: {t}");
                assert!(t == 0 || schedule.alpha_bar(t - 1) > least, "{sampling:?}: {k}: {t}");
            }
        }
    }

    #[test]
    fn quantiles_of_noise_levels() {
        let cosine = |share| TimestepSampling::Cosine.alpha_bar(share).unwrap();
        assert!((cosine(0.5) - 0.5).abs() < 1e-15);
        // Quantiles of the normal distribution as tables have them.
        for (p, x) in [(0.5, 0.0), (0.841344746068543, 1.0), (0.975, 1.959963984540054)] {
            assert!((normal_quantile(p) - x).abs() < 1e-12, "{p}");
            assert!((normal_quantile(1.0 - p) + x).abs() < 1e-12, "{p}");
            let sigma = (-1.2 + 1.2 * x).exp();
            let found = TimestepSampling::Lognormal.alpha_bar(p).unwrap();
            assert!((found * (1.0 + sigma * sigma) - 1.0).abs() < 1e-12, "{p}");
        }
        // The ends are levels too.
        for end in [0.0, 1.0] {
            let found = TimestepSampling::Lognormal.alpha_bar(end).unwrap();
            assert!((0.0..=1.0).contains(&found), "{found}");
        }
    }

    #[test]
    fn any_part_of_the_tags_is_seen() {
        let tags: Vec<usize> = (0..10).collect();
        let seen: Vec<Vec<usize>> =
            (0..4000).map(|number| seen_tags(&OBJECTIVE, &tags, number)).collect();
        assert_eq!(seen[7], seen_tags(&OBJECTIVE, &tags, 7));
        let share_of = |n: usize| {
            seen.iter().filter(|seen| seen.len() == n).count() as f64 / seen.len() as f64
        };
        // The chance of n of 10 is the integral of (10 over n) pⁿ (1 − p)¹⁰⁻ⁿ / (2 √(1 − p)): 1/21
        // for none, and (10 − n) / (9.5 − n) times as much for one more.
        let mut expected = 1.0 / 21.0;
        for n in 0..=10 {
            let without = if n == 0 { 0.15 } else { 0.0 };
            let found = share_of(n);
            assert!((found - without - 0.85 * expected).abs() < 0.02, "{n} tags: {found}");
            expected *= (10 - n) as f64 / (9.5 - n as f64);
        }
        assert!(seen.iter().all(|seen| seen.is_sorted()));
        let never = ObjectiveConfig { tag_dropout: 1.0, ..OBJECTIVE };
        assert!((0..50).all(|number| seen_tags(&never, &tags, number).is_empty()));
    }

    #[test]
    fn the_middle_counts_more_and_the_mean_stays() {
        for (height, width, focus) in [(64, 64, 10.0), (8, 16, 0.5), (1, 1, 3.0)] {
            let weights = focus_weights(height, width, focus);
            let mean = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>()
                / (height * width) as f64;
            assert!((mean - 1.0).abs() < 1e-6, "{mean}");
        }
        let weights = focus_weights(65, 65, 10.0);
        let (middle, corner) = (weights[32 * 65 + 32], weights[0]);
        assert!((f64::from(middle / corner) - 11.0).abs() < 0.01, "{middle} and {corner}");
        // At the radius the excess is 10 / √e.
        let aside = weights[32 * 65 + 32 + 10];
        let expected = 1.0 + 10.0 * (-(10.0f64 / 65.0 / 0.15).powi(2) / 2.0).exp();
        assert!((f64::from(aside / corner) - expected).abs() < 0.01, "{aside}");
    }

    #[test]
    fn an_error_counts_by_its_place() {
        let shape = [2, 3, 4, 6];
        let image = |value: f32| {
            let n = shape.iter().product();
            Images::from_vec(shape, (0..n).map(|k| value * (k % 7) as f32).collect()).unwrap()
        };
        let (target, prediction) = (image(0.25), image(-0.5));
        let plain = NoisyBatch {
            x_t: Images::zeros(shape),
            timesteps: vec![0; 2],
            conditions: Conditions::none(),
            target,
            weights: Some(vec![1.0, 0.5]),
            place_weights: None,
        };
        let (loss, gradient) = plain.error(&prediction, 0.75);
        let even = NoisyBatch { place_weights: Some(vec![1.0; 24]), ..plain.clone() };
        let (same_loss, same_gradient) = even.error(&prediction, 0.75);
        assert!((same_loss / loss - 1.0).abs() < 1e-6);
        assert_eq!(same_gradient, gradient);

        let weights = focus_weights(4, 6, 5.0);
        let focused = NoisyBatch { place_weights: Some(weights.clone()), ..plain };
        let (found, found_gradient) = focused.error(&prediction, 0.75);
        let mut expected = 0.0;
        for (k, &value) in gradient.data().iter().enumerate() {
            let weighted = value * weights[k % 24];
            assert!((found_gradient.data()[k] - weighted).abs() <= 1e-6 * weighted.abs());
            // A squared error is a half of the product of its gradient and the difference.
            let difference = prediction.data()[k] - focused.target.data()[k];
            expected += 0.5 * f64::from(weighted) * f64::from(difference);
        }
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} for {expected}");
    }

    #[test]
    fn weights_are_given_only_where_asked_for() {
        let images = Images::zeros(SHAPE);
        let schedule = ScheduleConfig { kind: ScheduleKind::Karras, ..Default::default() };
        let plain = drawn(&schedule, &OBJECTIVE, &images, 0, 0);
        assert_eq!((plain.weights, plain.place_weights), (None, None));
        let config = ObjectiveConfig { min_snr_gamma: 5.0, ..OBJECTIVE };
        let batch = drawn(&schedule, &config, &images, 0, 0);
        let weights = batch.weights.unwrap();
        assert!(weights.iter().all(|weight| (0.0..=1.0).contains(weight)));
        assert!(weights.iter().any(|&weight| weight < 0.5));
    }

    proptest! {
        /// Whatever is predicted, the same error of x̂_0 counts min(SNR, γ).
        #[test]
        fn an_error_of_the_clean_image_counts_the_same(level in 1e-4f64..0.9999, gamma in 0.1f64..20.0) {
            let snr = level / (1.0 - level);
            let expected = snr.min(gamma);
            // Squared errors of ε and v that an error 1 of x̂_0 amounts to.
            let of_epsilon = min_snr_weight(level, Prediction::Epsilon, gamma) * snr;
            let of_v = min_snr_weight(level, Prediction::V, gamma) * (snr + 1.0);
            let of_x_0 = min_snr_weight(level, Prediction::X0, gamma);
            for found in [of_epsilon, of_v, of_x_0] {
                prop_assert!((found / expected - 1.0).abs() < 1e-9, "{} for {}", found, expected);
            }
        }
    }

    #[test]
    fn every_schedule_has_finite_weights() {
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::X0] {
            let schedule = NoiseSchedule::new(ScheduleConfig::default()).unwrap();
            let levels = (0..1000).map(|t| schedule.alpha_bar(t)).chain([1.0]);
            for level in levels {
                assert!(min_snr_weight(level, prediction, 5.0).is_finite());
            }
        }
    }
}
