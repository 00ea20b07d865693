//! Training batches in an order that anybody can recompute.
//!
//! Training sees one endless stream of pictures: epoch after epoch, each a fresh permutation. The
//! stream is a function of the pictures' contents and a seed, and a batch is a window of it, so the
//! number of pictures seen is all that a checkpoint has to remember.

use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::folder::Folder;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::vocabulary::Vocabulary;

/// How a [`Loader`] deals out pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Another seed gives another order.
    pub seed: u64,
    /// Mirror each picture left to right with a chance of one half, drawn anew in every epoch.
    pub horizontal_flip: bool,
}

/// Deals out the training batches of some pictures of a [`Folder`].
#[derive(Debug)]
pub struct Loader {
    folder: Arc<Folder>,
    /// In the order of their contents, so that names play no part.
    indices: Vec<usize>,
    config: LoaderConfig,
    vocabulary: Vocabulary,
    /// The epoch that was asked for last, because the next batch mostly needs it again.
    last_epoch: Mutex<Option<(u64, Arc<[Place]>)>>,
}

/// A batch of training pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[N, C, H, W]` in [-1, 1].
    pub images: Images,
    /// Position in the folder of each picture.
    pub indices: Vec<usize>,
    /// The tags of each picture, by their number in the vocabulary of the loader.
    pub tags: Vec<Vec<usize>>,
}

impl Batch {
    /// The pictures in `range`.
    ///
    /// # Panics
    /// When the range does not lie within the batch.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Batch {
            images: self.images.slice(range.clone()),
            indices: self.indices[range.clone()].to_vec(),
            tags: self.tags[range].to_vec(),
        }
    }
}

/// One place in the order of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Position in the folder.
    index: usize,
    flip: bool,
}

impl Loader {
    /// Deals out the pictures `indices` of `folder`, in whatever order they are given.
    ///
    /// # Errors
    /// When `indices` is empty, holds more than 2³² − 1 entries, or names a picture that does not
    /// exist.
    pub fn new(folder: Arc<Folder>, mut indices: Vec<usize>, config: LoaderConfig) -> Result<Self> {
        if indices.is_empty() || u32::try_from(indices.len()).is_err() {
            return Err(Error::invalid(
                "training pictures",
                format!("{} of them, where 1 to {} are expected", indices.len(), u32::MAX),
            ));
        }
        if let Some(&index) = indices.iter().find(|&&index| index >= folder.len()) {
            folder.picture_bytes(index)?;
        }
        indices.sort_by_key(|&index| (folder.pictures()[index].content_hash, index));
        let vocabulary = Vocabulary::default();
        Ok(Loader { folder, indices, config, vocabulary, last_epoch: Mutex::new(None) })
    }

    /// The same, with the tags of `vocabulary` beside the pictures that have them.
    #[must_use]
    pub fn with_vocabulary(self, vocabulary: Vocabulary) -> Self {
        Loader { vocabulary, ..self }
    }

    /// The numbers of the tags of picture `index` of the folder, ascending.
    pub fn tags_of(&self, index: usize) -> Vec<usize> {
        let tags = self.folder.tags_of(index).iter();
        let mut numbers: Vec<usize> = tags.filter_map(|tag| self.vocabulary.number(tag)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many pictures an epoch has; at least one.
    pub fn epoch_len(&self) -> usize {
        self.indices.len()
    }

    /// The folder that the pictures come from.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The next `batch_size` pictures after the first `n_pictures_seen` of the stream.
    ///
    /// The stream runs on from epoch to epoch: every batch is full, the last of an epoch takes its
    /// remainder from the next, and no picture is left out. The batch depends on nothing but the
    /// arguments, the configuration and the pictures, so training resumes exactly where it
    /// stopped, even with another batch size.
    ///
    /// # Errors
    /// When `batch_size` is zero, or the stream's position overflows.
    pub fn batch(&self, n_pictures_seen: u64, batch_size: usize) -> Result<Batch> {
        if batch_size == 0 {
            return Err(Error::invalid("batch size", "0, where at least 1 is expected"));
        }
        let end = n_pictures_seen.checked_add(batch_size as u64).ok_or_else(|| {
            Error::invalid("pictures seen", format!("{n_pictures_seen}, which is too many"))
        })?;
        let n = self.indices.len() as u64;
        let [c, h, w] = self.folder.shape();
        let mut bytes = Vec::with_capacity(batch_size * c * h * w);
        let mut indices = Vec::with_capacity(batch_size);
        let mut position = n_pictures_seen;
        while position < end {
            let order = self.order(position / n);
            let start = (position % n) as usize;
            let stop = order.len().min(start + (end - position) as usize);
            for &Place { index, flip } in &order[start..stop] {
                let picture = self.folder.picture_bytes(index)?;
                if flip {
                    extend_mirrored(&mut bytes, picture, c, w);
                } else {
                    bytes.extend_from_slice(picture);
                }
                indices.push(index);
            }
            position += (stop - start) as u64;
        }
        let images = Images::from_bytes_nhwc([indices.len(), c, h, w], &bytes)?;
        let tags = indices.iter().map(|&index| self.tags_of(index)).collect();
        Ok(Batch { images, indices, tags })
    }

    fn order(&self, epoch: u64) -> Arc<[Place]> {
        // What the lock guards is replaced whole, so a panic elsewhere cannot have broken it.
        let mut last = self.last_epoch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, order)) if *known == epoch => order.clone(),
            _ => {
                let order = epoch_order(&self.indices, self.config, epoch);
                *last = Some((epoch, order.clone()));
                order
            }
        }
    }
}

/// The order of one epoch: a Fisher-Yates shuffle of `indices`, then a coin for each place.
///
/// The words are those of the ChaCha8 stream number `epoch` under the key
/// SHA-256("kao loader 1" ‖ seed), and are used in sequence. Nothing here depends on how a library
/// shuffles or draws, so the order is the same in every version of Kao.
fn epoch_order(indices: &[usize], config: LoaderConfig, epoch: u64) -> Arc<[Place]> {
    let key = Sha256::new()
        .chain_update(b"kao loader 1")
        .chain_update(config.seed.to_le_bytes())
        .finalize();
    let mut words = ChaCha8Rng::from_seed(key.into());
    words.set_stream(epoch);
    let mut order: Vec<Place> = indices.iter().map(|&index| Place { index, flip: false }).collect();
    for last in (1..order.len()).rev() {
        let other = below(last as u32 + 1, || words.next_u32());
        order.swap(last, other as usize);
    }
    for place in &mut order {
        place.flip = words.next_u32() & 1 == 1 && config.horizontal_flip;
    }
    order.into()
}

/// A uniform number below `bound`, from uniform words: Lemire, "Fast random integer generation in
/// an interval" (2019), algorithm 5.
fn below(bound: u32, mut word: impl FnMut() -> u32) -> u32 {
    let mut product = u64::from(word()) * u64::from(bound);
    if (product as u32) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (product as u32) < threshold {
            product = u64::from(word()) * u64::from(bound);
        }
    }
    (product >> 32) as u32
}

/// Appends a picture `[H, W, C]` with its columns reversed.
fn extend_mirrored(bytes: &mut Vec<u8>, picture: &[u8], channels: usize, width: usize) {
    for row in picture.chunks_exact(width * channels) {
        for pixel in row.chunks_exact(channels).rev() {
            bytes.extend_from_slice(pixel);
        }
    }
}
