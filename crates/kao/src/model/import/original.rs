//! Checkpoints of the original program (DDIM_ANIME of slatter666/knickknack) and of others of its
//! kind: what their settings say about a model.
//!
//! Checkpoints carry the settings of the program that wrote them, and programs differ: the entries
//! may lie at the top or in a table such as `cfg.model`; numbers may be floats, or text-free copies
//! of NumPy's; and what Kao must know besides the architecture, the noise schedule and the
//! prediction, has a name of its own in every code base. What is said is taken or refused by name,
//! never passed over: a model that is sampled with another schedule than it was trained with gives
//! noise, without a word of warning. Settings that say nothing about the model (batch size,
//! folders) are not looked at.

use super::settings::{Entry, Table, Tables};
use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::formats::{Metadata, SETTINGS};
use crate::model::config::ModelConfig;
use crate::schedule::{ScheduleConfig, ScheduleKind};
use crate::unet::{Activation, UNetConfig};
use serde_json::Value;
use std::path::Path;

/// How to go on with weights that do not say what model they are of.
pub const CONFIG_HINT: &str = "`kao convert --config FILE IN OUT.safetensors` takes the \
                               configuration from a TOML file with a table [model], written as the \
                               config.toml of a run is";

/// Bytes of settings that are kept as text.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// The names under which the entries of a noise schedule go, whatever table they are in.
mod names {
    /// The number of timesteps, the original's name first. The others may also be those of a
    /// sampler, so they are not compared with it.
    pub const STEPS: [&str; 5] = ["num_steps", "num_timesteps", "n_timesteps", "timesteps", "t"];
    /// These cannot, so they must agree.
    pub const NOISE_STEPS: [&str; 3] =
        ["num_train_timesteps", "num_diffusion_timesteps", "diffusion_steps"];
    pub const SCHEDULE: [&str; 4] =
        ["beta_schedule", "noise_schedule", "beta_schedule_type", "noise_schedule_type"];
    pub const BETA_START: [&str; 3] = ["beta_start", "linear_start", "beta_min"];
    pub const BETA_END: [&str; 4] = ["beta_end", "linear_end", "beta_max", "beta_t"];
    pub const PREDICTION: [&str; 9] = [
        "prediction_type",
        "prediction",
        "pred_type",
        "objective",
        "pred_objective",
        "parameterization",
        "model_mean_type",
        "mean_type",
        "predict",
    ];
    pub const ACTIVATION: [&str; 5] = ["activation", "act", "act_fn", "act_layer", "nonlinearity"];
    pub const NORM_GROUPS: [&str; 4] = ["norm_groups", "num_groups", "norm_num_groups", "n_groups"];
    pub const HEADS: [&str; 4] = ["num_heads", "n_heads", "attn_heads", "attention_heads"];
    pub const CHANNELS: [&str; 4] = ["in_channels", "channels", "img_channels", "image_channels"];
    /// What Kao has no equivalent of, where it is switched on.
    pub const UNSUPPORTED: [&str; 9] = [
        "rescale_betas_zero_snr",
        "zero_terminal_snr",
        "enforce_zero_terminal_snr",
        "trained_betas",
        "given_betas",
        "learn_sigma",
        "learned_variance",
        "self_condition",
        "self_conditioning",
    ];
}

/// The configuration of the model that a file's `metadata` has settings of, if it has any.
///
/// # Errors
/// When the settings leave something out that must be known, or say what Kao cannot do.
pub fn configuration(path: &Path, metadata: &Metadata) -> Option<Result<ModelConfig>> {
    // In safetensors, settings are text.
    let texts = SETTINGS.iter().filter_map(|name| {
        let text = metadata.get(*name)?.as_str().filter(|text| text.len() <= MAX_TEXT_BYTES)?;
        Some((*name, serde_json::from_str(text).ok()?))
    });
    let texts: Vec<(&str, Value)> = texts.collect();
    let objects = SETTINGS.iter().filter_map(|name| Some((*name, metadata.get(*name)?)));
    let settings = Tables::of(objects.chain(texts.iter().map(|(name, value)| (*name, value))));
    (!settings.is_empty()).then(|| {
        interpret(&settings)
            .map(|(unet, schedule, prediction)| ModelConfig::new(unet, schedule, prediction))
            .map_err(|problem| Error::malformed(path, problem).with_hint(CONFIG_HINT))
    })
}

