//! Another program's checkpoint as a Kao model.

use super::model::report_notes;
use super::{Estimate, Request};
use crate::control::{Control, Report};
use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::files::prepare_path;
use crate::formats::StoreAs;
use crate::model::{CheckpointWeights, LoadOptions, Model, ModelConfig};
use crate::train::TrainConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Writes a model as a Kao model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Convert {
    /// A checkpoint of Lightning or PyTorch, a folder of diffusers, a Kao model or a run directory.
    pub input: PathBuf,
    /// The Kao model to write (.safetensors).
    pub output: PathBuf,
    /// Store 16-bit floats: half the size, rounded.
    pub half: bool,
    /// Configuration of the model (.toml), in place of what the file says or does not say.
    pub config: Option<PathBuf>,
    /// Of a file with two sets of weights, the raw weights in place of their average.
    pub raw_weights: bool,
}

/// What comes of [`Convert`].
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The model that was written.
    pub file: PathBuf,
    /// Its configuration.
    pub config: ModelConfig,
}

impl Request for Convert {
    const COMMAND: &'static str = "convert";
    const POSITIONAL: &'static [&'static str] = &["input", "output"];
    type Outcome = Converted;

    fn validate(&self) -> Result<()> {
        if self.input.as_os_str().is_empty() {
            return Err(Error::invalid("input", "none given; expected a model"));
        }
        let output = &self.output;
        if output.extension().is_none_or(|extension| extension != "safetensors") {
            let problem =
                "models are written as safetensors, expected a name that ends in .safetensors";
            return Err(Error::invalid(format!("`{}`", output.display()), problem));
        }
        Ok(())
    }

    fn estimate(&self) -> Result<Estimate> {
        let config = match &self.config {
            Some(path) => TrainConfig::read(path)?.model_config(),
            None => ModelConfig::of(&self.input)?,
        };
        // The file's tensors and the network's.
        let memory_bytes = config.unet.weight_bytes().saturating_mul(2);
        Ok(Estimate { memory_bytes, ..Estimate::default() })
    }

    fn run(&self, control: &dyn Control) -> Result<Converted> {
        self.validate()?;
        prepare_path(&self.output)?;
        let options = LoadOptions {
            weights: match self.raw_weights {
                true => CheckpointWeights::Raw,
                false => CheckpointWeights::Average,
            },
            config: match &self.config {
                Some(path) => Some(TrainConfig::read(path)?.model_config()),
                None => None,
            },
        };
        let model = Model::load_with(&self.input, &options, &DeviceKind::Cpu.open()?)?;
        report_notes(&model, control)?;
        control.check(&Report::progress("converting", 0, Some(1), "models"))?;
        let store_as = if self.half { StoreAs::F16 } else { StoreAs::F32 };
        model.save(&self.output, store_as)?;
        Ok(Converted { file: self.output.clone(), config: model.config })
    }
}
