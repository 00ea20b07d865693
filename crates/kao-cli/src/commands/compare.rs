//! `kao compare`

use crate::compute::{Compute, ModelArgument, set_threads};
use crate::output::{note, result};
use crate::progress::Terminal;
use crate::sampling::{sampler_names, spacing};
use crate::shard::ShardArgument;
use clap::Args;
use kao::requests::{Compare, Comparison, Request};
use kao::timesteps::Spacing;
use kao::{ErrorKind, Result};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao compare --model run --samplers ddim,dpm++,heun --steps 5,10,20 --data faces --out compared
  kao compare --model run --samplers ddim,dpm++-sde --steps 20 --etas 0,0.5,1 --out etas
  kao compare --model run --samplers dpm++,heun,unipc --evaluations 5,10,20 --data faces --out cost
  kao compare --model run --steps 5,10,20 --out compared --shard 0/3         a third of them

Every combination starts from the same noise. --evaluations compares at equal cost: a step of heun
costs two evaluations of the network, so it takes half as many steps. Started again, it keeps the
combinations that are done, those of shards among them: when all shards are done, the same command
without --shard makes the page.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Folder to write to: index.html, compare.csv, compare.json, chart.svg, and grids
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Samplers
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        num_args = 1..,
        value_parser = sampler_names(),
        default_value = "ddim,dpm++,heun"
    )]
    samplers: Vec<String>,
    /// Numbers of steps [default: 10,20,50]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', num_args = 1..)]
    steps: Vec<usize>,
    /// Evaluations of the network for each image, in the place of steps
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        num_args = 1..,
        conflicts_with = "steps"
    )]
    evaluations: Vec<usize>,
    /// Values of η, for the samplers that have it [default: as each has it]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', num_args = 1..)]
    etas: Vec<f64>,
    /// Which timesteps are visited
    #[arg(long, value_parser = spacing(), default_value = "trailing")]
    spacing: Spacing,
    /// Folder of real pictures, to measure how far the images are from them
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Images of each combination; distances want 256 or more
    #[arg(long, short = 'n', value_name = "N", default_value_t = 64)]
    count: usize,
    /// Columns of the grids
    #[arg(long, value_name = "N", default_value_t = 16)]
    columns: usize,
    #[command(flatten)]
    shard: ShardArgument,
    /// Seed of the noise, and of which patches and pictures are compared
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Images at a time: memory grows with it, the images stay the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Compare> {
        Ok(Compare {
            model: self.model.request(),
            out: self.out.clone(),
            samplers: self.samplers.clone(),
            steps: self.steps.clone(),
            evaluations: self.evaluations.clone(),
            etas: self.etas.clone(),
            spacing: self.spacing,
            data: self.data.clone(),
            count: self.count,
            columns: self.columns,
            shard: self.shard.request()?,
            seed: self.seed,
            batch_size: self.batch_size,
            compute: self.compute.request(),
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.compute.threads)?;
    let terminal = Terminal::default();
    let compared = request.run(&terminal);
    terminal.clear();
    let compared = compared.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => {
            error.with_hint("started again, it keeps the combinations that are done")
        }
        _ => error,
    })?;
    if !compared.comparisons.is_empty() {
        result(table(&compared.comparisons))?;
    }
    match compared.page {
        Some(page) => result(page.display()),
        None => {
            note("hint: when all shards are done, the same command without --shard makes the page");
            Ok(())
        }
    }
}

fn table(comparisons: &[Comparison]) -> String {
    let is_measured = comparisons.iter().any(|of| of.distance.is_some());
    let mut lines = vec![format!(
        "{:<24} {:>5} {:>11} {:>12}{}",
        "sampler",
        "steps",
        "evaluations",
        "ms per image",
        if is_measured { format!(" {:>9} {:>7}", "distance", "ratio") } else { String::new() }
    )];
    for of in comparisons {
        let mut line = format!(
            "{:<24} {:>5} {:>11} {:>12.1}",
            of.method(),
            of.steps,
            of.evaluations,
            1000.0 * of.seconds_per_image
        );
        if let (Some(distance), Some(ratio)) = (of.distance, of.ratio()) {
            line += &format!(" {distance:>9.2} {ratio:>7.2}");
        }
        lines.push(line);
    }
    lines.join("\n")
}
