//! A folder of raw pictures made ready for training.

use super::compute::{check_threads, with_threads};
use super::destinations::check_no_run;
use super::{Estimate, Request};
use crate::control::Control;
use crate::dataset::{Classes, Fit, PrepareConfig, PrepareReport, prepare};
use crate::error::{Error, Result};
use crate::files::check_folder;
use crate::shard::Shard;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Turns raw pictures into PNGs of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prepare {
    /// The folder of raw pictures, flat or with sub-folders.
    pub raw_dir: PathBuf,
    /// The folder to fill.
    pub out_dir: PathBuf,
    /// Side of the written pictures in pixels.
    pub size: u32,
    /// What becomes of pictures that are not square.
    pub fit: Fit,
    /// Keep pictures whose pixels equal those of another.
    pub keep_duplicates: bool,
    /// Skip pictures with a side below so many pixels.
    pub min_side: u32,
    /// What besides files of tags says of pictures what they show.
    pub classes: Option<Classes>,
    /// Warn of tags that fewer pictures have.
    pub min_tag_count: u64,
    /// Write tar archives of so many pictures each (WebDataset) in the place of a file for each picture.
    pub shards: Option<usize>,
    /// Prepare only a part of the pictures; the request without it finishes what the parts have done.
    pub shard: Option<Shard>,
    /// Fail when any file is broken or too small, instead of skipping it.
    pub strict: bool,
    /// Threads; by default those of the program's pool, one per core.
    pub threads: Option<usize>,
}

impl Default for Prepare {
    fn default() -> Self {
        let PrepareConfig {
            raw_dir,
            out_dir,
            size,
            fit,
            keep_duplicates,
            strict,
            min_side,
            classes,
            min_tag_count,
            pictures_per_archive: shards,
            shard,
        } = PrepareConfig::new("", "");
        Prepare {
            raw_dir,
            out_dir,
            size,
            fit,
            keep_duplicates,
            min_side,
            classes,
            min_tag_count,
            shards,
            shard,
            strict,
            threads: None,
        }
    }
}

impl Request for Prepare {
    const COMMAND: &'static str = "prepare";
    const POSITIONAL: &'static [&'static str] = &["raw_dir", "out_dir"];
    type Outcome = PrepareReport;

    fn validate(&self) -> Result<()> {
        check_threads(self.threads)?;
        for (field, dir) in [("raw_dir", &self.raw_dir), ("out_dir", &self.out_dir)] {
            if dir.as_os_str().is_empty() {
                return Err(Error::invalid(field, "none given; expected a folder"));
            }
        }
        Ok(())
    }

    /// Memory has a budget of its own, and nothing is multiplied.
    fn estimate(&self) -> Result<Estimate> {
        Ok(Estimate::default())
    }

    fn run(&self, control: &dyn Control) -> Result<PrepareReport> {
        self.validate()?;
        check_folder(&self.out_dir)?;
        check_no_run(&self.out_dir)?;
        let config = PrepareConfig {
            size: self.size,
            fit: self.fit,
            keep_duplicates: self.keep_duplicates,
            min_side: self.min_side,
            classes: self.classes,
            min_tag_count: self.min_tag_count,
            strict: self.strict,
            pictures_per_archive: self.shards,
            shard: self.shard,
            ..PrepareConfig::new(&self.raw_dir, &self.out_dir)
        };
        with_threads(self.threads, || prepare(&config, control))
    }
}
