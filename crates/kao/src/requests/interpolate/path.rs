//! The way between several images: where each image on it lies, and what it starts from.

use crate::images::Images;
use crate::noise::NoiseSource;
use rayon::prelude::*;
use std::sync::Arc;

/// Below this sine of the angle between two vectors, the arc between them is taken for a line.
const NEARLY_PARALLEL: f64 = 1e-3;

/// The way from one end to the next, with the same number of images between each two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    n_ends: usize,
    /// From each end to the next, both counted.
    frames: usize,
}

/// Where an image lies: a share of the way from one end to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub from: usize,
    pub to: usize,
    /// From 0, up to but not including 1.
    pub share: f64,
}

impl Way {
    /// Through so many ends, with `frames` images from each to the next.
    pub fn new(n_ends: usize, frames: usize) -> Self {
        Way { n_ends, frames: frames.max(2) }
    }

    /// How many images there are in all.
    pub fn len(&self) -> usize {
        match self.n_ends {
            0 => 0,
            _ => self.n_legs().saturating_mul(self.frames - 1).saturating_add(1),
        }
    }

    /// How often the way leads from one end to the next.
    pub fn n_legs(&self) -> usize {
        self.n_ends.saturating_sub(1)
    }

    /// The images from end `leg` to the next, both included.
    pub fn of_leg(&self, leg: usize) -> std::ops::RangeInclusive<usize> {
        let first = leg * (self.frames - 1);
        first..=first + self.frames - 1
    }

    /// Where image `number` lies.
    pub fn place(&self, number: usize) -> Place {
        let per_leg = self.frames - 1;
        let (from, step) = (number / per_leg, number % per_leg);
        let to = (from + 1).min(self.n_ends.saturating_sub(1));
        Place { from, to, share: step as f64 / per_leg as f64 }
    }
}

/// The images at these places between `ends`.
pub(super) fn between(ends: &Images, places: &[Place]) -> Images {
    let [_, c, h, w] = ends.shape();
    let mut all = Images::zeros([places.len(), c, h, w]);
    let size = all.image_len().max(1);
    all.data_mut().par_chunks_exact_mut(size).zip(places).for_each(|(image, place)| {
        slerp(ends.image(place.from), ends.image(place.to), place.share, image);
    });
    all
}

/// Spherical interpolation (Shoemake 1985) of two vectors at `share` of the way, with the angle
/// between them: sin((1 − s) θ) / sin θ · a + sin(s θ) / sin θ · b. Linear where they are nearly
/// parallel. At share 0 it is `a` itself.
pub(super) fn slerp(a: &[f32], b: &[f32], share: f64, out: &mut [f32]) {
    if share == 0.0 {
        out.copy_from_slice(a);
        return;
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let angle = libm::acos(cosine.clamp(-1.0, 1.0));
    let sine = libm::sin(angle);
    // Also where a vector is zero, and there is no angle.
    let [of_a, of_b] = match sine > NEARLY_PARALLEL {
        true => [libm::sin((1.0 - share) * angle) / sine, libm::sin(share * angle) / sine],
        false => [1.0 - share, share],
    };
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = (of_a * f64::from(a) + of_b * f64::from(b)) as f32;
    }
}

/// The noise of the steps, on the same way between the noise of the ends.
pub(super) struct InterpolatedNoise<N> {
    /// The noise of each end.
    pub noise: Arc<N>,
    /// Where each image lies.
    pub places: Vec<Place>,
}

impl<N: NoiseSource + Send> NoiseSource for InterpolatedNoise<N> {
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        let Place { from, to, share } = self.places[image];
        let [mut a, mut b] = [vec![0.0; z.len()], vec![0.0; z.len()]];
        self.noise.fill(step_index, from, &mut a);
        self.noise.fill(step_index, to, &mut b);
        slerp(&a, &b, share, z);
    }
}

/// How far each image is from the one before it: the root of the mean squared difference of bytes.
pub(super) fn distances(images: &Images) -> Vec<f64> {
    let bytes: Vec<Vec<u8>> = (0..images.len()).map(|k| images.to_bytes_hwc(k)).collect();
    let distance = |pair: &[Vec<u8>]| {
        let squared = |(&a, &b): (&u8, &u8)| (f64::from(a) - f64::from(b)).powi(2);
        let sum: f64 = pair[0].iter().zip(&pair[1]).map(squared).sum();
        (sum / pair[0].len().max(1) as f64).sqrt()
    };
    bytes.windows(2).map(distance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_begins_and_ends_at_its_ends() {
        let way = Way::new(3, 5);
        assert_eq!((way.len(), way.n_legs()), (9, 2));
        let place = |from, to, share| Place { from, to, share };
        assert_eq!(way.place(0), place(0, 1, 0.0));
        assert_eq!(way.place(3), place(0, 1, 0.75));
        assert_eq!(way.place(4), place(1, 2, 0.0));
        assert_eq!(way.place(8), place(2, 2, 0.0));
        assert_eq!((way.of_leg(0), way.of_leg(1)), (0..=4, 4..=8));
    }

    #[test]
    fn slerp_follows_the_arc() {
        let at = |a: [f32; 2], b: [f32; 2], share| {
            let mut out = [0.0; 2];
            slerp(&a, &b, share, &mut out);
            out
        };
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let [x, y] = at([1.0, 0.0], [0.0, 1.0], 0.5);
        assert!((x - half).abs() < 1e-6 && (y - half).abs() < 1e-6, "{x} {y}");
        let [x, y] = at([1.0, 0.0], [0.0, 1.0], 1.0 / 3.0);
        assert!((x - 0.75f32.sqrt()).abs() < 1e-6 && (y - 0.5).abs() < 1e-6, "{x} {y}");
        // Parallel, opposite and zero vectors have no arc.
        assert_eq!(at([1.0, 2.0], [3.0, 6.0], 0.5), [2.0, 4.0]);
        assert_eq!(at([1.0, 0.0], [-1.0, 0.0], 0.25), [0.5, 0.0]);
        assert_eq!(at([0.0, 0.0], [1.0, 0.0], 0.5), [0.5, 0.0]);
        assert_eq!(at([0.3, 0.7], [0.1, 0.9], 0.0), [0.3, 0.7]);
    }

    #[test]
    fn noise_between_noise_is_as_long() {
        let noise = |seed| {
            let mut values = vec![0.0; 4096];
            crate::noise::Stream::new(seed, crate::noise::Purpose::Sampling, 0, 0)
                .fill_normal(&mut values);
            values
        };
        let (a, b, mut out) = (noise(1), noise(2), vec![0.0; 4096]);
        for share in [0.1, 0.5, 0.9] {
            slerp(&a, &b, share, &mut out);
            let mean = out.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 4096.0;
            // Three standard errors of the variance.
            assert!((mean - 1.0).abs() < 0.07, "{mean}");
        }
    }

    #[test]
    fn distances_are_those_of_bytes() {
        let images = Images::from_vec([3, 1, 1, 2], vec![-1.0, -1.0, 1.0, 1.0, 1.0, 0.99]).unwrap();
        assert_eq!(distances(&images), [255.0, (0.5f64).sqrt()]);
    }
}
