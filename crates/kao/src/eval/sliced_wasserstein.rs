//! The sliced Wasserstein distance of two sets of images, level by level of their pyramids.
//!
//! After Karras et al. 2018 (section 5 and their published evaluation): of each image and level of
//! the Laplacian pyramid, 128 patches of 7 × 7 pixels at random places; each set's patches brought
//! to mean 0 and standard deviation 1 per channel; projections to 512 random directions (there
//! four times 128, whose mean is the same number); and per direction the mean absolute difference
//! of the sorted projections, which is the Wasserstein distance in one dimension.
//!
//! By that normalization the distance does not see what differs in the mean and the spread of a
//! level alone, such as brightness: it compares the form of the patches. And it does not reach 0
//! for two sets of the same kind: finite sets differ by chance, the less the larger they are, so
//! a distance is to be held against that of two sets of real pictures of the same size.
//!
//! Image k of every set is cut at the same places, so that equal sets have distance 0.

use super::laplacian::{MIN_SIDE, resolutions, split};
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::{Purpose, Stream};
use kao_kernels::project;
use rayon::prelude::*;
use std::borrow::Cow;

/// Height and width of a patch.
pub const PATCH_SIDE: usize = 7;
/// Patches of each image and level.
pub const PATCHES_PER_IMAGE: usize = 128;
/// Directions that patches are projected to.
pub const N_DIRECTIONS: usize = 512;

/// Distances are told in thousandths.
const SCALE: f64 = 1e3;
/// Directions that are projected to at once: memory grows with them, and reading the patches costs
/// less.
pub(super) const DIRECTIONS_TOGETHER: usize = 32;
/// Directions whose sums are kept in registers.
const LANES: usize = 16;
/// Below this standard deviation a channel is constant but for rounding.
const CONSTANT: f64 = 1e-6;

/// The distances at one level.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelDistances {
    /// Height and width of the level.
    pub resolution: [usize; 2],
    /// The distance of each pair, in thousandths.
    pub distances: Vec<f64>,
}

/// The distances of `pairs` of `sets` (positions among them) at each level, finest first.
///
/// Sets are `[N, C, H, W]` in any range. As many images are taken of each as the smallest has, the
/// first ones: distances of fewer images are larger by chance. `seed` decides where patches are
/// cut, by the position of their image, and the directions; so another order of the images is
/// another choice of patches.
///
/// # Errors
/// When there is no image, a side is below [`MIN_SIDE`], images differ in shape, a value is not
/// finite, a pair names no set, or `control`, which gets the number of directions done, stops the
/// work.
pub fn distances(
    sets: &[&Images],
    pairs: &[[usize; 2]],
    seed: u64,
    control: &dyn Control,
) -> Result<Vec<LevelDistances>> {
    let (n_images, [channels, height, width]) = check(sets, pairs)?;
    let resolutions = resolutions([height, width]);
    let total = (resolutions.len() * N_DIRECTIONS) as u64;
    let mut rests: Vec<Rest<'_>> =
        sets.iter().map(|set| Cow::Borrowed(&set.data()[..n_images * set.image_len()])).collect();
    let mut levels = Vec::with_capacity(resolutions.len());
    for (level, &resolution) in resolutions.iter().enumerate() {
        let is_last = level + 1 == resolutions.len();
        let shape = [channels, resolution[0], resolution[1]];
        let patches: Vec<Vec<f32>> = rests
            .iter_mut()
            .map(|rest| {
                let (mut patches, coarser) = cut(rest, shape, is_last, seed, level);
                *rest = Cow::Owned(coarser);
                normalize(&mut patches, channels);
                patches
            })
            .collect();
        let done = (level * N_DIRECTIONS) as u64;
        let report = |n: usize| {
            let done = done + n as u64;
            control.check(&Report::progress("measuring distances", done, Some(total), "directions"))
        };
        let size = channels * PATCH_SIDE * PATCH_SIDE;
        let distances = sliced(&patches, size, pairs, [seed, level as u64], &report)?;
        levels.push(LevelDistances { resolution, distances });
    }
    Ok(levels)
}

