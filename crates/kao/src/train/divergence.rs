//! When training has failed numerically, and what to do about it.

use super::config::TrainConfig;
use super::step::{MAX_LOSS, TrainState};
use super::validation::ValidationLoss;
use crate::denoiser::{Conditions, Denoiser};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use crate::noise::SeededNoise;
use rayon::prelude::*;
use std::path::Path;

/// The seed of the noise that a network is tried with.
const TRIAL_SEED: u64 = 999;

/// What is wrong with the weights of `state`, with the averaged ones as `averaged`, or with the
/// validation losses of both; `None` where all of it is sound. Without losses, the network is tried
/// once.
///
/// # Errors
/// When the device fails.
pub(super) fn problem_of(
    state: &TrainState,
    averaged: &Model,
    losses: Option<[&ValidationLoss; 2]>,
) -> Result<Option<String>> {
    let is_finite = |values: &[Vec<f32>]| {
        values.par_iter().all(|values| values.iter().all(|value| value.is_finite()))
    };
    if !is_finite(state.unet.values()) || !is_finite(&state.optimizer.ema) {
        return Ok(Some("weights are not finite".to_owned()));
    }
    if let Some(losses) = losses {
        let exploded = losses.into_iter().find(|loss| loss.mean.is_nan() || loss.mean >= MAX_LOSS);
        return Ok(exploded.map(|loss| format!("the validation loss is {}", loss.mean)));
    }
    let unet = state.unet.config();
    let x_t = SeededNoise { seed: TRIAL_SEED, first_image: 0 }.x_t(1, unet.image_size);
    let last_timestep = unet.num_steps - 1;
    let predicted = averaged.network.predict(&x_t, &[last_timestep], &Conditions::none())?;
    let is_sound = predicted.data().iter().all(|value| value.is_finite());
    Ok((!is_sound).then(|| "what the network predicts is not finite".to_owned()))
}

/// Training diverged: `problem` was found after step `n_steps`.
pub(super) fn diverged(n_steps: u64, problem: &str) -> Error {
    ErrorKind::Diverged { problem: format!("after step {n_steps}, {problem}") }.into()
}

/// `error` with a hint on what to do about it, where training diverged.
pub(super) fn advised(error: Error, config: &TrainConfig, last_checkpoint: Option<&Path>) -> Error {
    if !matches!(error.kind(), ErrorKind::Diverged { .. }) {
        return error;
    }
    let TrainConfig { learning_rate, max_gradient_norm, .. } = *config;
    let advice = match max_gradient_norm {
        norm if norm > 0.0 && norm <= 1.0 => {
            format!("try a learning rate below {learning_rate:e}")
        }
        _ => format!("try a learning rate below {learning_rate:e}, or 1 for `max_gradient_norm`"),
    };
    error.with_hint(match last_checkpoint {
        Some(path) => format!("the last good state is `{}`; {advice}", path.display()),
        None => advice,
    })
}
