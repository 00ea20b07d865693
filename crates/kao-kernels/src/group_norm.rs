//! Group normalization, with the activation and the dropout that follow it.

use crate::{Activation, Pixels, Sink, Source, reference};

/// Mean and reciprocal standard deviation of every group of every image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupNormStats {
    /// `[N, groups]`.
    pub mean: Vec<f32>,
    /// `[N, groups]`: 1 / √(variance + eps).
    pub rstd: Vec<f32>,
}

/// Dropout whose mask is a function of a seed and of the place in the tensor, so that the backward
/// pass computes it again and nothing is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability of 0, in [0, 1). What is kept is multiplied by 1 / (1 − rate).
    pub rate: f32,
    /// Another seed for every layer and step.
    pub seed: u64,
}

impl Dropout {
    /// What element `index` of the `[N, H, W, C]` tensor is multiplied by.
    #[inline(always)]
    pub fn factor(self, index: usize) -> f32 {
        let keep = 1.0 / (1.0 - self.rate);
        // A hash has 24 bits, compared as integers.
        let threshold = (self.rate * 16_777_216.0) as u32;
        if self.hash(index) >= threshold { keep } else { 0.0 }
    }

    /// 24 bits: two rounds of the multiply-xorshift permutation of 32 bits, keyed by the seed.
    #[inline(always)]
    fn hash(self, index: usize) -> u32 {
        let mut x = (index as u32) ^ (self.seed as u32);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x = x.wrapping_add((self.seed >> 32) as u32 ^ (index as u64 >> 32) as u32);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        (x ^ (x >> 16)) >> 8
    }
}

/// The parameters of a group normalization, its statistics, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// `[C]`.
    pub gamma: &'a [f32],
    /// `[C]`.
    pub beta: &'a [f32],
    /// Of [`group_norm_stats`], on the same input.
    pub stats: &'a GroupNormStats,
    /// Applied after gamma and beta.
    pub activation: Activation,
    /// Applied last.
    pub dropout: Option<Dropout>,
}

impl GroupNorm<'_> {
    /// Normalization and affine part folded into one scale and one shift for every image and
    /// channel, `[N, C]` each: what a [`crate::Prologue`] takes.
    pub fn scale_shift(&self) -> (Vec<f32>, Vec<f32>) {
        let per_group = self.gamma.len() / self.groups;
        let mut scale = Vec::with_capacity(self.stats.mean.len() * per_group);
        let mut shift = Vec::with_capacity(self.stats.mean.len() * per_group);
        for (i, (&mean, &rstd)) in self.stats.mean.iter().zip(&self.stats.rstd).enumerate() {
            let first = i % self.groups * per_group;
            let affine = self.gamma[first..].iter().zip(&self.beta[first..]).take(per_group);
            for (&gamma, &beta) in affine {
                scale.push(rstd * gamma);
                shift.push((-mean).mul_add(rstd * gamma, beta));
            }
        }
        (scale, shift)
    }

    #[track_caller]
    fn check(&self, pixels: Pixels, channels: usize) {
        assert!(
            self.groups > 0 && channels.is_multiple_of(self.groups),
            "{} groups do not divide {channels} channels",
            self.groups
        );
        assert_eq!(self.gamma.len(), channels, "length of gamma");
        assert_eq!(self.beta.len(), channels, "length of beta");
        assert_eq!(self.stats.mean.len(), pixels.n * self.groups, "length of the means");
        assert_eq!(self.stats.rstd.len(), pixels.n * self.groups, "length of the deviations");
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
    source.check(pixels);
    check_bare(source);
    assert!(
        groups > 0 && source.channels().is_multiple_of(groups),
        "{groups} groups do not divide {} channels",
        source.channels()
    );
    reference::group_norm_stats(pixels, source, groups, eps)
}

/// `y = dropout(act((x − mean) · rstd · gamma + beta))`.
///
/// # Shapes
/// source `[N, H, W, C]` (one part or two, no prologue), y `[N, H, W, C]`.
///
/// # Panics
/// As [`group_norm_stats`], or if the dropout rate is outside [0, 1).
pub fn group_norm(pixels: Pixels, source: &Source<'_>, norm: &GroupNorm<'_>, y: &mut [f32]) {
    source.check(pixels);
    check_bare(source);
    norm.check(pixels, source.channels());
    assert_eq!(y.len(), pixels.total() * source.channels(), "length of y");
    reference::group_norm(pixels, source, norm, y);
}

/// The gradients of [`group_norm`] (through its statistics too).
///
/// # Shapes
/// source and dy `[N, H, W, C]`, those of the forward pass; sink `[N, H, W, C]`, one part or two;
/// dgamma and dbeta `[C]`, overwritten.
///
/// # Panics
/// As [`group_norm`], or if the sink is upsampled.
pub fn group_norm_backward(
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    dy: &[f32],
    sink: Sink<'_>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    source.check(pixels);
    check_bare(source);
    norm.check(pixels, source.channels());
    sink.check(pixels);
    assert!(!sink.upsampled, "a normalization has no upsampled gradient");
    assert_eq!(sink.channels(), source.channels(), "channels of the gradient");
    assert_eq!(dy.len(), pixels.total() * source.channels(), "length of dy");
    assert_eq!(dgamma.len(), source.channels(), "length of dgamma");
    assert_eq!(dbeta.len(), source.channels(), "length of dbeta");
    reference::group_norm_backward(pixels, source, norm, dy, sink, dgamma, dbeta);
}

#[track_caller]
fn check_bare(source: &Source<'_>) {
    assert!(
        source.prologue.is_none() && !source.upsampled,
        "a normalization reads its input without prologue and upsampling"
    );
}
