//! Group normalization, with the activation and the dropout that follow it.
//!
//! Sums over pixels are taken in f32 over runs of [`PIXELS_PER_TASK`] pixels and combined in f64,
//! run by run: an order that depends on the shape of an image alone.

use crate::activation::{Pointwise, for_activation};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::profile::Timed;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch, simd_level};
use crate::{Activation, Pixels, Sink, Source};

/// Pixels that a task takes.
const PIXELS_PER_TASK: usize = 256;

/// Vectors of channels that are summed side by side.
const ABREAST: usize = 4;

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
    /// What element `index` (modulo 2³²) of the `[N, H, W, C]` tensor is multiplied by.
    #[inline(always)]
    pub(crate) fn factor(self, index: u32) -> f32 {
        let keep = 1.0 / (1.0 - self.rate);
        // The hash has 24 bits, compared as integers.
        let threshold = (self.rate * 16_777_216.0) as u32;
        if self.hash(index) >= threshold { keep } else { 0.0 }
    }

    /// 24 bits: two rounds of a multiply-xorshift permutation of 32 bits, each keyed by half of the
    /// seed.
    #[inline(always)]
    fn hash(self, index: u32) -> u32 {
        let mut x = index ^ (self.seed as u32);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x = (x ^ (x >> 16)).wrapping_add((self.seed >> 32) as u32);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        (x ^ (x >> 16)) >> 8
    }

    /// [`Self::factor`] of the elements from `index` on.
    ///
    /// # Safety
    /// S is available.
    #[inline(always)]
    unsafe fn factors<S: Simd>(self, index: usize) -> S::V {
        let mut factors = [0.0f32; 16];
        for (i, factor) in factors.iter_mut().enumerate().take(S::LANES) {
            *factor = self.factor((index as u32).wrapping_add(i as u32));
        }
        // SAFETY: 16 lanes are as many as any set has.
        unsafe { S::load(factors.as_ptr()) }
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
    let _timed = Timed::pixels("group_norm_stats", pixels);
    source.check(pixels);
    check_bare(source);
    assert!(
        groups > 0 && source.channels().is_multiple_of(groups),
        "{groups} groups do not divide {} channels",
        source.channels()
    );
    stats(simd_level(), pixels, source, groups, eps)
}

/// `y = dropout(act((x − mean) · rstd · gamma + beta))`.
///
/// # Shapes
/// source `[N, H, W, C]` (one part or two, no prologue), y `[N, H, W, C]`.
///
/// # Panics
/// As [`group_norm_stats`], or if the dropout rate is outside [0, 1).
pub fn group_norm(pixels: Pixels, source: &Source<'_>, norm: &GroupNorm<'_>, y: &mut [f32]) {
    let _timed = Timed::pixels("group_norm", pixels);
    source.check(pixels);
    check_bare(source);
    norm.check(pixels, source.channels());
    assert_eq!(y.len(), pixels.total() * source.channels(), "length of y");
    let (scale, shift) = norm.scale_shift();
    let (level, to) = (simd_level(), Shared::new(y.as_mut_ptr()));
    for_each_run(pixels, |image, first, n_pixels| {
        let kernel = Apply {
            source,
            norm,
            scale: &scale[image * source.channels()..],
            shift: &shift[image * source.channels()..],
            pixels: (image * pixels.per_image() + first, n_pixels),
            y: to.get(),
        };
        // SAFETY: the level is available, the lengths were checked, each task has its own pixels.
        unsafe { dispatch(level, kernel) };
    });
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
    let _timed = Timed::pixels("group_norm_backward", pixels);
    source.check(pixels);
    check_bare(source);
    norm.check(pixels, source.channels());
    sink.check(pixels);
    assert!(!sink.upsampled, "a normalization has no upsampled gradient");
    assert_eq!(sink.channels(), source.channels(), "channels of the gradient");
    assert_eq!(dy.len(), pixels.total() * source.channels(), "length of dy");
    assert_eq!(dgamma.len(), source.channels(), "length of dgamma");
    assert_eq!(dbeta.len(), source.channels(), "length of dbeta");
    backward(simd_level(), pixels, source, norm, dy, sink, dgamma, dbeta);
}

