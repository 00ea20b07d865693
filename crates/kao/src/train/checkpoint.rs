//! Checkpoints: everything that is needed to resume a run as if it had not been interrupted.
//!
//! A checkpoint is one `.safetensors` file with the weights, their average and both moments. Its
//! metadata hold the configuration, the position, a fingerprint of the pictures, and a checksum of
//! all of it. Noise, order of pictures and dropout are functions of (seed, position), so there is no
//! other state.

use super::adam::OptimizerState;
use super::config::TrainConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::{self, Metadata, WeightsFile};
use crate::model::metadata;
use crate::unet::parameters::memory_values;
use crate::unet::{ParameterSpec, UNet};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The metadata key of checkpoints.
pub const METADATA_KEY: &str = metadata::CHECKPOINT;

/// The position of a run: how far it is, and what it is a run of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The configuration of the run.
    pub config: TrainConfig,
    /// Steps done.
    pub n_steps: u64,
    /// Pictures seen.
    pub n_images: u64,
    /// Whether the validation and the sample grid that are due at this step are done. They are not
    /// when the run was stopped during them; then a resumed run begins with them.
    #[serde(rename = "looked", default = "validated_by_default")]
    pub validated: bool,
    /// The lowest validation loss so far.
    pub best_validation_loss: Option<f64>,
    /// The step that had it.
    #[serde(default)]
    pub best_step: Option<u64>,
    /// Identifies the pictures: see [`Folder::fingerprint`](crate::dataset::Folder::fingerprint).
    pub data_fingerprint: String,
}

fn validated_by_default() -> bool {
    true
}

/// The content of a checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The position of the run.
    pub position: Position,
    /// The weights, in memory order.
    pub weights: Vec<Vec<f32>>,
    /// Moments and average.
    pub optimizer: OptimizerState,
}

/// Writes a checkpoint of `unet` and `optimizer` atomically. It needs little more memory than the
/// largest parameter has.
///
/// # Errors
/// When a value is not finite, or the file cannot be written.
pub fn write(
    path: &Path,
    position: &Position,
    unet: &UNet,
    optimizer: &OptimizerState,
) -> Result<()> {
    let json = serde_json::to_string(position).map_err(|error| Error::malformed(path, error))?;
    let weights = unet.values();
    let OptimizerState { first, second, ema, .. } = optimizer;
    let groups = [
        (metadata::WEIGHTS_PREFIX, weights),
        (metadata::AVERAGE_PREFIX, ema.as_slice()),
        (metadata::FIRST_MOMENT_PREFIX, first),
        (metadata::SECOND_MOMENT_PREFIX, second),
    ];
    let specs = unet.config().parameters();
    let (mut tensors, mut sources) = (Vec::new(), Vec::new());
    for (prefix, values) in groups {
        for (spec, values) in specs.iter().zip(values) {
            if !values.par_iter().all(|value| value.is_finite()) {
                let problem = format!("{prefix}{} holds values that are not finite", spec.name);
                return Err(ErrorKind::Diverged { problem }.into());
            }
            tensors.push((format!("{prefix}{}", spec.name), spec.file_shape()));
            sources.push((spec, values));
        }
    }
    let in_file = |index: usize| {
        let (spec, values): (&ParameterSpec, &Vec<f32>) = sources[index];
        spec.layout.to_file(&spec.shape, values)
    };
    let mut checksum = Checksum::new(&json);
    for (index, (name, shape)) in tensors.iter().enumerate() {
        checksum.add(name, shape, &in_file(index));
    }
    let texts = BTreeMap::from([
        (METADATA_KEY.to_owned(), json),
        metadata::checkpoint_format(),
        (metadata::CHECKPOINT_CHECKSUM.to_owned(), checksum.finish()),
    ]);
    formats::stream_safetensors(path, &tensors, &texts, in_file)
}

/// SHA-256 of a position and tensors.
struct Checksum(Sha256);

impl Checksum {
    fn new(position: &str) -> Self {
        Checksum(Sha256::new_with_prefix(position))
    }

