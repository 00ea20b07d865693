//! `kao train`

use super::bench::preset;
use crate::compute::Compute;
use crate::destination;
use crate::interrupt;
use crate::memory;
use crate::output::{counted, note, one_line, result};
use crate::progress::{Progress, duration};
use clap::Args;
use kao::dataset::{Folder, SplitConfig};
use kao::device::Device;
use kao::render::Layout;
use kao::train::checkpoint::{self, Checkpoint};
use kao::train::{CHECKPOINTS, Event, RunDir, SAMPLE_COLUMNS, TrainConfig, train};
use kao::{Error, ErrorKind, Result, render};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao train --data faces --out run --preset tiny
  kao train --data faces --out run --preset tiny --steps 10000 --resume    go on, or longer
  kao train --data faces --out run --preset anime64 --epochs 500
  kao train --config run/config.toml --out again                           repeat a run

The run directory holds model.safetensors (give it to `kao sample --model run`), checkpoints/,
samples/, logs/ and config.toml. Ctrl-C saves and stops.")]
pub struct Arguments {
    /// Folder of pictures
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Run directory to write
    #[arg(long, value_name = "RUN_DIR")]
    out: PathBuf,
    /// Configuration to start from [anime64, small64, tiny] [default: anime64]
    #[arg(long, conflicts_with = "config")]
    preset: Option<String>,
    /// TOML file to start from, such as the config.toml of a run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run directory, with its configuration
    #[arg(long, conflicts_with_all = ["preset", "config"])]
    resume: bool,
    /// Steps in all
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Passes over the training pictures, in place of steps
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Pictures per step
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Pictures at a time: memory grows with it
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<usize>,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Steps over which the learning rate grows from 0
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u64>,
    /// Scale gradients down to this norm; 0 leaves them
    #[arg(long, value_name = "NORM")]
    max_gradient_norm: Option<f64>,
    /// Half-life of the averaged weights, in pictures
    #[arg(long, value_name = "IMAGES", alias = "ema-halflife-images")]
    ema_halflife: Option<f64>,
    /// Do not mirror pictures at random
    #[arg(long)]
    no_flip: bool,
    /// Seed of everything
    #[arg(long)]
    seed: Option<u64>,
    /// Steps between validations, sample grids and checkpoints
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,
    /// Images in a sample grid; 0 makes none
    #[arg(long, value_name = "N")]
    sample_count: Option<usize>,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.compute.open()?;
    match arguments.resume {
        true => resume(arguments, &device),
        false => start(arguments, &device),
    }
}

/// A new run. Its directory is made only once it is known that there is something to put there.
fn start(arguments: &Arguments, device: &Device) -> Result<()> {
    let mut config = arguments.over(arguments.base()?)?;
    destination::folder(&arguments.out)?;
    refuse_a_run_at(&arguments.out)?;
    let folder = load(&config)?;
    arguments.count_epochs(&mut config, &folder)?;
    let run_dir = RunDir::open(&arguments.out)?;
    // Once more: another training may have begun and ended there meanwhile.
    refuse_a_run_at(&arguments.out)?;
    run_dir.write_config(&config)?;
    go(&config, &run_dir, folder, None, device)
}

fn refuse_a_run_at(path: &Path) -> Result<()> {
    if checkpoints(path)?.is_empty() {
        return Ok(());
    }
    Err(Error::malformed(path, "this run directory holds a run already")
        .with_hint("go on with --resume, or give another --out"))
}

fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    checkpoint::list(&run.join(CHECKPOINTS))
}

/// A run from its newest checkpoint on.
fn resume(arguments: &Arguments, device: &Device) -> Result<()> {
    let out = &arguments.out;
    if checkpoints(out)?.is_empty() {
        return Err(Error::malformed(out, "no run with a checkpoint to go on from")
            .with_hint("leave --resume out to start a run there"));
    }
    // Locked before anything is read, lest another training moves on meanwhile.
    let run_dir = RunDir::open(out)?;
    let checkpoint = newest(out)?;
    let position = &checkpoint.position;
    let mut config = arguments.over(position.config.clone())?;
    config.check_continues(&position.config)?;
    let refuse_fewer = |config: &TrainConfig| match config.steps < position.n_steps {
        true => {
            let n_steps = position.n_steps;
            let problem = format!("{} found; the run has done {n_steps} already", config.steps);
            Err(Error::invalid("steps", problem))
        }
        false => Ok(()),
    };
    if arguments.epochs.is_none() {
        refuse_fewer(&config)?;
        if config.steps == position.n_steps && position.looked {
            note(format!("all {} were done before", counted(config.steps, "step")));
            note("hint: give --steps to go on to more");
            return result(run_dir.model().display());
        }
    }
    let folder = load(&config).map_err(|error| match error.kind() {
        ErrorKind::Io { .. } if arguments.data.is_none() => {
            error.with_hint("give --data where the pictures of the run are now")
        }
        _ => error,
    })?;
    arguments.count_epochs(&mut config, &folder)?;
    refuse_fewer(&config)?;
    run_dir.write_config(&config)?;
    go(&config, &run_dir, folder, Some(checkpoint), device)
}

fn newest(run: &Path) -> Result<Checkpoint> {
    let paths = checkpoints(run)?;
    let [before @ .., newest] = paths.as_slice() else {
        return Err(Error::malformed(run, "its checkpoints are gone"));
    };
    checkpoint::read(newest).map_err(|error| match (error.kind(), before.last()) {
        (ErrorKind::Malformed { .. }, Some(before)) => {
            error.with_hint(format!("remove it to go on from `{}`", before.display()))
        }
        _ => error,
    })
}

