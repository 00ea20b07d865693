//! `kao prepare`

use crate::compute::set_threads;
use crate::destination;
use crate::output::result;
use crate::progress::Terminal;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::Result;
use kao::dataset::{Fit, PrepareConfig, prepare};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao prepare downloads/anime faces
  kao prepare downloads/anime faces --fit stretch --keep-duplicates   as the original does")]
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

pub fn run(arguments: &Arguments) -> Result<()> {
    set_threads(arguments.threads)?;
    destination::folder(&arguments.out_dir)?;
    let config = PrepareConfig {
        size: arguments.size,
        fit: arguments.fit,
        keep_duplicates: arguments.keep_duplicates,
        strict: arguments.strict,
        min_side: arguments.min_side,
        ..PrepareConfig::new(&arguments.raw_dir, &arguments.out_dir)
    };
    let terminal = Terminal::default();
    let report = prepare(&config, &terminal)?;
    terminal.clear();
    result(report)
}
