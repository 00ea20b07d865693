//! `kao convert`

use crate::destination;
use crate::interrupt;
use crate::output::result;
use clap::Args;
use kao::device::DeviceKind;
use kao::model::Model;
use kao::weights::StoreAs;
use kao::{Error, Result};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao convert last.ckpt faces.safetensors
  kao convert run faces-small.safetensors --half")]
pub struct Arguments {
    /// Lightning checkpoint (.ckpt), Kao model or run directory
    input: PathBuf,
    /// Kao model to write (.safetensors)
    output: PathBuf,
    /// Store 16-bit floats: half the size, rounded
    #[arg(long)]
    half: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let output = &arguments.output;
    if output.extension().is_none_or(|extension| extension != "safetensors") {
        let problem =
            "models are written as safetensors, expected a name that ends in .safetensors";
        return Err(Error::invalid(format!("`{}`", output.display()), problem));
    }
    destination::file(output)?;
    let model = Model::load(&arguments.input, &DeviceKind::Cpu.open()?)?;
    interrupt::check()?;
    let store_as = if arguments.half { StoreAs::F16 } else { StoreAs::F32 };
    model.save(output, store_as)?;
    result(output.display())
}
