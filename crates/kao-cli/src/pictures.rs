//! The arguments of every command that makes images: which of them, and how they are drawn.

use clap::Args;

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
