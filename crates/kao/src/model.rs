//! A model: a network with everything that is needed to sample from it, in one file.
//!
//! This is where the configuration in a file's metadata meets the tensors in it. Kao's own files
//! carry the configuration as JSON under the key `kao`; the original's Lightning checkpoints carry
//! `hyper_parameters`; a state dictionary carries none, and gets one from whoever loads it.

use crate::denoiser::Prediction;
use crate::device::Device;
use crate::error::{Error, Result, shortened};
use crate::hyper_parameters::{self, CONFIG_HINT};
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use crate::shapes::configuration_in_words;
use crate::unet::{Network, UNet, UNetConfig};
use crate::weight_sets::{self, Selection};
use crate::weights::{self, Contents, Format, LoadReport, Metadata, NamedTensors, StoreAs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::weight_sets::CheckpointWeights;

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

/// Bytes of a configuration in a file. Real ones have some hundred.
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// The most values of a time table that is computed, where a file has none.
const MAX_COMPUTED_TABLE: usize = 1 << 26;

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
        let own = |key| metadata.get(key).map(|json| json.as_str().unwrap_or_default());
        let config = match (own(METADATA_KEY), own(CHECKPOINT_METADATA_KEY)) {
            (Some(json), _) => parse(path, "its configuration", json)?,
            (None, Some(json)) => {
                parse::<CheckpointPosition>(path, "its position", json)?.into_config()
            }
            (None, None) => {
                let Some(settings) = hyper_parameters::read(path, metadata) else {
                    let what = match format {
                        Format::Safetensors => "safetensors file".to_owned(),
                        other => other.to_string(),
                    };
                    let mut problem =
                        format!("a {what} without the configuration of a model in it");
                    let keys: Vec<_> =
                        metadata.keys().take(6).map(|key| shortened(key, 24)).collect();
                    if !keys.is_empty() {
                        problem += &format!("; beside tensors it has `{}`", keys.join("`, `"));
                    }
                    return Err(Error::malformed(path, problem).with_hint(CONFIG_HINT));
                };
                let (unet, schedule, prediction) = settings?;
                ModelConfig::new(unet, schedule, prediction)
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

/// Reads the JSON that Kao itself keeps in a file, called `what`.
fn parse<T: serde::de::DeserializeOwned>(path: &Path, what: &str, json: &str) -> Result<T> {
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

/// A network ready to sample from.
#[derive(Debug)]
pub struct Model {
    /// Everything but the weights.
    pub config: ModelConfig,
    /// The network, a denoiser.
    pub network: Network,
    /// Its noise levels.
    pub schedule: NoiseSchedule,
    /// What whoever uses the model should know of how it was read: which of two sets of weights it
    /// has, what of the file was left out.
    pub notes: Vec<String>,
}

/// How a file is read as a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Which weights, where there are two sets.
    pub weights: CheckpointWeights,
    /// The configuration, in place of what the file says.
    pub config: Option<ModelConfig>,
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
        Ok(Model { config, network, schedule, notes: Vec::new() })
    }

    /// The model that is part of the program: faces of 64×64 pixels, trained on drawn ones. It is
    /// read when this is called, not before.
    ///
    /// # Errors
    /// When the device takes no network.
    pub fn built_in(device: &Device) -> Result<Self> {
        let file = weights::read_embedded(BUILT_IN, BUILT_IN_FILE)?;
        Self::from_file(Path::new(BUILT_IN), file, &LoadOptions::default(), device)
    }

    /// Loads a Kao model, a run directory (its `model.safetensors`), a checkpoint of a run (the
    /// averaged weights) or a checkpoint of PyTorch that says what model it is of.
    ///
    /// # Errors
    /// When the file cannot be read, is no model, or lacks a tensor.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default(), device)
    }

    /// As [`load`](Self::load), with the choice of which weights of a file that has two sets.
    ///
    /// # Errors
    /// As for [`load`](Self::load), and when the raw weights are asked of a file with one set.
    pub fn load_weights(
        path: impl AsRef<Path>,
        which: CheckpointWeights,
        device: &Device,
    ) -> Result<Self> {
        Self::load_with(path, &LoadOptions { weights: which, config: None }, device)
    }

    /// As [`load`](Self::load), as `options` say. With a configuration of its own, a file of bare
    /// weights becomes a model.
    ///
    /// # Errors
    /// As for [`load_weights`](Self::load_weights), and when the configuration does not fit.
    pub fn load_with(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self> {
        if is_built_in(path.as_ref()) {
            let file = weights::read_embedded(BUILT_IN, BUILT_IN_FILE)?;
            return Self::from_file(Path::new(BUILT_IN), file, options, device);
        }
        let path = model_file(path.as_ref())?;
        // What can be known without the values is, before they are read.
        let contents = weights::peek(&path)?;
        if options.config.is_none() {
            let config = ModelConfig::from_metadata(&path, contents.format, &contents.metadata);
            config.map_err(|error| with_shapes(error, &contents))?;
        }
        drop(contents);
        Self::from_file(&path, weights::read(&path)?, options, device)
    }

    fn from_file(
        path: &Path,
        file: weights::WeightsFile,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self> {
        let weights::WeightsFile { format, metadata, mut tensors, .. } = file;
        let config = match &options.config {
            Some(config) => config.clone(),
            None => ModelConfig::from_metadata(path, format, &metadata)?,
        };
        let mut notes = Vec::new();
        if metadata.contains_key(CHECKPOINT_METADATA_KEY) {
            tensors = tensors.under(match options.weights {
                CheckpointWeights::Average => CHECKPOINT_AVERAGE,
                CheckpointWeights::Raw => CHECKPOINT_WEIGHTS,
            });
        } else {
            let selection = select(&config, &tensors.names().collect::<Vec<_>>(), options.weights);
            if options.weights == CheckpointWeights::Raw && selection.chosen.is_none() {
                let problem = "holds one set of weights; raw ones are in the checkpoints of a run";
                return Err(Error::malformed(path, problem)
                    .with_hint("give RUN_DIR/checkpoints/step-....safetensors"));
            }
            if selection.is_any() {
                tensors = tensors.renamed(|name| selection.name(name).map(str::to_owned));
            }
            notes.extend(selection.choice);
        }
        let (unet, report) = build(path, &config, &tensors)?;
        drop(tensors);
        if let [first, ..] = &report.unused[..] {
            let (n, first) = (report.unused.len(), shortened(first, 60));
            notes
                .push(format!("{n} tensors are not of this network and are left out: `{first}` …"));
        }
        Ok(Model { notes, ..Model::new(config, unet, device)? })
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

/// Checks by the first bytes that what a user names as a model can be one: a quick look before
/// other arguments are checked.
///
/// # Errors
/// When there is no such file, or it is something else.
pub fn check(path: &Path) -> Result<()> {
    match is_built_in(path) {
        true => Ok(()),
        false => weights::check(model_file(path)?),
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

/// How a file's tensors compare with what its configuration asks for, and what was taken off their
/// names or chosen for it.
pub fn compare(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> (LoadReport, Vec<String>) {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    let selection = select(config, &names, CheckpointWeights::Average);
    let listed: Vec<_> = tensors
        .iter()
        .filter_map(|&(name, shape)| Some((selection.listed_name(name)?, shape)))
        .collect();
    let report = compare_named(config, &listed);
    (report, selection.choice.into_iter().chain(selection.notes).collect())
}

/// Which of a file's tensors are those of the network.
fn select(config: &ModelConfig, names: &[&str], which: CheckpointWeights) -> Selection {
    let expected = config.unet.tensors();
    let expected: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    // The last one is the time table, which is computed where the file has none.
    let (optional, needed) = expected
        .split_last()
        .map_or((&[][..], &[][..]), |(last, rest)| (std::slice::from_ref(last), rest));
    weight_sets::select(needed, optional, names, which)
}

/// `error`, which says that a file has no configuration, with what its shapes tell of it.
fn with_shapes(error: Error, contents: &Contents) -> Error {
    if error.hint() != Some(CONFIG_HINT) {
        return error;
    }
    let shapes: Vec<(&str, &[usize])> =
        contents.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    match configuration_in_words(&shapes) {
        Some(words) => error.with_hint(format!("{CONFIG_HINT}; the shapes fit {words}")),
        None => error,
    }
}

fn compare_named(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> LoadReport {
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

fn build(path: &Path, config: &ModelConfig, tensors: &NamedTensors) -> Result<(UNet, LoadReport)> {
    let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.shape())).collect();
    let report = compare_named(config, &shapes).into_result(path)?;
    let UNetConfig { num_steps, ch, .. } = config.unet;
    if report.loaded.len() == config.unet.parameters().len()
        && num_steps.saturating_mul(ch) > MAX_COMPUTED_TABLE
    {
        let problem = format!("no table of its {num_steps} timesteps, too large to be computed");
        return Err(Error::malformed(path, problem));
    }
    if let Some((name, _)) =
        tensors.iter().find(|(_, tensor)| !tensor.data().iter().all(|value| value.is_finite()))
    {
        return Err(Error::malformed(
            path,
            format!("tensor `{name}` holds values that are not finite"),
        )
        .with_hint("the training that wrote it had diverged"));
    }
    Ok((UNet::from_tensors(&config.unet, tensors)?, report))
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
