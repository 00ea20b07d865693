//! A model: a network with everything that is needed to sample from it, in one file.
//!
//! This is where the configuration in a file's metadata meets the tensors in it. Kao's own files
//! carry the configuration as JSON under the key `kao`; the original's Lightning checkpoints carry
//! `hyper_parameters`.

use crate::denoiser::Prediction;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use crate::unet::{Network, UNet, UNetConfig};
use crate::weights::{self, Contents, Format, LoadReport, Metadata, NamedTensors, StoreAs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The metadata key of Kao's own files.
const METADATA_KEY: &str = "kao";

/// The file of a run directory to sample from.
pub const RUN_MODEL: &str = "model.safetensors";

/// What the built-in model is called where a path is asked for.
pub const BUILT_IN: &str = "built-in";

/// The file of the built-in model; `models/face64` tells how it came to be.
static BUILT_IN_FILE: &[u8] = include_bytes!("../../../models/face64/model.safetensors");

/// The metadata key of the checkpoints in a run directory, which are no models.
pub(crate) const CHECKPOINT_METADATA_KEY: &str = "kao.checkpoint";

/// What stands before the names of a checkpoint's averaged weights.
pub(crate) const CHECKPOINT_AVERAGE: &str = "ema.";

/// What stands before the names of a checkpoint's weights themselves.
pub(crate) const CHECKPOINT_WEIGHTS: &str = "weights.";

/// The version of the configuration in files that this program writes; newer ones are refused.
const FORMAT_VERSION: u32 = 1;

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
    /// How it was trained, for people to read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub training: BTreeMap<String, serde_json::Value>,
}

impl ModelConfig {
    /// A configuration with no word on training.
    pub fn new(unet: UNetConfig, schedule: ScheduleConfig, prediction: Prediction) -> Self {
        let training = BTreeMap::new();
        ModelConfig { format_version: FORMAT_VERSION, unet, schedule, prediction, training }
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
        NoiseSchedule::new(self.schedule).map(|_| ())
    }

    /// The configuration of what a user names as a model; its weights are not read.
    ///
    /// # Errors
    /// As [`peek`] and [`from_metadata`](Self::from_metadata).
    pub fn of(path: &Path) -> Result<Self> {
        let Contents { format, metadata, .. } = peek(path)?;
        Self::from_metadata(path, format, &metadata)
    }

    /// The configuration in a file's metadata.
    ///
    /// # Errors
    /// When there is none, or it is no possible model's.
    pub fn from_metadata(path: &Path, format: Format, metadata: &Metadata) -> Result<Self> {
        let config = match (metadata.get(METADATA_KEY), metadata.get("hyper_parameters")) {
            (Some(serde_json::Value::String(json)), _) => serde_json::from_str(json)
                .map_err(|error| Error::malformed(path, format!("its configuration: {error}")))?,
            (_, Some(hyper_parameters)) => from_hyper_parameters(path, hyper_parameters)?,
            _ if metadata.contains_key(CHECKPOINT_METADATA_KEY) => {
                let position = &metadata[CHECKPOINT_METADATA_KEY];
                serde_json::from_str::<CheckpointPosition>(position.as_str().unwrap_or_default())
                    .map_err(|error| Error::malformed(path, format!("its position: {error}")))?
                    .into_config()
            }
            _ => {
                return Err(Error::malformed(
                    path,
                    format!("a {format} file without a model's configuration in it"),
                )
                .with_hint(
                    "Kao's own .safetensors files carry it, and Lightning checkpoints with \
                     hyper_parameters",
                ));
            }
        };
        let checked: Result<()> = ModelConfig::validate(&config);
        checked.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let error = Error::malformed(path, error);
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })?;
        Ok(config)
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
}

impl CheckpointPosition {
    fn into_config(self) -> ModelConfig {
        let CheckpointConfig { model, schedule, prediction } = self.config;
        let mut config = ModelConfig::new(model, schedule, prediction);
        config.training.insert("steps".to_owned(), self.n_steps.into());
        config
    }
}

