//! `kao info`

mod json;

use crate::output::{note, one_line, result};
use clap::Args;
use kao::error::shortened;
use kao::files::prepare_path;
use kao::formats::Contents;
use kao::model::{self, ModelConfig};
use kao::quantities::{counted, duration, size};
use kao::render::AnimationFormat;
use kao::requests::quoted;
use kao::schedule::NoiseSchedule;
use kao::train::history::{Direction, Trend, ValidationReport};
use kao::train::summary::Summary;
use kao::train::timelapse::{self, Timelapse};
use kao::train::{CONFIG_FILE, RanksReport, checkpoint, curves};
use kao::unet::{TimeScaleShift, UNetConfig};
use kao::vocabulary::TagCount;
use kao::{Error, Result, render};
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao info last.ckpt
  kao info run                           how a run stands, and how to go on
  kao info run --plot loss.png           its losses as a picture
  kao info run --animate learning.gif    its sample grids, one after the other
  kao info run --json                    for scripts; of models and pictures too
  kao info model.safetensors --tensors
  kao info built-in                      the model that is part of the program
  kao info ddpm-cifar10-32               a folder of diffusers
  kao info grid.png                      how a picture was made")]
pub struct Arguments {
    /// Model, checkpoint, run directory, folder of diffusers, or picture that Kao made; `built-in` is a
    /// model too
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Draw the losses of a run directory
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,
    /// Animate the sample grids of a run directory (.gif, .apng, .webp)
    #[arg(long, value_name = "FILE")]
    animate: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    let is_model_folder = is_model_folder(path);
    if path.is_dir() && !is_model_folder {
        return run_dir(arguments);
    }
    let of_runs = [("plot", arguments.plot.is_some()), ("animate", arguments.animate.is_some())];
    if let Some((flag, _)) = of_runs.into_iter().find(|(_, is_given)| *is_given)
        && (path.exists() || model::is_built_in(path))
    {
        let problem = format!("`{}` is a file; expected a run directory", path.display());
        return Err(Error::invalid(flag, problem));
    }
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if is_png || AnimationFormat::of(path).is_some() {
        return picture(path, arguments.json);
    }
    match arguments.json {
        true => json::tell(&json::weights_file(path, arguments.tensors)?),
        false => weights_file(path, arguments.tensors),
    }
}

/// Whether a folder is a model, rather than a run directory.
fn is_model_folder(path: &Path) -> bool {
    let is_run = [CONFIG_FILE, model::RUN_MODEL].iter().any(|name| path.join(name).is_file());
    !is_run && model::is_diffusers_folder(path)
}

