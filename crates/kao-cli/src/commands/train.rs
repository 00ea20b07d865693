//! `kao train`
//!
//! Here are the arguments. `progress` shows how a run goes, and `plan` says what it takes.

mod plan;
mod progress;

use crate::cache::CacheArguments;
use crate::compute::{Compute, set_threads};
use crate::interrupt;
use crate::output::{note, one_line, result};
use crate::progress::Terminal;
use crate::ranks::{self, Ranks};
use clap::Args;
use kao::dataset::Classes;
use kao::denoiser::Prediction;
use kao::quantities::{self, counted, duration};
use kao::ranks::Group;
use kao::requests::{MIN_TAG_COUNT, PlannedRun, Train, TrainedRun, quoted};
use kao::train::{Decay, Optimizer, TimestepSampling};
use kao::{Error, Result};
use progress::TrainingProgress;
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  kao train --data faces --out run
  kao train --data faces --out run --preset tiny
  kao train --data faces --out run --preset tiny --steps 10000 --resume    resume, or train longer
  kao train --data faces --out run --preset anime64 --epochs 500
  kao train --config run/config.toml --out again                           repeat a run
  kao train --data faces --out run --preset anime64 --memory 4GiB --dry-run    what it takes
  kao train --data archives --out run --cache disk                       more pictures than memory
  kao train --data mine --out mine-run --from run --learning-rate 1e-4     begin with a model
  mpirun -n 4 kao train --data faces --out run       on four ranks, in a build with `--features mpi`

The run directory holds model.safetensors (give it to `kao sample --model run`), checkpoints/,
samples/, logs/ (JSON lines, and events for `tensorboard --logdir RUN_DIR`) and config.toml. Ctrl-C
saves and stops; the same command with --resume continues. `kao info RUN_DIR` summarizes a run.
On several ranks (processes, on one machine or many) a run has the bytes of one on a single rank:
docs/CLUSTER.md says how to start it.";

#[derive(Args)]
#[command(after_help = format!("{}\n\n{EXAMPLES}", plan::presets()))]
pub struct Arguments {
    /// Folder of pictures, or of tar archives of them as WebDataset has them; or a pattern of archives
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArguments,
    /// Run directory to write
    #[arg(long, short, value_name = "RUN_DIR")]
    out: PathBuf,
    /// Named configuration to start from [anime64, small64, tiny, diffusers64] [default: small64, or tiny for
    /// pictures of fewer than 64 pixels a side]
    #[arg(long, conflicts_with = "config")]
    preset: Option<String>,
    /// TOML file to start from, such as the config.toml of a run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Resume from the newest checkpoint of the run directory, with its configuration and the flags
    /// given. The command that began the run may be repeated with --resume
    #[arg(long)]
    resume: bool,
    /// Training steps in all
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Passes over the training pictures, in place of steps
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Pictures per step
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Pictures that pass through the network together; memory grows with it
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<usize>,
    /// Choose the micro-batch size so that the run stays within this memory, such as 4GiB
    #[arg(long, value_name = "SIZE", conflicts_with = "micro_batch_size", value_parser = quantities::parse_size)]
    memory: Option<u64>,
    /// Recompute activations in the backward pass: less memory, more time
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Begin with the weights of this model. The run also takes its architecture, schedule and
    /// prediction, unless --preset or --config is given; those may differ only in the schedule
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// What the network predicts [epsilon, x0, v]
    #[arg(long, value_name = "WHAT", value_parser = named::<Prediction>)]
    prediction: Option<Prediction>,
    /// How timesteps are drawn [uniform, stratified, cosine, lognormal]
    #[arg(long, value_name = "HOW", value_parser = named::<TimestepSampling>)]
    timestep_sampling: Option<TimestepSampling>,
    /// Gamma of the min-SNR loss weights, such as 5; with 0 all timesteps have the same weight
    #[arg(long, value_name = "GAMMA")]
    min_snr_gamma: Option<f64>,
    /// How much more errors in the middle of a picture count, such as 10: for portraits, whose eyes
    /// are there and are a few per cent of the pixels [default: 0]
    #[arg(long, value_name = "F")]
    loss_focus: Option<f64>,
    /// Dropout probability
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,
    /// Optimizer [adam, adamw, muon]
    #[arg(long, value_name = "NAME", value_parser = named::<Optimizer>)]
    optimizer: Option<Optimizer>,
    /// Weight decay of adamw and muon; a step applies it times the learning rate
    #[arg(long, value_name = "SHARE")]
    weight_decay: Option<f64>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Learning-rate schedule from the warm-up to the last step [constant, cosine, linear]
    #[arg(long, value_name = "HOW", value_parser = named::<Decay>)]
    learning_rate_decay: Option<Decay>,
    /// Learning rate at the last step [default: the same share of --learning-rate as in the preset
    /// or configuration]
    #[arg(long, value_name = "RATE")]
    final_learning_rate: Option<f64>,
    /// Steps of the warm-up, over which the learning rate grows from 0
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u64>,
    /// Scale gradients with a larger norm down to this one; 0 never scales them
    #[arg(long, value_name = "NORM")]
    max_gradient_norm: Option<f64>,
    /// Half-life of the averaged weights, in pictures
    #[arg(long, value_name = "IMAGES", alias = "ema-halflife-images")]
    ema_halflife: Option<f64>,
    /// Train without the tags of the pictures. They are read from metadata.jsonl, from a text beside
    /// each picture, and from dataset.json
    #[arg(long)]
    no_tags: bool,
    /// Take the names of sub-folders as tags too [folders]
    #[arg(long, value_name = "WHAT", value_parser = named::<Classes>, conflicts_with = "no_tags")]
    classes: Option<Classes>,
    #[arg(long, value_name = "N", conflicts_with = "no_tags", help = min_tag_count_help())]
    min_tag_count: Option<u64>,
    /// Probability that a picture is seen without its tags [default: 0.15]
    #[arg(long, value_name = "P", conflicts_with = "no_tags")]
    tag_dropout: Option<f64>,
    /// Do not mirror pictures at random
    #[arg(long)]
    no_flip: bool,
    /// Random seed
    #[arg(long)]
    seed: Option<u64>,
    /// Steps between validations, sample grids and checkpoints
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,
    /// Number of newest checkpoints to keep; the best one is kept besides
    #[arg(long, value_name = "N")]
    keep_checkpoints: Option<usize>,
    /// Steps between lines of the log
    #[arg(long, value_name = "N")]
    log_every: Option<u64>,
    /// Most pictures to validate with
    #[arg(long, value_name = "N")]
    validation_images: Option<usize>,
    /// Images in a sample grid; with 0 no grid is made
    #[arg(long, value_name = "N")]
    sample_count: Option<usize>,
    /// Sampling steps of a sample grid
    #[arg(long, value_name = "N")]
    sample_steps: Option<usize>,
    /// Print what the run would take, without training
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Train {
        Train {
            data: self.data.clone(),
            cache: self.cache.cache,
            cache_dir: self.cache.cache_dir.clone(),
            out: self.out.clone(),
            preset: self.preset.clone(),
            config: self.config.clone(),
            resume: self.resume,
            steps: self.steps,
            epochs: self.epochs,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size,
            memory: self.memory,
            gradient_checkpointing: self.gradient_checkpointing,
            from: self.from.clone(),
            prediction: self.prediction,
            timestep_sampling: self.timestep_sampling,
            min_snr_gamma: self.min_snr_gamma,
            loss_focus: self.loss_focus,
            dropout: self.dropout,
            optimizer: self.optimizer,
            weight_decay: self.weight_decay,
            learning_rate: self.learning_rate,
            learning_rate_decay: self.learning_rate_decay,
            final_learning_rate: self.final_learning_rate,
            warmup_steps: self.warmup_steps,
            max_gradient_norm: self.max_gradient_norm,
            ema_halflife: self.ema_halflife,
            no_tags: self.no_tags,
            classes: self.classes,
            min_tag_count: self.min_tag_count,
            tag_dropout: self.tag_dropout,
            no_flip: self.no_flip,
            seed: self.seed,
            save_every: self.save_every,
            keep_checkpoints: self.keep_checkpoints,
            log_every: self.log_every,
            validation_images: self.validation_images,
            sample_count: self.sample_count,
            sample_steps: self.sample_steps,
            compute: self.compute.request(),
        }
    }
}

