//! Guidance: a denoiser led away from another prediction.
//!
//! Two predictions of the same noisy images are extrapolated, D = D_neg + s (D_pos − D_neg). In
//! classifier-free guidance (Ho & Salimans 2022) both come from one network: D_pos under what is
//! asked for, D_neg under nothing, or under what is to be avoided. In autoguidance (Karras et al.
//! 2024) D_neg comes from a weaker network under the same condition: what the weaker one does worse,
//! the stronger one is led away from. s = 1 is no guidance (the first paper's w is s − 1).
//!
//! A guided denoiser is a [`Denoiser`], so samplers know nothing of it.

use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::schedule::NoiseSchedule;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How strongly and where to guide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuidanceConfig {
    /// s: 1 is none, 0 is the negative prediction, above 1 leads away from it.
    pub scale: f64,
    /// φ of Lin et al. 2023, 0 to 1: how far the guided prediction of an image is scaled back to the
    /// standard deviation of the positive one.
    pub rescale: f64,
    /// Guides only at noise levels σ = √((1 − ᾱ)/ᾱ) between these two (Kynkäänniemi et al. 2024);
    /// everywhere without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl Default for GuidanceConfig {
    fn default() -> Self {
        GuidanceConfig { scale: 1.0, rescale: 0.0, interval: None }
    }
}

/// The largest scale: beyond it images are noise.
const MAX_SCALE: f64 = 100.0;

impl GuidanceConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting, what was found and what was expected.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=MAX_SCALE).contains(&self.scale) {
            let allowed = format!("between 0 and {MAX_SCALE}; 1 is no guidance");
            return Err(Error::out_of_range("guidance", self.scale, allowed));
        }
        if !(0.0..=1.0).contains(&self.rescale) {
            let allowed = "between 0 and 1";
            return Err(Error::out_of_range("guidance_rescale", self.rescale, allowed));
        }
        match self.interval {
            Some([low, high]) if !(low >= 0.0 && high > low) => {
                let problem =
                    format!("{low} to {high}; expected two rising noise levels from 0 on");
                Err(Error::invalid("guidance_interval", problem))
            }
            _ => Ok(()),
        }
    }

    /// Whether predictions stay what they are.
    pub fn is_none(&self) -> bool {
        self.scale == 1.0
    }

    fn acts_at(&self, alpha_bar: f64) -> bool {
        let sigma = ((1.0 - alpha_bar) / alpha_bar).sqrt();
        self.interval.is_none_or(|[low, high]| (low..=high).contains(&sigma))
    }
}

/// Where the negative prediction comes from.
#[derive(Clone)]
pub enum Negative<'a> {
    /// From the same network, under the tags to avoid, which may be none.
    Same,
    /// From a weaker network under the same condition.
    Weaker {
        /// The network.
        denoiser: &'a dyn Denoiser,
        /// Its number of each tag of the stronger network; none for one that it does not know.
        tags: Vec<Option<usize>>,
    },
}

/// A denoiser with guidance.
pub struct Guided<'a> {
    denoiser: Inner<'a>,
    negative: Negative<'a>,
    schedule: &'a NoiseSchedule,
    config: GuidanceConfig,
}

