//! `kao train`

mod plan;

use crate::compute::Compute;
use crate::destination;
use crate::interrupt;
use crate::memory;
use crate::output::{note, one_line, result};
use crate::preset::preset;
use crate::progress::{Progress, Terminal};
use clap::Args;
use kao::dataset::{Folder, SplitConfig, usual_side};
use kao::denoiser::Prediction;
use kao::device::Device;
use kao::model::{ModelConfig, RUN_MODEL};
use kao::quantities::{counted, duration};
use kao::render::Layout;
use kao::schedule::NoiseSchedule;
use kao::train::checkpoint::{self, Checkpoint, Newest, Position};
use kao::train::{
    CHECKPOINTS, CONFIG_FILE, Decay, Event, LOG_FILE, Optimizer, Preset, RunDir, SAMPLE_COLUMNS,
    TimestepSampling, TrainConfig, check_initial_model, check_pictures, train,
};
use kao::unet::UNetConfig;
use kao::{Error, ErrorKind, Result, quantities, render};
use plan::plan;
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long the first steps tell how long a run will take.
const FIRST_STEPS: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  kao train --data faces --out run
  kao train --data faces --out run --preset tiny
  kao train --data faces --out run --preset tiny --steps 10000 --resume    go on, or longer
  kao train --data faces --out run --preset anime64 --epochs 500
  kao train --config run/config.toml --out again                           repeat a run
  kao train --data faces --out run --preset anime64 --memory 4GiB --dry-run    what would it take?
  kao train --data mine --out mine-run --from run --learning-rate 1e-4     go on from a model

The run directory holds model.safetensors (give it to `kao sample --model run`), checkpoints/,
samples/, logs/ (JSON lines, and events for `tensorboard --logdir RUN_DIR`) and config.toml. Ctrl-C
saves and stops; the same command with --resume goes on. `kao info RUN_DIR` sums a run up.";

#[derive(Args)]
#[command(after_help = format!("{}\n\n{EXAMPLES}", plan::presets()))]
pub struct Arguments {
    /// Folder of pictures
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Run directory to write
    #[arg(long, short, value_name = "RUN_DIR")]
    out: PathBuf,
    /// Configuration to start from [anime64, small64, tiny] [default: small64, or tiny where the
    /// pictures have fewer than 64 pixels a side]
    #[arg(long, conflicts_with = "config")]
    preset: Option<String>,
    /// TOML file to start from, such as the config.toml of a run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run directory, with its configuration and the flags
    /// given. The command that began the run may be given again with --resume
    #[arg(long)]
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
    /// Choose the pictures at a time such that the run stays within this memory, such as 4GiB
    #[arg(long, value_name = "SIZE", conflicts_with = "micro_batch_size", value_parser = quantities::parse_size)]
    memory: Option<u64>,
    /// Compute inner results again for the gradients: less memory, more time
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Begin with the weights of this model; it also says architecture, schedule and prediction
    /// where no preset or configuration is given. One that is given may differ in the schedule alone
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// What the network predicts [epsilon, x0, v]
    #[arg(long, value_name = "WHAT", value_parser = named::<Prediction>)]
    prediction: Option<Prediction>,
    /// How timesteps are drawn [uniform, stratified, cosine]
    #[arg(long, value_name = "HOW", value_parser = named::<TimestepSampling>)]
    timestep_sampling: Option<TimestepSampling>,
    /// Gamma of min-SNR weights, such as 5; 0 weighs all timesteps alike
    #[arg(long, value_name = "GAMMA")]
    min_snr_gamma: Option<f64>,
    /// Probability of dropout
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,
    /// Optimizer [adam, adamw]
    #[arg(long, value_name = "NAME", value_parser = named::<Optimizer>)]
    optimizer: Option<Optimizer>,
    /// Decay of the weights with adamw, times the learning rate
    #[arg(long, value_name = "SHARE")]
    weight_decay: Option<f64>,
    /// Learning rate at its highest
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// How it falls after its warm-up, until the last step [constant, cosine, linear]
    #[arg(long, value_name = "HOW", value_parser = named::<Decay>)]
    learning_rate_decay: Option<Decay>,
    /// What it falls to; by default the same share of --learning-rate as before
    #[arg(long, value_name = "RATE")]
    final_learning_rate: Option<f64>,
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
    /// Checkpoints kept, besides the best
    #[arg(long, value_name = "N")]
    keep_checkpoints: Option<usize>,
    /// Steps between lines in the log
    #[arg(long, value_name = "N")]
    log_every: Option<u64>,
    /// Pictures to validate with, at most
    #[arg(long, value_name = "N")]
    validation_images: Option<usize>,
    /// Images in a sample grid; 0 makes none
    #[arg(long, value_name = "N")]
    sample_count: Option<usize>,
    /// Steps of a sample grid
    #[arg(long, value_name = "N")]
    sample_steps: Option<usize>,
    /// Print what the run would take, and train nothing
    #[arg(long)]
    dry_run: bool,
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
    refuse_own_samples(&config.data, &arguments.out)?;
    warn_of_schedule(&config)?;
    let folder = load(&config)?;
    arguments.fit(&mut config, &folder)?;
    check_initial_model(&config)?;
    if arguments.dry_run {
        // What would fail fails here too, and nothing is written.
        RunDir::check_free(&arguments.out)?;
        refuse_another_config(&arguments.out, &config)?;
        return plan(&config, &folder, 0, device);
    }
    let run_dir = open(&arguments.out)?;
    // Once more: another training may have begun and ended there meanwhile.
    refuse_a_run_at(&arguments.out)?;
    refuse_another_config(&arguments.out, &config)?;
    run_dir.write_config(&config)?;
    go(&config, &run_dir, folder, None, device)
}

