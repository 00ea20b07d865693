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
use crate::{Activation, Destination, Pixels, Prologue, Sink, Source};
use std::sync::OnceLock;

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
        FoldedNorm { scale, shift, activation: self.activation }
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
    assert_eq!(y.len(), pixels.total() * source.channels(), "length of y");
    apply(simd_level(), pixels, source, norm, y);
}

/// The gradients of [`group_norm`] (through its statistics too).
///
/// # Shapes
/// source and dy `[N, H, W, C]`, those of the forward pass; sink `[N, H, W, C]`, one part or two;
/// dgamma and dbeta `[C]`, overwritten.
///
/// # Panics
/// As [`group_norm`], or if the sink is upsampled.
pub fn group_norm_backward<'a>(
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    dy: &[f32],
    sink: Sink<'_>,
    dgamma: impl Into<Destination<'a>>,
    dbeta: impl Into<Destination<'a>>,
) {
    let (dgamma, dbeta) = (dgamma.into(), dbeta.into());
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

fn apply(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    mut y: Destination<'_>,
) {
    let FoldedNorm { scale, shift, .. } = norm.folded();
    let to = Shared::new(y.as_mut_ptr());
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
    // SAFETY: the tasks have written all pixels.
    unsafe { y.mark_written() };
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
    // SAFETY: the caller promises room for `width` values.
    unsafe {
        if lanes == S::LANES {
            S::store(to.add(i * S::LANES), value);
        } else if lanes > 0 {
            S::store_part(to.add(i * S::LANES), lanes, value);
        }
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
    mut sink: Sink<'_>,
    dgamma: Destination<'_>,
    dbeta: Destination<'_>,
) {
    let FoldedNorm { scale, shift, .. } = norm.folded();
    let per_group = source.channels() / norm.groups;
    let mean: Vec<f32> =
        norm.stats.mean.iter().flat_map(|&mean| std::iter::repeat_n(mean, per_group)).collect();
    let output = Output::from(&mut sink);
    let (scale, shift, mean) = (&scale[..], &shift[..], &mean[..]);
    let pass = BackwardPass { level, pixels, source, norm, dy, output, scale, shift, mean };
    let threads = rayon::current_num_threads();
    let totals: Vec<ImageTotals> = if pixels.n.is_multiple_of(threads) || pixels.n > 4 * threads {
        pass.image_by_image()
    } else {
        pass.run_by_run()
    };
    // SAFETY: all runs of all images have been written.
    unsafe { sink.mark_written() };
    let gradients = dgamma.into_slice().iter_mut().zip(dbeta.into_slice());
    for (channel, (dgamma, dbeta)) in gradients.enumerate() {
        *dgamma = totals.iter().map(|totals| totals.dz_normalized[channel]).sum::<f64>() as f32;
        *dbeta = totals.iter().map(|totals| totals.dz[channel]).sum::<f64>() as f32;
    }
}

/// Everything the backward kernel reads, and where it writes.
#[derive(Clone, Copy)]
struct BackwardPass<'a> {
    level: SimdLevel,
    pixels: Pixels,
    source: &'a Source<'a>,
    norm: &'a GroupNorm<'a>,
    dy: &'a [f32],
    output: Output<'a>,
    /// `[N, C]`.
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
}

/// Sums over the pixels of an image by channel: of dz, and of dz · normalized.
struct ImageTotals {
    dz: Vec<f64>,
    dz_normalized: Vec<f64>,
}

impl BackwardPass<'_> {
    /// Length of an image's sums: `[runs, 2, C]`.
    fn sums_len(&self) -> usize {
        runs(self.pixels) * 2 * self.source.channels()
    }

    /// Length of an image's dz: `[H, W, C]`.
    fn dz_len(&self) -> usize {
        self.pixels.per_image() * self.source.channels()
    }

    /// An image is a task, whose dz is still in the cache when it is needed again.
    fn image_by_image(&self) -> Vec<ImageTotals> {
        let totals: Vec<OnceLock<ImageTotals>> =
            (0..self.pixels.n).map(|_| OnceLock::new()).collect();
        for_each_task(self.pixels.n, |image| {
            let mut sums = Scratch::new(self.sums_len());
            let mut dz = Scratch::new(self.dz_len());
            let (sums, dz) = (sums.as_mut_ptr(), dz.as_mut_ptr());
            // SAFETY: there is room for an image; each task has its own.
            let of_image = unsafe {
                for run in 0..runs(self.pixels) {
                    self.sum(image, run, sums, dz);
                }
                let sums = std::slice::from_raw_parts(sums, self.sums_len());
                let (of_image, line) = self.fold(image, sums);
                for run in 0..runs(self.pixels) {
                    self.apply(image, run, dz, &line);
                }
                of_image
            };
            let _ = totals[image].set(of_image);
        });
        totals.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    /// A run of pixels is a task, where there are few images.
    fn run_by_run(&self) -> Vec<ImageTotals> {
        let (n, runs) = (self.pixels.n, runs(self.pixels));
        let mut sums = Scratch::new(n * self.sums_len());
        let mut dz = Scratch::new(n * self.dz_len());
        let (sums, dz) = (Shared::new(sums.as_mut_ptr()), Shared::new(dz.as_mut_ptr()));
        for_each_task(n * runs, |task| {
            let (image, run) = (task / runs, task % runs);
            // SAFETY: there is room for all images; each task has its own run.
            unsafe {
                let sums = sums.get().add(image * self.sums_len());
                self.sum(image, run, sums, dz.get().add(image * self.dz_len()));
            }
        });
        let (totals, lines): (Vec<_>, Vec<_>) = (0..n)
            .map(|image| {
                // SAFETY: the tasks have written all of it.
                let sums = unsafe {
                    let sums = sums.get().add(image * self.sums_len());
                    std::slice::from_raw_parts(sums, self.sums_len())
                };
                self.fold(image, sums)
            })
            .unzip();
        for_each_task(n * runs, |task| {
            let (image, run) = (task / runs, task % runs);
            // SAFETY: dz is there; each task has its own run.
            unsafe {
                self.apply(image, run, dz.get().add(image * self.dz_len()), &lines[image]);
            }
        });
        totals
    }

    /// First pixel of a run in the image, and number of pixels.
    fn pixels_of(&self, run: usize) -> (usize, usize) {
        let first = run * PIXELS_PER_TASK;
        (first, PIXELS_PER_TASK.min(self.pixels.per_image() - first))
    }

    /// dz of a run of an image, and its sums.
    ///
    /// # Safety
    /// `sums` and `dz`, those of the image, have room, and nobody else touches this run.
    unsafe fn sum(&self, image: usize, run: usize, sums: *mut f32, dz: *mut f32) {
        let c = self.source.channels();
        let kernel = SumGradient {
            pass: self,
            image,
            pixels: self.pixels_of(run),
            dz,
            // SAFETY: there is room for every run.
            to: unsafe { sums.add(run * 2 * c) },
        };
        // SAFETY: the level is available and the lengths were checked.
        unsafe { dispatch(self.level, kernel) };
    }

    /// The totals of an image, and slope and offset by channel in
    /// dx = dz · scale + (x − mean) · slope + offset.
    fn fold(&self, image: usize, sums: &[f32]) -> (ImageTotals, [Vec<f32>; 2]) {
        let (c, groups) = (self.source.channels(), self.norm.groups);
        let per_group = c / groups;
        let count = (self.pixels.per_image() * per_group) as f64;
        let mut totals = ImageTotals { dz: vec![0.0; c], dz_normalized: vec![0.0; c] };
        let (mut slope, mut offset) = (vec![0.0; c], vec![0.0; c]);
        for group in 0..groups {
            let channels = group * per_group..(group + 1) * per_group;
            let rstd = f64::from(self.norm.stats.rstd[image * groups + group]);
            let (mut sum, mut sum_normalized) = (0.0, 0.0);
            for channel in channels.clone() {
                let (mut dz, mut dz_centred) = (0.0, 0.0);
                for run in sums.chunks_exact(2 * c) {
                    dz += f64::from(run[channel]);
                    dz_centred += f64::from(run[c + channel]);
                }
                totals.dz[channel] = dz;
                totals.dz_normalized[channel] = dz_centred * rstd;
                let gamma = f64::from(self.norm.gamma[channel]);
                sum += dz * gamma;
                sum_normalized += totals.dz_normalized[channel] * gamma;
            }
            slope[channels.clone()].fill((-rstd * rstd * sum_normalized / count) as f32);
            offset[channels].fill((-rstd * sum / count) as f32);
        }
        (totals, [slope, offset])
    }

    /// dx of a run of an image.
    ///
    /// # Safety
    /// `dz` is that of the image, and nobody else touches this run.
    unsafe fn apply(&self, image: usize, run: usize, dz: *const f32, line: &[Vec<f32>; 2]) {
        let [slope, offset] = line;
        let pixels = self.pixels_of(run);
        let kernel = ApplyGradient { pass: self, image, pixels, dz, slope, offset };
        // SAFETY: the level is available and the lengths were checked.
        unsafe { dispatch(self.level, kernel) };
    }
}

/// dz, the gradient before the activation and after the affine part, for a run of pixels; and its
/// sums, and those of dz · (x − mean).
struct SumGradient<'a> {
    pass: &'a BackwardPass<'a>,
    image: usize,
    /// First in the image, and number.
    pixels: (usize, usize),
    /// Of the image.
    dz: *mut f32,
    /// `[2, C]`.
    to: *mut f32,
}

