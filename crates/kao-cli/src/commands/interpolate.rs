//! `kao interpolate`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::pictures::{DrawingArguments, SelectionArguments, tell};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use crate::wishes::TagArguments;
use clap::Args;
use kao::Result;
use kao::requests::{Interpolate, Request, Wishes};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao interpolate --between 3,17,42 --frames 8                 a grid, a row from each to the next
  kao interpolate --images 3,17 --out ways.png                 between images of one seed
  kao interpolate --between 3,17,3 --frames 30 --out ways.webp   an animation that loops
  kao interpolate --latents noise.safetensors --out ways/      between noise of a file
  kao interpolate --between 3,17 --pick 5 --out five.png       one of them alone
  kao interpolate --between 3,17,42,5 --plane --frames 8       the plane between four images

The ends are the images that `kao sample` makes of the same seeds and numbers. What lies between
starts from noise on the arc between theirs (spherical interpolation).")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Seeds to go between, from one to the next; of each its image 0
    #[arg(long, value_name = "SEED", value_delimiter = ',', num_args = 1..)]
    between: Vec<u64>,
    /// Numbers of images of --seed (or of --latents) to go between
    #[arg(long, value_name = "K", value_delimiter = ',', num_args = 1..)]
    images: Vec<u64>,
    /// Seed of --images
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Go between the noise of a .safetensors file: `x_T` [N,C,H,W]
    #[arg(long, value_name = "FILE")]
    latents: Option<PathBuf>,
    /// Images from each to the next, both of them among these
    #[arg(long, value_name = "N", default_value_t = 16)]
    frames: usize,
    /// Of four images, all points of the plane between them, --frames a side
    #[arg(long)]
    plane: bool,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    tags: TagArguments,
    /// Grid (.png), folder for a file of each image (DIR/), or animation (.gif, .apng, .webp)
    #[arg(long, short, value_name = "FILE_OR_DIR", default_value = "interpolation.png")]
    out: PathBuf,
    #[command(flatten)]
    selection: SelectionArguments,
    /// Columns of the grid [default: each row leads from one to the next]
    #[arg(long, value_name = "N")]
    columns: Option<usize>,
    #[command(flatten)]
    drawing: DrawingArguments,
    /// Pictures of an animation in a second, 1 to 50
    #[arg(long, value_name = "N", default_value_t = 10)]
    fps: u16,
    /// Images at a time: memory grows with it, the images stay the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Interpolate> {
        Ok(Interpolate {
            model: self.model.request(),
            sampling: self.sampling.request()?,
            wishes: self.tags.add_to(Wishes::default()),
            between: self.between.clone(),
            images: self.images.clone(),
            seed: self.seed,
            latents: self.latents.clone(),
            frames: self.frames,
            plane: self.plane,
            first: self.selection.first,
            pick: self.selection.pick.clone(),
            batch_size: self.batch_size,
            out: Some(self.out.clone()),
            columns: self.columns,
            scale: self.drawing.scale,
            labels: self.drawing.labels,
            fps: self.fps,
            compute: self.compute.request(),
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.compute.threads)?;
    let terminal = Terminal::beginning_with(arguments.sampling.note());
    let outcome = request.run(&terminal);
    terminal.clear();
    tell(outcome, &arguments.out, |made| (made.summary(), made.files))
}
