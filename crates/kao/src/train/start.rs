//! What a run begins with: random weights, those of a model, or a checkpoint; and whether that fits
//! its configuration and its pictures.

use super::checkpoint::{Checkpoint, Position};
use super::config::TrainConfig;
use super::step::TrainState;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{Model, ModelConfig};
use crate::schedule::ScheduleConfig;
use crate::unet::layers::TAG_EMBEDDING;
use crate::unet::{Layers, ParameterSpec, UNet, UNetConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// The state of a run before its next step.
pub(super) struct Start {
    pub(super) state: TrainState,
    /// Where the run stands, when it is resumed.
    pub(super) position: Option<Position>,
    /// The schedule of the model that the run begins with, where the run has another one.
    pub(super) other_schedule: Option<ScheduleConfig>,
}

impl Start {
    /// A new run of `config`.
    pub(super) fn new(config: &TrainConfig) -> Result<Self> {
        let (unet, other_schedule) = match &config.initial_model {
            None => (UNet::init(&config.model, config.seed)?, None),
            Some(path) => {
                let (values, schedule) = initial_values(path, config)?;
                let other = (!schedule.agrees_with(&config.schedule)).then_some(schedule);
                (UNet::from_values(&config.model, values)?, other)
            }
        };
        Ok(Start { state: TrainState::new(unet), position: None, other_schedule })
    }

    /// The run that `checkpoint` holds, to be resumed with `config`.
    pub(super) fn resumed(checkpoint: Checkpoint, config: &TrainConfig) -> Result<Self> {
        let Checkpoint { position, weights, optimizer } = checkpoint;
        config.check_continues(&position.config)?;
        check_steps(config, &position)?;
        let unet = UNet::from_values(&config.model, weights)?;
        let state = TrainState { unet, optimizer };
        Ok(Start { state, position: Some(position), other_schedule: None })
    }
}

/// Checks that a run of `config` has at least the steps that the run at `position` has done.
///
/// # Errors
/// When it has fewer.
pub fn check_steps(config: &TrainConfig, position: &Position) -> Result<()> {
    let n_steps = position.n_steps;
    if config.steps >= n_steps {
        return Ok(());
    }
    let allowed = format!("at least {n_steps}, the number of steps done");
    Err(Error::out_of_range("steps", config.steps, allowed))
}

/// Checks that the pictures of `fingerprint` are those that the run at `position` has been trained on
/// so far.
///
/// # Errors
/// When they are others.
pub fn check_pictures(config: &TrainConfig, position: &Position, fingerprint: &str) -> Result<()> {
    if position.data_fingerprint == fingerprint {
        return Ok(());
    }
    let data = config.data.display();
    let tags = if config.tags.is_empty() { "" } else { ", or their tags differ" };
    let problem =
        format!("`{data}`: these are not the pictures that the run was trained on so far{tags}");
    Err(Error::invalid("data", problem)
        .with_hint("put them back as they were, or begin a new run with this run's model"))
}

/// Checks that a run of `config` can begin with the model that it names, where it names one.
///
/// # Errors
/// When that model cannot be read, or is not one that a run of `config` could have trained.
pub fn check_initial_model(config: &TrainConfig) -> Result<()> {
    match &config.initial_model {
        Some(path) => initial_values(path, config).map(|_| ()),
        None => Ok(()),
    }
}

/// The weights and the schedule of the model at `path`, whose architecture and prediction must be
/// those of a run of `config`. The model may lack tags and layers at full resolution that the run
/// has, and have other tags.
fn initial_values(path: &Path, config: &TrainConfig) -> Result<(Vec<Vec<f32>>, ScheduleConfig)> {
    let model = Model::load(path, &Device::Cpu)?;
    let (found, expected) = (&model.config, config.model_config());
    // The same weights can be trained with any dropout.
    let mut unet = UNetConfig {
        dropout: expected.unet.dropout,
        n_tags: expected.unet.n_tags,
        ..found.unet.clone()
    };
    if unet.detail_channels == 0 {
        unet.detail_channels = expected.unet.detail_channels;
    }
    let found_config = ModelConfig { unet, ..found.clone() };
    for (entry, what) in [("unet", "architecture is another: its "), ("prediction", "")] {
        if let Some((entry, found, expected)) = difference(entry, &found_config, &expected) {
            let problem = format!("its {what}{entry} is {found}; the run has {expected}");
            return Err(Error::malformed(path, problem).with_hint(
                "without a preset or a configuration file, a run takes them from the model",
            ));
        }
    }
    Ok((grown_values(&model, &expected, config.seed)?, found.schedule.clone()))
}

/// The values of `model` in a network of `config`: each parameter where it is there too, each tag by
/// its name. What the model lacks begins as in a new network, which does nothing.
fn grown_values(model: &Model, config: &ModelConfig, seed: u64) -> Result<Vec<Vec<f32>>> {
    let (old, new) = (model.network.unet(), &config.unet);
    if model.config.tags == config.tags && old.config().parameters() == new.parameters() {
        return Ok(old.values().to_vec());
    }
    let there: BTreeMap<String, (ParameterSpec, &Vec<f32>)> = old
        .config()
        .parameters()
        .into_iter()
        .zip(old.values())
        .map(|(spec, values)| (spec.name.clone(), (spec, values)))
        .collect();
    let mut values = UNet::init(new, seed)?.values().to_vec();
    for (spec, new) in new.parameters().iter().zip(&mut values) {
        let Some((old_spec, old)) = there.get(&spec.name) else { continue };
        let [old_width, width] =
            [old_spec, spec].map(|spec| spec.shape.last().copied().unwrap_or(1).max(1));
        if spec.name == format!("{TAG_EMBEDDING}.weight") {
            // A row for each tag.
            for (number, row) in new.chunks_exact_mut(width).enumerate() {
                let tag = &config.tags.tags()[number].tag;
                if let Some(old_number) = model.config.tags.number(tag) {
                    row.copy_from_slice(&old[old_number * width..(old_number + 1) * width]);
                }
            }
        } else {
            // The last layer has more channels where layers at full resolution follow.
            let rows = new.chunks_exact_mut(width).zip(old.chunks_exact(old_width));
            rows.for_each(|(new, old)| new[..old_width].copy_from_slice(old));
        }
    }
    if let (Some((_, bias)), 0) = (there.get(&format!("{TAG_EMBEDDING}.bias")), new.n_tags) {
        // Every image had it, with tags and without.
        let time = Layers::new(new).time[1].bias();
        values[time].iter_mut().zip(*bias).for_each(|(sum, value)| *sum += value);
    }
    Ok(values)
}

/// The first value below `entry` in which two configurations differ: its name and both values, as
/// files have them.
fn difference(
    entry: &str,
    one: &ModelConfig,
    other: &ModelConfig,
) -> Option<(String, String, String)> {
    let value = |config| Some(serde_json::to_value(config).ok()?.get(entry)?.clone());
    let (one, other) = (value(one)?, value(other)?);
    let shown = |value: Option<&serde_json::Value>| match value {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        None => "its default".to_owned(),
    };
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => one
            .keys()
            .chain(other.keys())
            .find(|key| one.get(*key) != other.get(*key))
            .map(|key| (key.clone(), shown(one.get(key)), shown(other.get(key)))),
        _ if one == other => None,
        _ => Some((entry.to_owned(), shown(Some(&one)), shown(Some(&other)))),
    }
}
