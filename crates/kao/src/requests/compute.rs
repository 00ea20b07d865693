//! Where to compute, and with how many threads.

use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The most threads that are accepted.
const MAX_THREADS: usize = 1024;

/// Where to compute. Results of the CPU do not depend on the number of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compute {
    /// The device that networks run on.
    pub device: DeviceKind,
    /// Threads; by default those of the program's pool, one per core.
    pub threads: Option<usize>,
}

impl Compute {
    /// Checks the number of threads.
    ///
    /// # Errors
    /// When it is 0, or more than any machine has.
    pub fn validate(&self) -> Result<()> {
        check_threads(self.threads)
    }

    /// Calls `work` with the device, on as many threads as are asked for.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce(&Device) -> Result<R> + Send) -> Result<R> {
        with_threads(self.threads, || work(&self.device.open()?))
    }
}

pub(super) fn check_threads(threads: Option<usize>) -> Result<()> {
    match threads {
        Some(n) if n == 0 || n > MAX_THREADS => {
            Err(Error::out_of_range("threads", n, format!("between 1 and {MAX_THREADS}")))
        }
        _ => Ok(()),
    }
}

/// Calls `work` on so many threads: those of the program's pool where it has as many, otherwise of a
/// pool for this alone.
pub(super) fn with_threads<R: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    match threads {
        Some(n) if n != rayon::current_num_threads() => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            pool.map_err(|error| Error::invalid("threads", error))?.install(work)
        }
        _ => work(),
    }
}