/// Which weights of a training checkpoint, which holds two sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointWeights {
    /// Their exponential moving average.
    #[default]
    Average,
    /// The weights themselves.
    Raw,
}

/// The `hyper_parameters` of the original's checkpoints. Entries that say nothing about the model
/// (batch size, folders) are passed over.
#[derive(Deserialize)]
struct HyperParameters {
    image_size: [usize; 3],
    num_steps: usize,
    ch: usize,
    ch_mult: Vec<usize>,
    attn: Vec<usize>,
    num_res_blocks: usize,
    #[serde(default)]
    dropout: f64,
}

fn from_hyper_parameters(path: &Path, value: &serde_json::Value) -> Result<ModelConfig> {
    let HyperParameters { image_size, num_steps, ch, ch_mult, attn, num_res_blocks, dropout } =
        HyperParameters::deserialize(value)
            .map_err(|error| Error::malformed(path, format!("its hyper_parameters: {error}")))?;
    let activation = crate::unet::Activation::Hardswish;
    let unet = UNetConfig {
        image_size,
        num_steps,
        ch,
        ch_mult,
        attn,
        num_res_blocks,
        dropout,
        activation,
        ..UNetConfig::default()
    };
    let schedule = ScheduleConfig { n_timesteps: num_steps, ..ScheduleConfig::default() };
    Ok(ModelConfig::new(unet, schedule, Prediction::Epsilon))
}

/// A network ready to sample from.
#[derive(Debug)]
pub struct Model {
    /// Everything but the weights.
    pub config: ModelConfig,
    /// The network, a denoiser.
    pub network: Network,
    /// Its noise levels.
    pub schedule: NoiseSchedule,
}

impl Model {
    /// Puts a network and its configuration together, on a device.
    ///
    /// # Errors
    /// When the configuration is impossible, or the device fails.
    pub fn new(config: ModelConfig, unet: UNet, device: &Device) -> Result<Self> {
        config.validate()?;
        let schedule = NoiseSchedule::new(config.schedule)?;
        let network = Network::new(unet, config.prediction, device)?;
        Ok(Model { config, network, schedule })
    }

    /// The model that is part of the program: faces of 64×64 pixels, trained on drawn ones. It is
    /// read when this is called, not before.
    ///
    /// # Errors
    /// When the device takes no network.
    pub fn built_in(device: &Device) -> Result<Self> {
        let file = weights::read_embedded(BUILT_IN, BUILT_IN_FILE)?;
        Self::from_file(Path::new(BUILT_IN), file, CheckpointWeights::Average, device)
    }

    /// Loads a Kao model, a run directory (its `model.safetensors`), a checkpoint of a run (the
    /// averaged weights) or a Lightning checkpoint.
    ///
    /// # Errors
    /// When the file cannot be read, is no model, or lacks a tensor.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load_weights(path, CheckpointWeights::Average, device)
    }

    /// As [`load`](Self::load), with the choice of which weights of a run's checkpoint.
    ///
    /// # Errors
    /// As for [`load`](Self::load), and when the raw weights are asked of another file.
    pub fn load_weights(
        path: impl AsRef<Path>,
        which: CheckpointWeights,
        device: &Device,
    ) -> Result<Self> {
        if is_built_in(path.as_ref()) {
            return Self::built_in(device);
        }
        let path = model_file(path.as_ref())?;
        let file = weights::read(&path)?;
        Self::from_file(&path, file, which, device)
    }

    fn from_file(
        path: &Path,
        file: weights::WeightsFile,
        which: CheckpointWeights,
        device: &Device,
    ) -> Result<Self> {
        let weights::WeightsFile { format, metadata, mut tensors, .. } = file;
        let config = ModelConfig::from_metadata(path, format, &metadata)?;
        if metadata.contains_key(CHECKPOINT_METADATA_KEY) {
            tensors = tensors.under(match which {
                CheckpointWeights::Average => CHECKPOINT_AVERAGE,
                CheckpointWeights::Raw => CHECKPOINT_WEIGHTS,
            });
        } else if which == CheckpointWeights::Raw {
            let problem = "holds one set of weights; raw ones are in the checkpoints of a run";
            return Err(Error::malformed(path, problem)
                .with_hint("give RUN_DIR/checkpoints/step-....safetensors"));
        }
        let unet = build(path, &config, &tensors)?;
        drop(tensors);
        Model::new(config, unet, device)
    }

    /// 16 hexadecimal digits that stand for the weights.
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        for (name, tensor) in self.network.unet().to_tensors().iter() {
            digest.update(name);
            let mut bytes = Vec::with_capacity(4 * tensor.data().len());
            bytes.extend(tensor.data().iter().flat_map(|value| value.to_le_bytes()));
            digest.update(bytes);
        }
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the model as one `.safetensors` file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, store_as: StoreAs) -> Result<()> {
        save(path.as_ref(), &self.config, &self.network.unet().to_tensors(), store_as)
    }
}

