//! The pictures of a run: a stream to train on, and a set to validate with.
//!
//! A run learns of its pictures here and nowhere else. What is known of a picture besides its pixels
//! comes with them, in the loader's [`Batch`](crate::dataset::Batch).

use super::config::TrainConfig;
use crate::dataset::{Folder, Loader, LoaderConfig, SplitConfig};
use crate::error::{Error, Result};
use crate::images::Images;
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
    /// See [`Folder::fingerprint`].
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
        let fingerprint = folder.fingerprint();

        // Every so many of the set, so that a few pictures still represent it.
        let every = split.validation.len().div_ceil(config.validation_images.max(1)).max(1);
        let chosen: Vec<usize> = split.validation.into_iter().step_by(every).collect();
        let is_used = !chosen.is_empty() && config.validation_images > 0;
        let validation = is_used.then(|| folder.images(&chosen)).transpose()?;
        let order = LoaderConfig { seed: config.seed, horizontal_flip: config.horizontal_flip };
        let loader = Loader::new(folder, split.train, order)?;
        Ok(RunPictures { loader, validation, n_pictures, fingerprint })
    }
}
