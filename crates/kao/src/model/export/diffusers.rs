//! A model as a folder of diffusers: `model_index.json`, `unet/` and `scheduler/`, as its pipelines
//! save it.

use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::formats::{HostTensor, NamedTensors, StoreAs, write_safetensors};
use crate::model::import::diffusers::{CLASSES, name_there, tensors};
use crate::model::{Model, ModelConfig};
use crate::sampler::{SamplingDefaults, Thresholding, Variance};
use crate::schedule::{NoiseSchedule, ScheduleKind};
use crate::timesteps::{End, Spacing};
use crate::unet::layers::TAG_EMBEDDING;
use crate::unet::{Activation, Middle, TimeScaleShift, UNet, UNetConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The version of diffusers whose entries these are.
const VERSION: &str = "0.36.0";

/// A table of sines and cosines differs from the one that diffusers computes by less, where it is the
/// same but for rounding.
const TABLE_TOLERANCE: f32 = 1e-3;

const DDIM: &str = "DDIMScheduler";

/// Writes `model` as the folder `path`, which must be empty or not there: whole or not at all. What
/// whoever uses it should know is returned.
///
/// # Errors
/// When diffusers cannot say what the model is, the folder holds something, or it cannot be written.
pub fn write_folder(model: &Model, path: &Path, store_as: StoreAs) -> Result<Vec<String>> {
    let unet = model.network.unet();
    let (tensors, n_classes, notes) = network_tensors(&model.config, unet)?;
    let network = network(&model.config.unet, n_classes)?;
    let scheduler = scheduler(&model.config)?;
    let pipeline = json!({
        // The pipeline takes the class from here, and not from the scheduler's own file.
        "_class_name": if scheduler["_class_name"] == DDIM { "DDIMPipeline" } else { "DDPMPipeline" },
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    });
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    // Renamed at the end: a folder takes the place of none, or of an empty one.
    let made = tempfile::Builder::new().prefix(".kao-").tempdir_in(parent);
    let made = made.map_err(|error| Error::io("write", path, error))?;
    for (name, json) in [
        ("model_index.json", &pipeline),
        ("unet/config.json", &network),
        ("scheduler/scheduler_config.json", &scheduler),
    ] {
        let file = made.path().join(name);
        let folder = file.parent().unwrap_or(made.path());
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        atomic_write(&file, |to| writeln!(to, "{json:#}"))?;
    }
    let weights = made.path().join("unet/diffusion_pytorch_model.safetensors");
    // Without it the files are taken to be of another program.
    let texts = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(weights, tensors.views(), &texts, store_as)?;
    // A temporary folder is private.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(made.path(), permissions)
            .map_err(|error| Error::io("write", path, error))?;
    }
    std::fs::rename(made.path(), path).map_err(|error| Error::io("write", path, error))?;
    // It has another name now.
    let _ = made.keep();
    Ok(notes)
}

fn refused<T>(entry: &str, problem: impl std::fmt::Display) -> Result<T> {
    Err(Error::invalid(format!("model: {entry}"), problem))
}

/// The configuration of the network, with so many classes.
fn network(config: &UNetConfig, n_classes: usize) -> Result<Value> {
    if config.activation != Activation::Silu {
        let problem = "diffusers has no hardswish, so such a network cannot be exported";
        return Err(Error::invalid("model: activation", problem)
            .with_hint("`kao train --preset diffusers64` trains one that can"));
    }
    if config.patch_size != 1 {
        return refused(
            "patch_size",
            format!("{} found; a UNet2DModel sees single pixels", config.patch_size),
        );
    }
    if config.detail_channels != 0 {
        return refused("detail_channels", "a UNet2DModel has no such layers");
    }
    let last = config.ch_mult.len() - 1;
    let widths: Vec<usize> = (0..=last).map(|level| config.width(level)).collect();
    if config.first_width() != widths[0] {
        let problem = format!(
            "the first convolution is {} wide and the first level {}; in a UNet2DModel both are the \
             same",
            config.first_width(),
            widths[0]
        );
        return refused("ch_mult", problem);
    }
    let types = |plain: &str, with_attention: &str, has_attention: &dyn Fn(usize) -> bool| {
        let name = |level| if has_attention(level) { with_attention } else { plain };
        (0..=last).map(|level| name(level).to_owned()).collect::<Vec<String>>()
    };
    let down = types("DownBlock2D", "AttnDownBlock2D", &|level| config.has_attention(level));
    let mut up = types("UpBlock2D", "AttnUpBlock2D", &|level| config.has_attention_up(level));
    up.reverse();
    let [channels, h, w] = config.image_size;
    let optional = |value: usize| if value == 0 { Value::Null } else { json!(value) };
    Ok(json!({
        "_class_name": "UNet2DModel",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "add_attention": config.middle != Middle::Plain,
        "attention_head_dim": optional(config.attention_head_dim),
        // Without it, attention in the middle of a network of scale and shift has no normalization.
        "attn_norm_num_groups": match config.resnet_time_scale_shift {
            TimeScaleShift::Default => Value::Null,
            TimeScaleShift::ScaleShift => json!(config.norm_groups),
        },
        "block_out_channels": widths,
        "center_input_sample": config.center_input_sample,
        "class_embed_type": null,
        "down_block_types": down,
        "downsample_padding": config.downsample_padding,
        "downsample_type": "conv",
        "dropout": config.dropout,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "freq_shift": whole_if_possible(config.freq_shift),
        "in_channels": channels,
        "layers_per_block": config.num_res_blocks,
        "mid_block_scale_factor": 1,
        "mid_block_type": if config.middle == Middle::None { Value::Null } else { json!("UNetMidBlock2D") },
        "norm_eps": config.norm_eps,
        "norm_num_groups": config.norm_groups,
        "num_class_embeds": optional(n_classes),
        "num_train_timesteps": null,
        "out_channels": channels,
        "resnet_time_scale_shift": config.resnet_time_scale_shift,
        "sample_size": if h == w { json!(h) } else { json!([h, w]) },
        "time_embedding_dim": optional(config.time_embedding_dim),
        "time_embedding_type": "positional",
        "up_block_types": up,
        "upsample_type": "conv",
    }))
}

