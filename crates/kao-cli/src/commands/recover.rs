//! `kao recover`

use crate::compute::{Compute, ModelArgument};
use crate::destination;
use crate::interrupt;
use crate::memory;
use crate::output::{note, result};
use crate::progress::Progress;
use clap::Args;
use kao::dataset::{Folder, SplitConfig};
use kao::experiments::{RecoverConfig, recover};
use kao::render::{self, Layout};
use kao::{Error, Images, Result};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao recover --model run --data faces
  kao recover --model run --data one.jpg two.png --t 300 --out recover.png
  kao recover --model run --data faces --origin-bug --out failure.png")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Folder (its test pictures are taken) or picture files
    #[arg(long, value_name = "DIR_OR_IMAGES", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Steps of noise that are added
    #[arg(long, default_value_t = 100)]
    t: usize,
    /// DDIM steps back down; by default as many as were added
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Noise of DDIM
    #[arg(long, default_value_t = 0.0)]
    eta: f64,
    /// How many pictures of a folder
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Picture to write (.png)
    #[arg(long, value_name = "FILE", default_value = "recover.png")]
    out: PathBuf,
    /// Walk the sampler's whole range from the slightly noisy images, as the original does: it fails
    #[arg(long)]
    origin_bug: bool,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    render::check_png_path(&arguments.out)?;
    if arguments.count == 0 {
        return Err(Error::invalid("count", "0 found; expected at least 1"));
    }
    destination::file(&arguments.out)?;
    let device = arguments.compute.open()?;
    let (model, model_name) = arguments.model.load(&device)?;
    let originals = pictures(arguments, model.config.unet.image_size)?;
    let together = arguments.batch_size.min(originals.len());
    let needed = memory::forward(together, &model.config.unet);
    memory::check("--batch-size", "so many images at a time", needed)?;
    let config = RecoverConfig {
        t: arguments.t,
        n_steps: arguments.steps,
        eta: arguments.eta,
        origin_bug: arguments.origin_bug,
        seed: arguments.seed,
        batch_size: arguments.batch_size,
    };
    let progress =
        Progress::new(format!("recovering {} images", originals.len()), 0, "image steps");
    let recovery = recover(&model, &originals, &config, &mut |done, total| {
        progress.set_of(done, total);
        interrupt::check()
    })?;
    drop(progress);

    let columns =
        [("original", &originals), ("noisy", &recovery.noisy), ("recovered", &recovery.recovered)];
    let picture = render::labelled_columns(&columns, &Layout { scale: 2, ..Layout::default() })?;
    let texts = [
        ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("model", model_name),
        ("t", arguments.t.to_string()),
        ("eta", arguments.eta.to_string()),
        ("seed", arguments.seed.to_string()),
        ("origin_bug", arguments.origin_bug.to_string()),
        ("psnr_noisy", format!("{:.2}", recovery.noisy_psnr)),
        ("psnr_recovered", format!("{:.2}", recovery.recovered_psnr)),
    ];
    render::write_png(&arguments.out, &picture, &texts)?;
    result(format!("noisy      {:.2} dB", recovery.noisy_psnr))?;
    result(format!("recovered  {:.2} dB", recovery.recovered_psnr))?;
    result(arguments.out.display())
}

/// The pictures that the user named: files, or pictures that training on the folder leaves out.
fn pictures(arguments: &Arguments, shape: [usize; 3]) -> Result<Images> {
    let [dir] = arguments.data.as_slice() else {
        let folder = Folder::load_files(&arguments.data, shape)?;
        return folder.images(&Vec::from_iter(0..folder.len()));
    };
    if !dir.is_dir() {
        return Folder::load_files(&arguments.data, shape)?.images(&[0]);
    }
    let folder = Folder::load(dir, shape, &|_| (), &interrupt::asked)?;
    let split = folder.split(&SplitConfig::default())?;
    let all: Vec<usize> = (0..folder.len()).collect();
    let of = if split.test.is_empty() {
        note("warning: no picture of the folder falls into the test set, so any are taken");
        &all
    } else {
        &split.test
    };
    folder.images(&of[..arguments.count.min(of.len())])
}
