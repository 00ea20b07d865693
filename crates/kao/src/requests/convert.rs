//! A model in another format: another program's as a Kao model, and a Kao model for other programs.

use super::destinations::{check_distinct, check_no_model_of_a_run};
use super::model::report_notes;
use super::{Estimate, Request};
use crate::control::{Control, Report};
use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::files::prepare_path;
use crate::formats::StoreAs;
use crate::model::{CheckpointWeights, LoadOptions, Model, ModelConfig, export, fetch_if_needed};
use crate::named::names;
use crate::train::TrainConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Writes a model in another format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Convert {
    /// A checkpoint of Lightning or PyTorch, a folder of diffusers, a Kao model or a run directory.
    pub input: PathBuf,
    /// What to write: a Kao model (.safetensors), an ONNX file (.onnx), or the folder of another
    /// program.
    pub output: PathBuf,
    /// The program that `output` is for; by default what its name says.
    pub to: Option<Target>,
    /// Store 16-bit floats: half the size, rounded.
    pub half: bool,
    /// Configuration of the model (.toml), in place of what the file says or does not say.
    pub config: Option<PathBuf>,
    /// Of a file with two sets of weights, the raw weights in place of their average.
    pub raw_weights: bool,
}

/// What a model is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Kao: one .safetensors file.
    Kao,
    /// diffusers: a folder that its pipelines open.
    Diffusers,
    /// Runtimes of ONNX: one .onnx file of the network.
    Onnx,
}

names!(Target, "to", { Kao => "kao", Diffusers => "diffusers", Onnx => "onnx" });

/// What comes of [`Convert`].
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The file or folder that was written.
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
        let config = ("config", self.config.as_deref());
        check_distinct(&[("input", Some(&self.input)), config], &[("output", Some(&self.output))])?;
        let output = &self.output;
        let refuse =
            |problem: &str| Err(Error::invalid(format!("`{}`", output.display()), problem));
        let ends_in = |ending: &str| output.extension().is_some_and(|own| own == ending);
        match self.target() {
            Target::Kao if !ends_in("safetensors") => refuse(
                "models are written as safetensors, expected a name that ends in .safetensors",
            ),
            Target::Onnx if !ends_in("onnx") => refuse("expected a name that ends in .onnx"),
            Target::Onnx if self.half => {
                Err(Error::invalid("half", "an ONNX file holds 32-bit floats"))
            }
            Target::Diffusers if output.as_os_str().is_empty() => refuse("expected a folder"),
            Target::Diffusers if output.is_file() => refuse("a file is there, expected a folder"),
            Target::Diffusers if is_filled(output) => {
                refuse("the folder holds something, expected a new one")
            }
            _ => Ok(()),
        }
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
        if self.target() != Target::Diffusers {
            check_no_model_of_a_run(&self.output)?;
            prepare_path(&self.output)?;
        }
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
        fetch_if_needed(&self.input, control)?;
        let model = Model::load_with(&self.input, &options, &DeviceKind::Cpu.open()?)?;
        report_notes(&model, control)?;
        control.check(&Report::progress("converting", 0, Some(1), "models"))?;
        let store_as = if self.half { StoreAs::F16 } else { StoreAs::F32 };
        match self.target() {
            Target::Kao => model.save(&self.output, store_as)?,
            Target::Onnx => export::write_onnx(&model, &self.output)?,
            Target::Diffusers => {
                for note in export::write_folder(&model, &self.output, store_as)? {
                    control.check(&Report::message("converting", &format!("note: {note}")))?;
                }
            }
        }
        Ok(Converted { file: self.output.clone(), config: model.config })
    }
}

impl Convert {
    /// What the output is for.
    fn target(&self) -> Target {
        let is_onnx = self.output.extension().is_some_and(|extension| extension == "onnx");
        self.to.unwrap_or(if is_onnx { Target::Onnx } else { Target::Kao })
    }
}

/// Whether a folder is there and holds something.
fn is_filled(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
