//! Checkpoints: everything needed to go on as if nothing had happened.
//!
//! One `.safetensors` file: the weights, their average, both moments, and as metadata the
//! configuration, the position and what the data was. Noise, order and dropout are functions of
//! (seed, position), so nothing else has a state.

use super::adam::OptimizerState;
use super::config::TrainConfig;
use crate::error::{Error, Result};
use crate::unet::UNet;
use crate::unet::parameters::{file_tensors, memory_values};
use crate::weights::{self, Metadata, NamedTensors, StoreAs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The metadata key of checkpoints.
pub const METADATA_KEY: &str = crate::model::CHECKPOINT_METADATA_KEY;

const WEIGHTS: &str = "weights.";
const EMA: &str = "ema.";
const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// The configuration of the run.
    pub config: TrainConfig,
    /// Steps done.
    pub n_steps: u64,
    /// Pictures seen.
    pub n_images: u64,
    /// Whether the validation and the sample grid that are due at this step are done. They are not
    /// when the run was stopped in the middle of them; a resumed run begins with them then.
    #[serde(default = "looked_by_default")]
    pub looked: bool,
    /// The lowest validation loss so far.
    pub best_validation_loss: Option<f64>,
    /// What the pictures are: see [`Folder::fingerprint`](crate::dataset::Folder::fingerprint).
    pub data_fingerprint: String,
}

fn looked_by_default() -> bool {
    true
}

/// A run at rest.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it stands.
    pub position: Position,
    /// The weights, in memory order.
    pub weights: Vec<Vec<f32>>,
    /// Moments and average.
    pub optimizer: OptimizerState,
}

/// Writes a checkpoint of `unet` and `optimizer`, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    position: &Position,
    unet: &UNet,
    optimizer: &OptimizerState,
) -> Result<()> {
    let config = unet.config();
    let json = serde_json::to_string(position).map_err(|error| Error::malformed(path, error))?;
    let metadata = BTreeMap::from([(METADATA_KEY.to_owned(), json)]);
    let groups = [
        (WEIGHTS, file_tensors(config, unet.values())),
        (EMA, file_tensors(config, optimizer.ema.clone())),
        (FIRST, file_tensors(config, optimizer.first.clone())),
        (SECOND, file_tensors(config, optimizer.second.clone())),
    ];
    let mut tensors = NamedTensors::new();
    for (prefix, group) in groups {
        for (name, tensor) in group {
            tensors.insert(format!("{prefix}{name}"), tensor);
        }
    }
    weights::write_safetensors(path, tensors.views(), &metadata, StoreAs::F32)
}

/// Where the checkpoint at `path` stands, from its metadata alone.
///
/// # Errors
/// When it is no checkpoint of Kao, or its configuration is impossible.
pub fn position(path: &Path, metadata: &Metadata) -> Result<Position> {
    let Some(serde_json::Value::String(json)) = metadata.get(METADATA_KEY) else {
        return Err(Error::malformed(path, "not a checkpoint of `kao train`"));
    };
    let position: Position = serde_json::from_str(json)
        .map_err(|error| Error::malformed(path, format!("its metadata: {error}")))?;
    position.config.validate().map_err(|error| Error::malformed(path, error))?;
    Ok(position)
}

/// Reads a checkpoint.
///
/// # Errors
/// When the file cannot be read, is no checkpoint of Kao, or lacks a tensor.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let file = weights::read(path)?;
    let position = position(path, &file.metadata)?;
    let group = |prefix: &str| {
        memory_values(&position.config.model, prefix, &file.tensors)
            .map_err(|error| Error::malformed(path, error))
    };
    let optimizer = OptimizerState {
        n_steps: position.n_steps,
        first: group(FIRST)?,
        second: group(SECOND)?,
        ema: group(EMA)?,
    };
    let weights = group(WEIGHTS)?;
    Ok(Checkpoint { position, weights, optimizer })
}

/// The file of step `n_steps` in `folder`.
pub fn path(folder: &Path, n_steps: u64) -> PathBuf {
    folder.join(format!("step-{n_steps:08}.safetensors"))
}

/// The checkpoints in `folder`, oldest first.
///
/// # Errors
/// When the folder cannot be read; one that does not exist holds none.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io("read", folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("step-") && name.ends_with(".safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
