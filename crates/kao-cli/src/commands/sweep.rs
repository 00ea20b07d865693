//! `kao sweep`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::output::result;
use crate::progress::Terminal;
use crate::sampling::spacing;
use clap::Args;
use kao::requests::{Request, Sweep};
use kao::timesteps::Spacing;
use kao::{ErrorKind, Result};
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

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Sweep {
        Sweep {
            model: self.model.request(),
            out: self.out.clone(),
            count: self.count,
            columns: self.columns,
            seed: self.seed,
            spacing: self.spacing,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            compute: self.compute.request(),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request();
    set_threads(request.compute.threads)?;
    let terminal = Terminal::default();
    let swept = request.run(&terminal);
    terminal.clear();
    let swept = swept.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => error.with_hint("started again, it keeps the runs that are done"),
        _ => error,
    })?;
    result(swept.page.display())
}
