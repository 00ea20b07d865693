//! The contract between networks and samplers.
//!
//! Samplers know a network only as a [`Denoiser`]; networks know nothing of samplers. The
//! closed-form [`GaussianDenoiser`] satisfies the contract with no network, and tests samplers
//! exactly.

use crate::error::{Error, Result};
use crate::images::Images;
use crate::schedule::NoiseSchedule;
use serde::{Deserialize, Serialize};

/// What a denoiser predicts of x_t = √ᾱ x_0 + √(1 − ᾱ) ε.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The noise ε (Ho et al. 2020).
    #[default]
    Epsilon,
    /// The clean image x_0.
    X0,
    /// v = √ᾱ ε − √(1 − ᾱ) x_0 (Salimans & Ho 2022).
    V,
}

/// What the images of a batch are asked to show, and what to avoid: for each image, tags by their
/// number in the vocabulary of the model. An image without tags is unconditional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Empty where nothing is asked of any image, however many there are.
    tags: Vec<Vec<usize>>,
    /// What [guidance](crate::guidance) leads away from; empty where that is nothing in particular.
    avoid: Vec<Vec<usize>>,
}

impl Conditions {
    /// Nothing is asked for, of any number of images.
    pub fn none() -> Self {
        Conditions::default()
    }

    /// The tags of each image.
    pub fn new(tags: Vec<Vec<usize>>) -> Self {
        Conditions { tags: none_where_empty(tags), avoid: Vec::new() }
    }

    /// The same, with tags for each image that guidance is to lead away from.
    #[must_use]
    pub fn avoiding(self, avoid: Vec<Vec<usize>>) -> Self {
        Conditions { avoid: none_where_empty(avoid), ..self }
    }

    /// The tags to avoid, as a condition of their own.
    pub fn avoided(&self) -> Self {
        Conditions { tags: self.avoid.clone(), avoid: Vec::new() }
    }

    /// The tags of image `k` to avoid.
    pub fn avoided_of(&self, k: usize) -> &[usize] {
        self.avoid.get(k).map_or(&[], Vec::as_slice)
    }

    /// The tags of image `k`.
    pub fn of(&self, k: usize) -> &[usize] {
        self.tags.get(k).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is asked for, and nothing to be avoided.
    pub fn is_none(&self) -> bool {
        self.tags.is_empty() && self.avoid.is_empty()
    }

    /// Those of the images in `range`.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        self.chosen(range)
    }

    /// Those of the images at these positions, in this order.
    pub fn chosen(&self, indices: impl Iterator<Item = usize> + Clone) -> Self {
        let avoid = indices.clone().map(|k| self.avoided_of(k).to_vec()).collect();
        Conditions::new(indices.map(|k| self.of(k).to_vec()).collect()).avoiding(avoid)
    }
}

fn none_where_empty(tags: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    if tags.iter().all(Vec::is_empty) { Vec::new() } else { tags }
}

/// Predicts what was added to noisy images.
pub trait Denoiser {
    /// The prediction for each image of `x_t` (`[N, C, H, W]`) at its own timestep and under its
    /// own condition; of the same shape. What it means is said by
    /// [`prediction`](Self::prediction). An image's prediction does not depend on the others of the
    /// batch.
    ///
    /// # Errors
    /// When the images are of a shape that the denoiser does not take, or a condition names a tag
    /// that it does not know.
    fn predict(&self, x_t: &Images, timesteps: &[usize], conditions: &Conditions)
    -> Result<Images>;

    /// What is predicted.
    fn prediction(&self) -> Prediction {
        Prediction::Epsilon
    }
}

/// What a prediction says of one value of a noisy image: x_t = √ᾱ x̂_0 + √(1 − ᾱ) ε̂.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Denoised {
    /// The predicted clean value, x̂_0.
    pub x0: f64,
    /// The predicted noise, ε̂.
    pub epsilon: f64,
}

/// What is done to a predicted clean image so that its values stay in range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Clipping {
    /// Nothing.
    #[default]
    None,
    /// Values are clamped to [-`range`, `range`].
    Clamped {
        /// The largest magnitude.
        range: f64,
        /// Whether ε̂ stays as predicted. Else it is derived anew from x̂_0, so that both make x_t.
        keeps_epsilon: bool,
    },
    /// Values are clamped to [-s, s] and divided by s, the quantile `ratio` of their magnitudes
    /// within the image, between 1 and `largest` (dynamic thresholding, Saharia et al. 2022).
    Thresholded {
        /// Which quantile.
        ratio: f64,
        /// The largest s.
        largest: f64,
        /// As above.
        keeps_epsilon: bool,
    },
}

