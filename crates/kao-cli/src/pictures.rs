//! The arguments of every command that makes images: which of them, and how they are drawn.

use crate::output::{names_folder, note, one_line, result};
use clap::Args;
use kao::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Which images of all that there could be.
#[derive(Args)]
pub struct SelectionArguments {
    /// Number of the first image
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub first: u64,
    /// Just the images of these numbers, such as 17,40
    #[arg(long, value_name = "K", value_delimiter = ',', num_args = 1..)]
    pub pick: Vec<u64>,
}

/// How images are drawn.
#[derive(Args)]
pub struct DrawingArguments {
    /// Enlarge images: each pixel becomes a square of N × N
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub scale: usize,
    /// Write under each image its number, or what it was asked to show
    #[arg(long)]
    pub labels: bool,
}

/// Tells what was made of the images that go to `out`: a line of words, and the files. `told` takes
/// both from the outcome.
pub fn tell<O>(
    outcome: Result<O>,
    out: &Path,
    told: impl FnOnce(O) -> (String, Vec<PathBuf>),
) -> Result<()> {
    let outcome = outcome.map_err(|error| match error.kind() {
        ErrorKind::Interrupted if names_folder(out) => {
            error.with_hint("started again, it keeps the images that are done")
        }
        _ => error,
    })?;
    let (summary, files) = told(outcome);
    note(one_line(&format!("{summary} → {}", out.display())));
    files.iter().try_for_each(|file| result(file.display()))
}
