//! The configuration of a scheduler: the noise schedule, what is predicted, and how a model is to be
//! sampled.
//!
//! A scheduler of diffusers is a noise schedule and a sampler in one. What says something about the
//! model is honoured or refused, whichever scheduler says it. What only sets a sampler going (its
//! order, its solver) belongs to that sampler, and samplers are chosen by whoever samples.

use super::entries::Entries;
use crate::denoiser::Prediction;
use crate::error::Result;
use crate::sampler::{SamplingDefaults, Thresholding, Variance};
use crate::schedule::{ScheduleConfig, ScheduleKind};
use crate::timesteps::{End, Spacing};
use serde_json::{Value, json};

/// What a scheduler's configuration says.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    pub schedule: ScheduleConfig,
    pub prediction: Prediction,
    pub sampling: SamplingDefaults,
}

/// The entries that say something about a model.
const KNOWN: [&str; 16] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
    "variance_type",
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one",
];

/// The settings of samplers.
const OF_SAMPLERS: [&str; 27] = [
    "algorithm_type",
    "disable_corrector",
    "euler_at_final",
    "final_sigmas_type",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "predict_x0",
    "rho",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "time_shift_type",
    "timestep_type",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "flow_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "base_shift",
    "max_shift",
    "clip_sample_value",
];

/// The schedulers whose noise schedule is one of β.
const CLASSES: [&str; 17] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDIMParallelScheduler",
    "DDIMInverseScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
];

/// What the entries of a scheduler's configuration mean.
pub fn read(entries: &Entries<'_>) -> Result<Scheduler> {
    let class = entries.text("_class_name")?.unwrap_or("DDPMScheduler");
    if !CLASSES.contains(&class) {
        let why =
            "Kao reads schedulers whose noise schedule is one of betas, such as DDPMScheduler";
        return Err(entries.refused("_class_name", why));
    }
    entries.refuse_unknown(&[&KNOWN[..], &OF_SAMPLERS].concat())?;
    let is_ddim = class.starts_with("DDIM");
    let is_ddpm_or_ddim = is_ddim || class.starts_with("DDPM");
    let schedule = schedule(entries, class)?;
    let prediction = prediction(entries)?;
    if schedule.zero_terminal_snr && prediction == Prediction::Epsilon {
        let why = "not with the prediction epsilon: in noise alone it says nothing of the image";
        return Err(entries.refused("rescale_betas_zero_snr", why));
    }
    let mut sampling = SamplingDefaults {
        variance: variance(entries)?,
        thresholding: thresholding(entries)?,
        ..SamplingDefaults::default()
    };
    if is_ddpm_or_ddim && entries.flag("clip_sample")?.unwrap_or(true) {
        sampling.clip = Some(entries.number("clip_sample_range")?.unwrap_or(1.0));
    }
    if class.starts_with("Heun") && entries.flag("clip_sample")? == Some(true) {
        let why = "not with HeunDiscreteScheduler: Kao's Heun does not clip";
        return Err(entries.refused("clip_sample", why));
    }
    if is_ddim && entries.flag("set_alpha_to_one")? == Some(false) {
        sampling.end = Some(End::FirstTimestep);
    }
    if entries.text("final_sigmas_type")? == Some("sigma_min") {
        sampling.end = Some(End::FirstTimestep);
    }
    let spacing = match entries.text("timestep_spacing")? {
        None => is_ddpm_or_ddim.then_some(Spacing::Leading),
        Some("leading") => Some(Spacing::Leading),
        Some("trailing") => Some(Spacing::Trailing),
        Some("linspace") => Some(Spacing::Linspace),
        Some(_) => {
            let why = "Kao has the spacings leading, trailing and linspace";
            return Err(entries.refused("timestep_spacing", why));
        }
    };
    // By the same words, other schedulers mean other timesteps; trailing is the same in all.
    sampling.spacing = spacing.filter(|&own| is_ddpm_or_ddim || own == Spacing::Trailing);
    if sampling.spacing == Some(Spacing::Leading) {
        sampling.steps_offset = entries.whole("steps_offset")?.unwrap_or(0);
    }
    Ok(Scheduler { schedule, prediction, sampling })
}