/// The number of images to take of each set, and their shape.
fn check(sets: &[&Images], pairs: &[[usize; 2]]) -> Result<(usize, [usize; 3])> {
    let none = || Error::invalid("images", "a set of none found; expected at least 1");
    let n_images = sets.iter().map(|set| set.len()).min().filter(|&n| n > 0).ok_or_else(none)?;
    let shape = sets[0].image_shape();
    if let Some(other) = sets.iter().map(|set| set.image_shape()).find(|&other| other != shape) {
        let problem = format!("sets of shapes {shape:?} and {other:?} found; expected one shape");
        return Err(Error::invalid("images", problem));
    }
    let [channels, height, width] = shape;
    if channels == 0 || height < MIN_SIDE || width < MIN_SIDE {
        let problem =
            format!("{height} × {width} pixels found; expected at least {MIN_SIDE} × {MIN_SIDE}");
        return Err(Error::invalid("images", problem));
    }
    for set in sets {
        if let Some(value) = set.data().iter().find(|value| !value.is_finite()) {
            let problem = format!("{value} found; expected finite numbers");
            return Err(Error::invalid("images", problem));
        }
    }
    match pairs.iter().flatten().find(|&&set| set >= sets.len()) {
        Some(set) => {
            let problem = format!("set {set} found; there are {}", sets.len());
            Err(Error::invalid("pairs", problem))
        }
        None => Ok((n_images, shape)),
    }
}

/// What the levels so far have left of a set, `[N, C, H, W]`.
type Rest<'a> = Cow<'a, [f32]>;

/// Parts each image into details, of which patches `[N · 128, C · 7 · 7]` are cut, and a coarser
/// image `[C, H, W]`. The last level is the image itself.
fn cut(
    images: &[f32],
    shape: [usize; 3],
    is_last: bool,
    seed: u64,
    level: usize,
) -> (Vec<f32>, Vec<f32>) {
    let image_len: usize = shape.iter().product();
    let n_images = images.len() / image_len;
    let patches_len = PATCHES_PER_IMAGE * shape[0] * PATCH_SIDE * PATCH_SIDE;
    let mut patches = vec![0.0; n_images * patches_len];
    let coarser: Vec<Vec<f32>> = images
        .par_chunks_exact(image_len)
        .zip(patches.par_chunks_exact_mut(patches_len))
        .enumerate()
        .map(|(k, (image, patches))| {
            let stream = Stream::new(seed, Purpose::Patches, k as u64, level as u64);
            if is_last {
                cut_one(image, shape, stream, patches);
                return Vec::new();
            }
            let (detail, coarse) = split(image, shape);
            cut_one(&detail.values, shape, stream, patches);
            coarse.values
        })
        .collect();
    (patches, coarser.concat())
}

/// Patches `[128, C, 7, 7]` of one image, at uniformly random places: first across, then down.
fn cut_one(image: &[f32], shape: [usize; 3], mut stream: Stream, patches: &mut [f32]) {
    let [channels, height, width] = shape;
    for patch in patches.chunks_exact_mut(channels * PATCH_SIDE * PATCH_SIDE) {
        let x = stream.below(width - PATCH_SIDE + 1);
        let y = stream.below(height - PATCH_SIDE + 1);
        for (row, values) in patch.chunks_exact_mut(PATCH_SIDE).enumerate() {
            let (channel, row) = (row / PATCH_SIDE, row % PATCH_SIDE);
            let start = (channel * height + y + row) * width + x;
            values.copy_from_slice(&image[start..start + PATCH_SIDE]);
        }
    }
}

/// Brings each channel to mean 0 and standard deviation 1 over all patches; a constant channel to
/// zeros.
fn normalize(patches: &mut [f32], channels: usize) {
    const AREA: usize = PATCH_SIDE * PATCH_SIDE;
    let n_values = (patches.len() / channels) as f64;
    let image_len = PATCHES_PER_IMAGE * channels * AREA;
    for channel in 0..channels {
        // The parts are added in the order of the images, whatever the threads.
        let mean_of = |value: &(dyn Fn(f32) -> f64 + Sync)| {
            let sum_of_image = |image: &[f32]| -> f64 {
                let planes = image.chunks_exact(AREA).skip(channel).step_by(channels);
                planes.flatten().map(|&v| value(v)).sum()
            };
            let sums: Vec<f64> = patches.par_chunks(image_len).map(sum_of_image).collect();
            sums.iter().sum::<f64>() / n_values
        };
        let mean = mean_of(&f64::from);
        let deviation = mean_of(&|v| (f64::from(v) - mean).powi(2)).sqrt();
        let factor = if deviation < CONSTANT { 0.0 } else { 1.0 / deviation };
        patches.par_chunks_mut(image_len).for_each(|image| {
            for plane in image.chunks_exact_mut(AREA).skip(channel).step_by(channels) {
                for value in plane {
                    *value = ((f64::from(*value) - mean) * factor) as f32;
                }
            }
        });
    }
}

