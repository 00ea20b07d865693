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
    /// Whether it is all points between four ends, `frames` a side, row by row.
    is_plane: bool,
}

/// Where an image lies: a share of the way from one end to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub from: usize,
    pub to: usize,
    /// From 0 to 1; on a way 1 is 0 of what follows.
    pub share: f64,
    /// In a plane, what lies at the same share between two others, and the share of the way there.
    pub below: Option<Below>,
}

/// The opposite side of a plane, and how far it is to there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Below {
    pub from: usize,
    pub to: usize,
    /// From 0 to 1.
    pub share: f64,
}

impl Place {
    /// The ends that it depends on.
    pub fn ends(&self) -> Vec<usize> {
        let below = self.below.map(|below| [below.from, below.to]);
        [self.from, self.to].into_iter().chain(below.into_iter().flatten()).collect()
    }

    /// The end that it is, where it is one.
    pub fn end(&self) -> Option<usize> {
        let on = |from, to, share| match share {
            0.0 => Some(from),
            1.0 => Some(to),
            _ => None,
        };
        match self.below {
            Some(below) if below.share == 1.0 => on(below.from, below.to, self.share),
            Some(below) if below.share != 0.0 => None,
            _ => on(self.from, self.to, self.share),
        }
    }
}

impl Way {
    /// Through so many ends, with `frames` images from each to the next.
    pub fn new(n_ends: usize, frames: usize) -> Self {
        Way { n_ends, frames: frames.max(2), is_plane: false }
    }

    /// All points between four ends: the first two are above, the others below.
    pub fn plane(frames: usize) -> Self {
        Way { n_ends: 4, frames: frames.max(2), is_plane: true }
    }

    /// How many images there are in all.
    pub fn len(&self) -> usize {
        match self.n_ends {
            _ if self.is_plane => self.frames.saturating_mul(self.frames),
            0 => 0,
            _ => self.n_legs().saturating_mul(self.frames - 1).saturating_add(1),
        }
    }

    /// How often the way leads from one end to the next, or the rows of a plane.
    pub fn n_legs(&self) -> usize {
        if self.is_plane { self.frames } else { self.n_ends.saturating_sub(1) }
    }

    /// The images from end `leg` to the next, both included.
    pub fn of_leg(&self, leg: usize) -> std::ops::RangeInclusive<usize> {
        let first = if self.is_plane { leg * self.frames } else { leg * (self.frames - 1) };
        first..=first + self.frames - 1
    }

    /// Where image `number` lies.
    pub fn place(&self, number: usize) -> Place {
        let per_leg = self.frames - 1;
        if self.is_plane {
            let share_of = |at: usize| at as f64 / per_leg as f64;
            let (row, column) = (number / self.frames, number % self.frames);
            let below = Some(Below { from: 2, to: 3, share: share_of(row) });
            return Place { from: 0, to: 1, share: share_of(column), below };
        }
        let (from, step) = (number / per_leg, number % per_leg);
        let to = (from + 1).min(self.n_ends.saturating_sub(1));
        Place { from, to, share: step as f64 / per_leg as f64, below: None }
    }
}

/// The images at these places between `ends`.
pub(super) fn between(ends: &Images, places: &[Place]) -> Images {
    let [_, c, h, w] = ends.shape();
    let mut all = Images::zeros([places.len(), c, h, w]);
    let size = all.image_len().max(1);
    all.data_mut().par_chunks_exact_mut(size).zip(places).for_each(|(image, place)| {
        at_place(place, &mut |end, values| values.copy_from_slice(ends.image(end)), image);
    });
    all
}

/// What lies at a place between vectors that `end` writes.
fn at_place(place: &Place, end: &mut dyn FnMut(usize, &mut [f32]), out: &mut [f32]) {
    let [mut a, mut b] = [vec![0.0; out.len()], vec![0.0; out.len()]];
    end(place.from, &mut a);
    end(place.to, &mut b);
    slerp(&a, &b, place.share, out);
    if let Some(below) = place.below {
        end(below.from, &mut a);
        end(below.to, &mut b);
        let [above, mut opposite] = [out.to_vec(), vec![0.0; out.len()]];
        slerp(&a, &b, place.share, &mut opposite);
        slerp(&above, &opposite, below.share, out);
    }
}

/// Spherical interpolation (Shoemake 1985) of two vectors at `share` of the way, with the angle
/// between them: sin((1 − s) θ) / sin θ · a + sin(s θ) / sin θ · b. Linear where they are nearly
/// parallel. At share 0 it is `a` itself, at 1 `b`.
pub(super) fn slerp(a: &[f32], b: &[f32], share: f64, out: &mut [f32]) {
    if share == 0.0 || share == 1.0 {
        out.copy_from_slice(if share == 0.0 { a } else { b });
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
        let mut end = |end: usize, values: &mut [f32]| self.noise.fill(step_index, end, values);
        at_place(&self.places[image], &mut end, z);
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
        let place = |from, to, share| Place { from, to, share, below: None };
        assert_eq!(way.place(0), place(0, 1, 0.0));
        assert_eq!(way.place(3), place(0, 1, 0.75));
        assert_eq!(way.place(4), place(1, 2, 0.0));
        assert_eq!(way.place(8), place(2, 2, 0.0));
        assert_eq!((way.of_leg(0), way.of_leg(1)), (0..=4, 4..=8));
    }

    #[test]
    fn a_plane_has_its_ends_at_its_corners_and_ways_at_its_sides() {
        let way = Way::plane(5);
        assert_eq!((way.len(), way.n_legs(), way.of_leg(1)), (25, 5, 5..=9));
        let corners = [0, 4, 20, 24].map(|number| way.place(number).end());
        assert_eq!(corners, [0, 1, 2, 3].map(Some));
        assert_eq!((way.place(12).end(), way.place(12).ends()), (None, vec![0, 1, 2, 3]));
        let data: Vec<f32> = (0..4 * 6).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect();
        let ends = Images::from_vec([4, 1, 2, 3], data).unwrap();
        let places = |way: &Way, numbers: &[usize]| -> Vec<Place> {
            numbers.iter().map(|&number| way.place(number)).collect()
        };
        let plane = between(&ends, &places(&way, &[0, 4, 20, 24, 1, 3]));
        for corner in 0..4 {
            assert_eq!(plane.image(corner), ends.image(corner));
        }
        let above = between(&ends, &places(&Way::new(2, 5), &[1, 3]));
        assert_eq!((plane.image(4), plane.image(5)), (above.image(0), above.image(1)));
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
