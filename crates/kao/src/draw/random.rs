//! The random numbers of one picture: counter-based, so that picture k of seed s never depends on
//! any other picture, nor on the algorithms of a `rand` release.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Marks the streams of this module apart from any other use of the same seed.
const DOMAIN: &[u8; 8] = b"kao draw";

/// The parts of a picture that draw their numbers from streams of their own: a change in one part
/// leaves the others as they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Plan,
    Colours,
    Background,
    Back,
    Sides,
    Front,
    Accessories,
}

/// Random numbers for one part of picture `index` of `seed`.
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    pub fn new(seed: u64, index: u64, part: Part) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(DOMAIN);
        key[16] = part as u8;
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Stream(rng)
    }

    /// Uniform in `[0, 1)`, with 24 bits.
    pub fn unit(&mut self) -> f32 {
        const STEP: f32 = 1.0 / (1 << 24) as f32;
        (self.0.next_u32() >> 8) as f32 * STEP
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Bell-shaped around 0 with standard deviation 1, never beyond ±3 (the sum of uniforms of
    /// Irwin and Hall).
    pub fn bell(&mut self) -> f32 {
        const TERMS: usize = 4;
        const VARIANCE: f32 = TERMS as f32 / 12.0;
        let sum: f32 = (0..TERMS).map(|_| self.unit() - 0.5).sum();
        (sum / VARIANCE.sqrt()).clamp(-3.0, 3.0)
    }

    /// Bell-shaped around `mean`.
    pub fn around(&mut self, mean: f32, deviation: f32) -> f32 {
        mean + deviation * self.bell()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// −1 or 1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { -1.0 } else { 1.0 }
    }

    /// Uniform in `low ..= high`.
    pub fn count(&mut self, low: usize, high: usize) -> usize {
        low + (self.unit() * (high + 1 - low) as f32) as usize
    }

    /// One of `choices`, each with its weight.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, f32)]) -> T {
        let total: f32 = choices.iter().map(|choice| choice.1).sum();
        let mut rest = self.unit() * total;
        for &(value, weight) in choices {
            if rest < weight {
                return value;
            }
            rest -= weight;
        }
        choices[choices.len() - 1].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let take = |seed, index, part| {
            let mut stream = Stream::new(seed, index, part);
            [stream.unit(), stream.unit(), stream.unit()]
        };
        assert_eq!(take(1, 2, Part::Plan), take(1, 2, Part::Plan));
        assert_ne!(take(1, 2, Part::Plan), take(1, 3, Part::Plan));
        assert_ne!(take(1, 2, Part::Plan), take(2, 2, Part::Plan));
        assert_ne!(take(1, 2, Part::Plan), take(1, 2, Part::Front));
    }

    #[test]
    fn the_bell_has_the_moments_it_says() {
        let mut stream = Stream::new(0, 0, Part::Plan);
        let values: Vec<f32> = (0..20_000).map(|_| stream.bell()).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn weights_are_kept_to() {
        let mut stream = Stream::new(0, 0, Part::Plan);
        let hits = (0..10_000).filter(|_| stream.weighted(&[(true, 1.0), (false, 3.0)])).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| (2..=4).contains(&stream.count(2, 4))));
    }
}