/// The mean over directions of the pairs' one-dimensional distances; sets are `[n, size]`.
fn sliced(
    sets: &[Vec<f32>],
    size: usize,
    pairs: &[[usize; 2]],
    [seed, level]: [u64; 2],
    report: &dyn Fn(usize) -> Result<()>,
) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; pairs.len()];
    for first in (0..N_DIRECTIONS).step_by(DIRECTIONS_TOGETHER) {
        let directions = directions(first, size, seed, level);
        let projected: Vec<Vec<f32>> =
            sets.iter().map(|patches| project_all(patches, size, &directions)).collect();
        let by_direction: Vec<Vec<f64>> = (0..DIRECTIONS_TOGETHER)
            .into_par_iter()
            .map(|direction| {
                let sorted: Vec<Vec<u32>> =
                    projected.iter().map(|values| sorted_keys(values, direction)).collect();
                let distance = |&[a, b]: &[usize; 2]| mean_difference(&sorted[a], &sorted[b]);
                pairs.iter().map(distance).collect()
            })
            .collect();
        for distances in by_direction {
            for (sum, distance) in sums.iter_mut().zip(distances) {
                *sum += distance;
            }
        }
        report(first + DIRECTIONS_TOGETHER)?;
    }
    Ok(sums.into_iter().map(|sum| SCALE * sum / N_DIRECTIONS as f64).collect())
}

/// Unit vectors, uniformly distributed: `[32 / 16, size, 16]`.
pub(super) fn directions(first: usize, size: usize, seed: u64, level: u64) -> Vec<[f32; LANES]> {
    let mut directions = vec![[0.0; LANES]; DIRECTIONS_TOGETHER / LANES * size];
    let mut vector = vec![0.0; size];
    for direction in 0..DIRECTIONS_TOGETHER {
        let number = (first + direction) as u64;
        Stream::new(seed, Purpose::Directions, number, level).fill_normal(&mut vector);
        let norm = vector.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let lanes = &mut directions[direction / LANES * size..][..size];
        for (lanes, &v) in lanes.iter_mut().zip(&vector) {
            lanes[direction % LANES] = (f64::from(v) / norm) as f32;
        }
    }
    directions
}

/// Projections of patches `[n, size]`, in blocks of 128 patches: `[n / 128, 32, 128]`.
fn project_all(patches: &[f32], size: usize, directions: &[[f32; LANES]]) -> Vec<f32> {
    let mut projected = vec![0.0; patches.len() / size * DIRECTIONS_TOGETHER];
    projected
        .par_chunks_exact_mut(PATCHES_PER_IMAGE * DIRECTIONS_TOGETHER)
        .zip(patches.par_chunks_exact(PATCHES_PER_IMAGE * size))
        .for_each(|(block, patches)| {
            project(patches, size, directions, block);
        });
    projected
}

/// The projections to one direction in ascending order, as whole numbers that order as they do.
fn sorted_keys(projected: &[f32], direction: usize) -> Vec<u32> {
    let blocks = projected.chunks_exact(PATCHES_PER_IMAGE);
    let mut keys = Vec::with_capacity(projected.len() / DIRECTIONS_TOGETHER);
    for block in blocks.skip(direction).step_by(DIRECTIONS_TOGETHER) {
        keys.extend(block.iter().map(|&value| key(value)));
    }
    sorted(keys)
}

/// Sorts by digits, the lowest first, which for so many numbers takes half the time of comparing.
pub(super) fn sorted(mut keys: Vec<u32>) -> Vec<u32> {
    const BITS: u32 = 11;
    const N_DIGITS: usize = u32::BITS.div_ceil(BITS) as usize;
    const N_VALUES: usize = 1 << BITS;
    let digit = |key: u32, place: usize| (key >> (place as u32 * BITS)) as usize % N_VALUES;
    let mut counts = [[0; N_VALUES]; N_DIGITS];
    for &key in &keys {
        for (place, counts) in counts.iter_mut().enumerate() {
            counts[digit(key, place)] += 1;
        }
    }
    let mut ordered = vec![0; keys.len()];
    for (place, counts) in counts.iter_mut().enumerate() {
        // From how often a digit's value occurs to where the first key with it goes.
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &key in &keys {
            let next = &mut counts[digit(key, place)];
            ordered[*next] = key;
            *next += 1;
        }
        std::mem::swap(&mut keys, &mut ordered);
    }
    keys
}

/// A whole number that orders as `value` does.
pub(super) fn key(value: f32) -> u32 {
    let bits = value.to_bits();
    // Negative ones are in reverse, and below all others.
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The number that `key` stands for.
pub(super) fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// Mean absolute difference of two sorted lists of equal length.
fn mean_difference(a: &[u32], b: &[u32]) -> f64 {
    let pairs = a.iter().zip(b);
    let sum: f64 = pairs.map(|(&a, &b)| f64::from((value(a) - value(b)).abs())).sum();
    sum / a.len().max(1) as f64
}
