//! Group normalization, with the activation and the dropout that follow it.
//!
//! Sums over pixels are taken in f32 over runs of pixels and combined in f64,
//! run by run: an order that depends on the shape of an image alone.

mod backward;
mod dropout;
mod forward;
mod lanes;
mod runs;
mod stats;

pub use dropout::Dropout;

use crate::operands::length;
use crate::profile::Timed;
use crate::simd::simd_level;
use crate::{Activation, Destination, Pixels, Prologue, Sink, Source};

/// Mean and reciprocal standard deviation of every group of every image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupNormStats {
    /// `[N, groups]`.
    pub mean: Vec<f32>,
    /// `[N, groups]`: 1 / √(variance + eps).
    pub rstd: Vec<f32>,
}

/// The parameters of a group normalization, its statistics, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// `[C]`, or `[N, C]` where `per_image` says so.
    pub gamma: &'a [f32],
    /// The same.
    pub beta: &'a [f32],
    /// Whether every image has its own gamma and beta.
    pub per_image: bool,
    /// Of [`group_norm_stats`], on the same input.
    pub stats: &'a GroupNormStats,
    /// Applied after gamma and beta.
    pub activation: Activation,
    /// Applied last.
    pub dropout: Option<Dropout>,
}

/// Where the gradients with respect to the affine part of a normalization go.
#[derive(Debug)]
pub struct AffineGradients<'a> {
    /// `[C]` or `[N, C]`, as [`GroupNorm::gamma`].
    pub gamma: Destination<'a>,
    /// The same.
    pub beta: Destination<'a>,
}

/// What [`GroupNorm::folded`] gives: the means of a [`Prologue`].
#[derive(Clone, Debug)]
pub struct FoldedNorm {
    /// `[N, C]`.
    scale: Vec<f32>,
    /// `[N, C]`.
    shift: Vec<f32>,
    activation: Activation,
}

impl FoldedNorm {
    /// Normalization and activation on the way into a convolution.
    pub fn prologue(&self) -> Prologue<'_> {
        Prologue { scale: &self.scale, shift: &self.shift, activation: self.activation }
    }
}

impl GroupNorm<'_> {
    /// Normalization and affine part folded into one scale and one shift for every image and
    /// channel; without the dropout.
    pub fn folded(&self) -> FoldedNorm {
        let images = self.stats.mean.len() / self.groups;
        let n_affine = if self.per_image { self.groups * images } else { self.groups };
        let per_group = self.gamma.len() / n_affine.max(1);
        let mut scale = Vec::with_capacity(self.stats.mean.len() * per_group);
        let mut shift = Vec::with_capacity(self.stats.mean.len() * per_group);
        for (i, (&mean, &rstd)) in self.stats.mean.iter().zip(&self.stats.rstd).enumerate() {
            let first = i % n_affine * per_group;
            let affine = self.gamma[first..].iter().zip(&self.beta[first..]).take(per_group);
            for (&gamma, &beta) in affine {
                scale.push(rstd * gamma);
                shift.push((-mean).mul_add(rstd * gamma, beta));
            }
        }
        FoldedNorm { scale, shift, activation: self.activation }
    }

    /// Gamma and beta of an image.
    pub(crate) fn affine_of(&self, image: usize, channels: usize) -> [&[f32]; 2] {
        let first = if self.per_image { image * channels } else { 0 };
        [self.gamma, self.beta].map(|values| &values[first..first + channels])
    }

    /// The length of gamma and beta for `images` images of `channels` channels.
    fn affine_len(&self, images: usize, channels: usize) -> usize {
        if self.per_image { length([images, channels]) } else { channels }
    }

    #[track_caller]
    fn check(&self, pixels: Pixels, channels: usize) {
        assert!(
            self.groups > 0 && channels.is_multiple_of(self.groups),
            "{} groups do not divide {channels} channels",
            self.groups
        );
        let len = self.affine_len(pixels.n, channels);
        assert_eq!(self.gamma.len(), len, "length of gamma");
        assert_eq!(self.beta.len(), len, "length of beta");
        assert_eq!(self.stats.mean.len(), length([pixels.n, self.groups]), "length of the means");
        assert_eq!(
            self.stats.rstd.len(),
            length([pixels.n, self.groups]),
            "length of the deviations"
        );
        if let Some(dropout) = self.dropout {
            assert!((0.0..1.0).contains(&dropout.rate), "a dropout rate is in [0, 1)");
        }
    }
}

/// Mean and reciprocal standard deviation over the pixels and channels of each group.
///
/// # Shapes
/// source `[N, H, W, C]` (one part or two, no prologue).
///
/// # Panics
/// If a length does not fit, if `groups` does not divide C, or if the source has a prologue or an
/// upsampling.
pub fn group_norm_stats(
    pixels: Pixels,
    source: &Source<'_>,
    groups: usize,
    eps: f32,
) -> GroupNormStats {
    let _timed = Timed::pixels("group_norm_stats", pixels);
    source.check(pixels);
    check_bare(source);
    assert!(
        groups > 0 && source.channels().is_multiple_of(groups),
        "{groups} groups do not divide {} channels",
        source.channels()
    );
    stats::stats(simd_level(), pixels, source, groups, eps)
}

/// `y = dropout(act((x − mean) · rstd · gamma + beta))`.
///
/// # Shapes
/// source `[N, H, W, C]` (one part or two, no prologue), y `[N, H, W, C]`.
///
/// # Panics
/// As [`group_norm_stats`], or if the dropout rate is outside [0, 1).
pub fn group_norm<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    y: impl Into<Destination<'a>>,
) {
    let y = y.into();
    let _timed = Timed::pixels("group_norm", pixels);
    source.check(pixels);
    check_bare(source);
    norm.check(pixels, source.channels());
    assert_eq!(y.len(), length([pixels.total(), source.channels()]), "length of y");
    forward::apply(simd_level(), pixels, source, norm, y);
}

/// The gradients of [`group_norm`] (through its statistics too).
///
/// # Shapes
/// source and dy `[N, H, W, C]`, those of the forward pass; sink `[N, H, W, C]`, one part or two;
/// the affine gradients as gamma and beta, overwritten.
///
/// # Panics
/// As [`group_norm`], or if the sink is upsampled.
pub fn group_norm_backward(
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    dy: &[f32],
    sink: Sink<'_>,
    affine: AffineGradients<'_>,
) {
    let _timed = Timed::pixels("group_norm_backward", pixels);
    source.check(pixels);
    check_bare(source);
    norm.check(pixels, source.channels());
    sink.check(pixels);
    assert!(!sink.upsampled, "a normalization has no upsampled gradient");
    assert_eq!(sink.channels(), source.channels(), "channels of the gradient");
    assert_eq!(dy.len(), length([pixels.total(), source.channels()]), "length of dy");
    let len = norm.affine_len(pixels.n, source.channels());
    assert_eq!(affine.gamma.len(), len, "length of dgamma");
    assert_eq!(affine.beta.len(), len, "length of dbeta");
    backward::backward(simd_level(), pixels, source, norm, dy, sink, affine);
}

#[track_caller]
fn check_bare(source: &Source<'_>) {
    assert!(
        source.prologue.is_none() && !source.upsampled,
        "a normalization reads its input without prologue and upsampling"
    );
}
