//! `kao sample`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::pictures::{DrawingArguments, SelectionArguments, tell};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use crate::shard::ShardArgument;
use crate::wishes::WishArguments;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::Result;
use kao::requests::{Request, Sample};
use kao::sampler::SnapshotOf;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao sample
  kao sample --tags glasses,happy --count 8                            `kao info built-in` lists tags
  kao sample --model run
  kao sample --model run --steps 10 --count 256 --columns 16 --out grid.png
  kao sample --model run --steps 100 --eta 1                           DDIM with noise
  kao sample --model run --sampler heun --steps 10                     19 evaluations of the network
  kao sample --model last.ckpt --spacing linear --strip strip.png      DDIM as the original
  kao sample --model run --sampler ddpm --variance posterior           1000 steps: slow
  kao sample --model run --tags girl,smile --guidance 3                a model that learned tags
  kao sample --model run --rows girl,boy --columns-of smile,happy      a grid of wishes
  kao sample --model ddpm-cifar10-32 --noise torch --sampler ddim      as diffusers draws it
  kao sample --count 100 --out faces-100/                              each image in a file of its own
  kao sample --count 100 --out faces-100/ --shard 0/4                  a quarter of them
  kao sample --pick 17,40 --scale 4 --labels --out liked.png           two of them, enlarged
  kao sample --count 4 --out process.gif --strip-of x0                 an animation of the process

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
    /// Grid to write (.png), folder for a file of each image (DIR/), or animation of the process
    /// (.gif, .apng, .webp)
    #[arg(long, short, value_name = "FILE_OR_DIR", default_value = "grid.png")]
    out: PathBuf,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    shard: ShardArgument,
    #[command(flatten)]
    drawing: DrawingArguments,
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
    /// What strip and animation show: the state of the sampler, or the x0 predicted from it, which
    /// looks like an image much earlier
    #[arg(long, value_name = "WHAT", default_value = "state", value_parser = snapshot_of())]
    strip_of: SnapshotOf,
    /// Pictures of an animation; at most one for each step, and the noise
    #[arg(long, value_name = "N", default_value_t = 60)]
    frames: usize,
    /// Pictures of an animation in a second, 1 to 50
    #[arg(long, value_name = "N", default_value_t = 10)]
    fps: u16,
    /// Take noise from a .safetensors file: `x_T` [N,C,H,W], and `z` [S,N,C,H,W] for the steps.
    /// `torch` draws it from --seed as a pipeline of diffusers does, all images from one generator;
    /// `original` as the original's program, for its checkpoint and --seed 999
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

fn snapshot_of() -> impl TypedValueParser<Value = SnapshotOf> {
    PossibleValuesParser::new(SnapshotOf::ALL.iter().map(|of| of.name()))
        .try_map(|name| name.parse::<SnapshotOf>())
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Sample> {
        Ok(Sample {
            model: self.model.request(),
            sampling: self.sampling.request()?,
            wishes: self.wishes.request(),
            count: self.count,
            shard: self.shard.request()?,
            first: self.selection.first,
            pick: self.selection.pick.clone(),
            seed: self.seed,
            noise: self.noise.clone(),
            batch_size: self.batch_size,
            out: Some(self.out.clone()),
            columns: self.columns,
            scale: self.drawing.scale,
            labels: self.drawing.labels,
            strip: self.strip.clone(),
            strip_images: self.strip_images,
            strip_snapshots: self.strip_moments,
            strip_of: self.strip_of,
            frames: self.frames,
            fps: self.fps,
            save_tensors: self.save_tensors.clone(),
            compute: self.compute.request(),
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.compute.threads)?;
    let terminal = Terminal::beginning_with(arguments.sampling.note());
    let sampled = request.run(&terminal);
    terminal.clear();
    tell(sampled, &arguments.out, |made| (made.summary(), made.files))
}
