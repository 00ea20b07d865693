//! `kao prepare`

use crate::compute::set_threads;
use crate::output::result;
use crate::progress::Terminal;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::Result;
use kao::dataset::{Classes, Fit};
use kao::requests::{Prepare, Request};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao prepare downloads/anime faces
  kao prepare downloads/anime faces --classes folders                 sub-folders are tags
  kao prepare downloads/anime faces --fit stretch --keep-duplicates   as the original does

Tags of pictures (metadata.jsonl, a text beside each, dataset.json) are carried over.")]
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
    pub fn request(&self) -> Prepare {
        Prepare {
            raw_dir: self.raw_dir.clone(),
            out_dir: self.out_dir.clone(),
            size: self.size,
            fit: self.fit,
            keep_duplicates: self.keep_duplicates,
            min_side: self.min_side,
            classes: self.classes,
            min_tag_count: self.min_tag_count,
            strict: self.strict,
            threads: self.threads,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request();
    set_threads(request.threads)?;
    let terminal = Terminal::default();
    let report = request.run(&terminal)?;
    terminal.clear();
    result(report)
}