fn whole_if_possible(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}

/// The configuration of a DDPMScheduler.
fn scheduler(config: &ModelConfig) -> Result<Value> {
    let schedule = &config.schedule;
    // Steps and guidance are said in each call of a pipeline.
    let SamplingDefaults {
        spacing,
        steps_offset,
        end,
        clip,
        thresholding,
        variance,
        steps: _,
        guide: _,
    } = config.sampling;
    let name = match schedule.kind {
        ScheduleKind::Linear => Some("linear"),
        ScheduleKind::ScaledLinear => Some("scaled_linear"),
        ScheduleKind::SquaredCosine => Some("squaredcos_cap_v2"),
        // DDIMScheduler does not have it.
        ScheduleKind::Sigmoid | ScheduleKind::Karras | ScheduleKind::Given => None,
    };
    let betas = match name {
        Some(_) => Value::Null,
        None => {
            let plain =
                crate::schedule::ScheduleConfig { zero_terminal_snr: false, ..schedule.clone() };
            json!(NoiseSchedule::new(plain)?.betas())
        }
    };
    let Thresholding { ratio, largest } =
        thresholding.unwrap_or(Thresholding { ratio: 0.995, largest: 1.0 });
    let spacing = match spacing.unwrap_or_default() {
        Spacing::Leading => "leading",
        Spacing::Linspace => "linspace",
        _ => "trailing",
    };
    let mut entries = json!({
        "_class_name": "DDPMScheduler",
        "_diffusers_version": VERSION,
        "beta_end": schedule.beta_end,
        "beta_schedule": name.unwrap_or("linear"),
        "beta_start": schedule.beta_start,
        "clip_sample": clip.is_some(),
        "clip_sample_range": clip.unwrap_or(1.0),
        "dynamic_thresholding_ratio": ratio,
        "num_train_timesteps": schedule.n_timesteps,
        "prediction_type": match config.prediction {
            Prediction::Epsilon => "epsilon",
            Prediction::X0 => "sample",
            Prediction::V => "v_prediction",
        },
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        "sample_max_value": largest,
        "steps_offset": steps_offset,
        "thresholding": thresholding.is_some(),
        "timestep_spacing": spacing,
        "trained_betas": betas,
        "variance_type": match variance.unwrap_or_default() {
            Variance::Beta => "fixed_large",
            Variance::Posterior => "fixed_small",
        },
    });
    // Only DDIM's scheduler says where a sequence ends.
    if end == Some(End::FirstTimestep) {
        entries["_class_name"] = json!(DDIM);
        entries["set_alpha_to_one"] = json!(false);
    }
    Ok(entries)
}

/// The tensors under the names that they have there, the number of classes, and notes.
fn network_tensors(
    config: &ModelConfig,
    unet: &UNet,
) -> Result<(NamedTensors, usize, Vec<String>)> {
    let own = unet.to_tensors();
    let mut there = NamedTensors::new();
    let (mut n_classes, mut notes) = (0, Vec::new());
    let shapes: BTreeMap<String, Vec<usize>> = tensors(&config.unet).into_iter().collect();
    let bias = own.get(&format!("{TAG_EMBEDDING}.bias")).map(|bias| bias.data().to_vec());
    check_time_table(&config.unet, unet)?;
    for (name, tensor) in own {
        let Some(other) = name_there(&config.unet, &name) else { continue };
        let shape = shapes.get(&other).cloned().unwrap_or_else(|| tensor.shape().to_vec());
        if other != CLASSES {
            there.insert(other, HostTensor::new(shape, tensor.into_data())?);
            continue;
        }
        // A row for each tag; every image has the bias besides.
        let (n_tags, width) = (config.unet.n_tags, config.unet.time_width());
        let bias = bias.as_deref().unwrap_or_default();
        let weights = tensor.data();
        let mut rows: Vec<f32> = (0..n_tags)
            .flat_map(|tag| (0..width).map(move |at| weights[at * n_tags + tag] + bias[at]))
            .collect();
        n_classes = n_tags;
        let are_classes =
            |(k, tag): (usize, &crate::vocabulary::TagCount)| tag.tag == format!("class {k}");
        if !config.tags.tags().iter().enumerate().all(are_classes) {
            rows.extend_from_slice(bias);
            n_classes += 1;
            notes.push(format!(
                "diffusers has one class an image: class k is an image with tag k alone, and class \
                 {n_tags} one without tags"
            ));
        }
        there.insert(other, HostTensor::new(vec![n_classes, width], rows)?);
    }
    Ok((there, n_classes, notes))
}

/// Refuses a network with a table of its own: diffusers computes it.
fn check_time_table(config: &UNetConfig, unet: &UNet) -> Result<()> {
    let computed = UNet::from_values(config, unet.values().to_vec())?;
    let pairs = unet.time_table().iter().zip(computed.time_table());
    let worst = pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    match worst <= TABLE_TOLERANCE {
        true => Ok(()),
        false => refused(
            "time_embedding",
            "its table is not that of sines and cosines, which diffusers computes",
        ),
    }
}
