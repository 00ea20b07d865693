//! `kao train`
//!
//! Here are the arguments. `request` turns them into a configuration, `new_run` and `resume` check
//! whether the run can begin, `progress` shows how it goes, and `plan` says what it takes.

mod new_run;
mod plan;
mod progress;
mod request;
mod resume;

use crate::compute::Compute;
use crate::interrupt;
use crate::output::{note, one_line, result};
use crate::progress::Terminal;
use clap::Args;
use kao::dataset::{Classes, Folder, Tags};
use kao::denoiser::Prediction;
use kao::device::Device;
use kao::files::resolved;
use kao::quantities::{self, counted, duration};
use kao::train::checkpoint::{self, Checkpoint};
use kao::train::{CHECKPOINTS, Decay, Optimizer, RunDir, TimestepSampling, TrainConfig, Training};
use kao::{Error, Result};
use progress::TrainingProgress;
use request::named;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  kao train --data faces --out run
  kao train --data faces --out run --preset tiny
  kao train --data faces --out run --preset tiny --steps 10000 --resume    resume, or train longer
  kao train --data faces --out run --preset anime64 --epochs 500
  kao train --config run/config.toml --out again                           repeat a run
  kao train --data faces --out run --preset anime64 --memory 4GiB --dry-run    what it takes
  kao train --data mine --out mine-run --from run --learning-rate 1e-4     begin with a model

The run directory holds model.safetensors (give it to `kao sample --model run`), checkpoints/,
samples/, logs/ (JSON lines, and events for `tensorboard --logdir RUN_DIR`) and config.toml. Ctrl-C
saves and stops; the same command with --resume continues. `kao info RUN_DIR` summarizes a run.";

#[derive(Args)]
#[command(after_help = format!("{}\n\n{EXAMPLES}", plan::presets()))]
pub struct Arguments {
    /// Folder of pictures
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
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
    /// How timesteps are drawn [uniform, stratified, cosine]
    #[arg(long, value_name = "HOW", value_parser = named::<TimestepSampling>)]
    timestep_sampling: Option<TimestepSampling>,
    /// Gamma of the min-SNR loss weights, such as 5; with 0 all timesteps have the same weight
    #[arg(long, value_name = "GAMMA")]
    min_snr_gamma: Option<f64>,
    /// Dropout probability
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,
    /// Optimizer [adam, adamw]
    #[arg(long, value_name = "NAME", value_parser = named::<Optimizer>)]
    optimizer: Option<Optimizer>,
    /// Weight decay of adamw; a step applies it times the learning rate
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
    /// Leave out tags that fewer training pictures have
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "no_tags")]
    min_tag_count: u64,
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

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.compute.open()?;
    match arguments.resume {
        true => resume::resume(arguments, &device),
        false => new_run::start(arguments, &device),
    }
}

/// Opens the run directory at `path`, locked where the file system offers locks.
fn open(path: &Path) -> Result<RunDir> {
    let run_dir = RunDir::open(path)?;
    if let Some(reason) = run_dir.unlocked() {
        note(one_line(&format!(
            "warning: `{}` cannot be locked ({reason}): start no second training there",
            path.display()
        )));
    }
    Ok(run_dir)
}

fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    checkpoint::list(&run.join(CHECKPOINTS))
}

/// Refuses to train on what the run itself writes. (A run directory within the folder of pictures
/// is not searched for pictures.)
fn refuse_own_samples(data: &Path, out: &Path) -> Result<()> {
    let [pictures, run] = [data, out].map(resolved);
    let problem = if pictures == run {
        "the run directory is the folder of pictures"
    } else if pictures.starts_with(run.join("samples")) {
        "the folder of pictures is that of the run's own samples"
    } else {
        return Ok(());
    };
    Err(Error::malformed(data, problem).with_hint("give another --out"))
}

/// Loads the pictures that `config` names, and their tags where they are wanted.
fn load(config: &TrainConfig, wants_tags: bool) -> Result<Arc<Folder>> {
    let terminal = Terminal::default();
    let mut folder = Folder::load(&config.data, config.model.image_size, &terminal)?;
    terminal.clear();
    if wants_tags {
        let names = folder.pictures().iter().map(|picture| picture.name.as_str());
        let tags = Tags::read(&config.data, names, config.classes)?;
        for warning in tags.warnings() {
            note(one_line(&format!("warning: {warning}")));
        }
        folder = folder.with_tags(tags);
    }
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

/// Trains, and says how the run ended.
fn train(
    config: &TrainConfig,
    run_dir: &RunDir,
    folder: Arc<Folder>,
    resume: Option<Checkpoint>,
    device: &Device,
) -> Result<()> {
    let started = Instant::now();
    let n_steps_before = resume.as_ref().map_or(0, |checkpoint| checkpoint.position.n_steps);
    let progress = TrainingProgress::new(config, n_steps_before);
    let mut training = Training::new(config.clone()).folder(folder).run_dir(run_dir).device(device);
    if let Some(checkpoint) = resume {
        training = training.resume(checkpoint);
    }
    let trained = training.run(&progress)?;
    let saving = progress.finish();
    let out = run_dir.path().display();
    if trained.stopped_early {
        if interrupt::takes_last_word() {
            note(one_line(&format!(
                "stopped at step {} and saved; go on with: kao train --resume --out {out}",
                trained.n_steps
            )));
        }
        drop(saving);
        return Err(Error::interrupted());
    }
    let seconds = started.elapsed().as_secs_f64();
    let n_steps = trained.n_steps - n_steps_before;
    note(format!("{} in {}", counted(n_steps, "step"), duration(seconds)));
    note(format!("hint: sample from it with: kao sample --model {out}"));
    result(run_dir.model().display())
}