    fn add(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.0.update(format!("\n{name} {shape:?}\n"));
        let mut bytes = Vec::with_capacity(1 << 16);
        for values in values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            self.0.update(&bytes);
        }
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The position of the checkpoint at `path`, from its metadata alone.
///
/// # Errors
/// When the file is not a checkpoint of Kao, its version is newer, or its configuration is
/// impossible.
pub fn position(path: &Path, file_metadata: &Metadata) -> Result<Position> {
    let Some(serde_json::Value::String(json)) = file_metadata.get(METADATA_KEY) else {
        return Err(Error::malformed(path, "not a checkpoint of `kao train`"));
    };
    metadata::check_checkpoint_format(path, file_metadata)?;
    let position: Position = serde_json::from_str(json).map_err(|error| {
        // Without the long list of the names that would be known.
        let words = error.to_string();
        let problem = words.split(", expected one of").next().unwrap_or_default();
        Error::malformed(path, format!("its metadata: {problem}"))
    })?;
    position.config.validate().map_err(|error| Error::malformed(path, error))?;
    Ok(position)
}

/// The position of the checkpoint at `path`; its tensors are not read.
///
/// # Errors
/// As [`position`], or when the file cannot be read.
pub fn peek(path: &Path) -> Result<Position> {
    position(path, &formats::peek(path)?.metadata)
}

/// The position of the newest checkpoint in `folder` whose metadata can be read. Whether its tensors
/// are damaged is not looked at: [`newest_undamaged`] does that.
///
/// # Errors
/// When there is none, or a file cannot be read.
pub fn newest_position(folder: &Path) -> Result<Position> {
    let mut first = None;
    for path in list(folder)?.into_iter().rev() {
        match peek(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::Malformed { .. }) => {
                first.get_or_insert(error);
            }
            found => return found,
        }
    }
    Err(first.unwrap_or_else(|| none_to_resume(folder)))
}

fn none_to_resume(folder: &Path) -> Error {
    Error::malformed(folder, "no checkpoint to resume from")
}

/// Reads a checkpoint.
///
/// # Errors
/// When the file cannot be read, is no checkpoint of Kao, is damaged, is of a newer version of Kao,
/// or lacks a tensor.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let file = formats::read(path)?;
    metadata::check_checkpoint_format(path, &file.metadata)?;
    // The checksum comes first: a file that passes it is not damaged, so what is not understood then
    // was written by a newer version. Checkpoints of Kao before 0.2 have no checksum.
    let Some(expected) = file.metadata.get(metadata::CHECKPOINT_CHECKSUM) else {
        return understood(path, &file);
    };
    let json = file.metadata.get(METADATA_KEY).and_then(|json| json.as_str());
    let mut checksum = Checksum::new(json.unwrap_or_default());
    for (name, tensor) in file.tensors.iter() {
        checksum.add(name, tensor.shape(), tensor.data());
    }
    if expected.as_str() != Some(checksum.finish().as_str()) {
        return Err(Error::malformed(path, "damaged: its checksum does not match"));
    }
    understood(path, &file).map_err(|error| match error.kind() {
        ErrorKind::Malformed { problem, .. } => metadata::newer_checkpoint(
            path,
            format!("undamaged, but this Kao does not understand {problem}"),
        ),
        _ => error,
    })
}

/// The content of a checkpoint's file.
fn understood(path: &Path, file: &WeightsFile) -> Result<Checkpoint> {
    let position = position(path, &file.metadata)?;
    let group = |prefix: &str| {
        memory_values(&position.config.model, prefix, &file.tensors)
            .map_err(|error| Error::malformed(path, error))
    };
    let optimizer = OptimizerState {
        n_steps: position.n_steps,
        first: group(metadata::FIRST_MOMENT_PREFIX)?,
        second: group(metadata::SECOND_MOMENT_PREFIX)?,
        ema: group(metadata::AVERAGE_PREFIX)?,
    };
    let weights = group(metadata::WEIGHTS_PREFIX)?;
    Ok(Checkpoint { position, weights, optimizer })
}

/// The newest undamaged checkpoint in a folder.
#[derive(Debug)]
pub struct Newest {
    /// Its file.
    pub path: PathBuf,
    /// Its content.
    pub checkpoint: Checkpoint,
    /// Newer ones that are damaged, with what is wrong with each.
    pub damaged: Vec<(PathBuf, Error)>,
}