fn refuse_a_run_at(path: &Path) -> Result<()> {
    let Some(file) = RunDir::file_of_a_run(path)? else { return Ok(()) };
    if !checkpoints(path)?.is_empty() {
        return Err(Error::malformed(path, "this run directory holds a run already")
            .with_hint("go on with --resume, or give another --out"));
    }
    let problem = format!("holds files of another run, such as `{}`", file.display());
    Err(Error::malformed(path, problem).with_hint("give another --out, or move them away"))
}

/// Refuses to overwrite a configuration that somebody put there, or to mix logs with those of another
/// run that ended before its first checkpoint. The same run may begin again.
fn refuse_another_config(out: &Path, config: &TrainConfig) -> Result<()> {
    let (path, log) = (out.join(CONFIG_FILE), out.join(LOG_FILE));
    let is_this_runs = || TrainConfig::read(&path).is_ok_and(|written| written == *config);
    if !(path.exists() || log.exists()) || is_this_runs() {
        return Ok(());
    }
    if !path.exists() {
        return Err(Error::malformed(&log, "the log of another run")
            .with_hint("give another --out, or move it away"));
    }
    let hint = format!("begin that run with --config {}, or move it away", path.display());
    Err(Error::malformed(&path, "a configuration other than this run's").with_hint(hint))
}

/// The run directory at `path`, locked where that can be had.
fn open(path: &Path) -> Result<RunDir> {
    let run_dir = RunDir::open(path)?;
    if let Some(words) = run_dir.unlocked() {
        note(one_line(&format!(
            "warning: `{}` cannot be locked ({words}): start no second training there",
            path.display()
        )));
    }
    Ok(run_dir)
}

