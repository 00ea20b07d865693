//! Evaluation: how far samples are from the pictures of a folder, and whether they copy them.

use super::distances::{DistanceAndFloor, KernelEvaluation, different};
use super::kernel_sets::KernelSets;
use crate::control::{Control, Report};
use crate::dataset::{Folder, SplitConfig};
use crate::error::{Error, Result};
use crate::eval::{self, Neighbour};
use crate::images::Images;
use serde::Serialize;

/// A sample is called close when it is nearer to a training picture than this share of the usual
/// distance of a picture that was never trained on.
const CLOSE: f64 = 0.5;

/// An evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationConfig {
    /// Seed of what is left to chance: which pictures are compared, where, in which directions.
    pub seed: u64,
    /// Training pictures to find for each sample.
    pub n_neighbours: usize,
}

impl Default for EvaluationConfig {
    /// Seed 999, 5 neighbours.
    fn default() -> Self {
        EvaluationConfig { seed: 999, n_neighbours: 5 }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Samples that there are.
    pub n_samples: usize,
    /// Different pictures in the folder.
    pub n_pictures: usize,
    /// Samples that were compared, and pictures in each of the two sets they were compared with.
    pub n_compared: usize,
    /// The distances at each resolution, finest first.
    pub levels: Vec<LevelEvaluation>,
    /// Their mean.
    pub average: DistanceAndFloor,
    /// Kernel distances; none where images have no three channels.
    pub kernel: Option<KernelEvaluation>,
    /// The samples' nearest training pictures.
    pub samples: Nearness,
    /// The same of real pictures that are held out of training, as a scale; none where none is.
    pub held_out: Option<Nearness>,
    /// Below this, a picture counts as close: half of the held-out pictures' median.
    pub close_below: Option<f64>,
    /// The neighbours of each sample, nearest first, by their positions in the folder.
    pub neighbours: Vec<Vec<Neighbour>>,
}

/// Distances at one resolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LevelEvaluation {
    /// Height and width.
    pub resolution: [usize; 2],
    /// The distances.
    #[serde(flatten)]
    pub distance: DistanceAndFloor,
}

/// How near pictures are to the training picture that is most like each: root mean squared
/// difference of two bytes, 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nearness {
    /// How many pictures.
    pub n: usize,
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// How many are close; 0 where there is no scale.
    pub n_close: usize,
}

impl Evaluation {
    /// Samples in the order of how near their nearest training picture is, nearest first.
    pub fn most_alike_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.neighbours.len()).collect();
        order.sort_by(|&a, &b| rms(&self.neighbours[a]).total_cmp(&rms(&self.neighbours[b])));
        order
    }

    /// Columns of a picture: the `n` samples that are most like a training picture, then their
    /// nearest pictures of `data`, their second nearest, and so on.
    ///
    /// # Errors
    /// When `samples` and `data` are not those that were evaluated.
    pub fn columns(&self, samples: &Images, data: &Folder, n: usize) -> Result<Vec<Images>> {
        if samples.len() != self.n_samples {
            let problem = format!("{} found; {} were evaluated", samples.len(), self.n_samples);
            return Err(Error::invalid("samples", problem));
        }
        let mut order = self.most_alike_first();
        order.truncate(n);
        let mut first = samples.slice(0..0);
        for &sample in &order {
            first.append(&samples.slice(sample..sample + 1))?;
        }
        let n_neighbours = self.neighbours.iter().map(Vec::len).min().unwrap_or(0);
        let column = |rank: usize| {
            let pictures = order.iter().map(|&sample| self.neighbours[sample][rank].index);
            data.images(&Vec::from_iter(pictures))
        };
        let others = (0..n_neighbours).map(column).collect::<Result<Vec<_>>>()?;
        Ok([vec![first], others].concat())
    }
}

