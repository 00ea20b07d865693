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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Unattended;
    use crate::draw::face;
    use crate::noise::{Purpose, Stream};

    const SIDE: usize = 64;

    /// The bytes of `n` drawn faces.
    fn faces(seed: u64, n: u64) -> Vec<Vec<u8>> {
        (0..n).map(|k| face(seed, k, SIDE as u32).unwrap().bytes().to_vec()).collect()
    }

    /// Each value of `faces` changed by `change`, which gets the picture, the row, the column and the
    /// channel.
    fn changed(
        faces: &[Vec<u8>],
        mut change: impl FnMut(&[u8], [usize; 3]) -> f64,
    ) -> Vec<Vec<u8>> {
        let one = |face: &Vec<u8>| {
            let value = |place: usize| {
                let (pixel, channel) = (place / 3, place % 3);
                let at = [pixel / SIDE, pixel % SIDE, channel];
                change(face, at).round().clamp(0.0, 255.0) as u8
            };
            (0..face.len()).map(value).collect()
        };
        faces.iter().map(one).collect()
    }

    #[test]
    fn a_little_noise_blur_or_grid_is_seen() {
        let names = (0..240).map(|k| format!("{k}.png")).collect();
        let data = Folder::from_bytes([3, SIDE, SIDE], names, faces(1, 240).concat()).unwrap();
        let sets = KernelSets::new(&data, 60, 1, &Unattended).unwrap().unwrap();
        let clean = faces(2, 60);
        let texture =
            |samples: &[Vec<u8>]| sets.distance(samples, &Unattended).unwrap().texture.samples;

        let value = |face: &[u8], [y, x, c]: [usize; 3]| {
            f64::from(face[(y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)) * 3 + c])
        };
        let mut stream = Stream::new(1, Purpose::Noising, 0, 0);
        let noisy = changed(&clean, |face, at| {
            let mut normal = [0.0];
            stream.fill_normal(&mut normal);
            value(face, at) + 4.0 * f64::from(normal[0])
        });
        let blurred = changed(&clean, |face, [y, x, c]| {
            let square = [[y, x], [y, x + 1], [y + 1, x], [y + 1, x + 1]];
            square.iter().map(|[y, x]| value(face, [*y, *x, c])).sum::<f64>() / 4.0
        });
        let grid = changed(&clean, |face, [y, x, c]| {
            value(face, [y, x, c]) + if (x + y).is_multiple_of(2) { 1.5 } else { -1.5 }
        });
        let clean = texture(&clean);
        assert!(clean.abs() < 0.1, "{clean}");
        for (what, samples) in [("noise", noisy), ("blur", blurred), ("grid", grid)] {
            let found = texture(&samples);
            assert!(found > clean + 0.4, "{what}: {found}, clean {clean}");
        }
    }
}
