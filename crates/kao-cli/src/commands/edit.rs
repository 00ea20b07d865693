//! `kao edit`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::pictures::{DrawingArguments, SelectionArguments, tell};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use crate::wishes::WishArguments;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::Result;
use kao::dataset::Fit;
use kao::requests::{Edit, Request};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao edit one.jpg                                       8 variations, half of the way to noise
  kao edit one.jpg two.png --strength 0.3 --count 4      closer to the pictures
  kao edit one.jpg --mask mask.png                       paint anew what is white in the mask
  kao edit one.jpg --mask mask.png --jumps 10            as often as RePaint does: twice as long
  kao edit one.jpg --count 100 --out varied/             each variation in a file of its own
  kao edit one.jpg --pick 3 --scale 4 --out liked.png    one of them, enlarged

Pictures of any size are prepared as `kao prepare` does. A mask has the size or shape of its picture
and is cropped with it: white is painted anew, black stays exactly as it is, grey is changed by so
large a share of the strength, and what is transparent counts as white.

Variation k of a seed is the same whatever --count, --batch-size, --threads and other pictures
are.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Pictures to edit
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    /// How far to go towards noise: 0 changes nothing, 1 leaves nothing [default: 0.5; 1 with --mask]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// Picture whose white is painted anew, and whose black stays as it is
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// With --mask, go each part of the way N times, with noise added in between, so that what is
    /// painted fits what stays: 1 is quick, RePaint has 10 [default: 5]
    #[arg(long, value_name = "N")]
    jumps: Option<usize>,
    /// Steps of such a part [default: 10 of 250, as RePaint has it]
    #[arg(long, value_name = "STEPS")]
    jump_length: Option<usize>,
    /// What becomes of pictures that are not square: crop (the middle) or stretch
    #[arg(long, default_value = "crop", value_parser = fit())]
    fit: Fit,
    /// Variations of each picture [default: 8, or as many as tags are given for]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    #[command(flatten)]
    selection: SelectionArguments,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    wishes: WishArguments,
    /// Grid (.png), each row a picture and its variations; or folder for a file of each (DIR/)
    #[arg(long, short, value_name = "FILE_OR_DIR", default_value = "edit.png")]
    out: PathBuf,
    /// Variations in a row of the grid
    #[arg(long, value_name = "N", default_value_t = 8)]
    columns: usize,
    #[command(flatten)]
    drawing: DrawingArguments,
    /// Images at a time: memory grows with it, the images stay the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

fn fit() -> impl TypedValueParser<Value = Fit> {
    PossibleValuesParser::new(["crop", "stretch"]).try_map(|name| name.parse::<Fit>())
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Edit> {
        Ok(Edit {
            model: self.model.request(),
            pictures: self.pictures.clone(),
            fit: self.fit,
            strength: self.strength,
            mask: self.mask.clone(),
            jumps: self.jumps,
            jump_length: self.jump_length,
            sampling: self.sampling.request()?,
            wishes: self.wishes.request(),
            count: self.count,
            first: self.selection.first,
            pick: self.selection.pick.clone(),
            seed: self.seed,
            batch_size: self.batch_size,
            out: Some(self.out.clone()),
            columns: self.columns,
            scale: self.drawing.scale,
            labels: self.drawing.labels,
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