/// Compares `samples` (`[N, C, H, W]`) with the pictures of `data`.
///
/// Samples are rounded to bytes first, as they are seen. Two sets of different pictures, of one
/// size with each other, are drawn from all of `data`: as large as `samples`, or half of `data`
/// where it is smaller, and then as many samples, the first ones. Neighbours are looked for among
/// the pictures that training on the folder learns from.
///
/// # Errors
/// When there are fewer than 2 samples or 4 different pictures, no picture falls to training,
/// shapes differ, a side is below 16 pixels, or `control` stops the work.
pub fn evaluate(
    samples: &Images,
    data: &Folder,
    config: &EvaluationConfig,
    control: &dyn Control,
) -> Result<Evaluation> {
    if samples.image_shape() != data.shape() {
        let problem = format!(
            "samples of shape {:?} and pictures of {:?} found; expected one shape",
            samples.image_shape(),
            data.shape()
        );
        return Err(Error::invalid("samples", problem));
    }
    let sets = RealSets::new(data, samples.len(), config.seed)?;
    let bytes: Vec<Vec<u8>> = (0..samples.len()).map(|k| samples.to_bytes_hwc(k)).collect();
    let levels = sets.levels(samples, control)?;
    let RealSets { n_pictures, n_compared, .. } = sets;
    let average = average(&levels);
    let kernel = KernelSets::new(data, samples.len(), config.seed, control)?
        .map(|sets| sets.distance(&bytes, control))
        .transpose()?;

    let split = data.split(&SplitConfig::default())?;
    if split.train.is_empty() {
        let problem = "none of its pictures falls to training; expected more of them";
        return Err(Error::invalid("data", problem));
    }
    let picture = |&index: &usize| data.picture_bytes(index);
    // The test set first: validation has at least been looked at.
    let unseen = split.test.iter().chain(&split.validation).take(samples.len());
    let held_out = unseen.map(picture).collect::<Result<Vec<_>>>()?;
    let held_out: Vec<&[u8]> = held_out.iter().map(|picture| &**picture).collect();
    let total = (samples.len() + held_out.len()) as u64;
    let queries: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let n_nearest = config.n_neighbours.max(1);
    // Two searches, reported as one.
    let after = |n_before: u64| {
        move |report: &Report<'_>| {
            let (done, total) = (n_before + report.done, Some(total));
            control.report(&Report { done, total, ..*report })
        }
    };
    let neighbours = nearest_of(&queries, data, &split.train, n_nearest, &after(0))?;
    let after_samples = after(samples.len() as u64);
    let held_out = nearest_of(&held_out, data, &split.train, 1, &after_samples)?;
    let scale = median(&held_out);
    let close_below = scale.map(|median| CLOSE * median);
    let samples_nearness = nearness(&neighbours, close_below);
    Ok(Evaluation {
        n_samples: samples.len(),
        n_pictures,
        n_compared,
        levels,
        average,
        kernel,
        samples: samples_nearness,
        held_out: scale.map(|_| nearness(&held_out, close_below)),
        close_below,
        neighbours,
    })
}

/// The `n_nearest` of the pictures of `data` at `candidates` for each of `queries`, by their positions
/// in the folder. Pictures that are on disk come into memory a number of them at a time.
fn nearest_of(
    queries: &[&[u8]],
    data: &Folder,
    candidates: &[usize],
    n_nearest: usize,
    control: &dyn Control,
) -> Result<Vec<Vec<Neighbour>>> {
    const CHUNK_BYTES: usize = 256 << 20;
    let chunk_len = match data.on_disk() {
        None => candidates.len(),
        Some(_) => CHUNK_BYTES / data.shape().iter().product::<usize>(),
    };
    let (total, n_chunks) = (queries.len() as u64, candidates.len().div_ceil(chunk_len.max(1)));
    let mut found: Vec<Vec<Neighbour>> = vec![Vec::new(); queries.len()];
    for (chunk, candidates) in candidates.chunks(chunk_len.max(1)).enumerate() {
        let pictures: Vec<_> =
            candidates.iter().map(|&index| data.picture_bytes(index)).collect::<Result<_>>()?;
        let pictures: Vec<&[u8]> = pictures.iter().map(|picture| &**picture).collect();
        let reported = |report: &Report<'_>| {
            let done = (chunk as u64 * total + report.done) / n_chunks.max(1) as u64;
            control.report(&Report { done, ..*report })
        };
        let nearest = eval::nearest(queries, &pictures, n_nearest, &reported)?;
        for (found, nearest) in found.iter_mut().zip(nearest) {
            let of_folder = |near: Neighbour| Neighbour { index: candidates[near.index], ..near };
            found.extend(nearest.into_iter().map(of_folder));
            // Of equally near ones the earlier first, as within a chunk.
            found.sort_by(|a, b| a.rms.total_cmp(&b.rms));
            found.truncate(n_nearest);
        }
    }
    Ok(found)
}

