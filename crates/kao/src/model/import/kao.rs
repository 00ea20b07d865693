//! Kao's own files: models, and the checkpoints of a run.

use super::ModelConfig;
use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::formats::Metadata;
use crate::model::CheckpointWeights;
use crate::model::config::FORMAT_VERSION;
use crate::model::metadata;
use crate::sampler::SamplingDefaults;
use crate::schedule::ScheduleConfig;
use crate::unet::UNetConfig;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, de::DeserializeOwned};
use std::path::Path;

/// Bytes of a configuration in a file. Real ones have some hundred, and those with as many tags as a
/// model can have some millions.
const MAX_CONFIG_BYTES: usize = 32 << 20;

/// The configuration of a model, from the JSON in its metadata.
pub fn model(path: &Path, json: &str) -> Result<ModelConfig> {
    // The version first: what a newer Kao wrote need not fit this program's entries.
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        format_version: u64,
    }
    if json.len() <= MAX_CONFIG_BYTES
        && let Ok(Version { format_version }) = serde_json::from_str(json)
        && format_version > u64::from(FORMAT_VERSION)
    {
        return Err(newer_model(path, format_version));
    }
    parse(path, "its configuration", json)
}

fn newer_model(path: &Path, version: u64) -> Error {
    let problem = format!("its format is {version}; this Kao knows those up to {FORMAT_VERSION}");
    Error::newer(path, problem).with_hint("a newer Kao wrote this model: update")
}

/// The configuration of a run's checkpoint, from the JSON in its metadata.
pub fn checkpoint(path: &Path, file_metadata: &Metadata, json: &str) -> Result<ModelConfig> {
    metadata::check_checkpoint_format(path, file_metadata)?;
    parse::<CheckpointPosition>(path, "its position", json).map(CheckpointPosition::into_config)
}

/// What stands before the names of these weights in a checkpoint.
pub fn checkpoint_prefix(which: CheckpointWeights) -> &'static str {
    match which {
        CheckpointWeights::Average => metadata::AVERAGE_PREFIX,
        CheckpointWeights::Raw => metadata::WEIGHTS_PREFIX,
    }
}

/// What of a checkpoint's position says which model it is of. The rest is for training to know.
#[derive(Deserialize)]
struct CheckpointPosition {
    config: CheckpointConfig,
    n_steps: u64,
}

#[derive(Deserialize)]
struct CheckpointConfig {
    model: UNetConfig,
    schedule: ScheduleConfig,
    prediction: Prediction,
    #[serde(default)]
    tags: Vocabulary,
    #[serde(default)]
    sampling: SamplingDefaults,
}

impl CheckpointPosition {
    fn into_config(self) -> ModelConfig {
        let CheckpointConfig { model, schedule, prediction, tags, sampling } = self.config;
        let mut config =
            ModelConfig { tags, sampling, ..ModelConfig::new(model, schedule, prediction) };
        config.training.insert("steps".to_owned(), self.n_steps.into());
        config
    }
}

/// Reads the JSON that Kao itself keeps in a file, called `what`.
fn parse<T: DeserializeOwned>(path: &Path, what: &str, json: &str) -> Result<T> {
    let wrong = |problem| Error::malformed(path, format!("{what}: {problem}"));
    if json.len() > MAX_CONFIG_BYTES {
        return Err(wrong(format!("{} bytes; at most {MAX_CONFIG_BYTES} are read", json.len())));
    }
    serde_json::from_str(json).map_err(|error| {
        let mut message = error.to_string();
        // Names of types are Rust's.
        for name in ["ModelConfig", "UNetConfig", "ScheduleConfig", "CheckpointConfig"] {
            message = message.replace(&format!("struct {name}"), "an object");
        }
        for name in ["usize", "u64", "u32"] {
            message = message.replace(&format!("expected {name}"), "expected a whole number");
        }
        wrong(message.replace("expected f64", "expected a number"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::schedule::ScheduleConfig;
    use crate::vocabulary::TagCount;

    fn json() -> String {
        let (unet, schedule) = (UNetConfig::default(), ScheduleConfig::default());
        serde_json::to_string(&ModelConfig::new(unet, schedule, Prediction::Epsilon)).unwrap()
    }

    #[test]
    fn as_many_tags_as_a_model_can_have_are_read() {
        let tag =
            |k: usize| TagCount { tag: format!("a tag of some length {k:06}"), count: k as u64 };
        let (unet, schedule) = (UNetConfig::default(), ScheduleConfig::default());
        let config = ModelConfig {
            tags: Vocabulary::new((0..1 << 16).map(tag).collect()).unwrap(),
            ..ModelConfig::new(unet, schedule, Prediction::Epsilon)
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(model(Path::new("m.safetensors"), &json).unwrap(), config);
    }

    #[test]
    fn a_model_of_a_newer_version_is_refused_as_one() {
        let path = Path::new("m.safetensors");
        assert!(model(path, &json()).is_ok());
        // With entries that this program does not know, and with others missing.
        for newer in [
            json().replace("\"format_version\":1", "\"format_version\":2,\"tags\":[\"smile\"]"),
            r#"{"format_version":2,"network":{}}"#.to_owned(),
        ] {
            let error = model(path, &newer).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Newer { .. }), "{error:?}");
            let expected = "`m.safetensors`: its format is 2; this Kao knows those up to 1";
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.hint(), Some("a newer Kao wrote this model: update"));
        }
        // A version that is no number is no version.
        let odd = json().replace("\"format_version\":1", "\"format_version\":\"two\"");
        let error = model(path, &odd).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Malformed { .. }), "{error:?}");
    }

    #[test]
    fn a_checkpoint_names_the_tags_of_its_model() {
        let unet = UNetConfig { n_tags: 2, ..UNetConfig::default() };
        let position = serde_json::json!({ "n_steps": 7, "config": {
            "model": unet, "schedule": ScheduleConfig::default(), "prediction": "v",
            "tags": Vocabulary::of_pictures([&["hat".to_owned(), "smile".to_owned()][..]], 1).0,
        }});
        let read = checkpoint(Path::new("c"), &Metadata::new(), &position.to_string()).unwrap();
        assert_eq!((read.tags.len(), &read.training["steps"]), (2, &7.into()));
        read.validate().unwrap();
    }

    #[test]
    fn a_checkpoint_of_a_newer_version_is_refused_as_one() {
        let entries = [("kao.checkpoint_format".to_owned(), serde_json::Value::from("9"))];
        let error = checkpoint(Path::new("c"), &Metadata::from_iter(entries), "{}").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Newer { .. }), "{error:?}");
    }
}