fn interpret(settings: &Tables<'_>) -> Result<(UNetConfig, ScheduleConfig, Prediction), String> {
    for name in names::UNSUPPORTED {
        if let Some(entry) = settings.entry(&[name])?
            && *entry.value != Value::Bool(false)
        {
            return Err(entry.refused("Kao has nothing of the kind"));
        }
    }
    let unet = unet_of(settings)?;
    let schedule = schedule_of(settings, unet.num_steps)?;
    Ok((unet, schedule, prediction_of(settings)?))
}

fn unet_of(settings: &Tables<'_>) -> Result<UNetConfig, String> {
    let mut unet = UNetConfig {
        ch: settings.needed(&["ch"])?.whole()?,
        ch_mult: settings.needed(&["ch_mult"])?.wholes()?,
        num_res_blocks: settings.needed(&["num_res_blocks"])?.whole()?,
        attn: settings.needed(&["attn"])?.wholes()?,
        image_size: image_size(settings)?,
        num_steps: match settings.entry(&names::NOISE_STEPS)? {
            Some(entry) if settings.entry(&names::STEPS)?.is_none() => entry.whole()?,
            _ => settings.needed(&names::STEPS)?.whole()?,
        },
        dropout: match settings.entry(&["dropout"])? {
            Some(entry) => entry.number()?,
            None => 0.0,
        },
        // What the original has, which names neither.
        activation: Activation::Hardswish,
        ..UNetConfig::default()
    };
    if let Some(entry) = settings.entry(&["patch_size"])? {
        unet.patch_size = entry.whole()?;
    }
    if let Some(entry) = settings.entry(&names::NORM_GROUPS)? {
        unet.norm_groups = entry.whole()?;
    }
    if let Some(entry) = settings.entry(&names::ACTIVATION)? {
        unet.activation = activation(&entry)?;
    }
    if let Some(entry) = settings.entry(&names::HEADS)?
        && entry.whole()? > 1
    {
        return Err(entry.refused("attention of Kao has one head"));
    }
    Ok(unet)
}

/// `[C, H, W]`, from three numbers, two, or one.
fn image_size(settings: &Tables<'_>) -> Result<[usize; 3], String> {
    let entry = settings.needed(&["image_size"])?;
    // Other numbers of channels are those of feature maps.
    let channels = match settings.entry(&names::CHANNELS)? {
        Some(entry) if entry.whole() == Ok(1) => 1,
        _ => 3,
    };
    match entry.wholes()?[..] {
        [side] => Ok([channels, side, side]),
        [h, w] => Ok([channels, h, w]),
        [c, h, w] => Ok([c, h, w]),
        _ => Err(entry.expected("[C, H, W] or one number")),
    }
}

fn schedule_of(settings: &Tables<'_>, num_steps: usize) -> Result<ScheduleConfig, String> {
    let mut schedule = ScheduleConfig { n_timesteps: num_steps, ..ScheduleConfig::default() };
    if let Some(entry) = settings.entry(&names::NOISE_STEPS)? {
        let n_timesteps = entry.whole()?;
        if n_timesteps != num_steps {
            let words = format!("the network has {num_steps} timesteps");
            return Err(entry.refused(&words));
        }
    }
    let kind = match settings.entry(&names::SCHEDULE)? {
        Some(entry) => Some(entry),
        None => match settings.entry_where(Table::is_about_noise, &["schedule"])? {
            Some(entry) => Some(entry),
            None => settings.entry_where(Table::is_noise_schedule, &["type", "kind", "name"])?,
        },
    };
    if let Some(entry) = kind {
        schedule.kind = schedule_kind(&entry)?;
    }
    if let Some(entry) = settings.entry(&["cosine_s"])?
        && entry.number()? != 0.008
    {
        return Err(entry.refused("the offset of Kao's squared cosine is 0.008"));
    }
    let end_of = |names: &[&str], name_there: &str| match settings.entry(names)? {
        Some(entry) => Ok(Some(entry)),
        None => settings.entry_where(Table::is_noise_schedule, &[name_there]),
    };
    if let Some(entry) = end_of(&names::BETA_START, "start")? {
        schedule.beta_start = entry.number()?;
    }
    if let Some(entry) = end_of(&names::BETA_END, "end")? {
        schedule.beta_end = entry.number()?;
        // Alone, `beta_1` is a setting of Adam.
        if entry.key.eq_ignore_ascii_case("beta_t")
            && let Some(first) = settings.entry(&["beta_1"])?
        {
            schedule.beta_start = first.number()?;
        }
    }
    Ok(schedule)
}

