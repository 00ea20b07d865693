//! Importers: what files of models say, in the terms of Kao.
//!
//! The formats of weights end in named tensors and metadata, whoever wrote them. Here both get their
//! meaning. There is one file for each origin: `kao` for Kao's own models and checkpoints,
//! `original` for the checkpoints of the original program and of others of its kind, which keep
//! their settings under whatever names, `pytorch_ddpm` for those of the program that the original's
//! network comes from, and `diffusers` for folders with a `UNet2DModel`. Shared by them are `weight_sets`, which finds a network's
//! tensors whatever stands before their names, and `shapes`, which helps to write a configuration
//! where a file has none.

pub mod diffusers;
mod kao;
mod original;
mod pytorch_ddpm;
mod settings;
mod shapes;
mod tensors;
mod weight_sets;

pub use tensors::compare;
pub use weight_sets::CheckpointWeights;

use super::ModelConfig;
use super::metadata;
use super::place::peek;
use crate::error::{Error, Result, shortened};
use crate::formats::{Contents, Format, LoadReport, Metadata, NamedTensors};
use original::CONFIG_HINT;
use std::path::Path;

/// Who wrote a file, with the JSON of Kao's own.
enum Origin<'a> {
    KaoModel(&'a str),
    KaoCheckpoint(&'a str),
    /// diffusers, the original program, or another.
    Other,
}

impl<'a> Origin<'a> {
    fn of(metadata: &'a Metadata) -> Self {
        let own = |key| metadata.get(key).map(|json| json.as_str().unwrap_or_default());
        match (own(metadata::MODEL), own(metadata::CHECKPOINT)) {
            (Some(json), _) => Origin::KaoModel(json),
            (None, Some(json)) => Origin::KaoCheckpoint(json),
            (None, None) => Origin::Other,
        }
    }
}

impl ModelConfig {
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
    /// When there is none, it is of a newer version of Kao, or it is no possible model's.
    pub fn from_metadata(path: &Path, format: Format, metadata: &Metadata) -> Result<Self> {
        let config = match Origin::of(metadata) {
            Origin::KaoModel(json) => kao::model(path, json)?,
            Origin::KaoCheckpoint(json) => kao::checkpoint(path, metadata, json)?,
            Origin::Other => {
                let found = diffusers::configuration(path, metadata)
                    .or_else(|| original::configuration(path, metadata));
                match found {
                    Some(config) => config?,
                    None => return Err(without_configuration(path, format, metadata)),
                }
            }
        };
        let checked: Result<()> = config.validate();
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

fn without_configuration(path: &Path, format: Format, metadata: &Metadata) -> Error {
    let what = match format {
        Format::Safetensors => "safetensors file".to_owned(),
        other => other.to_string(),
    };
    let mut problem = format!("a {what} without the configuration of a model in it");
    let keys: Vec<_> = metadata.keys().take(6).map(|key| shortened(key, 24)).collect();
    if !keys.is_empty() {
        problem += &format!("; beside tensors it has `{}`", keys.join("`, `"));
    }
    Error::malformed(path, problem).with_hint(CONFIG_HINT)
}

/// Checks, without the values of its tensors, that a file says what model it is of.
///
/// # Errors
/// As [`ModelConfig::from_metadata`]; where there is no configuration, the hint says what the shapes
/// of the tensors fit.
pub fn check_configuration(path: &Path, contents: &Contents) -> Result<()> {
    let config = ModelConfig::from_metadata(path, contents.format, &contents.metadata);
    config.map(|_| ()).map_err(|error| with_shapes(error, contents))
}

/// `error`, which says that a file has no configuration, with what its shapes tell of it.
fn with_shapes(error: Error, contents: &Contents) -> Error {
    if error.hint() != Some(CONFIG_HINT) {
        return error;
    }
    let names = tensors::current_names(contents.tensors.iter().map(|t| t.name.as_str()));
    let shapes: Vec<(&str, &[usize])> = names
        .iter()
        .zip(&contents.tensors)
        .map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
        .collect();
    match shapes::configuration_in_words(&shapes) {
        Some(words) => error.with_hint(format!("{CONFIG_HINT}; the shapes fit {words}")),
        None => error,
    }
}

/// The tensors of the network of `config` among those of a file, under the network's names, and what
/// is to be told of the choice.
///
/// # Errors
/// When the raw weights are asked of a file with one set, or a tensor of diffusers is missing or of a
/// wrong shape.
pub fn network_tensors(
    path: &Path,
    config: &ModelConfig,
    file_metadata: &Metadata,
    tensors: NamedTensors,
    which: CheckpointWeights,
) -> Result<(NamedTensors, Option<String>)> {
    if file_metadata.contains_key(metadata::CHECKPOINT) {
        return Ok((tensors.under(kao::checkpoint_prefix(which)), None));
    }
    let is_of_diffusers = diffusers::is_of_diffusers(tensors.names());
    let is_of_pytorch_ddpm = pytorch_ddpm::is_one(tensors.names());
    let tensors = tensors::with_current_names(tensors);
    let selection = tensors::select(config, &tensors.names().collect::<Vec<_>>(), which);
    if which == CheckpointWeights::Raw && selection.chosen.is_none() {
        let problem = "holds one set of weights; raw ones are in the checkpoints of a run";
        return Err(Error::malformed(path, problem)
            .with_hint("give RUN_DIR/checkpoints/step-....safetensors"));
    }
    let tensors = match selection.is_any() {
        true => tensors.renamed(|name| selection.name(name).map(str::to_owned)),
        false => tensors,
    };
    if is_of_pytorch_ddpm {
        let tensors = pytorch_ddpm::to_kao(path, &config.unet, tensors)?;
        return Ok((tensors, selection.choice));
    }
    if !is_of_diffusers {
        return Ok((tensors, selection.choice));
    }
    tensors::compare_there(config, &tensors).into_result(path)?;
    Ok((diffusers::to_kao(&config.unet, tensors)?, selection.choice))
}

/// How a file's tensors, named as the network names them, compare with what `config` asks for.
pub fn compare_named(config: &ModelConfig, tensors: &NamedTensors) -> LoadReport {
    let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.shape())).collect();
    tensors::compare_named(config, &shapes)
}
