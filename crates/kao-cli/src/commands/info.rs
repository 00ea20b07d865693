//! `kao info`

use crate::output::{one_line, result};
use clap::Args;
use kao::model::{self, ModelConfig, RUN_MODEL};
use kao::train::checkpoint;
use kao::weights::{self, Contents};
use kao::{Error, Result, render};
use std::fmt::Display;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao info last.ckpt
  kao info run
  kao info model.safetensors --tensors
  kao info grid.png                      how a picture was made")]
pub struct Arguments {
    /// Model, checkpoint, run directory, or picture that Kao made
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return picture(path);
    }
    if path.is_dir() {
        return run_dir(path, arguments.tensors);
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

fn run_dir(path: &Path, tensors: bool) -> Result<()> {
    let checkpoints = checkpoint::list(&path.join("checkpoints"))?;
    if checkpoints.is_empty() && !path.join(RUN_MODEL).is_file() {
        let problem = "a folder without a model or checkpoints";
        return Err(Error::malformed(path, problem)
            .with_hint("give a folder that `kao train` wrote, or a file"));
    }
    for checkpoint in &checkpoints {
        row("checkpoint", checkpoint.display())?;
    }
    if path.join(RUN_MODEL).is_file() {
        let model = path.join(RUN_MODEL);
        row("model", model.display())?;
        weights_file(&model, tensors)?;
    }
    Ok(())
}

fn weights_file(path: &Path, tensors: bool) -> Result<()> {
    let contents = weights::peek(path)?;
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
            "ch {}, ch_mult {:?}, attn {:?}, num_res_blocks {}, dropout {}, {:?}",
            unet.ch, unet.ch_mult, unet.attn, unet.num_res_blocks, unet.dropout, unet.activation
        ),
    )?;
    row(
        "schedule",
        format_args!(
            "{:?}, {} timesteps, beta {} to {}",
            schedule.kind, schedule.n_timesteps, schedule.beta_start, schedule.beta_end
        ),
    )?;
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