impl Kernel for SumGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        for_activation!(self.pass.norm.activation, P => unsafe {
            match self.pass.norm.dropout {
                Some(dropout) => self.run_with::<S, P, true>(dropout),
                None => self.run_with::<S, P, false>(Dropout { rate: 0.0, seed: 0 }),
            }
        });
    }
}

impl SumGradient<'_> {
    #[inline(always)]
    unsafe fn run_with<S: Simd, P: Pointwise, const DROPOUT: bool>(&self, dropout: Dropout) {
        let pass = self.pass;
        let c = pass.source.channels();
        let first_of_image = self.image * pass.pixels.per_image();
        for (part, channels, first_of_part) in parts(pass.source) {
            let mut first = 0;
            while first < channels {
                let width = (channels - first).min(ABREAST * S::LANES);
                let channel = first_of_part + first;
                // SAFETY: pixels and channels exist, in dz and in the sums too.
                unsafe {
                    let of_image = |values: &[f32]| values.as_ptr().add(self.image * c + channel);
                    let scale = load_all::<S>(of_image(pass.scale), width);
                    let shift = load_all::<S>(of_image(pass.shift), width);
                    let mean = load_all::<S>(of_image(pass.mean), width);
                    let mut sums = [S::splat(0.0); ABREAST];
                    let mut products = [S::splat(0.0); ABREAST];
                    for pixel in self.pixels.0..self.pixels.0 + self.pixels.1 {
                        let x = part.as_ptr().add((first_of_image + pixel) * channels + first);
                        let place = (first_of_image + pixel) * c + channel;
                        let dy = pass.dy.as_ptr().add(place);
                        let to = self.dz.add(pixel * c + channel);
                        for i in 0..ABREAST {
                            if i * S::LANES >= width {
                                break;
                            }
                            let x = load_of::<S>(x, i, width);
                            let derivative = P::derivative::<S>(S::fma(x, scale[i], shift[i]));
                            let mut dz = S::mul(load_of::<S>(dy, i, width), derivative);
                            if DROPOUT {
                                let factors = dropout.factors::<S>(place + i * S::LANES);
                                dz = S::mul(dz, factors);
                            }
                            store_of::<S>(to, i, width, dz);
                            sums[i] = S::add(sums[i], dz);
                            products[i] = S::fma(dz, S::sub(x, mean[i]), products[i]);
                        }
                    }
                    for i in 0..ABREAST {
                        let to = self.to.add(channel);
                        store_of::<S>(to, i, width, sums[i]);
                        store_of::<S>(to.add(c), i, width, products[i]);
                    }
                }
                first += width;
            }
        }
    }
}

