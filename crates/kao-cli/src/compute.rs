//! The arguments of every command that runs a network.

use clap::Args;
use clap::builder::TypedValueParser;
use kao::device::DeviceKind;
use kao::requests::{self, ModelSource};
use kao::{Error, Result};
use std::path::PathBuf;

/// Where and with how many threads to compute.
#[derive(Args)]
pub struct Compute {
    /// Device that the network runs on [cpu, cuda, metal, vulkan]
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device())]
    pub device: DeviceKind,
    /// Threads; by default one per core
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Compute {
    pub fn request(&self) -> requests::Compute {
        requests::Compute { device: self.device, threads: self.threads }
    }
}

fn device() -> impl TypedValueParser<Value = DeviceKind> {
    clap::builder::StringValueParser::new().try_map(|name| {
        let expected = || {
            let names: Vec<&str> = DeviceKind::ALL.iter().map(|kind| kind.name()).collect();
            format!("expected one of {}", names.join(", "))
        };
        name.parse::<DeviceKind>().map_err(|_| expected())
    })
}

/// Gives the program's thread pool so many threads. Called once, before anything parallel.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    requests::Compute { threads, ..requests::Compute::default() }.validate()?;
    let Some(n) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
        .map_err(|error| Error::invalid("threads", error))
}

/// The argument that names a model.
#[derive(Args)]
pub struct ModelArgument {
    /// Kao model (.safetensors), run directory or checkpoint of `kao train`, folder of diffusers, or
    /// checkpoint of Lightning or PyTorch (.ckpt, .pt, .pth); without it the built-in model
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Of a checkpoint with two sets of weights, the raw weights in place of their average
    #[arg(long, requires = "model")]
    pub raw_weights: bool,
}

impl ModelArgument {
    pub fn request(&self) -> ModelSource {
        ModelSource { path: self.model.clone(), raw_weights: self.raw_weights }
    }
}
