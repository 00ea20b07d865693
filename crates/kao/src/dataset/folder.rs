//! A folder of pictures in memory, as bytes at the size of the model.
//!
//! A 64×64 picture takes 12 KiB this way, so a hundred thousand fit where one does not think of
//! them, and no disk is touched while training. Broken files are passed over and listed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::Picture;
use super::fit::Fit;
use super::output::preparation;
use super::report::{Skipped, counted};
use super::scan::{Found, Scan, scan};
use super::split::{SplitConfig, SplitIndices};
use super::tags::Tags;
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::images::Images;

/// Pictures of one shape, kept as interleaved bytes in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// `[C, H, W]`.
    shape: [usize; 3],
    /// `[N, H, W, C]`.
    bytes: Vec<u8>,
    pictures: Vec<FolderPicture>,
    skipped: Vec<Skipped>,
    n_enlarged: usize,
    tags: Tags,
}

/// What a [`Folder`] knows of a picture besides its pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPicture {
    /// Below the folder, parts joined by `/`.
    pub name: String,
    /// SHA-256 of the picture's bytes `[H, W, C]` at the size of the model.
    pub content_hash: [u8; 32],
}

impl Folder {
    /// Loads all pictures of `dir` and the folders below it at `shape` = `[C, H, W]`.
    ///
    /// A picture that has the size is taken as it is; any other is scaled to cover it and its
    /// centre cut out ([`Fit::Crop`], for square sizes what the original's loader does). With one
    /// channel, luma is taken. The order is that of the names below `dir`, whatever the disk says.
    /// Files that yield no picture are listed in [`skipped`](Self::skipped).
    ///
    /// `control` gets a report after each picture, from several threads.
    ///
    /// # Errors
    /// When `dir` cannot be read, holds no usable picture, or was left by a
    /// [`prepare`](super::prepare()) that did not come to its end; when `shape` is not of 1 or 3
    /// channels and non-zero sides; when `control` stops the work.
    pub fn load(dir: &Path, shape: [usize; 3], control: &dyn Control) -> Result<Self> {
        let sides = check_shape(shape)?;
        let Scan { pictures: found, unreadable, n_ignored } = scan(dir)?;
        let preparation = preparation(dir)?;
        if preparation.is_some_and(|preparation| !preparation.complete) {
            return Err(Error::malformed(dir, "the preparation of this folder was interrupted")
                .with_hint("run `kao prepare` on it again"));
        }
        let n_done = AtomicU64::new(0);
        let n_total = found.len();
        let read = |found: &Found, into: &mut [u8]| {
            let outcome = read_into(&found.path, shape, sides, into);
            let done = n_done.fetch_add(1, Ordering::Relaxed) + 1;
            let total = Some(n_total as u64);
            control.check(&Report::progress("reading", done, total, "pictures"))?;
            Ok(outcome)
        };

        let picture_len = shape.iter().product();
        let mut bytes = vec![0; n_total * picture_len];
        let outcomes: Vec<Result<ReadPicture, String>> = found
            .par_iter()
            .zip(bytes.par_chunks_exact_mut(picture_len))
            .map(|(found, into)| read(found, into))
            .collect::<Result<_>>()?;

        let mut pictures = Vec::with_capacity(n_total);
        let mut skipped = unreadable;
        let mut n_enlarged = 0;
        for (index, (Found { relative: name, .. }, outcome)) in
            found.into_iter().zip(outcomes).enumerate()
        {
            match outcome {
                Ok(ReadPicture { content_hash, is_enlarged }) => {
                    n_enlarged += usize::from(is_enlarged);
                    // Close the gap that skipped pictures left.
                    let start = index * picture_len;
                    bytes.copy_within(start..start + picture_len, pictures.len() * picture_len);
                    pictures.push(FolderPicture { name, content_hash });
                }
                Err(reason) => skipped.push(Skipped { path: name, reason }),
            }
        }
        bytes.truncate(pictures.len() * picture_len);
        bytes.shrink_to_fit();
        skipped.sort_by(|a, b| a.path.cmp(&b.path));
        if pictures.is_empty() {
            return Err(nothing_usable(dir, &skipped, n_ignored));
        }
        // Pictures that were prepared show their original size no longer.
        n_enlarged = n_enlarged.max(preparation.map_or(0, |preparation| preparation.n_enlarged));
        Ok(Folder { shape, bytes, pictures, skipped, n_enlarged, tags: Tags::default() })
    }