#[track_caller]
fn check_bare(source: &Source<'_>) {
    assert!(
        source.prologue.is_none() && !source.upsampled,
        "a normalization reads its input without prologue and upsampling"
    );
}

/// Calls `task(image, first pixel in the image, number of pixels)` for runs of pixels.
fn for_each_run(pixels: Pixels, task: impl Fn(usize, usize, usize) + Sync) {
    let runs = runs(pixels);
    for_each_task(pixels.n * runs, |i| {
        let (image, first) = (i / runs, i % runs * PIXELS_PER_TASK);
        task(image, first, PIXELS_PER_TASK.min(pixels.per_image() - first));
    });
}

/// Runs of pixels in an image.
fn runs(pixels: Pixels) -> usize {
    pixels.per_image().div_ceil(PIXELS_PER_TASK)
}

/// The parts of a source: values, channels, first channel.
#[inline(always)]
fn parts<'a>(source: &Source<'a>) -> [(&'a [f32], usize, usize); 2] {
    [(source.first, source.c_first, 0), (source.second, source.c_second, source.c_first)]
}

fn stats(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    groups: usize,
    eps: f32,
) -> GroupNormStats {
    let c = source.channels();
    let runs = runs(pixels);
    // Per image and run: sums and sums of squares by channel, of the differences from the first
    // pixel of the image. Those keep small what is far from zero but varies little.
    let mut memory = Scratch::new(pixels.n * runs * 2 * c);
    let sums = Shared::new(memory.as_mut_ptr());
    for_each_run(pixels, |image, first, n_pixels| {
        let kernel = SumSquares {
            source,
            first_of_image: image * pixels.per_image(),
            pixels: (image * pixels.per_image() + first, n_pixels),
            // SAFETY: there is room for every image and run.
            to: unsafe { sums.get().add((image * runs + first / PIXELS_PER_TASK) * 2 * c) },
        };
        // SAFETY: the level is available, the lengths were checked, each task has its own sums.
        unsafe { dispatch(level, kernel) };
    });
    // SAFETY: the tasks have written all of it.
    let sums = unsafe { std::slice::from_raw_parts(sums.get(), pixels.n * runs * 2 * c) };

    let per_group = c / groups;
    let count = pixels.per_image() as f64;
    let mut stats = GroupNormStats {
        mean: Vec::with_capacity(pixels.n * groups),
        rstd: Vec::with_capacity(pixels.n * groups),
    };
    for image in 0..pixels.n {
        let sums = &sums[image * runs * 2 * c..][..runs * 2 * c];
        let first_of_image = |channel: usize| {
            let pixel = image * pixels.per_image();
            f64::from(if channel < source.c_first {
                source.first[pixel * source.c_first + channel]
            } else {
                source.second[pixel * source.c_second + channel - source.c_first]
            })
        };
        for group in 0..groups {
            // Mean of the group's channels so far, and sum of squares around it (Chan et al. 1979).
            let (mut mean, mut squares) = (0.0, 0.0);
            for i in 0..per_group {
                let channel = group * per_group + i;
                let (mut sum, mut sum_of_squares) = (0.0, 0.0);
                for run in sums.chunks_exact(2 * c) {
                    sum += f64::from(run[channel]);
                    sum_of_squares += f64::from(run[c + channel]);
                }
                let channel_mean = first_of_image(channel) + sum / count;
                let difference = channel_mean - mean;
                mean += difference / (i + 1) as f64;
                squares += (sum_of_squares - sum * sum / count).max(0.0)
                    + difference * difference * count * i as f64 / (i + 1) as f64;
            }
            let variance = squares / (count * per_group as f64);
            stats.mean.push(mean as f32);
            stats.rstd.push((1.0 / (variance + f64::from(eps)).sqrt()) as f32);
        }
    }
    stats
}

struct SumSquares<'a> {
    source: &'a Source<'a>,
    first_of_image: usize,
    /// First and number.
    pixels: (usize, usize),
    /// `[2, C]`.
    to: *mut f32,
}

