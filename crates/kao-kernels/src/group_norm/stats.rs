//! Means and deviations of groups.

use super::GroupNormStats;
use super::lanes::{ABREAST, load_of, store_of};
use super::runs::{PIXELS_PER_TASK, for_each_run, parts, runs};
use crate::parallel::Shared;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Pixels, Source};

/// Mean and reciprocal standard deviation of every group of every image. Lengths have been checked.
pub fn stats(
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