/// The configuration to go on with: that of `config.toml`, which may have been edited since the
/// checkpoint. What was is told; what may not be is refused.
fn edited(out: &Path, position: &Position) -> Result<TrainConfig> {
    let path = out.join(CONFIG_FILE);
    if !path.exists() {
        return Ok(position.config.clone());
    }
    let hint = "put it right, or remove it to go on with the configuration of the checkpoint";
    let config = TrainConfig::read(&path).map_err(|error| error.with_hint(hint))?;
    config
        .check_continues(&position.config)
        .map_err(|error| Error::malformed(&path, error).with_hint(hint))?;
    for (name, now, before) in config.differences(&position.config) {
        note(one_line(&format!("{CONFIG_FILE}: {name} is {now} now, before it was {before}")));
    }
    Ok(config)
}

/// Says where samples will be poor whatever is learned.
fn warn_of_schedule(config: &TrainConfig) -> Result<()> {
    if let Some(warning) = NoiseSchedule::new(config.schedule)?.leftover_warning() {
        note(format!("warning: {warning}"));
    }
    Ok(())
}

/// Refuses to train on what the run itself writes. (A run directory within the folder of pictures
/// is passed over where they are looked for.)
fn refuse_own_samples(data: &Path, out: &Path) -> Result<()> {
    let [pictures, run] = [data, out].map(destination::resolved);
    let problem = if pictures == run {
        "the run directory is the folder of pictures"
    } else if pictures.starts_with(run.join("samples")) {
        "the folder of pictures is that of the run's own samples"
    } else {
        return Ok(());
    };
    Err(Error::malformed(data, problem).with_hint("give another --out"))
}

fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    checkpoint::list(&run.join(CHECKPOINTS))
}

/// A run from its newest checkpoint on.
fn resume(arguments: &Arguments, device: &Device) -> Result<()> {
    let out = &arguments.out;
    if checkpoints(out)?.is_empty() {
        let hint = match RunDir::file_of_a_run(out)? {
            None => "leave --resume out to start a run there".to_owned(),
            Some(_) => {
                let out = out.display();
                format!("its checkpoints are gone; begin another with its model: --from {out}")
            }
        };
        return Err(Error::malformed(out, "no run with a checkpoint to go on from").with_hint(hint));
    }
    // Locked before anything is read, lest another training moves on meanwhile.
    let run_dir = match arguments.dry_run {
        true => RunDir::check_free(out).map(|()| None)?,
        false => Some(open(out)?),
    };
    let (newest, fate) = match &run_dir {
        Some(run_dir) => (run_dir.newest_checkpoint()?, "it is put aside"),
        None => (checkpoint::newest_whole(&out.join(CHECKPOINTS))?, "it would be put aside"),
    };
    let Newest { checkpoint, path, damaged } = newest;
    for (_, error) in &damaged {
        note(one_line(&format!("warning: {error}; {fate}")));
    }
    if !damaged.is_empty() {
        note(one_line(&format!("going on from `{}`", path.display())));
    }
    let position = &checkpoint.position;
    let mut config = arguments.over(arguments.base_of_resumed(&edited(out, position)?)?)?;
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
            return result(out.join(RUN_MODEL).display());
        }
    }
    refuse_own_samples(&config.data, out)?;
    let folder = load(&config).map_err(|error| match error.kind() {
        ErrorKind::Io { .. } if arguments.data.is_none() => {
            error.with_hint("give --data where the pictures of the run are now")
        }
        _ => error,
    })?;
    arguments.fit(&mut config, &folder)?;
    refuse_fewer(&config)?;
    check_pictures(&config, position, &folder.fingerprint(), out)?;
    let Some(run_dir) = run_dir else {
        return plan(&config, &folder, position.n_steps, device);
    };
    run_dir.write_config(&config)?;
    go(&config, &run_dir, folder, Some(checkpoint), device)
}

