//! PyTorch's random numbers on the CPU, so that its programs' images can be made again.
//!
//! Every stream here is one generator for a whole batch, drawn from in order: image k depends on how
//! many images there are. That is how diffusers' pipelines and the original program draw theirs.

use super::NoiseSource;
use crate::images::Images;
use std::sync::{Mutex, PoisonError};

const N: usize = 624;
const M: usize = 397;

/// The least number of values that are drawn in blocks; PyTorch draws fewer in another way.
pub const MIN_VALUES: usize = BLOCK;
const BLOCK: usize = 16;

/// The generator of PyTorch's CPU tensors: the Mersenne Twister MT19937 (Matsumoto & Nishimura 1998).
#[derive(Clone, Debug)]
pub struct TorchGenerator {
    state: Vec<u32>,
    next: usize,
}

impl TorchGenerator {
    /// As after `torch.manual_seed(seed)`, which takes the low 32 bits.
    pub fn new(seed: u64) -> Self {
        let mut state = vec![seed as u32; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] =
                1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        TorchGenerator { state, next: N }
    }

    fn twist(&mut self) {
        let state = &mut self.state;
        for i in 0..N {
            let mixed = (state[i] & 0x8000_0000) | (state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            state[i] = state[(i + M) % N] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn draw(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Leaves so many 32-bit numbers out: a uniform value in single precision takes one, a normal
    /// value in a tensor of a multiple of 16 too.
    pub fn skip(&mut self, mut n: u64) {
        while n > 0 {
            if self.next == N {
                self.twist();
            }
            let here = n.min((N - self.next) as u64);
            self.next += here as usize;
            n -= here;
        }
    }

    /// Uniform in [0, 1), of 24 bits.
    fn uniform(&mut self) -> f32 {
        (self.draw() & 0x00ff_ffff) as f32 / (1u32 << 24) as f32
    }

    /// Fills `values` as `torch.randn` does a tensor of so many: standard normals.
    ///
    /// # Panics
    /// When there are fewer than [`MIN_VALUES`].
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        assert!(values.len() >= MIN_VALUES, "PyTorch draws {} values otherwise", values.len());
        values.iter_mut().for_each(|value| *value = self.uniform());
        values.chunks_exact_mut(BLOCK).for_each(to_normal);
        if !values.len().is_multiple_of(BLOCK) {
            // The last ones are drawn anew.
            let first = values.len() - BLOCK;
            let last = &mut values[first..];
            last.iter_mut().for_each(|value| *value = self.uniform());
            to_normal(last);
        }
    }

    /// Noise for `n` images of `[C, H, W]`, as `torch.randn` draws it for all of them.
    pub fn images(&mut self, n: usize, [c, h, w]: [usize; 3]) -> Images {
        let mut images = Images::zeros([n, c, h, w]);
        self.fill_normal(images.data_mut());
        images
    }
}

/// Box & Muller 1958 on a block: the first half gives radii, the second angles.
fn to_normal(block: &mut [f32]) {
    for j in 0..BLOCK / 2 {
        let (first, second) = (1.0 - block[j], block[j + BLOCK / 2]);
        let radius = (-2.0 * libm::log(f64::from(first)) as f32).sqrt();
        let (sine, cosine) = libm::sincos(f64::from(std::f32::consts::TAU * second));
        block[j] = radius * cosine as f32;
        block[j + BLOCK / 2] = radius * sine as f32;
    }
}

/// The noise of steps from one generator: that of all images at once, step after step.
#[derive(Debug)]
pub struct TorchNoise {
    /// As it is before the first step.
    start: TorchGenerator,
    /// Values of all images, and of one.
    n_values: usize,
    image_len: usize,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    generator: TorchGenerator,
    /// Steps that have been drawn, and the noise of the last of them.
    n_steps: usize,
    values: Vec<f32>,
}

impl TorchNoise {
    /// The noise of the steps of `n` images of `[C, H, W]`, the first of which `generator` draws next.
    pub fn new(generator: TorchGenerator, n: usize, image_shape: [usize; 3]) -> Self {
        let image_len = image_shape.iter().product();
        let current = Current { generator: generator.clone(), n_steps: 0, values: Vec::new() };
        TorchNoise { start: generator, n_values: n * image_len, image_len, current: current.into() }
    }
}

impl NoiseSource for TorchNoise {
    /// `image` counts all images, from the first.
    fn fill(&self, step_index: usize, image: usize, z: &mut [f32]) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Current { generator, n_steps, values } = &mut *current;
        if *n_steps > step_index + 1 {
            // The next images go through the same steps.
            (*generator, *n_steps) = (self.start.clone(), 0);
        }
        values.resize(self.n_values, 0.0);
        while *n_steps <= step_index {
            generator.fill_normal(values);
            *n_steps += 1;
        }
        z.copy_from_slice(&values[image * self.image_len..][..self.image_len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_may_be_taken_again() {
        let shape = [1, 4, 4];
        let noise = TorchNoise::new(TorchGenerator::new(3), 2, shape);
        let draw = |step, image| {
            let mut z = [0.0; 16];
            noise.fill(step, image, &mut z);
            z
        };
        let expected: Vec<[f32; 16]> = [(0, 0), (0, 1), (2, 0)].map(|(s, i)| draw(s, i)).into();
        assert_eq!([draw(0, 0), draw(0, 1), draw(2, 0)], expected[..]);
        let mut generator = TorchGenerator::new(3);
        let steps: Vec<Images> = (0..3).map(|_| generator.images(2, shape)).collect();
        assert_eq!(steps[0].image(1), expected[1]);
        assert_eq!(steps[2].image(0), expected[2]);
    }

    #[test]
    fn skipping_is_drawing() {
        for n in [0, 1, 623, 624, 625, 2000] {
            let (mut drawn, mut skipped) = (TorchGenerator::new(9), TorchGenerator::new(9));
            for _ in 0..n {
                drawn.draw();
            }
            skipped.skip(n);
            assert_eq!(drawn.draw(), skipped.draw());
        }
    }
}