impl Kernel for SumSquares<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.source.channels();
        for (part, channels, first) in parts(self.source) {
            let mut channel = 0;
            while channel < channels {
                let width = (channels - channel).min(ABREAST * S::LANES);
                // SAFETY: pixels and channels exist, in the sums too.
                unsafe {
                    let from = part.as_ptr().add(channel);
                    let mut shift = [S::splat(0.0); ABREAST];
                    for (i, shift) in shift.iter_mut().enumerate() {
                        let from = from.wrapping_add(self.first_of_image * channels);
                        *shift = load_of::<S>(from, i, width);
                    }
                    let mut sums = [S::splat(0.0); ABREAST];
                    let mut squares = [S::splat(0.0); ABREAST];
                    let whole = width == ABREAST * S::LANES;
                    for pixel in self.pixels.0..self.pixels.0 + self.pixels.1 {
                        let from = from.add(pixel * channels);
                        for i in 0..ABREAST {
                            let x = if whole {
                                S::load(from.add(i * S::LANES))
                            } else {
                                load_of::<S>(from, i, width)
                            };
                            let x = S::sub(x, shift[i]);
                            sums[i] = S::add(sums[i], x);
                            squares[i] = S::fma(x, x, squares[i]);
                        }
                    }
                    for i in 0..ABREAST {
                        let to = self.to.add(first + channel);
                        store_of::<S>(to, i, width, sums[i]);
                        store_of::<S>(to.add(c), i, width, squares[i]);
                    }
                }
                channel += width;
            }
        }
    }
}

/// Vector `i` of the `width` values at `from`; lanes beyond are 0.
#[inline(always)]
unsafe fn load_of<S: Simd>(from: *const f32, i: usize, width: usize) -> S::V {
    let lanes = width.saturating_sub(i * S::LANES).min(S::LANES);
    // SAFETY: the caller promises `width` values.
    unsafe {
        if lanes == S::LANES {
            S::load(from.add(i * S::LANES))
        } else if lanes > 0 {
            S::load_part(from.add(i * S::LANES), lanes)
        } else {
            S::splat(0.0)
        }
    }
}

/// The counterpart of [`load_of`].
#[inline(always)]
unsafe fn store_of<S: Simd>(to: *mut f32, i: usize, width: usize, value: S::V) {
    let lanes = width.saturating_sub(i * S::LANES).min(S::LANES);
    if lanes > 0 {
        // SAFETY: the caller promises room for `width` values.
        unsafe { S::store_part(to.add(i * S::LANES), lanes, value) };
    }
}

struct Apply<'a> {
    source: &'a Source<'a>,
    norm: &'a GroupNorm<'a>,
    /// Of the image.
    scale: &'a [f32],
    shift: &'a [f32],
    /// First in the batch, and number.
    pixels: (usize, usize),
    /// The whole output.
    y: *mut f32,
}

impl Kernel for Apply<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        for_activation!(self.norm.activation, P => unsafe {
            match self.norm.dropout {
                Some(dropout) => self.run_with::<S, P, true>(dropout),
                None => self.run_with::<S, P, false>(Dropout { rate: 0.0, seed: 0 }),
            }
        });
    }
}

