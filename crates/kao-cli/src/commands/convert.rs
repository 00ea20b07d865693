//! `kao convert`

use crate::output::result;
use crate::progress::Terminal;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::Result;
use kao::requests::{Convert, Request, Target};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao convert last.ckpt faces.safetensors
  kao convert run faces-small.safetensors --half
  kao convert ddpm-cifar10-32 cifar10.safetensors                      from diffusers
  kao convert cifar10.safetensors folder --to diffusers                for its pipelines
  kao convert cifar10.safetensors cifar10.onnx                         for ONNX runtimes
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
    /// Checkpoint of Lightning or PyTorch (.ckpt, .pt, .pth), folder of diffusers, Kao model or run
    /// directory
    input: PathBuf,
    /// What to write: a Kao model (.safetensors), an ONNX file (.onnx), or with --to diffusers a folder
    output: PathBuf,
    /// Program that it is for [kao, diffusers, onnx] [default: as the name says]
    #[arg(long, value_name = "PROGRAM", value_parser = target())]
    to: Option<Target>,
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

fn target() -> impl TypedValueParser<Value = Target> {
    let names = Target::ALL.iter().map(|target| target.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Target>())
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Convert {
        Convert {
            input: self.input.clone(),
            output: self.output.clone(),
            to: self.to,
            half: self.half,
            config: self.config.clone(),
            raw_weights: self.raw_weights,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let terminal = Terminal::default();
    let converted = arguments.request().run(&terminal)?;
    terminal.clear();
    result(converted.file.display())
}