fn min_tag_count_help() -> String {
    format!("Leave out tags that fewer training pictures have [default: {MIN_TAG_COUNT}]")
}

/// The value that has this name in configuration files.
fn named<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    let named = T::deserialize(name.into_deserializer());
    named.map_err(|error: serde::de::value::Error| {
        let words = error.to_string().replace('`', "");
        // The parser names what was found.
        words.split_once(", ").map_or(words.clone(), |(_, expected)| expected.to_owned())
    })
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request();
    if arguments.dry_run {
        return dry_run(&request);
    }
    let ranks = Ranks::join(&request.out)?;
    set_threads(ranks.threads(request.compute.threads))?;
    if let Some(words) = ranks.in_words() {
        note(words);
    }
    let terminal = Terminal::default();
    match request.plan_with(ranks.group(), &terminal) {
        Err(error) => ranks.leave(Err(error), false),
        Ok(planned) => {
            terminal.clear();
            let trained = train(planned, &request, ranks.group());
            ranks.leave(trained, true)
        }
    }
}

/// Says what the run would take.
fn dry_run(request: &Train) -> Result<()> {
    set_threads(request.compute.threads)?;
    if ranks::is_told_by_another() {
        return Ok(());
    }
    let terminal = Terminal::default();
    let planned = request.dry_run(&terminal)?;
    terminal.clear();
    match planned.is_done() {
        true => tell_done(planned),
        false => plan::print(&planned),
    }
}

/// All steps of the run are done.
fn tell_done(planned: PlannedRun) -> Result<()> {
    let steps = counted(planned.n_steps_before(), "step");
    note(format!("all {steps} were done before"));
    note("hint: give a larger number of --steps to train longer");
    result(planned.run(&Terminal::default())?.model.display())
}

/// Trains, and says how the run ended.
fn train(planned: PlannedRun, request: &Train, group: &dyn Group) -> Result<()> {
    if planned.is_done() {
        return tell_done(planned);
    }
    let config = planned.config().clone();
    let progress = TrainingProgress::new(&config, planned.n_steps_before());
    let trained = planned.run_with(group, &progress)?;
    let saving = progress.finish();
    let TrainedRun { model, n_steps, n_steps_before, seconds, stopped_early } = trained;
    let out = quoted(&request.out.to_string_lossy());
    if stopped_early {
        if interrupt::takes_last_word() {
            note(one_line(&format!(
                "stopped at step {n_steps} and saved; go on with: kao train --resume --out {out}"
            )));
        }
        drop(saving);
        return Err(Error::interrupted());
    }
    note(format!("{} in {}", counted(n_steps - n_steps_before, "step"), duration(seconds)));
    note(format!("hint: sample from it with: kao sample --model {out}"));
    result(model.display())
}
