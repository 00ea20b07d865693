//! How a model's own configuration says it is to be sampled, where nobody says otherwise.

use super::Variance;
use crate::error::{Error, Result};
use crate::timesteps::{End, Spacing};
use serde::{Deserialize, Serialize};

/// What the configuration of a model says of sampling. Nothing of it is in files where it says
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingDefaults {
    /// Steps, with all samplers but DDPM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// The weaker model that it is guided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guide: Option<DefaultGuide>,
    /// How the visited timesteps are spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// What is added to the timesteps of a leading spacing.
    #[serde(skip_serializing_if = "is_zero")]
    pub steps_offset: usize,
    /// Where the timestep sequence ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The largest magnitude of x̂_0 in DDIM, which keeps ε̂ as it was predicted, and in DDPM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Dynamic thresholding in place of it, in DDIM, DDPM and DPM-Solver++.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholding: Option<Thresholding>,
    /// The variance of DDPM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance: Option<Variance>,
}

/// Autoguidance where nothing else is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultGuide {
    /// Which model.
    pub model: GuideModel,
    /// How strongly it guides; 1 is not at all.
    pub guidance: f64,
    /// It guides at noise levels σ below this one, where lines and textures are decided. What tags
    /// ask for guides at all levels, of both predictions guided so.
    pub below: f64,
}

/// A model that others may be guided by without anybody naming a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuideModel {
    /// The smaller one that is part of the program.
    BuiltInGuide,
}

impl GuideModel {
    /// What it is called where a path is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            GuideModel::BuiltInGuide => "built-in-guide",
        }
    }
}

/// Dynamic thresholding (Saharia et al. 2022, section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholding {
    /// Which quantile of the magnitudes of an image becomes 1.
    pub ratio: f64,
    /// The largest magnitude that may become 1.
    pub largest: f64,
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl SamplingDefaults {
    /// Whether nothing is said.
    pub fn is_none(&self) -> bool {
        *self == SamplingDefaults::default()
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the entry.
    pub fn validate(&self) -> Result<()> {
        let refuse = |entry: &str, value: f64, allowed: &str| {
            Err(Error::out_of_range(format!("model: sampling.{entry}"), value, allowed))
        };
        if self.steps == Some(0) {
            return refuse("steps", 0.0, "at least 1");
        }
        if let Some(DefaultGuide { guidance, below, .. }) = self.guide {
            if !(0.0..=100.0).contains(&guidance) {
                return refuse("guide.guidance", guidance, "between 0 and 100");
            }
            if !(below > 0.0 && below.is_finite()) {
                return refuse("guide.below", below, "a noise level above 0");
            }
        }
        if let Some(clip) = self.clip.filter(|&clip| !(clip > 0.0 && clip.is_finite())) {
            return refuse("clip", clip, "a finite number above 0");
        }
        if let Some(Thresholding { ratio, largest }) = self.thresholding {
            if !(0.0..=1.0).contains(&ratio) {
                return refuse("thresholding.ratio", ratio, "between 0 and 1");
            }
            if !(largest >= 1.0 && largest.is_finite()) {
                return refuse("thresholding.largest", largest, "a finite number, at least 1");
            }
        }
        Ok(())
    }
}
