//! Group normalization as the kernels take it.

use super::bridge::values;
use burn::backend::flex::FlexTensor;
use kao_kernels::{Activation, Dropout, GroupNorm, GroupNormStats};

pub(super) const NORM_EPSILON: f32 = 1e-5;

/// The normalization with these parameters and statistics.
pub(super) fn of<'a>(
    groups: usize,
    gamma: &'a FlexTensor,
    beta: &'a FlexTensor,
    stats: &'a GroupNormStats,
    activation: Activation,
    dropout: Option<Dropout>,
) -> GroupNorm<'a> {
    let (gamma, beta) = (values(gamma), values(beta));
    GroupNorm { groups, gamma, beta, stats, activation, dropout }
}
