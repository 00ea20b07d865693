//! The arguments of every command that runs a network.

use clap::Args;
use kao::device::DeviceKind;
use kao::model::{CheckpointWeights, Model};
use kao::{Error, Result};
use std::path::{Path, PathBuf};

/// Where and with how many threads to compute.
#[derive(Args)]
pub struct Compute {
    /// Device that the network runs on [cpu, cuda, metal, vulkan]
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceKind,
    /// Threads; by default one per core
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Compute {
    /// Sets the number of threads up and opens the device. Called once, before anything parallel.
    pub fn open(&self) -> Result<kao::device::Device> {
        set_threads(self.threads)?;
        self.device.open()
    }
}

/// Gives the program's thread pool so many threads.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    const MAX_THREADS: usize = 1024;
    let Some(n) = threads else { return Ok(()) };
    if n == 0 || n > MAX_THREADS {
        let problem = format!("{n} found; expected 1 to {MAX_THREADS}");
        return Err(Error::invalid("--threads", problem));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
        .map_err(|error| Error::invalid("--threads", error))
}

/// The argument that names a model.
#[derive(Args)]
pub struct ModelArgument {
    /// Kao model (.safetensors), run directory or checkpoint of `kao train`, or Lightning checkpoint
    /// (.ckpt)
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Of a checkpoint of `kao train`, the weights themselves in place of their average
    #[arg(long, requires = "model")]
    pub raw_weights: bool,
}

impl ModelArgument {
    /// Loads the model, and gives its path as the user wrote it.
    pub fn load(&self, device: &kao::device::Device) -> Result<(Model, String)> {
        let path = self.path()?;
        let which = match self.raw_weights {
            true => CheckpointWeights::Raw,
            false => CheckpointWeights::Average,
        };
        Ok((Model::load_weights(path, which, device)?, path.display().to_string()))
    }

    fn path(&self) -> Result<&Path> {
        self.model.as_deref().ok_or_else(|| {
            Error::invalid("--model", "none given, and no model is built into this version")
                .with_hint(
                    "train one first: kao draw --count 2000 --out faces, then \
                     kao train --data faces --out run --preset tiny, then give --model run",
                )
        })
    }
}
