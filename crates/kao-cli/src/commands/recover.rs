//! `kao recover`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::output::result;
use crate::progress::Terminal;
use crate::sampling::{sampler, sampler_names};
use clap::Args;
use kao::Result;
use kao::requests::{Recover, Request};
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
    /// Noise of the samplers that have it, as in `kao sample`
    #[arg(long)]
    eta: Option<f64>,
    /// How many pictures of a folder
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Picture to write (.png), or folder for a file of each recovered picture (DIR/)
    #[arg(long, short, value_name = "FILE_OR_DIR", default_value = "recover.png")]
    out: PathBuf,
    /// Take all timesteps of the sampler from the slightly noisy images, as the original does: it fails
    #[arg(long)]
    origin_bug: bool,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Recover> {
        let no_settings = [("variance", None), ("final_noise", None)];
        Ok(Recover {
            model: self.model.request(),
            data: self.data.clone(),
            t: self.t,
            sampler: sampler(Some(&self.sampler), self.eta, no_settings, "ddim")?,
            steps: self.steps,
            count: self.count,
            seed: self.seed,
            out: Some(self.out.clone()),
            origin_bug: self.origin_bug,
            batch_size: self.batch_size,
            compute: self.compute.request(),
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.compute.threads)?;
    let terminal = Terminal::default();
    let recovered = request.run(&terminal)?;
    terminal.clear();
    result(format!("PSNR noisy      {:.2} dB", recovered.noisy_psnr))?;
    result(format!("PSNR recovered  {:.2} dB", recovered.recovered_psnr))?;
    recovered.files.iter().try_for_each(|file| result(file.display()))
}
