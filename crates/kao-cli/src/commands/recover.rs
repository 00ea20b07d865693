//! `kao recover`

use crate::compute::{Compute, ModelArgument, check_batch_size};
use crate::destination;
use crate::memory;
use crate::output::{note, result};
use crate::progress::Terminal;
use crate::sampling::{sampler, sampler_names};
use clap::Args;
use kao::control::{Control, Report};
use kao::dataset::{Folder, SplitConfig};
use kao::experiments::{RecoverConfig, recover, visible_noise};
use kao::quantities::{counted, estimate};
use kao::render::{self, Layout};
use kao::sampler::Sampler;
use kao::{Error, Images, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

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
    /// Steps of noise that are added; by default enough to see: 100 of 1000 with the original's
    /// schedule, 300 with that of the presets small64 and tiny
    #[arg(long)]
    t: Option<usize>,
    /// Sampler of the steps back down
    #[arg(long, value_parser = sampler_names(), default_value = "ddim")]
    sampler: String,
    /// Steps back down; by default as many as were added
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Noise of DDIM and DPM-Solver++ [default: 0]
    #[arg(long)]
    eta: Option<f64>,
    /// How many pictures of a folder
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Picture to write (.png)
    #[arg(long, short, value_name = "FILE", default_value = "recover.png")]
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
        return Err(Error::out_of_range("count", 0, "at least 1"));
    }
    let sampler = arguments.sampler()?;
    check_batch_size(arguments.batch_size)?;
    destination::file(&arguments.out)?;
    let device = arguments.compute.open()?;
    let (model, model_name) = arguments.model.load(&device)?;
    let originals = pictures(arguments, model.config.unet.image_size)?;
    let together = arguments.batch_size.min(originals.len());
    let needed = memory::forward(together, &model.config.unet);
    memory::check("--batch-size", "so many images at a time", needed)?;
    let t = arguments.t.unwrap_or_else(|| visible_noise(&model.schedule));
    let config = RecoverConfig {
        t,
        n_steps: arguments.steps,
        sampler,
        origin_bug: arguments.origin_bug,
        seed: arguments.seed,
        batch_size: arguments.batch_size,
    };
    let sequence = config.sequence(model.schedule.n_timesteps())?;
    arguments.model.say_default();
    note(format!("noise of {t} of {} steps", model.schedule.n_timesteps()));
    let images = counted(originals.len() as u64, "image");
    let terminal = Terminal::default();
    let started = Instant::now();
    let says_time = AtomicBool::new(arguments.origin_bug);
    let n_steps = sequence.len() as u64;
    let control = |report: &Report<'_>| {
        if says_time.swap(false, Ordering::Relaxed) {
            let total = report.total.unwrap_or(0) as f64;
            let seconds = started.elapsed().as_secs_f64() * total / report.done.max(1) as f64;
            terminal.say(&format!(
                "--origin-bug takes {} with each of {images}: about {} here",
                counted(n_steps, "step"),
                estimate(seconds)
            ));
        }
        terminal.report(report)
    };
    let recovery = recover(&model, &originals, &config, &control)?;
    terminal.clear();

    let columns =
        [("original", &originals), ("noisy", &recovery.noisy), ("recovered", &recovery.recovered)];
    let picture = render::labelled_columns(&columns, &Layout { scale: 2, ..Layout::default() })?;
    let texts = [
        ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("model", model_name),
        ("t", t.to_string()),
        ("sampler", sampler.name().to_owned()),
        ("eta", arguments.eta.unwrap_or(0.0).to_string()),
        ("seed", arguments.seed.to_string()),
        ("origin_bug", arguments.origin_bug.to_string()),
        ("psnr_noisy", format!("{:.2}", recovery.noisy_psnr)),
        ("psnr_recovered", format!("{:.2}", recovery.recovered_psnr)),
    ];
    render::write_png(&arguments.out, &picture, &texts)?;
    result(format!("PSNR noisy      {:.2} dB", recovery.noisy_psnr))?;
    result(format!("PSNR recovered  {:.2} dB", recovery.recovered_psnr))?;
    result(arguments.out.display())
}

impl Arguments {
    fn sampler(&self) -> Result<Sampler> {
        let settings = [("variance", None), ("final_noise", None)];
        let sampler = sampler(Some(&self.sampler), self.eta, settings, "ddim")?;
        sampler.validate()?;
        Ok(sampler)
    }
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
    let folder = Folder::load(dir, shape, &Terminal::default())?;
    let split = folder.split(&SplitConfig::default())?;
    let all: Vec<usize> = (0..folder.len()).collect();
    let of = if split.test.is_empty() {
        note("warning: no picture of the folder falls into the test set, so any are taken");
        &all
    } else {
        &split.test
    };
    if of.len() < arguments.count {
        note(format!(
            "warning: {} in the test set of the folder, where {} were asked for",
            counted(of.len() as u64, "picture"),
            arguments.count
        ));
    }
    folder.images(&of[..arguments.count.min(of.len())])
}
