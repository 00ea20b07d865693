//! Gaussian noise as an argument: a counter-based stream for every (seed, purpose, image, draw).
//!
//! Image k of seed s draws its x_T and the z of each step from streams of its own, so that nothing
//! depends on which other images are in the batch, on threads or on devices. A stream is ChaCha12
//! keyed by those four numbers; normals are Box–Muller in `f64` with a portable `libm`, so every
//! machine draws the same bits.

pub mod torch;

use crate::images::Images;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// What a stream is for. Streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// x_T (draw 0) and the z of step k (draw k + 1) of sampled images.
    Sampling = 1,
    /// Noise, timesteps and dropout of training; the "image" is the count of images seen.
    Training = 2,
    /// The fixed (t, ε) pairs of the validation loss.
    Validation = 3,
    /// Initial weights; the "image" is the parameter's position.
    Initialization = 4,
    /// Noise added to given images (recovery, image-to-image).
    Noising = 5,
    /// Where evaluation cuts patches; the "draw" is the level.
    Patches = 6,
    /// Directions that evaluation projects to; the "image" is their number, the "draw" the level.
    Directions = 7,
    /// Which pictures evaluation compares.
    Choice = 8,
}

/// A stream of random numbers, the same on every machine.
pub struct Stream {
    rng: ChaCha12Rng,
}

impl Stream {
    /// The stream of these four numbers.
    pub fn new(seed: u64, purpose: Purpose, image: u64, draw: u64) -> Self {
        let mut key = [0; 32];
        for (chunk, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, image, draw]) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        Stream { rng: ChaCha12Rng::from_seed(key) }
    }

    /// Fills `values` with independent standard normals.
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        for pair in values.chunks_mut(2) {
            let (first, second) = self.normal_pair();
            pair[0] = first;
            if let Some(value) = pair.get_mut(1) {
                *value = second;
            }
        }
    }

    /// A uniform integer in `0 .. bound` (multiply-shift; the bias is below `bound / 2^64`).
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.rng.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A uniform number in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Two independent standard normals (Box & Muller 1958).
    fn normal_pair(&mut self) -> (f32, f32) {
        const SCALE: f64 = 1.0 / 4_294_967_296.0;
        // (0, 1], so that the logarithm is finite; [0, 1).
        let u = (f64::from(self.rng.next_u32()) + 1.0) * SCALE;
        let v = f64::from(self.rng.next_u32()) * SCALE;
        let radius = libm::sqrt(-2.0 * libm::log(u));
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * v);
        ((radius * cosine) as f32, (radius * sine) as f32)
    }
}

/// Where a sampler gets its noise from.
pub trait NoiseSource: Sync {
    /// Fills `z` (one image, `[C, H, W]`) with the noise of step `step_index` (position in the
    /// timestep sequence, 0 first) for image `image` of the batch.
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]);
}

/// Noise from the streams of a seed.
#[derive(Clone, Copy, Debug)]
pub struct SeededNoise {
    /// The seed.
    pub seed: u64,
    /// Number of the batch's first image among all images of the seed.
    pub first_image: u64,
}

impl SeededNoise {
    /// x_T for `n` images of shape `[C, H, W]`.
    pub fn x_t(&self, n: usize, image_shape: [usize; 3]) -> Images {
        let [c, h, w] = image_shape;
        let mut images = Images::zeros([n, c, h, w]);
        let size = images.image_len().max(1);
        images.data_mut().par_chunks_exact_mut(size).enumerate().for_each(|(k, image)| {
            self.stream(k, 0).fill_normal(image);
        });
        images
    }

    fn stream(&self, image: usize, draw: u64) -> Stream {
        Stream::new(self.seed, Purpose::Sampling, self.first_image + image as u64, draw)
    }
}

impl NoiseSource for SeededNoise {
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        self.stream(image, step_index as u64 + 1).fill_normal(z);
    }
}

/// Which images of a seed, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageNumbers {
    /// So many, one after the other.
    From {
        /// The number of the first.
        first: u64,
        /// How many.
        count: usize,
    },
    /// These, in this order.
    These(Vec<u64>),
}

