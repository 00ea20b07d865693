//! `kao convert`

use crate::destination;
use crate::interrupt;
use crate::output::{note, one_line, result};
use clap::Args;
use kao::device::DeviceKind;
use kao::formats::StoreAs;
use kao::model::{CheckpointWeights, LoadOptions, Model};
use kao::train::TrainConfig;
use kao::{Error, Result};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao convert last.ckpt faces.safetensors
  kao convert run faces-small.safetensors --half
  kao convert weights.pth faces.safetensors --config config.toml

The configuration of a state dictionary, which has none, is written as the config.toml of a run is:
  prediction = \"epsilon\"
  [model]
  image_size = [3, 64, 64]
  ch = 64
  ch_mult = [1, 2, 4, 4]
  attn = [2]
  num_res_blocks = 2
What it does not say is as in this example, the original's.")]
pub struct Arguments {
    /// Checkpoint of Lightning or PyTorch (.ckpt, .pt, .pth), Kao model or run directory
    input: PathBuf,
    /// Kao model to write (.safetensors)
    output: PathBuf,
    /// Store 16-bit floats: half the size, rounded
    #[arg(long)]
    half: bool,
    /// Configuration of the model (.toml), in place of what the file says or does not say
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Of a file with two sets of weights, the weights themselves in place of their average
    #[arg(long)]
    raw_weights: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let output = &arguments.output;
    if output.extension().is_none_or(|extension| extension != "safetensors") {
        let problem =
            "models are written as safetensors, expected a name that ends in .safetensors";
        return Err(Error::invalid(format!("`{}`", output.display()), problem));
    }
    destination::file(output)?;
    let options = LoadOptions {
        weights: match arguments.raw_weights {
            true => CheckpointWeights::Raw,
            false => CheckpointWeights::Average,
        },
        config: match &arguments.config {
            Some(path) => Some(TrainConfig::read(path)?.model_config()),
            None => None,
        },
    };
    let model = Model::load_with(&arguments.input, &options, &DeviceKind::Cpu.open()?)?;
    for words in &model.notes {
        note(one_line(&format!("note: {words}")));
    }
    interrupt::check()?;
    let store_as = if arguments.half { StoreAs::F16 } else { StoreAs::F32 };
    model.save(output, store_as)?;
    result(output.display())
}
