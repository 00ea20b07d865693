//! The pictures of a run: a stream to train on, and a set to validate with.
//!
//! A run learns of its pictures here and nowhere else. What is known of a picture besides its pixels
//! comes with them, in the loader's [`Batch`](crate::dataset::Batch).

use super::config::TrainConfig;
use crate::dataset::{Folder, Loader, LoaderConfig, SplitConfig};
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::images::Images;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The pictures of a run.
#[derive(Debug)]
pub(super) struct RunPictures {
    /// The training pictures, in the order of the run.
    pub(super) loader: Loader,
    /// The validation pictures, `[N, C, H, W]`; `None` where there are none or none are wanted.
    pub(super) validation: Option<Images>,
    /// How many pictures the training, validation and test sets hold.
    pub(super) n_pictures: [usize; 3],
    /// The tags of the validation pictures.
    pub(super) validation_tags: Conditions,
    /// See [`fingerprint`].
    pub(super) fingerprint: String,
}

impl RunPictures {
    /// The pictures of `folder` as a run of `config` uses them.
    ///
    /// # Errors
    /// When they do not have the shape of the model's images.
    pub(super) fn new(folder: Arc<Folder>, config: &TrainConfig) -> Result<Self> {
        let (found, expected) = (folder.shape(), config.model.image_size);
        if found != expected {
            let problem = format!("their shape is {found:?}; the model's images have {expected:?}");
            return Err(Error::invalid("pictures", problem));
        }
        let split = folder.split(&SplitConfig::default())?;
        let n_pictures = [split.train.len(), split.validation.len(), split.test.len()];
        let fingerprint = fingerprint(&folder, config);

        let positions = validated(split.validation.len(), config);
        let chosen: Vec<usize> = positions.map(|at| split.validation[at]).collect();
        let is_used = !chosen.is_empty() && config.validation_images > 0;
        let validation = is_used.then(|| folder.images(&chosen)).transpose()?;
        let order = LoaderConfig { seed: config.seed, horizontal_flip: config.horizontal_flip };
        let loader = Loader::new(folder, split.train, order)?.with_vocabulary(config.tags.clone());
        let validation_tags =
            Conditions::new(chosen.iter().map(|&index| loader.tags_of(index)).collect());
        Ok(RunPictures { loader, validation, validation_tags, n_pictures, fingerprint })
    }
}

/// The positions of those of `n` pictures that a run is validated with, where it is: every so many, so
/// that a few still represent all.
pub(super) fn validated(n: usize, config: &TrainConfig) -> impl Iterator<Item = usize> {
    (0..n).step_by(n.div_ceil(config.validation_images.max(1)).max(1))
}

/// What stands for the pictures of a run, see [`Folder::fingerprint`]; and for their tags where the
/// run trains with tags.
pub fn fingerprint(folder: &Folder, config: &TrainConfig) -> String {
    let pictures = folder.fingerprint();
    if config.tags.is_empty() {
        return pictures;
    }
    let mut tagged: Vec<([u8; 32], String)> = (0..folder.len())
        .map(|index| (folder.pictures()[index].content_hash, folder.tags_of(index).join(",")))
        .collect();
    tagged.sort_unstable();
    let mut digest = Sha256::new_with_prefix(b"kao tags 1");
    digest.update(pictures.as_bytes());
    for (hash, tags) in tagged {
        digest.update(hash);
        digest.update((tags.len() as u64).to_le_bytes());
        digest.update(tags.as_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