fn prediction_of(settings: &Tables<'_>) -> Result<Prediction, String> {
    for (name, prediction) in [
        ("predict_xstart", Prediction::X0),
        ("predict_x0", Prediction::X0),
        ("predict_v", Prediction::V),
        ("v_prediction", Prediction::V),
    ] {
        if let Some(entry) = settings.entry(&[name])?
            && *entry.value == Value::Bool(true)
        {
            return Ok(prediction);
        }
    }
    if let Some(entry) = settings.entry(&["predict_epsilon"])?
        && *entry.value == Value::Bool(false)
    {
        return Ok(Prediction::X0);
    }
    for name in names::PREDICTION {
        if let Some(entry) = settings.entry(&[name])?
            && let Some(prediction) = prediction(&entry)?
        {
            return Ok(prediction);
        }
    }
    Ok(Prediction::Epsilon)
}

fn schedule_kind(entry: &Entry<'_>) -> Result<ScheduleKind, String> {
    match entry.word().as_deref() {
        Some("linear") => Ok(ScheduleKind::Linear),
        Some("scaledlinear" | "quad") => Ok(ScheduleKind::ScaledLinear),
        Some("cosine" | "squaredcosine" | "squaredcoscapv2") => Ok(ScheduleKind::SquaredCosine),
        Some("karras") => Ok(ScheduleKind::Karras),
        _ => Err(entry.refused("Kao has the schedules linear, scaled-linear, cosine and karras")),
    }
}

fn activation(entry: &Entry<'_>) -> Result<Activation, String> {
    match entry.word().as_deref() {
        Some("hardswish") => Ok(Activation::Hardswish),
        Some("silu" | "swish") => Ok(Activation::Silu),
        _ => Err(entry.refused("Kao has the activations hardswish and silu")),
    }
}

