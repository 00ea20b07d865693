//! A folder of pictures, as bytes at the size of the model.
//!
//! A 64×64 picture takes 12 KiB this way, so a hundred thousand fit into memory where one does not
//! think of them, and no disk is touched while training. More than that are kept in a file (see
//! [`CacheConfig`]), with an index in memory. Broken files are passed over and listed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::cache::{CacheConfig, CacheFile, Cached, Index};
use super::decode::{DecodeError, Picture, UNREADABLE};
use super::fit::Fit;
use super::output::preparation;
use super::pixels::{DiskPixels, FolderPicture, Pixels};
use super::report::{Skipped, counted};
use super::scan::{Found, Scan, scan};
use super::split::{SplitConfig, SplitIndices};
use super::tags::Tags;
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::images::Images;

/// Pictures of one shape, kept as interleaved bytes in the order of their names, in memory or in a
/// file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// `[C, H, W]`.
    shape: [usize; 3],
    pixels: Pixels,
    pictures: Vec<FolderPicture>,
    skipped: Vec<Skipped>,
    n_enlarged: usize,
    tags: Tags,
}

impl Folder {
    /// Loads all pictures of `dir` and the folders below it at `shape` = `[C, H, W]` into memory.
    ///
    /// `dir` may also hold tar archives of pictures, or name some: `shards-{000..099}.tar`.
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
    /// channels and non-zero sides; when an archive is damaged; when `control` stops the work.
    pub fn load(dir: &Path, shape: [usize; 3], control: &dyn Control) -> Result<Self> {
        Self::load_with(dir, shape, &CacheConfig::memory(), control)
    }

    /// As [`load`](Self::load), with the pixels in memory or in a file on disk, as `cache` says. The
    /// pictures are the same, and so is everything that is made of them.
    ///
    /// # Errors
    /// As there, and when the file on disk cannot be written.
    pub fn load_with(
        dir: &Path,
        shape: [usize; 3],
        cache: &CacheConfig,
        control: &dyn Control,
    ) -> Result<Self> {
        let sides = check_shape(shape)?;
        let Scan { pictures: found, unreadable, n_ignored } = scan(dir)?;
        let preparation = preparation(dir)?;
        if preparation.is_some_and(|preparation| !preparation.complete) {
            return Err(Error::malformed(dir, "the preparation of this folder was interrupted")
                .with_hint("run `kao prepare` on it again"));
        }
        let reading = Reading { shape, sides, control };
        let n_bytes = found.len() as u64 * shape.iter().product::<usize>() as u64;
        let (pixels, index) = match cache.is_disk(n_bytes) {
            false => {
                let mut bytes = Vec::with_capacity(usize::try_from(n_bytes).unwrap_or(usize::MAX));
                let index = reading.read(found, unreadable, &mut |chunk| {
                    bytes.extend_from_slice(chunk);
                    Ok(())
                })?;
                bytes.shrink_to_fit();
                (Pixels::Memory(bytes), index)
            }
            true => {
                reading.cached(&CacheFile::of(cache, dir, &found, shape)?, found, unreadable)?
            }
        };
        let Index { pictures, mut skipped, mut n_enlarged } = index;
        skipped.sort_by(|a, b| a.path.cmp(&b.path));
        if pictures.is_empty() {
            return Err(nothing_usable(dir, &skipped, n_ignored));
        }
        // Pictures that were prepared show their original size no longer.
        n_enlarged = n_enlarged.max(preparation.map_or(0, |preparation| preparation.n_enlarged));
        // Of archives only some may be named.
        n_enlarged = n_enlarged.min(pictures.len());
        Ok(Folder { shape, pixels, pictures, skipped, n_enlarged, tags: Tags::default() })
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
                let ReadPicture { content_hash, is_enlarged } =
                    read_into(shape, sides, into, |then| Picture::read_with(path, then))
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
        Ok(Folder {
            shape,
            pixels: Pixels::Memory(bytes),
            pictures,
            skipped: vec![],
            n_enlarged,
            tags: Tags::default(),
        })
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
        Ok(Folder {
            shape,
            pixels: Pixels::Memory(bytes),
            pictures,
            skipped: vec![],
            n_enlarged: 0,
            tags: Tags::default(),
        })
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
        indices.iter().try_for_each(|&index| self.check_index(index))?;
        let pixels = match &self.pixels {
            Pixels::Memory(_) => {
                let len: usize = self.shape.iter().product();
                let mut bytes = Vec::with_capacity(indices.len() * len);
                indices.iter().try_for_each(|&index| self.append(index, &mut bytes))?;
                Pixels::Memory(bytes)
            }
            Pixels::Disk(disk) => {
                let place = |&index: &usize| match &disk.places {
                    Some(places) => places[index],
                    // A folder on disk has fewer pictures than that.
                    None => index as u32,
                };
                let places = Some(indices.iter().map(place).collect());
                Pixels::Disk(DiskPixels { places, ..disk.clone() })
            }
        };
        let pictures = indices.iter().map(|&index| self.pictures[index].clone()).collect();
        let (shape, tags) = (self.shape, self.tags.clone());
        Ok(Folder { shape, pixels, pictures, skipped: vec![], n_enlarged: 0, tags })
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
    /// When there is no such picture; where it is on disk, when it cannot be read or is damaged.
    pub fn picture_bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.check_index(index)?;
        let len = self.shape.iter().product();
        self.pixels.picture(index, len, &self.pictures[index].content_hash)
    }