impl ImageNumbers {
    /// How many images there are.
    pub fn len(&self) -> usize {
        match self {
            ImageNumbers::From { count, .. } => *count,
            ImageNumbers::These(numbers) => numbers.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the image at position `index`.
    ///
    /// # Panics
    /// When there are no so many.
    pub fn get(&self, index: usize) -> u64 {
        match self {
            ImageNumbers::From { first, count } => {
                assert!(index < *count, "image {index} of {count}");
                first + index as u64
            }
            ImageNumbers::These(numbers) => numbers[index],
        }
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Noise from the streams of a seed, for images of any numbers.
#[derive(Clone, Debug)]
pub struct NumberedNoise {
    /// The seed.
    pub seed: u64,
    /// What the streams are for.
    pub purpose: Purpose,
    /// The numbers of the images.
    pub numbers: ImageNumbers,
}

impl NumberedNoise {
    /// Draw 0 of the images at the positions `first .. first + n`, `[n, C, H, W]`: x_T, or the noise
    /// that given images get.
    pub fn initial(&self, first: usize, n: usize, image_shape: [usize; 3]) -> Images {
        let [c, h, w] = image_shape;
        let mut images = Images::zeros([n, c, h, w]);
        let size = images.image_len().max(1);
        images.data_mut().par_chunks_exact_mut(size).enumerate().for_each(|(k, image)| {
            let number = self.numbers.get(first + k);
            Stream::new(self.seed, self.purpose, number, 0).fill_normal(image);
        });
        images
    }
}

impl NoiseSource for NumberedNoise {
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        let (number, draw) = (self.numbers.get(image), step_index as u64 + 1);
        Stream::new(self.seed, self.purpose, number, draw).fill_normal(z);
    }
}

/// Noise that was given: one batch per step, in the order of use.
#[derive(Clone, Copy, Debug)]
pub struct GivenNoise<'a> {
    /// The noise of each step, `[N, C, H, W]`, first used first.
    pub steps: &'a [Images],
    /// Position of the batch's first image within each step's images.
    pub first_image: usize,
}

impl NoiseSource for GivenNoise<'_> {
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        z.copy_from_slice(self.steps[step_index].image(self.first_image + image));
    }
}

/// For samplers that draw no noise.
///
/// Asked for noise, it yields zeros: a stochastic sampler then goes along its means.
#[derive(Clone, Copy, Debug)]
pub struct NoNoise;

impl NoiseSource for NoNoise {
    fn fill(&self, _step_index: usize, _image: usize, z: &mut [f32]) {
        z.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let whole = SeededNoise { seed: 7, first_image: 0 }.x_t(5, [3, 4, 4]);
        for k in 0..5 {
            let alone = SeededNoise { seed: 7, first_image: k as u64 }.x_t(1, [3, 4, 4]);
            assert_eq!(alone.image(0), whole.image(k));
        }
    }

    #[test]
    fn an_image_does_not_depend_on_how_it_was_chosen() {
        let whole = SeededNoise { seed: 7, first_image: 0 };
        let purpose = Purpose::Sampling;
        let draws = |noise: &dyn NoiseSource, image: usize| {
            let mut z = [0.0; 5];
            noise.fill(3, image, &mut z);
            z
        };
        for numbers in
            [ImageNumbers::From { first: 2, count: 3 }, ImageNumbers::These(vec![4, 0, 2])]
        {
            let noise = NumberedNoise { seed: 7, purpose, numbers: numbers.clone() };
            for (k, number) in numbers.iter().enumerate() {
                let x_t = noise.initial(k, 1, [3, 4, 4]);
                assert_eq!(x_t.image(0), whole.x_t(5, [3, 4, 4]).image(number as usize));
                assert_eq!(draws(&noise, k), draws(&whole, number as usize));
            }
        }
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let draw = |seed, purpose, image, draw| {
            let mut values = [0.0; 8];
            Stream::new(seed, purpose, image, draw).fill_normal(&mut values);
            values
        };
        let base = draw(1, Purpose::Sampling, 2, 3);
        assert_eq!(base, draw(1, Purpose::Sampling, 2, 3));
        assert_ne!(base, draw(2, Purpose::Sampling, 2, 3));
        assert_ne!(base, draw(1, Purpose::Training, 2, 3));
        assert_ne!(base, draw(1, Purpose::Sampling, 3, 3));
        assert_ne!(base, draw(1, Purpose::Sampling, 2, 4));
    }

    #[test]
    fn normals_have_the_moments_of_a_gaussian() {
        const N: usize = 200_000;
        let mut values = vec![0.0; N];
        Stream::new(0, Purpose::Sampling, 0, 0).fill_normal(&mut values);
        let moment = |p: i32| values.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / N as f64;
        // Five standard errors of each moment's estimate.
        let bound = |variance: f64| 5.0 * (variance / N as f64).sqrt();
        assert!(moment(1).abs() < bound(1.0));
        assert!((moment(2) - 1.0).abs() < bound(2.0));
        assert!(moment(3).abs() < bound(15.0));
        assert!((moment(4) - 3.0).abs() < bound(96.0));
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut stream = Stream::new(3, Purpose::Training, 0, 0);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[stream.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