impl From<bool> for Clipping {
    /// Whether x̂_0 is clamped to [-1, 1] and ε̂ derived anew.
    fn from(clip: bool) -> Self {
        match clip {
            true => Clipping::Clamped { range: 1.0, keeps_epsilon: false },
            false => Clipping::None,
        }
    }
}

/// Turns predictions of any kind into x̂_0 and ε̂ at one noise level.
#[derive(Clone, Copy, Debug)]
pub struct PredictionConverter {
    signal: f64,
    noise: f64,
    prediction: Prediction,
    clipping: Clipping,
}

impl PredictionConverter {
    /// For the noise level `alpha_bar`, in (0, 1).
    pub fn new(alpha_bar: f64, prediction: Prediction, clipping: impl Into<Clipping>) -> Self {
        let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        PredictionConverter { signal, noise, prediction, clipping: clipping.into() }
    }

    /// The s of dynamic thresholding for one image, all values of which are given; 1 where there is
    /// none.
    pub fn threshold(&self, x_t: &[f32], predicted: &[f32]) -> f64 {
        let Clipping::Thresholded { ratio, largest, .. } = self.clipping else { return 1.0 };
        let pairs = x_t.iter().zip(predicted);
        let mut sizes: Vec<f64> =
            pairs.map(|(&x_t, &predicted)| self.x0(x_t, predicted).abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let Some(last) = sizes.len().checked_sub(1) else { return 1.0 };
        // Between two values, in proportion to the distance from both.
        let place = ratio.clamp(0.0, 1.0) * last as f64;
        let (below, share) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(last);
        let quantile = sizes[below] + share * (sizes[above] - sizes[below]);
        quantile.max(1.0).min(largest)
    }

    /// x̂_0 before it is clipped.
    #[inline]
    fn x0(&self, x_t: f32, predicted: f32) -> f64 {
        let (x_t, predicted) = (f64::from(x_t), f64::from(predicted));
        match self.prediction {
            Prediction::Epsilon => (x_t - self.noise * predicted) / self.signal,
            Prediction::X0 => predicted,
            Prediction::V => self.signal * x_t - self.noise * predicted,
        }
    }

    /// x̂_0 and ε̂ of the value `x_t`, for which `predicted` was predicted.
    #[inline]
    pub fn convert(&self, x_t: f32, predicted: f32) -> Denoised {
        self.convert_within(x_t, predicted, 1.0)
    }

    /// The same in an image whose [`threshold`](Self::threshold) is this.
    #[inline]
    pub fn convert_within(&self, x_t: f32, predicted: f32, threshold: f64) -> Denoised {
        let PredictionConverter { signal, noise, prediction, clipping } = *self;
        let x0 = self.x0(x_t, predicted);
        let (x_t, predicted) = (f64::from(x_t), f64::from(predicted));
        let (x0, keeps_epsilon) = match clipping {
            Clipping::None => (x0, true),
            Clipping::Clamped { range, keeps_epsilon } => (x0.clamp(-range, range), keeps_epsilon),
            Clipping::Thresholded { keeps_epsilon, .. } => {
                (x0.clamp(-threshold, threshold) / threshold, keeps_epsilon)
            }
        };
        let epsilon = match prediction {
            Prediction::Epsilon if keeps_epsilon => predicted,
            Prediction::V if keeps_epsilon => noise * x_t + signal * predicted,
            Prediction::X0 if keeps_epsilon => (x_t - signal * predicted) / noise,
            _ => (x_t - signal * x0) / noise,
        };
        Denoised { x0, epsilon }
    }
}

/// The exact denoiser of data whose values are independent Gaussians of one mean and variance.
///
/// For x_0 ~ N(μ, s²), x_t ~ N(√ᾱ μ, ᾱ s² + 1 − ᾱ), and E[ε | x_t] =
/// √(1 − ᾱ) (x_t − √ᾱ μ) / (ᾱ s² + 1 − ᾱ).
#[derive(Clone, Debug)]
pub struct GaussianDenoiser {
    /// Noise levels.
    pub schedule: NoiseSchedule,
    /// μ.
    pub mean: f64,
    /// s.
    pub standard_deviation: f64,
    /// What is predicted.
    pub prediction: Prediction,
}

impl Denoiser for GaussianDenoiser {
    fn predict(&self, x_t: &Images, timesteps: &[usize], _: &Conditions) -> Result<Images> {
        if timesteps.len() != x_t.len() {
            return Err(Error::invalid(
                "timesteps",
                format!("{} given for {} images", timesteps.len(), x_t.len()),
            ));
        }
        let mut predicted = Images::zeros(x_t.shape());
        for (k, &t) in timesteps.iter().enumerate() {
            let alpha_bar = self.schedule.alpha_bar(t);
            let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
            let variance = alpha_bar * self.standard_deviation.powi(2) + 1.0 - alpha_bar;
            for (out, &x_t) in predicted.image_mut(k).iter_mut().zip(x_t.image(k)) {
                let epsilon = noise * (f64::from(x_t) - signal * self.mean) / variance;
                let x_0 = (f64::from(x_t) - noise * epsilon) / signal;
                *out = match self.prediction {
                    Prediction::Epsilon => epsilon,
                    Prediction::X0 => x_0,
                    Prediction::V => signal * epsilon - noise * x_0,
                } as f32;
            }
        }
        Ok(predicted)
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn all_three_predictions_say_the_same(
            x_0 in -2.0f64..2.0, epsilon in -4.0f64..4.0, alpha_bar in 0.01f64..0.99,
        ) {
            let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
            let x_t = signal * x_0 + noise * epsilon;
            let v = signal * epsilon - noise * x_0;
            for (prediction, predicted) in
                [(Prediction::Epsilon, epsilon), (Prediction::X0, x_0), (Prediction::V, v)]
            {
                let convert = |clip| {
                    PredictionConverter::new(alpha_bar, prediction, clip)
                        .convert(x_t as f32, predicted as f32)
                };
                let denoised = convert(false);
                assert!((denoised.x0 - x_0).abs() < 1e-4, "{prediction:?} {denoised:?}");
                assert!((denoised.epsilon - epsilon).abs() < 1e-4, "{prediction:?} {denoised:?}");

                let denoised = convert(true);
                assert!(denoised.x0.abs() <= 1.0);
                let again = signal * denoised.x0 + noise * denoised.epsilon;
                assert!((again - x_t).abs() < 1e-5, "clipping keeps x_t");
            }
        }
    }

