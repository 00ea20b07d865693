//! Training batches in an order that anybody can recompute.
//!
//! Training sees one endless stream of pictures: epoch after epoch, each a fresh permutation. The
//! stream is a function of the pictures' contents and a seed, and a batch is a window of it, so the
//! number of pictures seen is all that a checkpoint has to remember.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

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
///
/// Where the folder is on disk, the next batches are read ahead by threads.
#[derive(Debug)]
pub struct Loader {
    stream: Arc<PictureStream>,
    vocabulary: Vocabulary,
    /// The batches that are being read, in their order.
    ahead: Mutex<VecDeque<Ahead>>,
}

/// So many batches are read ahead, each by a thread: a disk answers several at a time.
const N_AHEAD: usize = 4;

/// A batch that is being read.
#[derive(Debug)]
struct Ahead {
    n_pictures_seen: u64,
    batch_size: usize,
    read: JoinHandle<Result<(Images, Vec<usize>)>>,
}

/// The endless stream of pictures.
#[derive(Debug)]
struct PictureStream {
    folder: Arc<Folder>,
    /// In the order of their contents, so that names play no part.
    indices: Vec<u32>,
    config: LoaderConfig,
    /// The epochs that were asked for last, because the next batch mostly needs one of them again;
    /// where one ends and the next begins, both.
    last_epochs: Mutex<VecDeque<(u64, Arc<[Place]>)>>,
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
    index: u32,
    flip: bool,
}

impl Loader {
    /// Deals out the pictures `indices` of `folder`, in whatever order they are given.
    ///
    /// # Errors
    /// When `indices` is empty, holds more than 2³² − 1 entries, or names a picture that does not
    /// exist.
    pub fn new(folder: Arc<Folder>, indices: Vec<usize>, config: LoaderConfig) -> Result<Self> {
        if indices.is_empty() || u32::try_from(indices.len().max(folder.len())).is_err() {
            return Err(Error::invalid(
                "training pictures",
                format!("{} of them, where 1 to {} are expected", indices.len(), u32::MAX),
            ));
        }
        if let Some(&index) = indices.iter().find(|&&index| index >= folder.len()) {
            folder.picture_bytes(index)?;
        }
        // All below the length of the folder, which fits.
        let mut indices: Vec<u32> = indices.into_iter().map(|index| index as u32).collect();
        let key = |index: u32| (&folder.pictures()[index as usize].content_hash, index);
        indices.sort_unstable_by(|&a, &b| key(a).cmp(&key(b)));
        let stream = PictureStream { folder, indices, config, last_epochs: Mutex::default() };
        let (vocabulary, ahead) = (Vocabulary::default(), Mutex::default());
        Ok(Loader { stream: Arc::new(stream), vocabulary, ahead })
    }

    /// The same, with the tags of `vocabulary` beside the pictures that have them.
    #[must_use]
    pub fn with_vocabulary(self, vocabulary: Vocabulary) -> Self {
        Loader { vocabulary, ..self }
    }

    /// The numbers of the tags of picture `index` of the folder, ascending.
    pub fn tags_of(&self, index: usize) -> Vec<usize> {
        let tags = self.stream.folder.tags_of(index).iter();
        let mut numbers: Vec<usize> = tags.filter_map(|tag| self.vocabulary.number(tag)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many pictures an epoch has; at least one.
    pub fn epoch_len(&self) -> usize {
        self.stream.indices.len()
    }

    /// The folder that the pictures come from.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.stream.folder
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
        self.part_of_batch(n_pictures_seen, batch_size, batch_size)
    }

    /// As [`batch`](Self::batch), for one of several processes that share batches of `whole`
    /// pictures: it will ask for the same part of the next ones, so these are read ahead.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn part_of_batch(
        &self,
        n_pictures_seen: u64,
        batch_size: usize,
        whole: usize,
    ) -> Result<Batch> {
        let (images, indices) = match self.stream.folder.on_disk() {
            None => self.stream.read(n_pictures_seen, batch_size)?,
            Some(_) => self.read_ahead(n_pictures_seen, batch_size, whole)?,
        };
        let tags = indices.iter().map(|&index| self.tags_of(index)).collect();
        Ok(Batch { images, indices, tags })
    }

    /// A batch that was read meanwhile, where it is the one that was expected next; and has those
    /// that follow it read.
    fn read_ahead(
        &self,
        n_pictures_seen: u64,
        batch_size: usize,
        whole: usize,
    ) -> Result<(Images, Vec<usize>)> {
        // What the lock guards is taken out whole, so a panic elsewhere cannot have broken it.
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let is_expected = |ahead: &Ahead| {
            (ahead.n_pictures_seen, ahead.batch_size) == (n_pictures_seen, batch_size)
        };
        let first = ahead.pop_front().filter(is_expected);
        if first.is_none() {
            // They come to their end by themselves.
            ahead.clear();
        }
        let mut next = n_pictures_seen.saturating_add((1 + ahead.len() as u64) * whole as u64);
        while batch_size > 0 && ahead.len() < N_AHEAD {
            let stream = self.stream.clone();
            let start = next;
            let read = std::thread::Builder::new()
                .name("kao-read-ahead".to_owned())
                .spawn(move || stream.read(start, batch_size));
            // Without another thread the batch is read when it is asked for.
            let Ok(read) = read else { break };
            ahead.push_back(Ahead { n_pictures_seen: start, batch_size, read });
            next = next.saturating_add(whole as u64);
        }
        drop(ahead);
        match first {
            None => self.stream.read(n_pictures_seen, batch_size),
            Some(first) => match first.read.join() {
                Ok(read) => read,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

impl PictureStream {
    /// The pictures of a batch, and their positions in the folder.
    fn read(&self, n_pictures_seen: u64, batch_size: usize) -> Result<(Images, Vec<usize>)> {
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
                let picture = self.folder.picture_bytes(index as usize)?;
                if flip {
                    extend_mirrored(&mut bytes, &picture, c, w);
                } else {
                    bytes.extend_from_slice(&picture);
                }
                indices.push(index as usize);
            }
            position += (stop - start) as u64;
        }
        Ok((Images::from_bytes_nhwc([indices.len(), c, h, w], &bytes)?, indices))
    }

    fn order(&self, epoch: u64) -> Arc<[Place]> {
        const N_KEPT: usize = 2;
        // What the lock guards is replaced whole, so a panic elsewhere cannot have broken it.
        let mut last = self.last_epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = last.iter().find(|(known, _)| *known == epoch) {
            return order.clone();
        }
        last.truncate(N_KEPT - 1);
        let order = epoch_order(&self.indices, self.config, epoch);
        last.push_front((epoch, order.clone()));
        order
    }
}

/// The order of one epoch: a Fisher-Yates shuffle of `indices`, then a coin for each place.
///
/// The words are those of the ChaCha8 stream number `epoch` under the key
/// SHA-256("kao loader 1" ‖ seed), and are used in sequence. Nothing here depends on how a library
/// shuffles or draws, so the order is the same in every version of Kao.
fn epoch_order(indices: &[u32], config: LoaderConfig, epoch: u64) -> Arc<[Place]> {
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