    /// Loads the picture files at `paths`, in the order given, as [`load`](Self::load) does.
    ///
    /// # Errors
    /// When a file yields no picture, when `paths` is empty, or when `shape` is impossible.
    pub fn load_files(paths: &[PathBuf], shape: [usize; 3]) -> Result<Self> {
        let sides = check_shape(shape)?;
        let picture_len: usize = shape.iter().product();
        let mut bytes = vec![0; paths.len() * picture_len];
        let read: Vec<Result<(FolderPicture, bool)>> = paths
            .par_iter()
            .zip(bytes.par_chunks_exact_mut(picture_len))
            .map(|(path, into)| {
                if path.is_dir() {
                    return Err(Error::malformed(path, "this is a folder")
                        .with_hint("give picture files, or one folder alone"));
                }
                let ReadPicture { content_hash, is_enlarged } = read_into(path, shape, sides, into)
                    .map_err(|reason| Error::malformed(path, reason))?;
                let name = path.to_string_lossy().into_owned();
                Ok((FolderPicture { name, content_hash }, is_enlarged))
            })
            .collect();
        // The first that cannot be read is named, whichever thread finds one first.
        let read = read.into_iter().collect::<Result<Vec<_>>>()?;
        if read.is_empty() {
            return Err(Error::invalid("pictures", "no file is given"));
        }
        let n_enlarged = read.iter().filter(|(_, is_enlarged)| *is_enlarged).count();
        let pictures = read.into_iter().map(|(picture, _)| picture).collect();
        Ok(Folder { shape, bytes, pictures, skipped: vec![], n_enlarged, tags: Tags::default() })
    }

    /// Wraps pictures that are in memory already: names, and bytes `[N, H, W, C]` for `shape` =
    /// `[C, H, W]`.
    ///
    /// # Errors
    /// When there is no name, when `bytes` does not hold as many pictures as there are names, or
    /// when `shape` is impossible.
    pub fn from_bytes(shape: [usize; 3], names: Vec<String>, bytes: Vec<u8>) -> Result<Self> {
        check_shape(shape)?;
        let picture_len: usize = shape.iter().product();
        if names.is_empty() || bytes.len() != names.len() * picture_len {
            return Err(Error::invalid(
                "pictures",
                format!(
                    "{} bytes given for {} of shape {shape:?}",
                    bytes.len(),
                    counted(names.len(), "picture")
                ),
            ));
        }
        let pictures = names
            .into_iter()
            .zip(bytes.chunks_exact(picture_len))
            .map(|(name, bytes)| FolderPicture { name, content_hash: Sha256::digest(bytes).into() })
            .collect();
        Ok(Folder { shape, bytes, pictures, skipped: vec![], n_enlarged: 0, tags: Tags::default() })
    }

    /// Wraps images that are in memory already, `[N, C, H, W]` in [-1, 1], as pictures of 8 bits per
    /// value: values are clamped and rounded as if they had been written to PNG files and read back.
    /// Their names are their numbers.
    ///
    /// # Errors
    /// When there is no image, or their shape is impossible.
    pub fn from_images(images: &Images) -> Result<Self> {
        let names = (0..images.len()).map(|index| index.to_string()).collect();
        let bytes = (0..images.len()).flat_map(|index| images.to_bytes_hwc(index)).collect();
        Self::from_bytes(images.image_shape(), names, bytes)
    }

