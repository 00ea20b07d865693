//! Real pictures as the kernel distance sees them, to compare many sets of samples with.

use super::evaluation::different;
use super::{DistanceAndFloor, KernelEvaluation};
use crate::control::{Control, Report};
use crate::dataset::Folder;
use crate::error::{Error, Result};
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
    floor_of_both: f64,
}

impl Real {
    fn new(features: &[f32], d: usize) -> Result<Self> {
        let scale = FeatureScale::of(features, d)?;
        let values = scale.apply(features);
        let floor = between_halves(&values, d)?;
        Ok(Real { scale, values, d, floor })
    }
}

/// The distance of the first half of `values` from the second.
fn between_halves(values: &[f64], d: usize) -> Result<f64> {
    let (one, other) = values.split_at(values.len() / 2);
    kernel_distance(one, other, d)
}

/// Numbers of two kinds side by side, each kind with half of the weight.
fn joined(structure: &[f64], d_structure: usize, texture: &[f64], d_texture: usize) -> Vec<f64> {
    let d = (d_structure + d_texture) as f64;
    let weights = [d_structure, d_texture].map(|of_kind| (d / (2.0 * of_kind as f64)).sqrt());
    let rows = structure.chunks_exact(d_structure).zip(texture.chunks_exact(d_texture));
    rows.flat_map(|(structure, texture)| {
        let structure = structure.iter().map(|value| value * weights[0]);
        structure.chain(texture.iter().map(|value| value * weights[1])).collect::<Vec<f64>>()
    })
    .collect()
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
        let both = joined(&structure.values, structure.d, &texture.values, texture.d);
        let floor_of_both = between_halves(&both, structure.d + texture.d)?;
        let shape = data.shape();
        Ok(Some(KernelSets { classifier, shape, structure, texture, floor_of_both }))
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
        let KernelSets { structure, texture, .. } = self;
        let seen = [structure.scale.apply(&found.structure), texture.scale.apply(&found.texture)];
        let of_kind = |seen: &[f64], real: &Real| {
            let samples = kernel_distance(seen, &real.values, real.d)?;
            Ok::<_, Error>(DistanceAndFloor { samples, floor: real.floor })
        };
        let join = |a: &[f64], b: &[f64]| joined(a, structure.d, b, texture.d);
        let both = kernel_distance(
            &join(&seen[0], &seen[1]),
            &join(&structure.values, &texture.values),
            structure.d + texture.d,
        )?;
        Ok(KernelEvaluation {
            structure: of_kind(&seen[0], structure)?,
            texture: of_kind(&seen[1], texture)?,
            both: DistanceAndFloor { samples: both, floor: self.floor_of_both },
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
