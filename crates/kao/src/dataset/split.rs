//! Which pictures train the model, and which are kept to check it.
//!
//! A picture's place is a function of its pixels and a seed alone. So copies of a picture never
//! stand on both sides, a picture keeps its place when others come or go, and no list of names has
//! to be kept. The price is that the shares hold on average only: of a hundred pictures, the
//! validation set may hold one or six, and of ten, none.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The set that a picture belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The model learns from it.
    Train,
    /// Looked at during training, never learned from.
    Validation,
    /// Not looked at until training is over.
    Test,
}

/// How pictures are shared out. The rest is for training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitConfig {
    /// Share of the validation set, 0 to 1.
    pub validation: f64,
    /// Share of the test set, 0 to 1.
    pub test: f64,
    /// Another seed gives another split.
    pub seed: u64,
}

impl Default for SplitConfig {
    /// The original's: 95 % training, 2.5 % validation, 2.5 % test, seed 999.
    fn default() -> Self {
        SplitConfig { validation: 0.025, test: 0.025, seed: 999 }
    }
}

/// The pictures of a folder, parted: positions in the folder, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitIndices {
    /// [`Split::Train`].
    pub train: Vec<usize>,
    /// [`Split::Validation`].
    pub validation: Vec<usize>,
    /// [`Split::Test`].
    pub test: Vec<usize>,
}

impl SplitConfig {
    /// The set of the picture with this content hash.
    ///
    /// The hash and the seed become a number in [0, 1); the test set has the lowest ones, then
    /// comes the validation set. Raising `validation` therefore leaves the test set alone.
    ///
    /// # Errors
    /// When a share is not within [0, 1], or both together are more than 1.
    pub fn of(&self, content_hash: &[u8; 32]) -> Result<Split> {
        self.check()?;
        Ok(self.place(content_hash))
    }

    /// Parts the pictures with these content hashes.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn indices<'a>(
        &self,
        content_hashes: impl IntoIterator<Item = &'a [u8; 32]>,
    ) -> Result<SplitIndices> {
        self.check()?;
        let mut indices = SplitIndices::default();
        for (index, hash) in content_hashes.into_iter().enumerate() {
            match self.place(hash) {
                Split::Train => indices.train.push(index),
                Split::Validation => indices.validation.push(index),
                Split::Test => indices.test.push(index),
            }
        }
        Ok(indices)
    }

    fn check(&self) -> Result<()> {
        for (name, share) in [("validation", self.validation), ("test", self.test)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(
                    format!("{name} share"),
                    format!("{share}, where 0 to 1 is expected"),
                ));
            }
        }
        if self.validation + self.test > 1.0 {
            return Err(Error::invalid(
                "validation and test shares",
                format!("{} together, more than 1", self.validation + self.test),
            ));
        }
        Ok(())
    }

    fn place(&self, content_hash: &[u8; 32]) -> Split {
        let digest = Sha256::new()
            .chain_update(b"kao split 1")
            .chain_update(self.seed.to_le_bytes())
            .chain_update(content_hash)
            .finalize();
        // The leading 53 bits, so that the number below is exact and stays below 1.
        let leading = digest.iter().take(8).fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        let place = (leading >> 11) as f64 / (1_u64 << 53) as f64;
        if place < self.test {
            Split::Test
        } else if place < self.test + self.validation {
            Split::Validation
        } else {
            Split::Train
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashes(n: u64) -> Vec<[u8; 32]> {
        (0..n).map(|k| Sha256::digest(k.to_le_bytes()).into()).collect()
    }

    #[test]
    fn the_default_shares_hold_on_average() {
        let indices = SplitConfig::default().indices(&hashes(100_000)).unwrap();
        // Three standard deviations of a binomial count: 3·√(1e5 · 0.025 · 0.975) = 148.
        for set in [&indices.validation, &indices.test] {
            assert!(set.len().abs_diff(2500) < 148, "{} of 100,000", set.len());
        }
        assert_eq!(indices.train.len() + indices.validation.len() + indices.test.len(), 100_000);
    }

    #[test]
    fn places_are_those_of_the_documented_formula() {
        // From testdata/make_order.py.
        let expected = include_str!("testdata/split.txt");
        let config = SplitConfig { validation: 0.3, test: 0.3, seed: 999 };
        let found: String = hashes(64)
            .iter()
            .map(|hash| match config.of(hash).unwrap() {
                Split::Train => 'T',
                Split::Validation => 'v',
                Split::Test => 't',
            })
            .collect();
        assert_eq!(found, expected.trim());
    }

    #[test]
    fn impossible_shares_are_refused() {
        for (validation, test) in [(-0.1, 0.0), (0.0, 1.1), (0.6, 0.6), (f64::NAN, 0.0)] {
            let config = SplitConfig { validation, test, seed: 1 };
            assert!(config.of(&[0; 32]).is_err(), "{validation}, {test}");
        }
    }

    #[test]
    fn whole_shares_take_everything() {
        let all = SplitConfig { validation: 1.0, test: 0.0, seed: 3 };
        assert_eq!(all.indices(&hashes(50)).unwrap().validation.len(), 50);
        let none = SplitConfig { validation: 0.0, test: 0.0, seed: 3 };
        assert_eq!(none.indices(&hashes(50)).unwrap().train.len(), 50);
    }

    proptest! {
        #[test]
        fn adding_pictures_moves_no_other(
            old in prop::collection::hash_set(any::<[u8; 32]>(), 0..50),
            new in prop::collection::hash_set(any::<[u8; 32]>(), 0..50),
            seed in any::<u64>(),
        ) {
            let config = SplitConfig { validation: 0.3, test: 0.2, seed };
            let by_hash = |hashes: Vec<[u8; 32]>| {
                let indices = config.indices(&hashes).unwrap();
                let pick = |set: &[usize]| set.iter().map(|&k| hashes[k]).collect::<Vec<_>>();
                [pick(&indices.train), pick(&indices.validation), pick(&indices.test)]
            };
            let before = by_hash(old.iter().copied().collect());
            let after = by_hash(old.union(&new).copied().collect());
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before.iter().all(|hash| after.contains(hash)));
            }
        }

        #[test]
        fn more_validation_leaves_the_test_set_alone(
            hashes in prop::collection::vec(any::<[u8; 32]>(), 0..100), seed in any::<u64>(),
        ) {
            let small = SplitConfig { validation: 0.1, test: 0.2, seed }.indices(&hashes).unwrap();
            let large = SplitConfig { validation: 0.6, test: 0.2, seed }.indices(&hashes).unwrap();
            prop_assert_eq!(small.test, large.test);
            prop_assert!(small.validation.iter().all(|k| large.validation.contains(k)));
        }
    }
}