impl Arguments {
    /// What to start from when no run is resumed.
    fn base(&self) -> Result<TrainConfig> {
        match (&self.preset, &self.config, &self.from) {
            (_, Some(path), _) => TrainConfig::read(path),
            (Some(name), None, _) => Ok(preset(name)?.config()),
            (None, None, None) => {
                let side = self.data.as_deref().map(usual_side).transpose()?.flatten();
                Ok(side.map_or(Preset::Small64, Preset::for_side).config())
            }
            (None, None, Some(path)) => {
                let ModelConfig { unet: model, schedule, prediction, .. } = ModelConfig::of(path)?;
                Ok(TrainConfig { model, schedule, prediction, ..Preset::Small64.config() })
            }
        }
    }

    /// What to start from when the run of `config` is resumed. The command that began it may be
    /// given again: a preset must be the one that it has, and a file is read again.
    fn base_of_resumed(&self, config: &TrainConfig) -> Result<TrainConfig> {
        let mut base = config.clone();
        if let Some(path) = &self.config {
            base = TrainConfig::read(path)?;
            base.initial_model = config.initial_model.clone();
            if base.data.as_os_str().is_empty() {
                base.data = config.data.clone();
            }
        }
        if let Some(name) = &self.preset {
            base.model =
                UNetConfig { dropout: config.model.dropout, ..preset(name)?.config().model };
        }
        match (&self.from, &config.initial_model) {
            (Some(given), Some(began)) if given == began => Ok(base),
            (None, _) => Ok(base),
            (Some(given), began) => {
                let began = match began {
                    Some(path) => format!("`{}`", path.display()),
                    None => "random weights".to_owned(),
                };
                let problem = format!("the run to resume began with {began}");
                Err(Error::invalid(format!("--from `{}`", given.display()), problem)
                    .with_hint("leave --from out, or start another run in a new folder"))
            }
        }
    }