    /// The pictures at `indices`, in this order, with their tags.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        let mut bytes = Vec::with_capacity(indices.len() * self.shape.iter().product::<usize>());
        for &index in indices {
            bytes.extend_from_slice(self.picture_bytes(index)?);
        }
        let pictures = indices.iter().map(|&index| self.pictures[index].clone()).collect();
        let (shape, tags) = (self.shape, self.tags.clone());
        Ok(Folder { shape, bytes, pictures, skipped: vec![], n_enlarged: 0, tags })
    }

    /// How many pictures there are; at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// `[C, H, W]` of each picture.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The pictures, in order.
    pub fn pictures(&self) -> &[FolderPicture] {
        &self.pictures
    }

    /// Files that yielded no picture, in the order of their names.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The same pictures with `tags`, which name them as [`pictures`](Self::pictures) does.
    #[must_use]
    pub fn with_tags(self, tags: Tags) -> Self {
        Folder { tags, ..self }
    }

    /// The tags of the pictures; none where [`with_tags`](Self::with_tags) gave none.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The tags of picture `index`.
    ///
    /// # Panics
    /// When there is no such picture.
    pub fn tags_of(&self, index: usize) -> &[String] {
        self.tags.of(&self.pictures[index].name)
    }

    /// How many pictures were smaller than the model's images on a side, and so were enlarged:
    /// here, or when the folder was prepared.
    pub fn n_enlarged(&self) -> usize {
        self.n_enlarged
    }

    /// The bytes `[H, W, C]` of picture `index`.
    ///
    /// # Errors
    /// When there is no such picture.
    pub fn picture_bytes(&self, index: usize) -> Result<&[u8]> {
        let picture_len: usize = self.shape.iter().product();
        self.bytes.chunks_exact(picture_len).nth(index).ok_or_else(|| {
            Error::invalid(
                "picture index",
                format!("{index}, but there are {}", counted(self.len(), "picture")),
            )
        })
    }

    /// The pictures `indices` as `[N, C, H, W]` in [-1, 1].
    ///
    /// # Errors
    /// When there is no such picture.
    pub fn images(&self, indices: &[usize]) -> Result<Images> {
        let [c, h, w] = self.shape;
        let mut bytes = Vec::with_capacity(indices.len() * c * h * w);
        for &index in indices {
            bytes.extend_from_slice(self.picture_bytes(index)?);
        }
        Images::from_bytes_nhwc([indices.len(), c, h, w], &bytes)
    }

    /// Parts the pictures into training, validation and test sets.
    ///
    /// Of a handful of pictures chance may leave none to train on. Then all are, and the other sets
    /// are empty: whoever gives one picture wants to see whether it can be learned by heart.
    ///
    /// # Errors
    /// When the shares are impossible.
    pub fn split(&self, config: &SplitConfig) -> Result<SplitIndices> {
        let hashes = self.pictures.iter().map(|picture| &picture.content_hash);
        let parted = config.indices(hashes)?;
        if parted.train.is_empty() && config.validation + config.test < 1.0 {
            return Ok(SplitIndices { train: (0..self.len()).collect(), ..Default::default() });
        }
        Ok(parted)
    }

    /// 64 hexadecimal digits that stand for the shape and the content of all pictures, and for
    /// nothing else: names and their order do not matter. A resumed run that finds another
    /// fingerprint would see other batches.
    pub fn fingerprint(&self) -> String {
        let mut hashes: Vec<&[u8; 32]> =
            self.pictures.iter().map(|picture| &picture.content_hash).collect();
        hashes.sort_unstable();
        let mut digest = Sha256::new_with_prefix(b"kao folder 1");
        for side in self.shape {
            digest.update((side as u64).to_le_bytes());
        }
        for hash in hashes {
            digest.update(hash);
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is known of a picture that was read.
struct ReadPicture {
    content_hash: [u8; 32],
    is_enlarged: bool,
}

/// Reads one picture into `into`, `[H, W, C]`.
fn read_into(
    path: &Path,
    shape: [usize; 3],
    [height, width]: [u32; 2],
    into: &mut [u8],
) -> Result<ReadPicture, String> {
    let fitted = Picture::read_with(path, |picture| {
        let is_enlarged = picture.is_smaller_than(width, height);
        let picture = if shape[0] == 1 { picture.into_luma() } else { picture };
        Ok((picture.fit(width, height, Fit::Crop)?, is_enlarged))
    });
    let fitted: Result<_> = fitted.map_err(|error| error.to_string())?;
    let (picture, is_enlarged) = fitted.map_err(|error| error.to_string())?;
    into.copy_from_slice(picture.bytes());
    Ok(ReadPicture { content_hash: Sha256::digest(picture.bytes()).into(), is_enlarged })
}

/// Height and width of `shape`.
fn check_shape(shape: [usize; 3]) -> Result<[u32; 2]> {
    let [c, h, w] = shape;
    let sides = u32::try_from(h).ok().zip(u32::try_from(w).ok());
    match sides {
        Some((h, w))
            if (c == 1 || c == 3)
                && (1..=super::MAX_PIXELS).contains(&(u64::from(h) * u64::from(w))) =>
        {
            Ok([h, w])
        }
        _ => Err(Error::invalid(
            "image size",
            format!("[{c}, {h}, {w}], where 1 or 3 channels and sides above 0 are expected"),
        )),
    }
}

fn nothing_usable(dir: &Path, skipped: &[Skipped], n_ignored: usize) -> Error {
    let problem = match skipped {
        [] if n_ignored == 0 => "holds no picture: it is empty".into(),
        [] => format!("holds no picture, only {}", counted(n_ignored, "other file")),
        [Skipped { path, reason }, ..] => format!(
            "none of {} can be used; the first, `{path}`: {reason}",
            counted(skipped.len(), "picture")
        ),
    };
    Error::malformed(dir, problem)
        .with_hint("give a folder that `kao prepare` wrote, or any folder of pictures")
}