/// Writes `tensors` with `config` as one model file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save(
    path: &Path,
    config: &ModelConfig,
    tensors: &NamedTensors,
    store_as: StoreAs,
) -> Result<()> {
    let json = serde_json::to_string(config).map_err(|error| Error::malformed(path, error))?;
    let metadata = BTreeMap::from([(METADATA_KEY.to_owned(), json)]);
    weights::write_safetensors(path, tensors.views(), &metadata, store_as)
}

/// Tells what is in what a user names as a model, without reading its weights.
///
/// # Errors
/// When the file cannot be read, or is no weights file.
pub fn peek(path: &Path) -> Result<Contents> {
    match is_built_in(path) {
        true => weights::peek_embedded(BUILT_IN, BUILT_IN_FILE),
        false => weights::peek(model_file(path)?),
    }
}

/// Whether a path means the built-in model; a file of that name goes before it.
pub fn is_built_in(path: &Path) -> bool {
    path == Path::new(BUILT_IN) && !path.exists()
}

/// The file behind what a user names as a model: a file, or a run directory's model.
///
/// # Errors
/// When a folder holds no model.
pub fn model_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let model = path.join(RUN_MODEL);
    if model.is_file() {
        return Ok(model);
    }
    Err(Error::malformed(path, format!("a folder without a {RUN_MODEL}"))
        .with_hint("give a model file, a Lightning checkpoint, or a folder that `kao train` wrote"))
}

/// How a file's tensors compare with what its configuration asks for.
pub fn compare(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> LoadReport {
    let expected = expected_tensors(config, |name| tensors.iter().any(|(found, _)| *found == name));
    let expected = expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    LoadReport::compare_shapes(expected, tensors.iter().copied())
}

fn expected_tensors(
    config: &ModelConfig,
    is_there: impl Fn(&str) -> bool,
) -> Vec<(String, Vec<usize>)> {
    let mut expected = config.unet.tensors();
    // The last one is the time table, which is computed where the file has none.
    if !expected.last().is_some_and(|(name, _)| is_there(name)) {
        expected.pop();
    }
    expected
}

fn build(path: &Path, config: &ModelConfig, tensors: &NamedTensors) -> Result<UNet> {
    let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.shape())).collect();
    compare(config, &shapes).into_result(path)?;
    if let Some((name, _)) =
        tensors.iter().find(|(_, tensor)| !tensor.data().iter().all(|value| value.is_finite()))
    {
        return Err(Error::malformed(
            path,
            format!("tensor `{name}` holds values that are not finite"),
        )
        .with_hint("the training that wrote it had diverged"));
    }
    UNet::from_tensors(&config.unet, tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_small_and_whole() {
        assert!(BUILT_IN_FILE.len() <= 12 << 20);
        let model = Model::built_in(&Device::Cpu).unwrap();
        assert!(model.config.unet.parameter_count() <= 6_000_000);
        assert_eq!(model.config.unet.image_size, [3, 64, 64]);
    }
}