fn schedule(entries: &Entries<'_>, class: &str) -> Result<ScheduleConfig> {
    let n_timesteps = entries.whole("num_train_timesteps")?.unwrap_or(1000);
    let kind = match entries.text("beta_schedule")?.unwrap_or("linear") {
        "linear" => ScheduleKind::Linear,
        "scaled_linear" => ScheduleKind::ScaledLinear,
        "squaredcos_cap_v2" => ScheduleKind::SquaredCosine,
        "sigmoid" => ScheduleKind::Sigmoid,
        _ if entries.get("trained_betas").is_some() => ScheduleKind::Given,
        _ => {
            let why = "Kao has linear, scaled_linear, squaredcos_cap_v2 and sigmoid";
            return Err(entries.refused("beta_schedule", why));
        }
    };
    let zero_terminal_snr = entries.flag("rescale_betas_zero_snr")?.unwrap_or(false);
    if let Some(betas) = entries.numbers("trained_betas")? {
        if betas.len() != n_timesteps {
            let why = format!("expected {n_timesteps} values, one for each of num_train_timesteps");
            return Err(entries.refused("trained_betas", &why));
        }
        return Ok(ScheduleConfig { zero_terminal_snr, ..ScheduleConfig::given(betas) });
    }
    let default = ScheduleConfig::default();
    // What a configuration leaves out is as the constructor of its class has it.
    let [beta_start, beta_end] = match class.starts_with("Heun") || class.starts_with("KDPM2") {
        true => [0.00085, 0.012],
        false => [default.beta_start, default.beta_end],
    };
    Ok(ScheduleConfig {
        kind,
        n_timesteps,
        beta_start: entries.number("beta_start")?.unwrap_or(beta_start),
        beta_end: entries.number("beta_end")?.unwrap_or(beta_end),
        zero_terminal_snr,
        ..default
    })
}

fn prediction(entries: &Entries<'_>) -> Result<Prediction> {
    match entries.text("prediction_type")?.unwrap_or("epsilon") {
        "epsilon" => Ok(Prediction::Epsilon),
        "sample" => Ok(Prediction::X0),
        "v_prediction" => Ok(Prediction::V),
        _ => {
            let why = "Kao has the predictions epsilon, sample and v_prediction";
            Err(entries.refused("prediction_type", why))
        }
    }
}

fn variance(entries: &Entries<'_>) -> Result<Option<Variance>> {
    match entries.text("variance_type")? {
        None => Ok(None),
        Some("fixed_small" | "fixed_small_log") => Ok(Some(Variance::Posterior)),
        Some("fixed_large") => Ok(Some(Variance::Beta)),
        Some(_) => {
            let why =
                "Kao has the variances fixed_small and fixed_large; learned ones are not built";
            Err(entries.refused("variance_type", why))
        }
    }
}

fn thresholding(entries: &Entries<'_>) -> Result<Option<Thresholding>> {
    if entries.flag("thresholding")? != Some(true) {
        return Ok(None);
    }
    entries.only("sample_max_value", &positive(entries), "expected a number, at least 1")?;
    Ok(Some(Thresholding {
        ratio: entries.number("dynamic_thresholding_ratio")?.unwrap_or(0.995),
        largest: entries.number("sample_max_value")?.unwrap_or(1.0),
    }))
}

/// The largest value itself, where it is at least 1.
fn positive(entries: &Entries<'_>) -> Vec<Value> {
    let value = entries.get("sample_max_value").and_then(Value::as_f64);
    value.filter(|&value| value >= 1.0).map(|value| json!(value)).into_iter().collect()
}