/// What is guided: a network, or one that is guided already, by something else or elsewhere.
enum Inner<'a> {
    Network(&'a dyn Denoiser),
    Guided(Box<Guided<'a>>),
}

impl<'a> Inner<'a> {
    fn get(&self) -> &(dyn Denoiser + 'a) {
        match self {
            Inner::Network(denoiser) => *denoiser,
            Inner::Guided(guided) => &**guided,
        }
    }
}

impl<'a> Guided<'a> {
    /// Guides `denoiser`, whose timesteps are those of `schedule`.
    ///
    /// # Errors
    /// When a setting is impossible, or the weaker network predicts something else.
    pub fn new(
        denoiser: &'a dyn Denoiser,
        negative: Negative<'a>,
        schedule: &'a NoiseSchedule,
        config: GuidanceConfig,
    ) -> Result<Self> {
        config.validate()?;
        if let Negative::Weaker { denoiser: weaker, .. } = &negative
            && weaker.prediction() != denoiser.prediction()
        {
            let problem = "it predicts something else than the model that it is to guide";
            return Err(Error::invalid("guide", problem));
        }
        Ok(Guided { denoiser: Inner::Network(denoiser), negative, schedule, config })
    }

    /// Guides what is guided already once more, away from what the same network predicts under the
    /// tags to avoid. Where both guidances act, both of its predictions have the first.
    ///
    /// # Errors
    /// When a setting is impossible.
    pub fn and_by_tags(self, config: GuidanceConfig) -> Result<Self> {
        config.validate()?;
        let schedule = self.schedule;
        let denoiser = Inner::Guided(Box::new(self));
        Ok(Guided { denoiser, negative: Negative::Same, schedule, config })
    }

    /// The positive predictions and the negative ones, for arguments as
    /// [`predict`](Denoiser::predict) has them.
    fn both(
        &self,
        x_t: &Images,
        timesteps: &[usize],
        conditions: &Conditions,
    ) -> Result<[Images; 2]> {
        match &self.negative {
            Negative::Same => {
                // One batch of twice the size: networks are faster with more images.
                let n = x_t.len();
                let mut twice = x_t.clone();
                twice.append(x_t)?;
                let positive = (0..n).map(|k| conditions.of(k).to_vec());
                let avoided = (0..n).map(|k| conditions.avoided_of(k).to_vec());
                let asked = Conditions::new(positive.chain(avoided).collect());
                let predicted =
                    self.denoiser.get().predict(&twice, &timesteps.repeat(2), &asked)?;
                Ok([predicted.slice(0..n), predicted.slice(n..2 * n)])
            }
            Negative::Weaker { denoiser: weaker, tags } => {
                let known = |tag: &usize| tags.get(*tag).copied().flatten();
                let asked = |k| conditions.of(k).iter().filter_map(known).collect();
                let asked = Conditions::new((0..x_t.len()).map(asked).collect());
                let positive = self.denoiser.get().predict(x_t, timesteps, conditions)?;
                Ok([positive, weaker.predict(x_t, timesteps, &asked)?])
            }
        }
    }
}

impl Denoiser for Guided<'_> {
    fn predict(
        &self,
        x_t: &Images,
        timesteps: &[usize],
        conditions: &Conditions,
    ) -> Result<Images> {
        let is_guided = |&t: &usize| {
            !self.config.is_none()
                && t < self.schedule.n_timesteps()
                && self.config.acts_at(self.schedule.alpha_bar(t))
        };
        if !timesteps.iter().any(is_guided) {
            return self.denoiser.get().predict(x_t, timesteps, conditions);
        }
        if !timesteps.iter().all(is_guided) {
            // Samplers give all images of a batch one timestep; who does not, gets them singly.
            let mut all: Option<Images> = None;
            for (k, t) in timesteps.iter().enumerate() {
                let (x_t, asked) = (x_t.slice(k..k + 1), conditions.slice(k..k + 1));
                let one = self.predict(&x_t, &[*t], &asked)?;
                match &mut all {
                    None => all = Some(one),
                    Some(all) => all.append(&one)?,
                }
            }
            return Ok(all.expect("some timestep is guided"));
        }
        let [mut positive, negative] = self.both(x_t, timesteps, conditions)?;
        let size = positive.image_len().max(1);
        let GuidanceConfig { scale, rescale, .. } = self.config;
        positive
            .data_mut()
            .par_chunks_exact_mut(size)
            .zip(negative.data().par_chunks_exact(size))
            .for_each(|(positive, negative)| guide(positive, negative, scale, rescale));
        Ok(positive)
    }

    fn prediction(&self) -> Prediction {
        self.denoiser.get().prediction()
    }
}

/// Extrapolates the predictions of one image: `positive` becomes
/// negative + `scale` · (positive − negative), scaled back by `rescale` as Lin et al. 2023 do.
fn guide(positive: &mut [f32], negative: &[f32], scale: f64, rescale: f64) {
    let before = if rescale > 0.0 { deviation(positive) } else { 0.0 };
    for (positive, &negative) in positive.iter_mut().zip(negative) {
        let negative = f64::from(negative);
        *positive = (negative + scale * (f64::from(*positive) - negative)) as f32;
    }
    if rescale > 0.0 {
        let after = deviation(positive);
        let factor = if after > 0.0 { before / after } else { 1.0 };
        let factor = rescale * factor + (1.0 - rescale);
        positive.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
}

/// The standard deviation of `values`.
fn deviation(values: &[f32]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2));
    (squares.sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests;