    /// Says which preset was chosen where none was named.
    fn say_preset(&self, config: &TrainConfig) {
        let is_chosen =
            !self.resume && self.preset.is_none() && self.config.is_none() && self.from.is_none();
        if let Some(preset) = plan::preset_of(config).filter(|_| is_chosen) {
            note(format!("preset {}, chosen by the size of the pictures", preset.name()));
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
        let learning_rate_before = config.learning_rate;
        set(&mut config.learning_rate, &self.learning_rate);
        set(&mut config.warmup_steps, &self.warmup_steps);
        set(&mut config.prediction, &self.prediction);
        set(&mut config.timestep_sampling, &self.timestep_sampling);
        set(&mut config.min_snr_gamma, &self.min_snr_gamma);
        set(&mut config.model.dropout, &self.dropout);
        set(&mut config.optimizer, &self.optimizer);
        set(&mut config.weight_decay, &self.weight_decay);
        set(&mut config.learning_rate_decay, &self.learning_rate_decay);
        // Another rate falls to the same share, unless it is said to what.
        config.final_learning_rate *= config.learning_rate / learning_rate_before;
        set(&mut config.final_learning_rate, &self.final_learning_rate);
        set(&mut config.keep_checkpoints, &self.keep_checkpoints);
        set(&mut config.log_every, &self.log_every);
        set(&mut config.validation_images, &self.validation_images);
        set(&mut config.sample_steps, &self.sample_steps);
        config.gradient_checkpointing |= self.gradient_checkpointing;
        if self.from.is_some() {
            config.initial_model = self.from.clone();
        }
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
            return Err(Error::out_of_range("epochs", 0, "at least 1"));
        }
        if config.data.as_os_str().is_empty() {
            return Err(Error::invalid("data", "none given; expected a folder of pictures")
                .with_hint(
                    "`kao draw --count 2000 --out faces` makes one, `kao prepare RAW faces` another",
                ));
        }
        if let Some(p) = self.dropout.filter(|p| !(0.0..1.0).contains(p)) {
            return Err(Error::out_of_range("--dropout", p, "at least 0 and below 1"));
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

    /// What can be told only with the pictures: the steps of so many epochs, and how many pictures
    /// at a time fit the memory.
    fn fit(&self, config: &mut TrainConfig, folder: &Folder) -> Result<()> {
        self.say_preset(config);
        self.count_epochs(config, folder)?;
        if let Some(limit) = self.memory {
            config.micro_batch_size = config.micro_batch_within(limit, folder.len())?;
        }
        Ok(())
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

/// A value by the name that configuration files give it.
fn named<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    let named = T::deserialize(name.into_deserializer());
    named.map_err(|error: serde::de::value::Error| {
        let words = error.to_string().replace('`', "");
        // What was found stands before it already.
        words.split_once(", ").map_or(words.clone(), |(_, expected)| expected.to_owned())
    })
}

fn load(config: &TrainConfig) -> Result<Arc<Folder>> {
    let terminal = Terminal::default();
    let folder = Folder::load(&config.data, config.model.image_size, &terminal)?;
    terminal.clear();
    if let [first, rest @ ..] = folder.skipped() {
        let more =
            if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
        note(one_line(&format!("warning: `{}` skipped: {}{more}", first.path, first.reason)));
    }
    if folder.n_enlarged() > 0 {
        let [_, height, width] = folder.shape();
        note(format!(
            "warning: {} of {} enlarged to {width}x{height} pixels: the model learns their blur",
            folder.n_enlarged(),
            counted(folder.len() as u64, "picture")
        ));
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
    let mut saved = None;
    let mut says_time = true;
    let mut rate = RunningMean::default();
    let mut saving = None;
    let outcome = train(config, run_dir, folder, resume, device, &mut |event| {
        match event {
            Event::Started {
                n_steps,
                total_steps,
                n_parameters,
                n_pictures: [train, held, test],
                other_schedule,
            } => {
                saving = Some(interrupt::Saving::begin());
                progress.say(&format!(
                    "{:.2} M parameters; {} to train on, {held} to validate, {test} to test",
                    n_parameters as f64 / 1e6,
                    counted(train as u64, "picture")
                ));
                let n_left = total_steps.saturating_sub(n_steps);
                progress.say(&format!("{n_left} of {total_steps} steps to go"));
                if let Some(words) = plan::time_elsewhere(config, n_steps) {
                    progress.say(&words);
                }
                if let Some(found) = other_schedule {
                    progress.say(&format!(
                        "the model it begins with has another schedule ({found}) than the run \
                         ({}): it takes some hundred steps to adapt",
                        config.schedule
                    ));
                }
                if held == 0 {
                    let rest = match test {
                        0 => "all are trained on, and there is no validation loss",
                        _ => "there is no loss on it",
                    };
                    progress
                        .say(&format!("warning: too few pictures for a validation set: {rest}"));
                }
            }
            Event::Step(step) => {
                loss.add(step.loss);
                rate.add(step.images_per_second);
                if says_time && started.elapsed() >= FIRST_STEPS {
                    says_time = false;
                    progress.say(&plan::time_here(config, step.step, rate.value));
                }
                progress.set_with(step.step, || {
                    let mut words = format!("loss {:.4}, {:.0} images/s", loss.value, rate.value);
                    if let Some(n_steps) = saved {
                        words += &format!(", saved at {n_steps}");
                    }
                    words
                });
            }
            Event::Validated { n_steps, loss, raw_loss, is_best } => {
                let best = if is_best { ", the best so far" } else { "" };
                progress.say(&format!(
                    "step {n_steps}: validation loss {loss:.5}{best}; {raw_loss:.5} without \
                     averaging"
                ));
            }
            Event::Saved { n_steps, .. } => saved = Some(n_steps),
            Event::Wrote(_) | Event::Looking => {}
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    let out = run_dir.path().display();
    if outcome.stopped_early {
        if interrupt::takes_last_word() {
            let n_steps = outcome.n_steps;
            note(one_line(&format!(
                "stopped at step {n_steps} and saved; go on with: kao train --resume --out {out}"
            )));
        }
        drop(saving);
        return Err(Error::interrupted());
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
