//! The arguments of every command that runs a network.

use crate::output::{note, one_line};
use clap::Args;
use kao::device::DeviceKind;
use kao::model::{self, BUILT_IN, CheckpointWeights, Model};
use kao::{Error, Result};
use std::path::PathBuf;

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
        return Err(Error::out_of_range("--threads", n, format!("between 1 and {MAX_THREADS}")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
        .map_err(|error| Error::invalid("--threads", error))
}

/// Refuses to take no image at a time.
pub fn check_batch_size(batch_size: usize) -> Result<()> {
    match batch_size {
        0 => Err(Error::out_of_range("--batch-size", 0, "at least 1")),
        _ => Ok(()),
    }
}

/// The argument that names a model.
#[derive(Args)]
pub struct ModelArgument {
    /// Kao model (.safetensors), run directory or checkpoint of `kao train`, or checkpoint of Lightning
    /// or PyTorch (.ckpt, .pt, .pth); without it the built-in model
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Of a checkpoint with two sets of weights, the weights themselves in place of their average
    #[arg(long, requires = "model")]
    pub raw_weights: bool,
}

impl ModelArgument {
    /// Says which model is used where none is given; to be called when nothing can be wrong with
    /// what was typed any more.
    pub fn say_default(&self) {
        if self.model.is_none() {
            note("no --model given: this is the built-in one, trained on faces that Kao drew");
        }
    }

    /// Loads the model, and gives its path as the user wrote it.
    pub fn load(&self, device: &kao::device::Device) -> Result<(Model, String)> {
        let Some(path) = &self.model else {
            return Ok((Model::built_in(device)?, BUILT_IN.to_owned()));
        };
        let which = match self.raw_weights {
            true => CheckpointWeights::Raw,
            false => CheckpointWeights::Average,
        };
        let model = Model::load_weights(path, which, device)?;
        for words in &model.notes {
            note(one_line(&format!("note: {words}")));
        }
        Ok((model, path.display().to_string()))
    }

    /// Looks whether the file that is given can hold a model at all, before what else may be wrong.
    pub fn check(&self) -> Result<()> {
        match &self.model {
            Some(path) => model::check(path),
            None => Ok(()),
        }
    }
}
