//! Distances of samples from real pictures, and which pictures they are taken from.

use crate::dataset::Folder;
use crate::noise::{Purpose, Stream};
use serde::Serialize;

/// Two distances: sliced Wasserstein distances in thousandths, or kernel distances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DistanceAndFloor {
    /// Of the samples from real pictures: the mean of their distances from both sets.
    pub samples: f64,
    /// Of the two sets of real pictures from each other: what chance alone makes of sets so large.
    pub floor: f64,
}

impl DistanceAndFloor {
    /// How many times the floor the samples are away.
    pub fn ratio(&self) -> f64 {
        self.samples / self.floor
    }
}

/// Kernel distances: the unbiased squared maximum mean discrepancy under the cubic kernel of KID. Those
/// of real pictures are about 0 whatever the sizes of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KernelEvaluation {
    /// By what is shown: features of Kao's classifier of drawn faces.
    pub structure: DistanceAndFloor,
    /// By how cleanly: statistics of the finest details.
    pub texture: DistanceAndFloor,
}

/// The positions of all different pictures in an order that depends on their content and the seed
/// alone.
pub(super) fn different(data: &Folder, seed: u64) -> Vec<usize> {
    let hash = |index: &usize| data.pictures()[*index].content_hash;
    let mut pictures: Vec<usize> = (0..data.len()).collect();
    pictures.sort_by_key(hash);
    pictures.dedup_by_key(|index| hash(index));
    let mut stream = Stream::new(seed, Purpose::Choice, 0, 0);
    for end in (1..pictures.len()).rev() {
        pictures.swap(end, stream.below(end + 1));
    }
    pictures
}
