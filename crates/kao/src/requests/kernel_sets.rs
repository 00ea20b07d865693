//! Real pictures as the kernel distance sees them, to compare many sets of samples with.

use super::DistanceAndFloor;
use super::evaluation::different;
use crate::control::{Control, Report};
use crate::dataset::Folder;
use crate::error::Result;
use crate::eval::{Classifier, FeatureScale, kernel_distance};
use crate::images::Images;
use std::ops::Range;

/// The most pictures in each of two sets. The estimate is unbiased, so they may be larger than the
/// set of samples.
const MAX_SET: usize = 1000;
/// Pictures whose features are computed together.
const PART: usize = 128;
const STAGE: &str = "looking at features";

/// The features of two sets of real pictures.
pub(super) struct KernelSets {
    classifier: Classifier,
    scale: FeatureScale,
    /// Both sets.
    real: Vec<f64>,
    shape: [usize; 3],
    floor: f64,
}

impl KernelSets {
    /// Two sets of different pictures of `data`; none where images have other channels than the
    /// classifier knows.
    ///
    /// # Errors
    /// When there are fewer than 4 pictures, or `control` stops the work.
    pub(super) fn new(
        data: &Folder,
        n_samples: usize,
        seed: u64,
        control: &dyn Control,
    ) -> Result<Option<Self>> {
        let classifier = Classifier::of_faces()?;
        if data.shape()[0] != classifier.config().channels {
            return Ok(None);
        }
        let pictures = different(data, seed);
        let n = (pictures.len() / 2).min(MAX_SET.max(n_samples));
        let of = |range: Range<usize>| data.images(&pictures[range]);
        let features = features(&classifier, 2 * n, &of, control)?;
        let d = classifier.n_features();
        let scale = FeatureScale::of(&features, d)?;
        let real = scale.apply(&features);
        let (one, other) = real.split_at(n * d);
        let floor = kernel_distance(one, other, d)?;
        Ok(Some(KernelSets { classifier, scale, real, shape: data.shape(), floor }))
    }

    /// The kernel distance of samples, given as the bytes of each, from all of the real pictures; the
    /// floor is that of the two sets from each other.
    ///
    /// # Errors
    /// When there are fewer than 2 samples, or `control` stops the work.
    pub(super) fn distance(
        &self,
        samples: &[Vec<u8>],
        control: &dyn Control,
    ) -> Result<DistanceAndFloor> {
        let [channels, height, width] = self.shape;
        let of = |range: Range<usize>| {
            let shape = [range.len(), channels, height, width];
            Images::from_bytes_nhwc(shape, &samples[range].concat())
        };
        let features = features(&self.classifier, samples.len(), &of, control)?;
        let seen = self.scale.apply(&features);
        let samples = kernel_distance(&seen, &self.real, self.classifier.n_features())?;
        Ok(DistanceAndFloor { samples, floor: self.floor })
    }
}

fn features(
    classifier: &Classifier,
    count: usize,
    images: &dyn Fn(Range<usize>) -> Result<Images>,
    control: &dyn Control,
) -> Result<Vec<f32>> {
    let mut features = Vec::new();
    for first in (0..count).step_by(PART) {
        let end = (first + PART).min(count);
        features.extend(classifier.see(&images(first..end)?)?.features);
        let report = Report::progress(STAGE, end as u64, Some(count as u64), "pictures");
        control.check(&report)?;
    }
    Ok(features)
}