impl Apply<'_> {
    #[inline(always)]
    unsafe fn run_with<S: Simd, P: Pointwise, const DROPOUT: bool>(&self, dropout: Dropout) {
        let c = self.source.channels();
        for pixel in self.pixels.0..self.pixels.0 + self.pixels.1 {
            for (part, channels, first) in parts(self.source) {
                let mut channel = 0;
                while channel < channels {
                    let width = channels - channel;
                    let place = pixel * c + first + channel;
                    // SAFETY: pixel and channels exist, in the output too.
                    unsafe {
                        let x = part.as_ptr().add(pixel * channels + channel);
                        let scale = self.scale.as_ptr().add(first + channel);
                        let shift = self.shift.as_ptr().add(first + channel);
                        let x = load_of::<S>(x, 0, width);
                        let scale = load_of::<S>(scale, 0, width);
                        let shift = load_of::<S>(shift, 0, width);
                        let mut y = P::apply::<S>(S::fma(x, scale, shift));
                        if DROPOUT {
                            y = S::mul(y, dropout.factors::<S>(place));
                        }
                        if width >= S::LANES {
                            S::store(self.y.add(place), y);
                        } else {
                            S::store_part(self.y.add(place), width, y);
                        }
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn backward(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    dy: &[f32],
    sink: Sink<'_>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let (c, runs) = (source.channels(), runs(pixels));
    let (scale, shift) = norm.scale_shift();
    let per_group = c / norm.groups;
    let per_channel = |values: &[f32]| -> Vec<f32> {
        values.iter().flat_map(|&value| std::iter::repeat_n(value, per_group)).collect()
    };
    let (mean, rstd) = (per_channel(&norm.stats.mean), per_channel(&norm.stats.rstd));

    // Per image and run: sums of dz and of dz · normalized by channel.
    let len = pixels.n * runs * 2 * c;
    let mut memory = Scratch::new(len);
    let sums = Shared::new(memory.as_mut_ptr());
    let gradient = |image: usize, first: usize, n_pixels: usize| Gradient {
        source,
        norm,
        dy,
        scale: &scale[image * c..],
        shift: &shift[image * c..],
        mean: &mean[image * c..],
        pixels: (image * pixels.per_image() + first, n_pixels),
    };
    for_each_run(pixels, |image, first, n_pixels| {
        let kernel = SumGradient {
            gradient: gradient(image, first, n_pixels),
            // SAFETY: there is room for every image and run.
            to: unsafe { sums.get().add((image * runs + first / PIXELS_PER_TASK) * 2 * c) },
        };
        // SAFETY: the level is available, the lengths were checked, each task has its own sums.
        unsafe { dispatch(level, kernel) };
    });
    // SAFETY: the tasks have written all of it.
    let sums = unsafe { std::slice::from_raw_parts(sums.get(), len) };

    let (mut dgamma64, mut dbeta64) = (vec![0.0f64; c], vec![0.0f64; c]);
    // dx = dz · scale + (x − mean) · slope + offset
    let (mut slope, mut offset) = (vec![0.0f32; pixels.n * c], vec![0.0f32; pixels.n * c]);
    let count = (pixels.per_image() * per_group) as f64;
    for image in 0..pixels.n {
        let sums = &sums[image * runs * 2 * c..][..runs * 2 * c];
        for group in 0..norm.groups {
            let channels = group * per_group..(group + 1) * per_group;
            let rstd = f64::from(rstd[image * c + channels.start]);
            let (mut sum, mut sum_normalized) = (0.0, 0.0);
            for channel in channels.clone() {
                let (mut dz, mut dz_centred) = (0.0, 0.0);
                for run in sums.chunks_exact(2 * c) {
                    dz += f64::from(run[channel]);
                    dz_centred += f64::from(run[c + channel]);
                }
                let dz_normalized = dz_centred * rstd;
                dbeta64[channel] += dz;
                dgamma64[channel] += dz_normalized;
                sum += dz * f64::from(norm.gamma[channel]);
                sum_normalized += dz_normalized * f64::from(norm.gamma[channel]);
            }
            for channel in channels {
                slope[image * c + channel] = (-rstd * rstd * sum_normalized / count) as f32;
                offset[image * c + channel] = (-rstd * sum / count) as f32;
            }
        }
    }
    for (to, from) in dgamma.iter_mut().zip(dgamma64) {
        *to = from as f32;
    }
    for (to, from) in dbeta.iter_mut().zip(dbeta64) {
        *to = from as f32;
    }

    let output = Output::from(sink);
    for_each_run(pixels, |image, first, n_pixels| {
        let kernel = ApplyGradient {
            gradient: gradient(image, first, n_pixels),
            slope: &slope[image * c..],
            offset: &offset[image * c..],
            output: &output,
        };
        // SAFETY: the level is available, the lengths were checked, each task has its own pixels.
        unsafe { dispatch(level, kernel) };
    });
}

/// What both passes of the backward kernel compute for a run of pixels: dz, the gradient before
/// the activation and after the affine part.
struct Gradient<'a> {
    source: &'a Source<'a>,
    norm: &'a GroupNorm<'a>,
    dy: &'a [f32],
    /// Of the image, by channel.
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
    /// First in the batch, and number.
    pixels: (usize, usize),
}

impl Gradient<'_> {
    /// x − mean and dz, for a vector of channels; `width` values are there.
    #[inline(always)]
    unsafe fn at<S: Simd, P: Pointwise, const DROPOUT: bool>(
        &self,
        x: *const f32,
        pixel: usize,
        channel: usize,
        width: usize,
    ) -> (S::V, S::V) {
        // SAFETY: the caller promises pixel and channels.
        unsafe {
            let place = pixel * self.source.channels() + channel;
            let x = load_of::<S>(x, 0, width);
            let scale = load_of::<S>(self.scale.as_ptr().add(channel), 0, width);
            let shift = load_of::<S>(self.shift.as_ptr().add(channel), 0, width);
            let mean = load_of::<S>(self.mean.as_ptr().add(channel), 0, width);
            let dy = load_of::<S>(self.dy.as_ptr().add(place), 0, width);
            let mut dz = S::mul(dy, P::derivative::<S>(S::fma(x, scale, shift)));
            if DROPOUT && let Some(dropout) = self.norm.dropout {
                dz = S::mul(dz, dropout.factors::<S>(place));
            }
            (S::sub(x, mean), dz)
        }
    }
}

struct SumGradient<'a> {
    gradient: Gradient<'a>,
    /// `[2, C]`.
    to: *mut f32,
}

impl Kernel for SumGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        for_activation!(self.gradient.norm.activation, P => unsafe {
            if self.gradient.norm.dropout.is_some() {
                self.run_with::<S, P, true>();
            } else {
                self.run_with::<S, P, false>();
            }
        });
    }
}