/// Reads the newest undamaged checkpoint in `folder`.
///
/// # Errors
/// When there is none, with what is wrong with the newest one; when one was written by a newer version
/// of Kao, since resuming from an older one would lose it; or when a file cannot be read.
pub fn newest_undamaged(folder: &Path) -> Result<Newest> {
    let mut damaged = Vec::new();
    for path in list(folder)?.into_iter().rev() {
        match read(&path) {
            Ok(checkpoint) => return Ok(Newest { path, checkpoint, damaged }),
            Err(error) if matches!(error.kind(), ErrorKind::Malformed { .. }) => {
                damaged.push((path, error));
            }
            Err(error) => return Err(error),
        }
    }
    let n = damaged.len();
    match damaged.into_iter().next() {
        Some((_, error)) if n > 1 => {
            Err(error.with_hint(format!("the {} before it are damaged too", n - 1)))
        }
        Some((_, error)) => Err(error.with_hint("there is no other checkpoint to resume from")),
        None => Err(none_to_resume(folder)),
    }
}

/// The file of step `n_steps` in `folder`.
pub fn path(folder: &Path, n_steps: u64) -> PathBuf {
    folder.join(format!("step-{n_steps:08}.safetensors"))
}

/// The name that a damaged checkpoint at `path` gets, so that it is no longer taken for one.
pub fn set_aside_path(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// The checkpoints in `folder`, oldest first.
///
/// # Errors
/// When the folder cannot be read. One that does not exist holds no checkpoints.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{StoreAs, TensorView};
    use crate::train::{Preset, RunDir};
    use crate::unet::UNetConfig;

    fn write_at(path: &Path, n_steps: u64) {
        let model = UNetConfig {
            image_size: [1, 8, 8],
            ch: 8,
            ch_mult: vec![1],
            attn: Vec::new(),
            num_res_blocks: 1,
            norm_groups: 1,
            ..Preset::Tiny.config().model
        };
        let unet = UNet::init(&model, 1).unwrap();
        let position = Position {
            config: TrainConfig { model, ..Preset::Tiny.config() },
            n_steps,
            n_images: 32 * n_steps,
            validated: true,
            best_validation_loss: None,
            best_step: None,
            data_fingerprint: String::new(),
        };
        write(path, &position, &unet, &OptimizerState::new(&unet)).unwrap();
    }

    /// Writes the checkpoint again with other metadata, as a newer program would.
    fn rewrite(path: &Path, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let file = formats::read(path).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut metadata: BTreeMap<String, String> =
            file.metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        change(&mut metadata);
        let mut checksum = Checksum::new(&metadata[METADATA_KEY]);
        for (name, tensor) in file.tensors.iter() {
            checksum.add(name, tensor.shape(), tensor.data());
        }
        metadata.insert(metadata::CHECKPOINT_CHECKSUM.to_owned(), checksum.finish());
        let tensors = file.tensors.iter().map(|(name, tensor)| {
            (name, TensorView { shape: tensor.shape(), data: tensor.data() })
        });
        formats::write_safetensors(path, tensors, &metadata, StoreAs::F32).unwrap();
    }

    #[test]
    fn a_checkpoint_of_a_newer_version_ends_the_search_and_stays() {
        type Change = fn(&mut BTreeMap<String, String>);
        let changes: [(&str, Change); 4] = [
            ("unknown field `stochastic_depth`", |metadata| {
                let json = metadata.get_mut(METADATA_KEY).unwrap();
                *json = json.replacen("\"steps\"", "\"stochastic_depth\":0.1,\"steps\"", 1);
            }),
            ("unknown field `mood`", |metadata| {
                let json = metadata.get_mut(METADATA_KEY).unwrap();
                *json = json.replacen('{', "{\"mood\":1,", 1);
            }),
            ("unknown variant `lion`", |metadata| {
                let json = metadata.get_mut(METADATA_KEY).unwrap();
                *json = json.replacen("\"adam\"", "\"lion\"", 1);
            }),
            ("its format version is 3; this Kao reads versions up to 2", |metadata| {
                metadata.insert("kao.checkpoint_format".to_owned(), "3".to_owned());
            }),
        ];
        for (expected, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            let run = RunDir::open(folder.path()).unwrap();
            let [older, newest] = [2, 4].map(|n_steps| path(&run.checkpoints(), n_steps));
            write_at(&older, 2);
            write_at(&newest, 4);
            rewrite(&newest, |_| ());
            assert_eq!(run.newest_checkpoint().unwrap().path, newest);

            rewrite(&newest, change);
            let error = run.newest_checkpoint().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Newer { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(expected) && message.len() < 500, "{message}");
            assert_eq!(list(&run.checkpoints()).unwrap(), [older, newest]);
        }
    }
}