    #[test]
    fn clipping_may_keep_the_predicted_noise() {
        let clipping = Clipping::Clamped { range: 0.5, keeps_epsilon: true };
        let (x_t, predicted) = (2.0, -1.0);
        for prediction in [Prediction::Epsilon, Prediction::X0, Prediction::V] {
            let [plain, clipped] = [Clipping::None, clipping].map(|clipping| {
                PredictionConverter::new(0.5, prediction, clipping).convert(x_t, predicted)
            });
            assert_eq!(clipped.epsilon, plain.epsilon);
            assert_eq!(clipped.x0, plain.x0.clamp(-0.5, 0.5), "{prediction:?}");
        }
    }

    #[test]
    fn thresholds_are_quantiles_within_an_image() {
        let of = |ratio, largest, values: &[f32]| {
            let clipping = Clipping::Thresholded { ratio, largest, keeps_epsilon: false };
            let converter = PredictionConverter::new(0.5, Prediction::X0, clipping);
            let s = converter.threshold(&[0.0; 5][..values.len()], values);
            (s, converter.convert_within(0.0, values[0], s).x0)
        };
        let values = [-4.0, 0.0, 1.0, 2.0, -3.0];
        assert_eq!(of(1.0, 10.0, &values), (4.0, -1.0));
        // A quarter of the way from the fourth to the fifth.
        let (s, x0) = of(0.8125, 10.0, &values);
        assert!((s - 3.25).abs() < 1e-12 && x0 == -1.0, "{s} {x0}");
        assert_eq!(of(0.5, 1.5, &values).0, 1.5);
        assert_eq!(of(0.1, 10.0, &values).0, 1.0);
        assert_eq!(of(0.5, 10.0, &[0.25]), (1.0, 0.25));
    }
}
