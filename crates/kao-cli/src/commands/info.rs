//! `kao info`

use crate::destination;
use crate::output::{counted, one_line, result};
use crate::progress::duration;
use clap::Args;
use kao::model::{self, ModelConfig};
use kao::schedule::NoiseSchedule;
use kao::train::history::{Direction, Look, Trend};
use kao::train::summary::Summary;
use kao::train::{CONFIG_FILE, checkpoint, curves};
use kao::weights::Contents;
use kao::{Error, Result, render};
use std::fmt::Display;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao info last.ckpt
  kao info run                           how a run stands, and how to go on
  kao info run --plot loss.png           its losses as a picture
  kao info model.safetensors --tensors
  kao info built-in                      the model that is part of the program
  kao info grid.png                      how a picture was made")]
pub struct Arguments {
    /// Model, checkpoint, run directory, or picture that Kao made; `built-in` is a model too
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Draw the losses of a run directory
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,
    /// Tell of a run directory as JSON
    #[arg(long, conflicts_with = "tensors")]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    if path.is_dir() {
        return run_dir(arguments);
    }
    for (flag, is_given) in [("plot", arguments.plot.is_some()), ("json", arguments.json)] {
        if is_given && (path.exists() || model::is_built_in(path)) {
            let problem = format!("`{}` is a file; expected a run directory", path.display());
            return Err(Error::invalid(flag, problem));
        }
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return picture(path);
    }
    weights_file(path, arguments.tensors)
}

fn picture(path: &Path) -> Result<()> {
    let texts = render::read_png_text(path)?;
    if texts.is_empty() {
        return Err(Error::malformed(path, "a picture that does not say how it was made"));
    }
    for (key, text) in texts {
        row(&key, text)?;
    }
    Ok(())
}

fn run_dir(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    if let Some(plot) = &arguments.plot {
        render::check_png_path(plot)?;
    }
    let summary = Summary::of(path)?;
    match arguments.json {
        true => {
            let json = serde_json::to_string_pretty(&summary);
            result(json.map_err(|error| Error::malformed(path, error))?)?;
        }
        false => tell(&summary)?,
    }
    if let Some(plot) = &arguments.plot {
        destination::file(plot)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let picture = curves::draw(&summary.history, &one_line(&name))?;
        let texts = [
            ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("run", path.display().to_string()),
            ("step", summary.step.to_string()),
        ];
        render::write_png(plot, &picture, &texts)?;
        if !arguments.json {
            row("plot", plot.display())?;
        }
    }
    match &summary.model {
        Some(model) if arguments.tensors => {
            result("")?;
            weights_file(model, true)
        }
        _ => Ok(()),
    }
}

/// How a run stands, the most important first.
fn tell(summary: &Summary) -> Result<()> {
    let run = summary.path.display();
    row("state", state(summary))?;
    let epochs = summary.epochs.map(|epochs| format!(", {epochs:.1} epochs")).unwrap_or_default();
    row("images seen", format_args!("{}{epochs}", summary.images))?;
    if let (Some(last), Some(best)) = (&summary.last_look, &summary.best_look) {
        row("validation loss", validation(last, best))?;
        for range in &last.validation_by_t {
            let name = format!("  t {} to {}", range.from, range.to.saturating_sub(1));
            row(&name, format_args!("{:.5}", range.loss))?;
        }
        if let Some(raw) = last.raw_validation_loss {
            row("  without averaging", format_args!("{raw:.5}"))?;
        }
    }
    if let Some(trend) = &summary.trend {
        row("trend", trend_in_words(trend))?;
    }
    if let Some(speed) = summary.images_per_second {
        row("speed", format_args!("{speed:.1} images/s"))?;
    }
    if summary.training_seconds > 0.0 {
        row("time in training", duration(summary.training_seconds))?;
    }
    if let Some(seconds) = summary.seconds_left.filter(|_| !summary.is_finished()) {
        row("time left", format_args!("{} at this speed", duration(seconds)))?;
    }
    match &summary.checkpoint {
        Some(newest) => {
            let age = newest.age_seconds.map(|age| format!(", {} old", duration(age)));
            let (n, age) = (summary.n_checkpoints, age.unwrap_or_default());
            row("checkpoints", format_args!("{n}, newest {}{age}", newest.path.display()))?;
        }
        None => row("checkpoints", summary.n_checkpoints)?,
    }
    match &summary.sample {
        Some(newest) => {
            row("samples", format_args!("{}, newest {}", summary.n_samples, newest.display()))?;
        }
        None => row("samples", "0")?,
    }
    match &summary.model {
        Some(model) => row("model", model.display())?,
        None => row("model", "none yet")?,
    }
    for problem in &summary.problems {
        row("problem", problem)?;
    }
    if summary.running != Some(true) {
        match (&summary.checkpoint, summary.is_finished()) {
            (Some(_), false) => row("go on", format_args!("kao train --resume --out {run}"))?,
            (Some(_), true) => {
                row("go on", format_args!("kao train --resume --out {run} --steps MORE"))?;
            }
            (None, _) => {
                let config = summary.path.join(CONFIG_FILE);
                if config.is_file() {
                    let config = config.display();
                    row("begin", format_args!("kao train --config {config} --out {run}"))?;
                }
            }
        }
    }
    if summary.model.is_some() {
        row("sample", format_args!("kao sample --model {run}"))?;
    }
    Ok(())
}

