//! Real pictures as the kernel distance sees them, to compare many sets of samples with.

use super::distances::{DistanceAndFloor, KernelEvaluation, different};
use crate::control::{Control, Report};
use crate::dataset::Folder;
use crate::error::Result;
use crate::eval::{Classifier, FeatureScale, N_TEXTURE, kernel_distance, textures};
use crate::images::Images;
use std::ops::Range;

/// The most pictures in each of two sets. The estimate is unbiased, so they may be larger than the
/// set of samples.
const MAX_SET: usize = 1000;
/// Pictures whose features are computed together.
const PART: usize = 128;
const STAGE: &str = "looking at features";

/// The numbers of a set of images, of two kinds.
struct Features {
    structure: Vec<f32>,
    texture: Vec<f32>,
}

/// The scaled numbers of one kind of two sets of real pictures.
struct Real {
    scale: FeatureScale,
    values: Vec<f64>,
    d: usize,
    floor: f64,
}

/// Two sets of real pictures.
pub(super) struct KernelSets {
    classifier: Classifier,
    shape: [usize; 3],
    structure: Real,
    texture: Real,
}

impl Real {
    fn new(features: &[f32], d: usize) -> Result<Self> {
        let scale = FeatureScale::of(features, d)?;
        let values = scale.apply(features);
        let (one, other) = values.split_at(values.len() / 2);
        let floor = kernel_distance(one, other, d)?;
        Ok(Real { scale, values, d, floor })
    }

    fn distance(&self, features: &[f32]) -> Result<DistanceAndFloor> {
        let samples = kernel_distance(&self.scale.apply(features), &self.values, self.d)?;
        Ok(DistanceAndFloor { samples, floor: self.floor })
    }
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
        let found = features(&classifier, 2 * n, &of, control)?;
        let structure = Real::new(&found.structure, classifier.n_features())?;
        let texture = Real::new(&found.texture, N_TEXTURE)?;
        let shape = data.shape();
        Ok(Some(KernelSets { classifier, shape, structure, texture }))
    }

    /// The kernel distances of samples, given as the bytes of each, from all of the real pictures; the
    /// floor is that of the two sets from each other.
    ///
    /// # Errors
    /// When there are fewer than 2 samples, or `control` stops the work.
    pub(super) fn distance(
        &self,
        samples: &[Vec<u8>],
        control: &dyn Control,
    ) -> Result<KernelEvaluation> {
        let [channels, height, width] = self.shape;
        let of = |range: Range<usize>| {
            let shape = [range.len(), channels, height, width];
            Images::from_bytes_nhwc(shape, &samples[range].concat())
        };
        let found = features(&self.classifier, samples.len(), &of, control)?;
        Ok(KernelEvaluation {
            structure: self.structure.distance(&found.structure)?,
            texture: self.texture.distance(&found.texture)?,
        })
    }
}

fn features(
    classifier: &Classifier,
    count: usize,
    images: &dyn Fn(Range<usize>) -> Result<Images>,
    control: &dyn Control,
) -> Result<Features> {
    let mut found = Features { structure: Vec::new(), texture: Vec::new() };
    for first in (0..count).step_by(PART) {
        let end = (first + PART).min(count);
        let part = images(first..end)?;
        found.structure.extend(classifier.see(&part)?.features);
        found.texture.extend(textures(&part));
        let report = Report::progress(STAGE, end as u64, Some(count as u64), "pictures");
        control.check(&report)?;
    }
    Ok(found)
}
