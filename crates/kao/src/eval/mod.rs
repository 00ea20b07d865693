//! Numbers for quality: how far a set of images is from another, and whether one copies the other.
//!
//! [`distances`] is the sliced Wasserstein distance of Laplacian-pyramid patches (Karras et al.
//! 2018, "Progressive Growing of GANs", section 5), which needs no trained network, so that it may
//! be computed anywhere and means the same everywhere. [`nearest`] finds for pictures the ones
//! most like them.
//!
//! It refuses to know where images come from: it gets sets, and a seed for what is left to
//! chance. All results are the same whatever the number of threads and the instructions of the
//! processor.

mod classifier;
mod kernel_distance;
mod laplacian;
mod neighbours;
mod sliced_wasserstein;
#[cfg(test)]
mod tests;
mod texture;

pub use classifier::{
    Classifier, ClassifierConfig, ClassifierLayer, ClassifierTraining, GroupAccuracy, Seen,
    TagGroup,
};
pub use kernel_distance::{FeatureScale, kernel_distance};
pub use laplacian::{Detail, MIN_SIDE, join, pyramid, resolutions, split};
pub use neighbours::{Neighbour, nearest};
pub use sliced_wasserstein::{
    LevelDistances, N_DIRECTIONS, PATCH_SIDE, PATCHES_PER_IMAGE, distances,
};
pub use texture::{N_TEXTURE, textures};