impl Arguments {
    /// What to start from when no run is resumed.
    fn base(&self) -> Result<TrainConfig> {
        match (&self.preset, &self.config) {
            (_, Some(path)) => TrainConfig::read(path),
            (Some(name), None) => Ok(preset(name)?.config()),
            (None, None) => Ok(TrainConfig::default()),
        }
    }

    /// The flags that were given, over `config`; checked as far as can be without the pictures.
    fn over(&self, mut config: TrainConfig) -> Result<TrainConfig> {
        fn set<T: Clone>(entry: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *entry = value.clone();
            }
        }
        set(&mut config.data, &self.data);
        set(&mut config.steps, &self.steps);
        set(&mut config.batch_size, &self.batch_size);
        set(&mut config.micro_batch_size, &self.micro_batch_size);
        set(&mut config.learning_rate, &self.learning_rate);
        set(&mut config.warmup_steps, &self.warmup_steps);
        set(&mut config.max_gradient_norm, &self.max_gradient_norm);
        set(&mut config.ema_halflife_images, &self.ema_halflife);
        set(&mut config.seed, &self.seed);
        set(&mut config.save_every, &self.save_every);
        set(&mut config.sample_count, &self.sample_count);
        config.horizontal_flip &= !self.no_flip;
        if config.batch_size > 0 {
            config.micro_batch_size = config.micro_batch_size.min(config.batch_size);
        }
        if self.epochs == Some(0) {
            return Err(Error::invalid("epochs", "0 found; expected at least 1"));
        }
        if config.data.as_os_str().is_empty() {
            return Err(Error::invalid("data", "none given; expected a folder of pictures")
                .with_hint(
                    "`kao draw --count 2000 --out faces` makes one, `kao prepare RAW faces` another",
                ));
        }
        config.validate()?;
        let (unet, together) = (&config.model, config.micro_batch_size);
        let needed = memory::training(config.batch_size, together, unet);
        memory::check("--batch-size", "such a training step", needed)?;
        if config.sample_count > 0 {
            let needed = memory::images(config.sample_count, unet);
            memory::check("--sample-count", "so many images", needed)?;
            let size = unet.image_size;
            render::check_grid(config.sample_count, size, SAMPLE_COLUMNS, &Layout::default())?;
        }
        Ok(config)
    }

    /// Puts steps in the place of epochs.
    fn count_epochs(&self, config: &mut TrainConfig, folder: &Folder) -> Result<()> {
        let Some(epochs) = self.epochs else { return Ok(()) };
        let n_pictures = folder.split(&SplitConfig::default())?.train.len() as u64;
        let n_images = epochs.checked_mul(n_pictures).ok_or_else(|| {
            Error::invalid("epochs", format!("{epochs} found; that is too many steps to count"))
        })?;
        config.steps = n_images.div_ceil(config.batch_size as u64).max(1);
        Ok(())
    }
}

fn load(config: &TrainConfig) -> Result<Arc<Folder>> {
    let progress = Progress::new("reading", 0, "pictures");
    let folder = Folder::load(
        &config.data,
        config.model.image_size,
        &|at| progress.set_of(at.n_done as u64, at.n_total as u64),
        &interrupt::asked,
    )?;
    drop(progress);
    if let [first, rest @ ..] = folder.skipped() {
        let more =
            if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
        note(one_line(&format!("warning: `{}` skipped: {}{more}", first.path, first.reason)));
    }
    Ok(Arc::new(folder))
}

fn go(
    config: &TrainConfig,
    run_dir: &RunDir,
    folder: Arc<Folder>,
    resume: Option<Checkpoint>,
    device: &Device,
) -> Result<()> {
    let started = Instant::now();
    let before = resume.as_ref().map_or(0, |checkpoint| checkpoint.position.n_steps);
    let progress = Progress::new("training", config.steps, "steps").starting_at(before);
    let mut loss = RunningMean::default();
    let mut rate = RunningMean::default();
    let outcome = train(config, run_dir, folder, resume, device, &mut |event| {
        match event {
            Event::Started {
                n_steps,
                total_steps,
                n_parameters,
                n_pictures: [train, held, test],
            } => {
                progress.say(&format!(
                    "{:.2} M parameters; {} to train on, {held} to validate, {test} to test; \
                     {} of {total_steps} steps to go",
                    n_parameters as f64 / 1e6,
                    counted(train as u64, "picture"),
                    total_steps.saturating_sub(n_steps)
                ));
                if held == 0 {
                    progress.say("warning: too few pictures for a validation set: no loss on it");
                }
            }
            Event::Step(step) => {
                loss.add(step.loss);
                rate.add(step.images_per_second);
                progress.set_with(step.step, || {
                    format!("loss {:.4}, {:.0} images/s", loss.value, rate.value)
                });
            }
            Event::Validated { n_steps, loss, is_best } => {
                let best = if is_best { ", the best so far" } else { "" };
                progress.say(&format!("step {n_steps}: validation loss {loss:.5}{best}"));
            }
            Event::Wrote(_) | Event::Looking => {}
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    let out = run_dir.path().display();
    if outcome.stopped_early {
        note(format!("stopped after step {}; saved", outcome.n_steps));
        let hint = format!("go on with: kao train --resume --out {out}");
        return Err(Error::interrupted().with_hint(hint));
    }
    let seconds = started.elapsed().as_secs_f64();
    note(format!("{} in {}", counted(outcome.n_steps - before, "step"), duration(seconds)));
    note(format!("hint: sample from it with: kao sample --model {out}"));
    result(run_dir.model().display())
}

/// An exponentially weighted mean for display.
#[derive(Default)]
struct RunningMean {
    value: f64,
    n: u32,
}

impl RunningMean {
    fn add(&mut self, value: f64) {
        self.n += 1;
        let share = (1.0 / f64::from(self.n)).max(0.02);
        self.value += share * (value - self.value);
    }
}
