//! `kao encode`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::output::{note, one_line, result};
use crate::progress::Terminal;
use crate::sampling::spacing;
use clap::Args;
use kao::Result;
use kao::requests::{Encode, Request};
use kao::sampler::InversionConfig;
use kao::timesteps::Spacing;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao encode --model run one.jpg two.png --out latents.safetensors
  kao encode --model run faces --count 8 --steps 100 --picture encoded.png --out latents.safetensors

Pictures come to the size of the model as `kao prepare` brings them there. The noise is decoded by
`kao sample --noise`, with the same model, the sampler ddim and as many steps, as the last line
says. The error is that of Song et al. 2021: the mean squared error of a value, in [0, 1].")]
pub struct Arguments {
    /// Picture files, or a folder of them
    #[arg(value_name = "PICTURES", required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgument,
    /// File of noise to write (.safetensors): `x_T` [N,C,H,W]
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// How many pictures, the first ones [default: all]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    /// Steps: the more, the more exact
    #[arg(long, value_name = "N", default_value_t = 50)]
    steps: usize,
    /// Which timesteps are visited
    #[arg(long, value_parser = spacing(), default_value = "trailing")]
    spacing: Spacing,
    /// 1: DDIM inversion as published; 2: each step begins where the noise of the one before leads
    /// to, which costs no more
    #[arg(long, value_name = "N", default_value_t = 2)]
    order: usize,
    /// Evaluations of the network in each step: each brings it nearer to the exact inverse
    #[arg(long, value_name = "N", default_value_t = 1)]
    iterations: usize,
    /// Picture to write (.png): each picture, its noise, and what that is decoded to
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Pictures at a time: memory grows with it, the noise stays the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Encode {
        let Arguments { order, iterations, .. } = *self;
        Encode {
            model: self.model.request(),
            pictures: self.pictures.clone(),
            out: self.out.clone(),
            count: self.count,
            steps: self.steps,
            spacing: self.spacing,
            inversion: InversionConfig { order, iterations },
            picture: self.picture.clone(),
            batch_size: self.batch_size,
            compute: self.compute.request(),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request();
    set_threads(request.compute.threads)?;
    let terminal = Terminal::default();
    let encoded = request.run(&terminal)?;
    terminal.clear();
    result(format!("evaluations of the network  {}", encoded.n_evaluations))?;
    result(format!("error per dimension         {:.6}", encoded.error))?;
    result(format!("PSNR                        {:.2} dB", encoded.psnr))?;
    encoded.files.iter().try_for_each(|file| result(file.display()))?;
    // A path that is not Unicode has no command line.
    if let Ok(command) = encoded.decode.command_line() {
        note(one_line(&format!("to decode: {command}")));
    }
    Ok(())
}
