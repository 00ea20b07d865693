//! What is to be known of a model besides its weights.

use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::sampler::SamplingDefaults;
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use crate::unet::UNetConfig;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the configuration in files that this program writes; newer ones are refused.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Everything about a model but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The version of this structure.
    pub format_version: u32,
    /// The architecture.
    pub unet: UNetConfig,
    /// The noise levels.
    pub schedule: ScheduleConfig,
    /// What the network predicts.
    pub prediction: Prediction,
    /// The tags that it can be asked for.
    #[serde(default, skip_serializing_if = "Vocabulary::is_empty")]
    pub tags: Vocabulary,
    /// How it is to be sampled, as far as it says.
    #[serde(default, skip_serializing_if = "SamplingDefaults::is_none")]
    pub sampling: SamplingDefaults,
    /// How it was trained, for people to read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub training: BTreeMap<String, serde_json::Value>,
}

impl ModelConfig {
    /// A configuration with no word on training, tags or sampling.
    pub fn new(unet: UNetConfig, schedule: ScheduleConfig, prediction: Prediction) -> Self {
        ModelConfig {
            format_version: FORMAT_VERSION,
            unet,
            schedule,
            prediction,
            tags: Vocabulary::default(),
            sampling: SamplingDefaults::default(),
            training: BTreeMap::new(),
        }
    }

    /// Checks that such a model can be built.
    ///
    /// # Errors
    /// Names the entry, what was found and what was expected.
    pub fn validate(&self) -> Result<()> {
        if self.format_version > FORMAT_VERSION {
            return Err(Error::invalid(
                "format_version",
                format!("{} found; this program knows up to {FORMAT_VERSION}", self.format_version),
            )
            .with_hint("a newer Kao wrote this model: update"));
        }
        self.unet.validate()?;
        if self.schedule.n_timesteps != self.unet.num_steps {
            return Err(Error::invalid(
                "model: num_steps",
                format!(
                    "the schedule has {} timesteps, the network {}",
                    self.schedule.n_timesteps, self.unet.num_steps
                ),
            ));
        }
        if self.tags.len() != self.unet.n_tags {
            let (named, n_tags) = (self.tags.len(), self.unet.n_tags);
            let problem = format!("{named} tags are named, the network has {n_tags}");
            return Err(Error::invalid("model: n_tags", problem));
        }
        self.sampling.validate()?;
        check_prediction(&self.schedule, self.prediction)?;
        NoiseSchedule::new(&self.schedule).map(|_| ())
    }
}

/// Refuses a prediction from which no image can be told.
fn check_prediction(schedule: &ScheduleConfig, prediction: Prediction) -> Result<()> {
    if schedule.zero_terminal_snr && prediction == Prediction::Epsilon {
        let problem =
            "epsilon, with `zero_terminal_snr`: in noise alone it says nothing of the image";
        return Err(Error::invalid("prediction", problem).with_hint("predict v or x0 in its place"));
    }
    Ok(())
}
