//! A folder of drawn faces.

use super::compute::{check_threads, with_threads};
use super::destinations::check_no_run;
use super::{Estimate, Request};
use crate::control::Control;
use crate::draw::{FolderConfig, Written, check_size, write_folder};
use crate::error::{Error, Result};
use crate::files::check_folder;
use crate::shard::Shard;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Draws anime-style faces to train on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draw {
    /// How many faces.
    pub count: u64,
    /// The folder to write them to.
    pub out: PathBuf,
    /// Side in pixels, 16 to 512.
    pub size: u32,
    /// Picture k of a seed is always the same.
    pub seed: u64,
    /// Of these faces only those of a shard.
    pub shard: Option<Shard>,
    /// Threads; by default those of the program's pool, one per core.
    pub threads: Option<usize>,
}

impl Default for Draw {
    fn default() -> Self {
        Draw { count: 0, out: PathBuf::new(), size: 64, seed: 999, shard: None, threads: None }
    }
}

/// What comes of [`Draw`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// How many faces were drawn, and how many were there.
    pub written: Written,
    /// The folder.
    pub folder: PathBuf,
}

impl Request for Draw {
    const COMMAND: &'static str = "draw";
    type Outcome = Drawn;

    fn validate(&self) -> Result<()> {
        check_threads(self.threads)?;
        if self.out.as_os_str().is_empty() {
            return Err(Error::invalid("out", "none given; expected a folder to write to"));
        }
        if self.count == 0 {
            return Err(Error::out_of_range("count", 0, "at least 1"));
        }
        check_size(self.size)
    }

    /// Memory is little, and nothing is multiplied.
    fn estimate(&self) -> Result<Estimate> {
        Ok(Estimate::default())
    }

    fn run(&self, control: &dyn Control) -> Result<Drawn> {
        self.validate()?;
        check_folder(&self.out)?;
        check_no_run(&self.out)?;
        let Draw { count, out, size, seed, shard, threads } = self.clone();
        let config = FolderConfig { count, out_dir: out.clone(), size, seed, shard };
        let written = with_threads(threads, || write_folder(&config, control))?;
        Ok(Drawn { written, folder: out })
    }
}