impl SumGradient<'_> {
    #[inline(always)]
    unsafe fn run_with<S: Simd, P: Pointwise, const DROPOUT: bool>(&self) {
        let gradient = &self.gradient;
        let c = gradient.source.channels();
        for (part, channels, first) in parts(gradient.source) {
            let mut channel = 0;
            while channel < channels {
                let width = (channels - channel).min(ABREAST * S::LANES);
                // SAFETY: pixels and channels exist, in the sums too.
                unsafe {
                    let mut sums = [S::splat(0.0); ABREAST];
                    let mut products = [S::splat(0.0); ABREAST];
                    for pixel in gradient.pixels.0..gradient.pixels.0 + gradient.pixels.1 {
                        let x = part.as_ptr().add(pixel * channels + channel);
                        for i in 0..ABREAST {
                            let start = i * S::LANES;
                            if start < width {
                                let (x, dz) = gradient.at::<S, P, DROPOUT>(
                                    x.add(start),
                                    pixel,
                                    first + channel + start,
                                    width - start,
                                );
                                sums[i] = S::add(sums[i], dz);
                                products[i] = S::fma(dz, x, products[i]);
                            }
                        }
                    }
                    for i in 0..ABREAST {
                        let to = self.to.add(first + channel);
                        store_of::<S>(to, i, width, sums[i]);
                        store_of::<S>(to.add(c), i, width, products[i]);
                    }
                }
                channel += width;
            }
        }
    }
}

struct ApplyGradient<'a> {
    gradient: Gradient<'a>,
    /// Of the image, by channel.
    slope: &'a [f32],
    offset: &'a [f32],
    output: &'a Output<'a>,
}

impl Kernel for ApplyGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        for_activation!(self.gradient.norm.activation, P => unsafe {
            if self.gradient.norm.dropout.is_some() {
                self.run_with::<S, P, true>();
            } else {
                self.run_with::<S, P, false>();
            }
        });
    }
}

impl ApplyGradient<'_> {
    #[inline(always)]
    unsafe fn run_with<S: Simd, P: Pointwise, const DROPOUT: bool>(&self) {
        let gradient = &self.gradient;
        for pixel in gradient.pixels.0..gradient.pixels.0 + gradient.pixels.1 {
            for (part, channels, first) in parts(gradient.source) {
                let mut channel = 0;
                while channel < channels {
                    let width = channels - channel;
                    let place = first + channel;
                    // SAFETY: pixel and channels exist, in the output too.
                    unsafe {
                        let x = part.as_ptr().add(pixel * channels + channel);
                        let (x, dz) = gradient.at::<S, P, DROPOUT>(x, pixel, place, width);
                        let scale = load_of::<S>(gradient.scale.as_ptr().add(place), 0, width);
                        let slope = load_of::<S>(self.slope.as_ptr().add(place), 0, width);
                        let offset = load_of::<S>(self.offset.as_ptr().add(place), 0, width);
                        let dx = S::fma(dz, scale, S::fma(x, slope, offset));
                        self.output.write::<S>(pixel, place, width.min(S::LANES), dx);
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}
