//! `kao prepare`

use crate::compute::set_threads;
use crate::output::{note, result};
use crate::progress::Terminal;
use crate::shard::ShardArgument;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::dataset::{Classes, Fit};
use kao::requests::{Prepare, Request};
use kao::{ErrorKind, Result};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao prepare downloads/anime faces
  kao prepare downloads/anime faces --classes folders                 sub-folders are tags
  kao prepare downloads/anime faces --fit stretch --keep-duplicates   as the original does
  kao prepare downloads/anime archives --shards 10000                 tar archives, as WebDataset has them
  kao prepare downloads/anime faces --shard 0/4                       a quarter of the pictures

Tags of pictures (metadata.jsonl, a text beside each, dataset.json) are carried over.
A run that was interrupted goes on where it stopped when the same command runs again. When all
shards are done, the same command without --shard drops duplicates among them and finishes the
folder.")]
pub struct Arguments {
    /// Folder of raw pictures, flat or with sub-folders
    raw_dir: PathBuf,
    /// Folder to write PNGs of one size to
    out_dir: PathBuf,
    /// Side of the written pictures in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    size: u32,
    /// What becomes of pictures that are not square: crop (the middle) or stretch
    #[arg(long, default_value = "crop", value_parser = fit())]
    fit: Fit,
    /// Keep pictures whose pixels equal those of another
    #[arg(long)]
    keep_duplicates: bool,
    /// Skip pictures with a side below so many pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 16)]
    min_side: u32,
    /// Take the names of sub-folders as tags too [folders]
    #[arg(long, value_name = "WHAT", value_parser = classes())]
    classes: Option<Classes>,
    /// Warn of tags that fewer pictures have
    #[arg(long, value_name = "N", default_value_t = 10)]
    min_tag_count: u64,
    /// Write tar archives of so many pictures each, with their tags beside them, in the place of files
    #[arg(long, value_name = "PICTURES")]
    shards: Option<usize>,
    #[command(flatten)]
    shard: ShardArgument,
    /// Fail when any file is broken or too small, instead of skipping it
    #[arg(long)]
    strict: bool,
    /// Threads; by default one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn fit() -> impl TypedValueParser<Value = Fit> {
    PossibleValuesParser::new(["crop", "stretch"]).try_map(|name| name.parse::<Fit>())
}

fn classes() -> impl TypedValueParser<Value = Classes> {
    PossibleValuesParser::new(["folders"]).map(|_| Classes::Folders)
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Prepare> {
        Ok(Prepare {
            raw_dir: self.raw_dir.clone(),
            out_dir: self.out_dir.clone(),
            size: self.size,
            fit: self.fit,
            keep_duplicates: self.keep_duplicates,
            min_side: self.min_side,
            classes: self.classes,
            min_tag_count: self.min_tag_count,
            shards: self.shards,
            shard: self.shard.request()?,
            strict: self.strict,
            threads: self.threads,
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.threads)?;
    let terminal = Terminal::default();
    let report = request.run(&terminal);
    terminal.clear();
    let report = report.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => error.with_hint("started again, it goes on where it stopped"),
        _ => error,
    })?;
    result(&report)?;
    if !report.complete {
        note(
            "hint: when all shards are done, the same command without --shard finishes the folder",
        );
    }
    Ok(())
}