/// Two sets of real pictures, of which none is in both.
pub(super) struct RealSets {
    one: Images,
    other: Images,
    seed: u64,
    /// Different pictures that there are.
    pub n_pictures: usize,
    /// Pictures in each set.
    pub n_compared: usize,
}

impl RealSets {
    /// Of the pictures of `data`: as many in each set as there are samples, or half of `data` where
    /// that is smaller.
    ///
    /// # Errors
    /// When there are fewer than 2 samples or 4 different pictures.
    pub fn new(data: &Folder, n_samples: usize, seed: u64) -> Result<Self> {
        let pictures = different(data, seed);
        let (n_pictures, n_compared) = (pictures.len(), n_samples.min(pictures.len() / 2));
        for (what, n, least) in [("samples", n_samples, 2), ("data", n_pictures, 4)] {
            if n < least {
                let problem = format!("{n} different found; expected at least {least}");
                return Err(Error::invalid(what, problem));
            }
        }
        let one = data.images(&pictures[..n_compared])?;
        let other = data.images(&pictures[n_compared..2 * n_compared])?;
        Ok(RealSets { one, other, seed, n_pictures, n_compared })
    }

    /// The distances at each resolution, finest first, of as many samples as there are pictures in a
    /// set. Samples are rounded to bytes first, as they are seen.
    ///
    /// # Errors
    /// When shapes differ, a side is below 16 pixels, or `control` stops the work.
    pub fn levels(&self, samples: &Images, control: &dyn Control) -> Result<Vec<LevelEvaluation>> {
        let [_, channels, height, width] = self.one.shape();
        let compared: Vec<u8> =
            (0..self.n_compared).flat_map(|k| samples.to_bytes_hwc(k)).collect();
        let seen = Images::from_bytes_nhwc([self.n_compared, channels, height, width], &compared)?;
        let pairs = [[0, 1], [0, 2], [1, 2]];
        let levels = eval::distances(&[&seen, &self.one, &self.other], &pairs, self.seed, control)?;
        let level = |level: eval::LevelDistances| {
            let [to_one, to_other, floor] = [0, 1, 2].map(|pair| level.distances[pair]);
            let distance = DistanceAndFloor { samples: (to_one + to_other) / 2.0, floor };
            LevelEvaluation { resolution: level.resolution, distance }
        };
        Ok(levels.into_iter().map(level).collect())
    }

    /// As [`levels`](Self::levels), the mean over all resolutions.
    ///
    /// # Errors
    /// As there.
    pub fn average(&self, samples: &Images, control: &dyn Control) -> Result<DistanceAndFloor> {
        Ok(average(&self.levels(samples, control)?))
    }

    /// The first set.
    pub fn one(&self) -> &Images {
        &self.one
    }
}

fn average(levels: &[LevelEvaluation]) -> DistanceAndFloor {
    let mean = |of: &dyn Fn(&DistanceAndFloor) -> f64| {
        levels.iter().map(|level| of(&level.distance)).sum::<f64>() / levels.len() as f64
    };
    DistanceAndFloor {
        samples: mean(&|distance| distance.samples),
        floor: mean(&|distance| distance.floor),
    }
}

/// How far the nearest is.
fn rms(neighbours: &[Neighbour]) -> f64 {
    neighbours.first().map_or(f64::INFINITY, |nearest| nearest.rms)
}

