//! What is in a file of weights, whatever its format.

use super::tensor::{NamedTensors, TensorInfo};
use serde_json::Value;
use std::fmt;

/// What a file says besides its tensors, by name.
///
/// For safetensors: the strings of its `__metadata__`. For a checkpoint of Lightning or of another
/// training program: the settings (objects, under the names of [`SETTINGS`]), `epoch`,
/// `global_step`, `pytorch-lightning_version`, and any other plain number or text at its top.
pub type Metadata = serde_json::Map<String, Value>;

/// The entries under which training programs keep their settings; Lightning's is the first.
pub const SETTINGS: [&str; 7] =
    ["hyper_parameters", "hparams", "hyperparameters", "config", "cfg", "model_config", "args"];

/// The formats that [`read()`](super::read()) knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A `.safetensors` file, Kao's own among them.
    Safetensors,
    /// A PyTorch Lightning checkpoint: a zip archive with a pickle that has a `state_dict`.
    Lightning,
    /// A zip archive that `torch.save` made of a state dictionary alone.
    StateDict,
    /// One that it made of the state of a training program, with state dictionaries among its
    /// entries.
    TrainingState,
    /// One that it made of a whole module.
    Module,
    /// A folder of diffusers, with its weights in one file or several.
    Diffusers,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Safetensors => "safetensors",
            Format::Lightning => "Lightning checkpoint",
            Format::StateDict => "PyTorch state dictionary",
            Format::TrainingState => "PyTorch training state",
            Format::Module => "PyTorch module",
            Format::Diffusers => "diffusers folder",
        })
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct WeightsFile {
    /// The format it was in.
    pub format: Format,
    /// The tensors, in the order of the file.
    pub tensors: NamedTensors,
    /// What the file says besides.
    pub metadata: Metadata,
    /// What a reader may want to know: where the tensors are, an entry left out.
    pub notes: Vec<String>,
}

/// What is in a file, without the values of its tensors.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The format it is in.
    pub format: Format,
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// What the file says besides.
    pub metadata: Metadata,
    /// What a reader may want to know: where the tensors are, an entry left out.
    pub notes: Vec<String>,
}
