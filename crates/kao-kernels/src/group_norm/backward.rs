//! The gradients, through the statistics too.

use super::lanes::{ABREAST, load_all, load_of, store_of};
use super::runs::{PIXELS_PER_TASK, parts, runs};
use super::{AffineGradients, Dropout, FoldedNorm, GroupNorm};
use crate::activation::{Pointwise, for_activation};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Pixels, Sink, Source};
use std::sync::OnceLock;

/// Writes all of the sink and of the affine gradients. Lengths have been checked.
pub fn backward(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    dy: &[f32],
    mut sink: Sink<'_>,
    affine: AffineGradients<'_>,
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
    let AffineGradients { gamma, beta } = affine;
    let gradients = gamma.into_slice().iter_mut().zip(beta.into_slice());
    for (i, (dgamma, dbeta)) in gradients.enumerate() {
        let (image, channel) = (i / source.channels(), i % source.channels());
        let totals = if norm.per_image { &totals[image..=image] } else { &totals[..] };
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
        let [gamma, _] = self.norm.affine_of(image, c);
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
                let gamma = f64::from(gamma[channel]);
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
