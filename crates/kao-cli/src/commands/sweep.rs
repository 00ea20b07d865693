//! `kao sweep`

use crate::compute::{Compute, ModelArgument, check_batch_size};
use crate::destination;
use crate::memory;
use crate::output::result;
use crate::progress::Terminal;
use crate::sampling::spacing;
use clap::Args;
use kao::experiments::{SweepConfig, published_runs, sweep};
use kao::render::{self, Layout};
use kao::timesteps::Spacing;
use kao::{Error, ErrorKind, Result};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao sweep --model run --out sweep
  kao sweep --model last.ckpt --out sweep --count 16 --max-steps 100   without the long runs

Started again, it keeps the runs that are done.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Folder to write to
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Images per run
    #[arg(long, short = 'n', value_name = "N", default_value_t = 256)]
    count: usize,
    /// Columns of the grids
    #[arg(long, value_name = "N", default_value_t = 16)]
    columns: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Which timesteps are visited; linear is the original's
    #[arg(long, value_parser = spacing(), default_value = "linear")]
    spacing: Spacing,
    /// Leave out runs of more steps
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    destination::folder(&arguments.out)?;
    check_batch_size(arguments.batch_size)?;
    let device = arguments.compute.open()?;
    let (model, model_name) = arguments.model.load(&device)?;
    let most = arguments.max_steps.unwrap_or(usize::MAX);
    let runs: Vec<_> = published_runs().into_iter().filter(|run| run.n_steps <= most).collect();
    if runs.is_empty() {
        let allowed = "at least 10, the steps of the shortest run";
        return Err(Error::out_of_range("--max-steps", most, allowed));
    }
    let unet = &model.config.unet;
    memory::check("--count", "so many images", memory::images(arguments.count, unet))?;
    render::check_grid(arguments.count, unet.image_size, arguments.columns, &Layout::default())?;
    let together = arguments.batch_size.min(arguments.count);
    memory::check("--batch-size", "so many images at a time", memory::forward(together, unet))?;
    let config = SweepConfig {
        runs,
        count: arguments.count,
        n_columns: arguments.columns,
        seed: arguments.seed,
        spacing: arguments.spacing,
        batch_size: arguments.batch_size,
        model_name,
    };
    arguments.model.say_default();
    let terminal = Terminal::default();
    let page = sweep(&model, &config, &arguments.out, &terminal);
    terminal.clear();
    let page = page.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => error.with_hint("started again, it keeps the runs that are done"),
        _ => error,
    })?;
    result(page.display())
}