fn state(summary: &Summary) -> String {
    let is_running = summary.running == Some(true);
    let state = match (is_running, summary.is_finished(), summary.step) {
        (true, ..) => "training now",
        (false, true, _) => "finished",
        (false, false, 0) => "not begun",
        (false, false, _) => "stopped",
    };
    let step = match summary.total_steps {
        Some(total) => {
            let percent = 100.0 * summary.step as f64 / total.max(1) as f64;
            format!("step {} of {total} ({percent:.1} %)", summary.step)
        }
        None => format!("step {}", summary.step),
    };
    // Steps after the newest checkpoint are lost when a run does not write it any more.
    let back = summary.checkpoint.as_ref().filter(|at| !is_running && at.step < summary.step);
    let back = back.map(|at| format!(", goes on from step {}", at.step)).unwrap_or_default();
    format!("{state}, {step}{back}")
}

fn validation(last: &Look, best: &Look) -> String {
    let now = format!("{:.5} at step {}", last.validation_loss, last.step);
    match last.step == best.step {
        true => format!("{now}, the best so far"),
        false => format!("{now}; best {:.5} at step {}", best.validation_loss, best.step),
    }
}

fn trend_in_words(trend: &Trend) -> String {
    let direction = match trend.direction {
        Direction::Falling => "falling",
        Direction::Flat => "flat",
        Direction::Rising => "rising",
    };
    let looks = counted(trend.n_looks as u64, "look");
    format!("{direction}: {:+.1} % over the last {looks}", 100.0 * trend.change)
}

fn weights_file(path: &Path, tensors: bool) -> Result<()> {
    let contents = model::peek(path)?;
    row("format", contents.format)?;
    row("size", format_args!("{:.1} MiB", contents.file_bytes as f64 / f64::from(1 << 20)))?;
    for key in ["epoch", "global_step", "pytorch-lightning_version"] {
        if let Some(value) = contents.metadata.get(key) {
            row(key, value)?;
        }
    }
    if contents.metadata.contains_key(checkpoint::METADATA_KEY) {
        let position = checkpoint::position(path, &contents.metadata)?;
        row("kind", "checkpoint of kao train")?;
        row("steps", format_args!("{} of {}", position.n_steps, position.config.steps))?;
        row("images seen", position.n_images)?;
    } else {
        describe(path, &contents)?;
    }
    for note in &contents.notes {
        row("note", note)?;
    }
    if tensors {
        result("")?;
        for tensor in &contents.tensors {
            result(format!(
                "{:<5} {:<24} {}",
                tensor.dtype,
                format!("{:?}", tensor.shape),
                one_line(&tensor.name)
            ))?;
        }
    }
    Ok(())
}

/// What is known under a name.
fn row(name: &str, value: impl Display) -> Result<()> {
    result(format!("{:<20} {}", one_line(name), one_line(&value.to_string())))
}

/// The model in a file, or what keeps it from being one.
fn describe(path: &Path, contents: &Contents) -> Result<()> {
    let config = match ModelConfig::from_metadata(path, contents.format, &contents.metadata) {
        Ok(config) => config,
        Err(error) => {
            row("tensors", contents.tensors.len())?;
            return row("model", format_args!("no: {error}"));
        }
    };
    let ModelConfig { unet, schedule, prediction, training, .. } = &config;
    let [c, h, w] = unet.image_size;
    row("images", format_args!("{c} x {h} x {w}"))?;
    row("parameters", unet.parameter_count())?;
    row(
        "network",
        format_args!(
            "patch_size {}, ch {}, ch_mult {:?}, attn {:?}, num_res_blocks {}, dropout {}, {:?}, \
             norm_groups {}",
            unet.patch_size,
            unet.ch,
            unet.ch_mult,
            unet.attn,
            unet.num_res_blocks,
            unet.dropout,
            unet.activation,
            unet.norm_groups
        ),
    )?;
    row("schedule", schedule)?;
    if let Some(warning) = NoiseSchedule::new(*schedule)?.leftover_warning() {
        row("schedule warning", warning)?;
    }
    row("prediction", format_args!("{prediction:?}"))?;
    for (key, value) in training {
        // A text without the quotes of JSON.
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        row(key, value)?;
    }
    let shapes: Vec<(&str, &[usize])> =
        contents.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    result("")?;
    model::compare(&config, &shapes).to_string().lines().map(one_line).try_for_each(result)
}
