//! `kao sample`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::output::{note, one_line, result};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use crate::wishes::WishArguments;
use clap::Args;
use kao::Result;
use kao::requests::{Request, Sample};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao sample --model run
  kao sample --model run --steps 10 --count 256 --columns 16 --out grid.png
  kao sample --model run --steps 100 --eta 1                           DDIM with noise
  kao sample --model run --sampler heun --steps 10                     19 evaluations of the network
  kao sample --model last.ckpt --spacing linear --strip strip.png      DDIM as the original
  kao sample --model run --sampler ddpm --variance posterior           1000 steps: slow
  kao sample --model run --tags girl,smile --guidance 3                a model that learned tags
  kao sample --model run --rows girl,boy --columns-of smile,happy      a grid of wishes

Image k of a seed is the same whatever --count, --batch-size and --threads are.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    wishes: WishArguments,
    /// How many images; with --noise the first so many [default: 64, all of --noise, or as many as
    /// tags are given for]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Columns of the grid
    #[arg(long, value_name = "N", default_value_t = 8)]
    columns: usize,
    /// Grid to write (.png)
    #[arg(long, short, value_name = "FILE", default_value = "grid.png")]
    out: PathBuf,
    /// Strip to write (.png): 6 images in 15 snapshots of the process
    #[arg(long, value_name = "FILE")]
    strip: Option<PathBuf>,
    /// Images in the strip
    #[arg(long, value_name = "N", default_value_t = 6, requires = "strip")]
    strip_images: usize,
    /// Snapshots in the strip
    #[arg(
        long,
        value_name = "N",
        default_value_t = 15,
        requires = "strip",
        alias = "strip-snapshots"
    )]
    strip_moments: usize,
    /// Take noise from a .safetensors file: `x_T` [N,C,H,W], and `z` [S,N,C,H,W] for the steps
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Write `x_0` [N,C,H,W], unclipped, to a .safetensors file
    #[arg(long, value_name = "FILE")]
    save_tensors: Option<PathBuf>,
    /// Images at a time: memory grows with it, the images stay the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Sample> {
        Ok(Sample {
            model: self.model.request(),
            sampling: self.sampling.request()?,
            wishes: self.wishes.request(),
            count: self.count,
            seed: self.seed,
            noise: self.noise.clone(),
            batch_size: self.batch_size,
            out: Some(self.out.clone()),
            columns: self.columns,
            strip: self.strip.clone(),
            strip_images: self.strip_images,
            strip_snapshots: self.strip_moments,
            save_tensors: self.save_tensors.clone(),
            compute: self.compute.request(),
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.compute.threads)?;
    let terminal = Terminal::beginning_with(arguments.sampling.note());
    let sampled = request.run(&terminal)?;
    terminal.clear();
    note(one_line(&format!("{} → {}", sampled.summary(), arguments.out.display())));
    sampled.files.iter().try_for_each(|file| result(file.display()))
}