/// The `width` values at `from`; lanes beyond are 0.
#[inline(always)]
unsafe fn load_all<S: Simd>(from: *const f32, width: usize) -> [S::V; ABREAST] {
    // SAFETY: the caller promises `width` values.
    unsafe {
        let mut vectors = [S::splat(0.0); ABREAST];
        for (i, vector) in vectors.iter_mut().enumerate() {
            *vector = load_of::<S>(from, i, width);
        }
        vectors
    }
}

/// dx for a run of pixels, dz being there.
struct ApplyGradient<'a> {
    pass: &'a BackwardPass<'a>,
    image: usize,
    /// First in the image, and number.
    pixels: (usize, usize),
    /// Of the image.
    dz: *const f32,
    /// Of the image, by channel.
    slope: &'a [f32],
    offset: &'a [f32],
}

impl Kernel for ApplyGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let pass = self.pass;
        let c = pass.source.channels();
        for pixel in self.pixels.0..self.pixels.0 + self.pixels.1 {
            let pixel_of_batch = self.image * pass.pixels.per_image() + pixel;
            for (part, channels, first_of_part) in parts(pass.source) {
                let mut first = 0;
                while first < channels {
                    let width = channels - first;
                    let channel = first_of_part + first;
                    let place = self.image * c + channel;
                    // SAFETY: pixel and channels exist, in the output too.
                    unsafe {
                        let x = part.as_ptr().add(pixel_of_batch * channels + first);
                        let mean = load_of::<S>(pass.mean.as_ptr().add(place), 0, width);
                        let x = S::sub(load_of::<S>(x, 0, width), mean);
                        let dz = load_of::<S>(self.dz.add(pixel * c + channel), 0, width);
                        let scale = load_of::<S>(pass.scale.as_ptr().add(place), 0, width);
                        let slope = load_of::<S>(self.slope.as_ptr().add(channel), 0, width);
                        let offset = load_of::<S>(self.offset.as_ptr().add(channel), 0, width);
                        let dx = S::fma(dz, scale, S::fma(x, slope, offset));
                        let lanes = width.min(S::LANES);
                        pass.output.write::<S>(pixel_of_batch, channel, lanes, dx);
                    }
                    first += S::LANES;
                }
            }
        }
    }
}