/// The median of how far the nearest ones are, where there are any.
fn median(neighbours: &[Vec<Neighbour>]) -> Option<f64> {
    let mut sorted: Vec<f64> = neighbours.iter().map(|list| rms(list)).collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

fn nearness(neighbours: &[Vec<Neighbour>], close_below: Option<f64>) -> Nearness {
    let nearest = || neighbours.iter().map(|list| rms(list));
    let is_close = |rms: &f64| close_below.is_some_and(|bound| *rms < bound);
    Nearness {
        n: neighbours.len(),
        median: median(neighbours).unwrap_or(f64::INFINITY),
        least: nearest().fold(f64::INFINITY, f64::min),
        n_close: nearest().filter(is_close).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Unattended;
    use crate::noise::{Purpose, Stream};
    use std::ops::ControlFlow;

    /// `n` pictures of 16 × 16 pixels of seeded noise.
    fn folder(n: usize) -> Folder {
        let mut stream = Stream::new(3, Purpose::Noising, 0, 0);
        let bytes = (0..n * 768).map(|_| stream.below(256) as u8).collect();
        let names = (0..n).map(|k| format!("{k}.png")).collect();
        Folder::from_bytes([3, 16, 16], names, bytes).unwrap()
    }

    #[test]
    fn copies_are_found_and_others_are_none() {
        let data = folder(200);
        let train = data.split(&SplitConfig::default()).unwrap().train;
        let copies = data.images(&train[..20]).unwrap();
        let config = EvaluationConfig::default();
        let found = evaluate(&copies, &data, &config, &Unattended).unwrap();
        assert_eq!((found.samples.least, found.samples.n_close), (0.0, 20));
        assert_eq!(found.held_out.unwrap().n_close, 0);
        for (sample, neighbours) in found.neighbours.iter().enumerate() {
            assert_eq!((neighbours.len(), neighbours[0].index), (5, train[sample]));
        }
        let columns = found.columns(&copies, &data, 7).unwrap();
        assert_eq!((columns.len(), columns[0].len()), (6, 7));
        assert_eq!(columns[0], columns[1], "a copy beside what it copies");

        // Other noise is no copy.
        let mut others = copies.clone();
        others.data_mut().reverse();
        let found = evaluate(&others, &data, &config, &Unattended).unwrap();
        assert_eq!(found.samples.n_close, 0);
        assert!(found.samples.least > 60.0);
    }

    #[test]
    fn real_pictures_are_at_the_floor_and_flat_ones_above() {
        let data = folder(120);
        let config = EvaluationConfig::default();
        let real = data.images(&Vec::from_iter(0..40)).unwrap();
        let found = evaluate(&real, &data, &config, &Unattended).unwrap();
        assert_eq!((found.n_samples, found.n_pictures, found.n_compared), (40, 120, 40));
        assert!((0.7..1.4).contains(&found.average.ratio()), "{found:?}");
        let mut flat = real.clone();
        flat.data_mut().iter_mut().for_each(|v| *v = v.signum());
        let of_flat = evaluate(&flat, &data, &config, &Unattended).unwrap();
        assert_eq!(of_flat.average.floor, found.average.floor);
        assert!(of_flat.average.samples > found.average.samples, "{of_flat:?}");
    }

    #[test]
    fn names_and_copies_of_pictures_change_no_distance() {
        let data = folder(60);
        let samples = folder(80).images(&Vec::from_iter(60..80)).unwrap();
        let config = EvaluationConfig::default();
        let once = evaluate(&samples, &data, &config, &Unattended).unwrap();
        let mut bytes = Vec::new();
        for index in (0..60).rev().chain(0..10) {
            bytes.extend_from_slice(&data.picture_bytes(index).unwrap());
        }
        let names = (0..70).map(|k| format!("x{k}.png")).collect();
        let other = Folder::from_bytes([3, 16, 16], names, bytes).unwrap();
        let twice = evaluate(&samples, &other, &config, &Unattended).unwrap();
        assert_eq!(once.levels, twice.levels);
        assert_eq!(once.n_pictures, twice.n_pictures);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let config = EvaluationConfig::default();
        let error = |samples: &Images, data: &Folder| {
            evaluate(samples, data, &config, &Unattended).unwrap_err().to_string()
        };
        let samples = Images::zeros([8, 3, 16, 16]);
        assert_eq!(error(&samples, &folder(3)), "data: 3 different found; expected at least 4");
        assert!(error(&samples.slice(0..1), &folder(9)).starts_with("samples: 1 different"));
        assert!(error(&Images::zeros([8, 1, 16, 16]), &folder(9)).contains("expected one shape"));
        let stop = |report: &Report<'_>| match report.stage {
            "finding neighbours" => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let ended = evaluate(&samples, &folder(30), &config, &stop);
        assert_eq!(ended.unwrap_err().to_string(), "interrupted");
    }
}
