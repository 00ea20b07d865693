//! PyTorch's random numbers on the CPU, so that its programs' images can be made again.
//!
//! There is one generator for all images and steps, drawn from in order: image k depends on how many
//! images there are. That is how diffusers' pipelines and the original program draw theirs.

use crate::images::Images;

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

#[cfg(test)]
mod tests {
    use super::*;

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