/// The prediction that an entry names, or none where it is about something else: `objective` may be
/// that of the optimizer.
fn prediction(entry: &Entry<'_>) -> Result<Option<Prediction>, String> {
    let word = entry.word();
    match word.as_deref() {
        Some("epsilon" | "eps" | "noise" | "prednoise" | "predepsilon" | "predeps") => {
            Ok(Some(Prediction::Epsilon))
        }
        Some("v" | "vprediction" | "predv" | "velocity" | "vpred") => Ok(Some(Prediction::V)),
        Some("x0" | "xstart" | "startx" | "sample" | "predx0" | "predxstart") => {
            Ok(Some(Prediction::X0))
        }
        Some("mse" | "l1" | "l2" | "huber" | "smoothl1" | "mae") if entry.key == "objective" => {
            Ok(None)
        }
        _ if entry.value.is_boolean() => Ok(None),
        _ => Err(entry.refused("Kao has the predictions epsilon, v and x0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn read(metadata: &Metadata) -> Option<Result<(UNetConfig, ScheduleConfig, Prediction)>> {
        let read = configuration(Path::new("m.ckpt"), metadata)?;
        Some(read.map(|config| (config.unet, config.schedule, config.prediction)))
    }

    /// What is read from `hyper_parameters`.
    fn of(settings: Value) -> Result<(UNetConfig, ScheduleConfig, Prediction)> {
        read(&Map::from_iter([("hyper_parameters".to_owned(), settings)])).unwrap()
    }

    /// The original's settings with `entries` besides, or in place of its own.
    fn with(entries: Value) -> Value {
        let mut settings = json!({
            "image_size": [3, 16, 16], "num_steps": 1000, "ch": 32, "ch_mult": [1, 2],
            "attn": [1], "num_res_blocks": 1, "dropout": 0.1, "lr": 1e-4, "batch_size": 64,
        });
        settings.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
        settings
    }

    fn tiny() -> UNetConfig {
        UNetConfig {
            image_size: [3, 16, 16],
            ch: 32,
            ch_mult: vec![1, 2],
            attn: vec![1],
            num_res_blocks: 1,
            ..UNetConfig::default()
        }
    }

    #[test]
    fn the_originals_are_read() {
        let (unet, schedule, prediction) = of(with(json!({}))).unwrap();
        assert_eq!(unet, tiny());
        assert_eq!((schedule, prediction), (ScheduleConfig::default(), Prediction::Epsilon));
    }

    #[test]
    fn tables_within_tables_are_looked_through() {
        let all = with(json!({}));
        for name in ["cfg", "hparams", "config", "anything"] {
            let outer = json!({ name: { "model": all, "data": { "num_workers": 4 } }, "lr": 1.0 });
            assert_eq!(of(outer).unwrap().0, tiny(), "{name}");
        }
        // Some around the network's table, some elsewhere.
        let settings = json!({
            "image_size": 16,
            "model": { "ch": 32, "ch_mult": [1, 2], "attn": [1], "num_res_blocks": 1 },
            "diffusion": { "num_steps": 1000, "schedule": "cosine", "objective": "pred_v" },
            "optimizer": { "schedule": "linear", "betas": [0.9, 0.99], "beta_1": 0.9 },
        });
        let (unet, schedule, prediction) = of(settings).unwrap();
        assert_eq!(unet, UNetConfig { dropout: 0.0, ..tiny() });
        assert_eq!(schedule.kind, ScheduleKind::SquaredCosine);
        assert_eq!((schedule.beta_start, prediction), (1e-4, Prediction::V));
        // Under another name at the top, and as the text of a safetensors file.
        for settings in [all.clone(), Value::String(all.to_string())] {
            let metadata = Map::from_iter([("config".to_owned(), settings)]);
            assert_eq!(read(&metadata).unwrap().unwrap().0, tiny());
        }
        assert!(read(&Map::new()).is_none());
    }

    #[test]
    fn numbers_may_be_written_in_other_ways() {
        for entries in [
            json!({ "num_steps": 1000.0, "ch": 32.0, "ch_mult": [1.0, 2.0] }),
            json!({ "image_size": 16 }),
            json!({ "image_size": 16.0 }),
            json!({ "image_size": [16, 16], "in_channels": 3 }),
            json!({ "attn": 1 }),
        ] {
            assert_eq!(of(with(entries.clone())).unwrap().0, tiny(), "{entries}");
        }
        let (unet, ..) = of(with(json!({ "image_size": 8, "channels": 1, "attn": [] }))).unwrap();
        assert_eq!((unet.image_size, unet.attn), ([1, 8, 8], vec![]));
        for entries in [
            json!({ "ch": 32.5 }),
            json!({ "ch": -32 }),
            json!({ "ch": 1e300 }),
            json!({ "ch": "many" }),
            json!({ "image_size": [1, 2, 3, 4] }),
            json!({ "ch_mult": [1, "x"] }),
        ] {
            let error = of(with(entries.clone())).unwrap_err().to_string();
            assert!(error.contains("; expected "), "{entries}: {error}");
        }
    }

    #[test]
    fn schedules_are_honoured_or_refused_by_name() {
        use ScheduleKind::{Karras, Linear, ScaledLinear, SquaredCosine};
        for (entries, kind, beta_start, beta_end) in [
            (json!({ "beta_schedule": "linear", "beta_end": 0.012 }), Linear, 1e-4, 0.012),
            (json!({ "beta_schedule": "scaled_linear" }), ScaledLinear, 1e-4, 2e-2),
            (json!({ "beta_schedule": "quad" }), ScaledLinear, 1e-4, 2e-2),
            (json!({ "noise_schedule": "squaredcos_cap_v2" }), SquaredCosine, 1e-4, 2e-2),
            (json!({ "beta_schedule": "<m.Schedule: cosine>" }), SquaredCosine, 1e-4, 2e-2),
            (json!({ "beta_schedule": "karras" }), Karras, 1e-4, 2e-2),
            (json!({ "beta_schedule": null, "beta_1": 1e-3, "beta_T": 0.5 }), Linear, 1e-3, 0.5),
            (json!({ "linear_start": 2e-4, "linear_end": 3e-2 }), Linear, 2e-4, 3e-2),
            (
                json!({ "beta_schedule": { "type": "linear", "start": 1e-5, "end": 0.1 } }),
                Linear,
                1e-5,
                0.1,
            ),
        ] {
            let (_, schedule, _) = of(with(entries.clone())).unwrap();
            let expected = ScheduleConfig { kind, beta_start, beta_end, ..Default::default() };
            assert_eq!(schedule, expected, "{entries}");
        }
        for (entries, name) in [
            (json!({ "beta_schedule": "sigmoid" }), "beta_schedule"),
            (json!({ "noise_schedule": "sqrt_linear" }), "noise_schedule"),
            (json!({ "beta_schedule": 7 }), "beta_schedule"),
            (json!({ "rescale_betas_zero_snr": true }), "rescale_betas_zero_snr"),
            (json!({ "trained_betas": [0.1, 0.2] }), "trained_betas"),
            (json!({ "num_train_timesteps": 500 }), "num_train_timesteps"),
            (json!({ "cosine_s": 0.01 }), "cosine_s"),
            (json!({ "learn_sigma": true }), "learn_sigma"),
        ] {
            let error = of(with(entries.clone())).unwrap_err();
            assert!(error.to_string().contains(&format!(".{name}` is")), "{entries}: {error}");
            assert!(error.hint().unwrap().contains("--config"), "{error}");
        }
        let (_, schedule, _) = of(with(json!({ "learn_sigma": false }))).unwrap();
        assert_eq!(schedule, ScheduleConfig::default());
    }

    #[test]
    fn predictions_are_honoured_or_refused_by_name() {
        for (entries, expected) in [
            (json!({ "prediction_type": "epsilon" }), Prediction::Epsilon),
            (json!({ "prediction_type": "v_prediction" }), Prediction::V),
            (json!({ "prediction_type": "sample" }), Prediction::X0),
            (json!({ "objective": "pred_noise" }), Prediction::Epsilon),
            (json!({ "objective": "pred_v" }), Prediction::V),
            (json!({ "objective": "mse" }), Prediction::Epsilon),
            (json!({ "parameterization": "x0" }), Prediction::X0),
            (json!({ "model_mean_type": "START_X" }), Prediction::X0),
            (json!({ "predict_xstart": true }), Prediction::X0),
            (json!({ "predict_epsilon": false }), Prediction::X0),
            (json!({ "predict_epsilon": true }), Prediction::Epsilon),
        ] {
            assert_eq!(of(with(entries.clone())).unwrap().2, expected, "{entries}");
        }
        for entries in [
            json!({ "prediction_type": "flow" }),
            json!({ "objective": "score" }),
            json!({ "prediction_type": "<m.Kind: 3>" }),
        ] {
            let error = of(with(entries.clone())).unwrap_err().to_string();
            assert!(error.contains("Kao has the predictions epsilon, v and x0"), "{error}");
        }
    }

    #[test]
    fn what_changes_the_network_without_changing_shapes_is_honoured_or_refused() {
        let (unet, ..) =
            of(with(json!({ "activation": "SiLU", "norm_groups": 8, "patch_size": 2 }))).unwrap();
        let expected =
            UNetConfig { activation: Activation::Silu, norm_groups: 8, patch_size: 2, ..tiny() };
        assert_eq!(unet, expected);
        let activation = "torch.nn.modules.activation.Hardswish";
        assert_eq!(of(with(json!({ "act": activation }))).unwrap().0, tiny());
        for entries in [json!({ "activation": "relu" }), json!({ "num_heads": 4 })] {
            let error = of(with(entries.clone())).unwrap_err().to_string();
            assert!(error.contains("Kao has") || error.contains("of Kao has"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_told_with_what_is_there() {
        let error = of(json!({ "lr": 1e-4, "width": 64 })).unwrap_err().to_string();
        assert_eq!(
            error,
            "`m.ckpt`: no `ch` in its settings; `hyper_parameters` has `lr`, `width`"
        );
        let error = of(with(json!({
            "a": { "beta_end": 0.1 }, "b": { "beta_end": 0.2 },
        })));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("`hyper_parameters.a.beta_end` is 0.1, `hyper_parameters.b.beta_end`"),
            "{error}"
        );
        let many: Map<String, Value> =
            (0..5000).map(|n| (format!("{n}{}", "x".repeat(500)), json!(n))).collect();
        let error = of(Value::Object(many)).unwrap_err().to_string();
        assert!(error.chars().count() < 500, "{error}");
    }
}