fn picture(path: &Path, as_json: bool) -> Result<()> {
    let texts = match AnimationFormat::of(path) {
        Some(_) => render::read_animation_text(path)?,
        None => render::read_png_text(path)?,
    };
    if texts.is_empty() {
        return Err(Error::malformed(path, "a picture that does not say how it was made"));
    }
    if as_json {
        return json::tell(&json::picture(path, texts));
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
    if let Some(path) = &arguments.animate {
        timelapse::check_path(path)?;
    }
    let summary = Summary::of(path)?;
    match arguments.json {
        true => {
            json::tell(&json::run(&summary, arguments.tensors)?)?;
        }
        false => tell(&summary)?,
    }
    if let Some(plot) = &arguments.plot {
        prepare_path(plot)?;
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
    if let Some(path) = &arguments.animate {
        let Timelapse { n_frames, n_left_out } = timelapse::write(&summary, path)?;
        if n_left_out > 0 {
            note(format!("{n_left_out} sample grids have another size, and are left out"));
        }
        if !arguments.json {
            let grids = counted(n_frames as u64, "grid");
            row("animation", format_args!("{}, {grids}", path.display()))?;
        }
    }
    match &summary.model {
        Some(model) if arguments.tensors && !arguments.json => {
            result("")?;
            weights_file(model, true)
        }
        _ => Ok(()),
    }
}

/// How a run stands, the most important first.
fn tell(summary: &Summary) -> Result<()> {
    let run = quoted(&summary.path.to_string_lossy());
    row("state", state(summary))?;
    row("images seen", summary.images)?;
    if let Some(epochs) = summary.epochs {
        row("epochs", format_args!("{epochs:.1}"))?;
    }
    if let (Some(last), Some(best)) = (&summary.last_validation, &summary.best_validation) {
        row("validation loss", at_step(last))?;
        row("lowest so far", at_step(best))?;
        for range in &last.validation_by_t {
            let name = format!("  t {} to {}", range.from, range.to.saturating_sub(1));
            row(&name, format_args!("{:.5}", range.loss))?;
        }
        if let Some(raw) = last.raw_validation_loss {
            row("  raw weights", format_args!("{raw:.5}"))?;
        }
    }
    if let Some(trend) = &summary.trend {
        row("trend", trend_in_words(trend))?;
    }
    if let Some(speed) = summary.images_per_second {
        row("speed", format_args!("{speed:.1} images/s"))?;
    }
    if let Some(ranks) = &summary.ranks {
        tell_ranks(ranks)?;
    }
    if summary.training_seconds > 0.0 {
        row("time in training", duration(summary.training_seconds))?;
    }
    if let Some(seconds) = summary.seconds_left.filter(|_| !summary.is_finished()) {
        row("time left", format_args!("{} at this speed", duration(seconds)))?;
    }
    match &summary.checkpoint {
        Some(newest) => {
            row("checkpoints", summary.n_checkpoints)?;
            row("newest checkpoint", newest.path.display())?;
            if let Some(age) = newest.age_seconds {
                row("checkpoint saved", format_args!("{} ago", duration(age)))?;
            }
        }
        None => row("checkpoints", summary.n_checkpoints)?,
    }
    match &summary.sample {
        Some(newest) => {
            row("samples", summary.n_samples)?;
            row("newest sample", newest.display())?;
        }
        None => row("samples", 0)?,
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
                    let config = quoted(&config.to_string_lossy());
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

/// How the ranks of a run on several of them fare.
fn tell_ranks(ranks: &RanksReport) -> Result<()> {
    const SHOWN: usize = 8;
    let speeds = &ranks.images_per_second;
    let mut words: Vec<String> =
        speeds.iter().take(SHOWN).map(|speed| format!("{speed:.1}")).collect();
    if speeds.len() > SHOWN {
        words.push("…".to_owned());
    }
    row("ranks", format_args!("{}: {} images/s", speeds.len(), words.join(", ")))?;
    let (slowest, host) = (ranks.slowest, one_line(&ranks.slowest_host));
    if let Some(speed) = speeds.get(slowest) {
        row("slowest rank", format_args!("{slowest} on {host}, {speed:.1} images/s"))?;
    }
    row(
        "communication",
        format_args!(
            "{:.1} % of the time, and {:.1} % waiting for the last rank",
            100.0 * ranks.communication,
            100.0 * ranks.waiting
        ),
    )
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

fn at_step(validation: &ValidationReport) -> String {
    format!("{:.5} at step {}", validation.validation_loss, validation.step)
}

fn trend_in_words(trend: &Trend) -> String {
    let direction = match trend.direction {
        Direction::Falling => "falling",
        Direction::Flat => "flat",
        Direction::Rising => "rising",
    };
    let validations = counted(trend.n_validations as u64, "validation");
    format!("{direction}: {:+.1} % over the last {validations}", 100.0 * trend.change)
}

fn weights_file(path: &Path, tensors: bool) -> Result<()> {
    let contents = model::peek(path)?;
    row("format", contents.format)?;
    row("size", size(contents.file_bytes))?;
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
        for note in &contents.notes {
            row("note", note)?;
        }
        describe(path, &contents)?;
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

/// What is known under a name. A file from a stranger may hold texts of megabytes.
fn row(name: &str, value: impl Display) -> Result<()> {
    const MAX_NAME_CHARS: usize = 60;
    const MAX_VALUE_CHARS: usize = 1000;
    let value = value.to_string();
    let (name, value) = (shortened(name, MAX_NAME_CHARS), shortened(&value, MAX_VALUE_CHARS));
    result(format!("{:<24} {}", one_line(&name), one_line(&value)))
}

/// What an entry of a configuration is called in files: `hardswish`, `squared-cosine`.
fn in_files(value: impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

/// The tags of a model with the number of pictures that have each, in lines that fit a terminal.
fn tag_lines(tags: &[TagCount]) -> Vec<String> {
    const COLUMNS: usize = 58;
    const MAX_LINES: usize = 100;
    let mut lines: Vec<String> = Vec::new();
    for (k, TagCount { tag, count }) in tags.iter().enumerate() {
        let entry = format!("{tag} {count}");
        let is_full = lines.len() == MAX_LINES;
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + entry.chars().count() <= COLUMNS => {
                line.push_str(", ");
                line.push_str(&entry);
            }
            _ if is_full => {
                lines.push(format!("and {} more; --json has all", tags.len() - k));
                break;
            }
            _ => lines.push(entry),
        }
    }
    lines
}

/// What a network has that the original's has not.
fn others_than_the_original(unet: &UNetConfig) -> Result<()> {
    let default = UNetConfig::default();
    if let Some(levels) = &unet.attn_up {
        row("attn_up", format_args!("{levels:?}"))?;
    }
    if unet.middle != default.middle {
        row("middle", in_files(unet.middle))?;
    }
    let numbers = [
        ("attention_head_dim", unet.attention_head_dim as f64, default.attention_head_dim as f64),
        ("downsample_padding", unet.downsample_padding as f64, default.downsample_padding as f64),
        ("norm_eps", unet.norm_eps, default.norm_eps),
        ("freq_shift", unet.freq_shift, default.freq_shift),
        ("time_embedding_dim", unet.time_embedding_dim as f64, default.time_embedding_dim as f64),
    ];
    for (name, value, _) in numbers.into_iter().filter(|(_, value, default)| value != default) {
        row(name, value)?;
    }
    let flags = [
        ("flip_sin_to_cos", unet.flip_sin_to_cos),
        ("center_input_sample", unet.center_input_sample),
    ];
    flags.into_iter().filter(|(_, is_on)| *is_on).try_for_each(|(name, is_on)| row(name, is_on))
}

/// The entries of a table, under its name.
fn entries_of(table: &str, entries: impl Serialize) -> Result<()> {
    let json = serde_json::to_value(entries).unwrap_or_default();
    let entries = json.as_object().into_iter().flatten();
    entries.into_iter().try_for_each(|(name, value)| match value.as_str() {
        Some(text) => row(&format!("{table}.{name}"), text),
        None => row(&format!("{table}.{name}"), value),
    })
}

/// The model in a file, or what keeps it from being one.
fn describe(path: &Path, contents: &Contents) -> Result<()> {
    let config = match ModelConfig::from_metadata(path, contents.format, &contents.metadata) {
        Ok(config) => config,
        Err(error) => {
            row("tensors", contents.tensors.len())?;
            row("model", format_args!("no: {error}"))?;
            return match error.hint() {
                Some(hint) => row("hint", hint),
                None => Ok(()),
            };
        }
    };
    let ModelConfig { unet, schedule, prediction, tags, sampling, training, .. } = &config;
    let [c, h, w] = unet.image_size;
    row("image size", format_args!("{w} x {h} pixels, {}", counted(c as u64, "channel")))?;
    row("parameters", format_args!("{:.2} M", unet.parameter_count() as f64 / 1e6))?;
    row("patch_size", unet.patch_size)?;
    row("ch", unet.ch)?;
    row("ch_mult", format_args!("{:?}", unet.ch_mult))?;
    if unet.first_width != 0 {
        row("first_width", unet.first_width)?;
    }
    row("attn", format_args!("{:?}", unet.attn))?;
    others_than_the_original(unet)?;
    row("num_res_blocks", unet.num_res_blocks)?;
    row("dropout", unet.dropout)?;
    row("activation", in_files(unet.activation))?;
    row("norm_groups", unet.norm_groups)?;
    if unet.resnet_time_scale_shift != TimeScaleShift::Default {
        row("resnet_time_scale_shift", in_files(unet.resnet_time_scale_shift))?;
    }
    if unet.detail_channels > 0 {
        row("detail_channels", unet.detail_channels)?;
    }
    row("schedule", schedule)?;
    if let Some(warning) = NoiseSchedule::new(schedule)?.leftover_warning() {
        row("schedule warning", warning)?;
    }
    row("prediction", in_files(prediction))?;
    entries_of("sampling", sampling)?;
    for (key, value) in training {
        // A text without the quotes of JSON, and a loss with the digits that it has elsewhere.
        let value = match (value.as_str(), value.as_f64()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(loss)) if key == "validation_loss" => format!("{loss:.5}"),
            _ => value.to_string(),
        };
        // Images are those that training has seen, pictures the files that they come from.
        row(if key == "images" { "images seen" } else { key }, value)?;
    }
    for (k, line) in tag_lines(tags.tags()).into_iter().enumerate() {
        let name = if k == 0 { format!("{} tags", tags.len()) } else { String::new() };
        row(&name, one_line(&line))?;
    }
    let shapes: Vec<(&str, &[usize])> =
        contents.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let (report, notes) = model::compare(&config, &shapes);
    for note in notes {
        row("note", note)?;
    }
    result("")?;
    report.to_string().lines().map(one_line).try_for_each(result)
}