    /// Appends the bytes `[H, W, C]` of picture `index`.
    fn append(&self, index: usize, into: &mut Vec<u8>) -> Result<()> {
        self.check_index(index)?;
        let len = self.shape.iter().product();
        self.pixels.append(index, len, &self.pictures[index].content_hash, into)
    }

    fn check_index(&self, index: usize) -> Result<()> {
        match index < self.len() {
            true => Ok(()),
            false => Err(Error::invalid(
                "picture index",
                format!("{index}, but there are {}", counted(self.len(), "picture")),
            )),
        }
    }

    /// Whether the pixels are in a file on disk, and which.
    pub fn on_disk(&self) -> Option<&Path> {
        match &self.pixels {
            Pixels::Memory(_) => None,
            Pixels::Disk(disk) => Some(&disk.path),
        }
    }

    /// How many pictures have their pixels in memory: all or none.
    pub fn n_in_memory(&self) -> usize {
        match self.pixels {
            Pixels::Memory(_) => self.len(),
            Pixels::Disk(_) => 0,
        }
    }

    /// The pictures `indices` as `[N, C, H, W]` in [-1, 1].
    ///
    /// # Errors
    /// As [`picture_bytes`](Self::picture_bytes).
    pub fn images(&self, indices: &[usize]) -> Result<Images> {
        let [c, h, w] = self.shape;
        let mut bytes = Vec::with_capacity(indices.len() * c * h * w);
        indices.iter().try_for_each(|&index| self.append(index, &mut bytes))?;
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

/// Pixels that are read at a time, in bytes, on all threads.
const CHUNK_BYTES: usize = 32 << 20;

/// The most pictures that are read at a time.
const CHUNK_PICTURES: usize = 1 << 15;

/// How the pictures of a folder are read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    shape: [usize; 3],
    sides: [u32; 2],
    control: &'a dyn Control,
}

impl Reading<'_> {
    /// Reads the pictures `found` in their order and gives their bytes `[N, H, W, C]` to `write`, a
    /// number of them at a time.
    fn read(
        &self,
        found: Vec<Found>,
        unreadable: Vec<Skipped>,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Index> {
        let (n_done, n_total) = (AtomicU64::new(0), found.len());
        let read = |found: &Found, into: &mut [u8]| {
            let outcome = read_into(self.shape, self.sides, into, |then| found.read_with(then));
            let done = n_done.fetch_add(1, Ordering::Relaxed) + 1;
            let total = Some(n_total as u64);
            self.control.check(&Report::progress("reading", done, total, "pictures"))?;
            Ok(outcome)
        };
        let picture_len: usize = self.shape.iter().product();
        let chunk_len = (CHUNK_BYTES / picture_len).clamp(1, CHUNK_PICTURES).min(n_total);
        let mut bytes = vec![0; chunk_len * picture_len];
        let mut index =
            Index { pictures: Vec::with_capacity(n_total), skipped: unreadable, n_enlarged: 0 };
        let mut left = found.into_iter();
        loop {
            let chunk: Vec<Found> = left.by_ref().take(chunk_len).collect();
            if chunk.is_empty() {
                return Ok(index);
            }
            let outcomes: Vec<Result<ReadPicture, String>> = chunk
                .par_iter()
                .zip(bytes.par_chunks_exact_mut(picture_len))
                .map(|(found, into)| read(found, into))
                .collect::<Result<_>>()?;
            let mut n_read = 0;
            for (at, (Found { relative: name, .. }, outcome)) in
                chunk.into_iter().zip(outcomes).enumerate()
            {
                match outcome {
                    Ok(ReadPicture { content_hash, is_enlarged }) => {
                        index.n_enlarged += usize::from(is_enlarged);
                        // Close the gap that skipped pictures left.
                        let start = at * picture_len;
                        bytes.copy_within(start..start + picture_len, n_read * picture_len);
                        n_read += 1;
                        index.pictures.push(FolderPicture { name, content_hash });
                    }
                    Err(reason) => index.skipped.push(Skipped { path: name, reason }),
                }
            }
            write(&bytes[..n_read * picture_len])?;
        }
    }

    /// The pictures on disk: from the file where it is there, otherwise it is made.
    fn cached(
        &self,
        file: &CacheFile,
        found: Vec<Found>,
        unreadable: Vec<Skipped>,
    ) -> Result<(Pixels, Index)> {
        if u32::try_from(found.len()).is_err() {
            let problem =
                format!("{} of them, where at most {} are expected", found.len(), u32::MAX);
            return Err(Error::invalid("pictures", problem));
        }
        // What could not be read may be readable now.
        let is_whole = |cached: &Cached| {
            !cached.skipped.iter().any(|skipped| skipped.reason.starts_with(UNREADABLE))
        };
        let cached = match file.open()?.filter(is_whole) {
            Some(cached) => cached,
            None => {
                file.make(|into| {
                    self.read(found, unreadable, &mut |chunk| {
                        into.write_all(chunk)
                            .map_err(|source| Error::io("write", file.path(), source))
                    })
                })?;
                file.open()?.ok_or_else(|| {
                    Error::malformed(file.path(), "was changed while it was written")
                })?
            }
        };
        let Cached { pixels, pictures, skipped, n_enlarged } = cached;
        Ok((Pixels::Disk(pixels), Index { pictures, skipped, n_enlarged }))
    }
}

/// Reads one picture into `into`, `[H, W, C]`; `read` decodes it and gives it to what it gets.
fn read_into(
    shape: [usize; 3],
    [height, width]: [u32; 2],
    into: &mut [u8],
    read: impl FnOnce(&dyn Fn(Picture) -> Result<(Picture, bool)>) -> Fitted,
) -> Result<ReadPicture, String> {
    let fitted = read(&|picture| {
        let is_enlarged = picture.is_smaller_than(width, height);
        let picture = if shape[0] == 1 { picture.into_luma() } else { picture };
        Ok((picture.fit(width, height, Fit::Crop)?, is_enlarged))
    });
    let fitted: Result<_> = fitted.map_err(|error| error.to_string())?;
    let (picture, is_enlarged) = fitted.map_err(|error| error.to_string())?;
    into.copy_from_slice(picture.bytes());
    Ok(ReadPicture { content_hash: Sha256::digest(picture.bytes()).into(), is_enlarged })
}

/// A picture at its size and whether it was enlarged; the outer error is of the file.
type Fitted = Result<Result<(Picture, bool)>, DecodeError>;

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
