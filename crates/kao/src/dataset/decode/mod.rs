//! Any picture file to one canonical form: RGB (or luma), 8 bits a channel, upright, opaque.
//!
//! Everything after this room sees only [`Picture`]. What a file is, is told from its content,
//! never from its name. Files come from strangers, so sizes are checked before memory is taken, and
//! a decoder that panics costs one file, not the run. A file yields a picture only when its data
//! cover every pixel: what other programs fill with grey is no picture to learn from. Colour
//! profiles are not applied.

mod bmp;
mod exif;
mod format;
mod gif;
mod jpeg;
mod memory;
mod pixels;
mod png;
mod tiff;
mod webp;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use self::format::{Format, Recognized, recognize};
use self::memory::Reservation;
use crate::error::{Error, ErrorKind, Result};
use crate::files::open_regular;

#[cfg(test)]
pub(in crate::dataset) use self::jpeg::tests as jpeg_files;

/// The largest picture that is decoded: 64 Mi pixels (8192×8192, or any other shape of that area).
pub const MAX_PIXELS: u64 = 1 << 26;

/// The longest side that is decoded, in pixels: that of JPEG. Scaling a ribbon takes memory for its
/// long side times the target's.
pub const MAX_SIDE: u32 = 65_535;

/// The largest file that is read: 512 MiB.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// What decoding one picture may take, its file and its pixels among it.
const MAX_MEMORY_BYTES: u64 = memory::BUDGET_BYTES;

/// Files above this size are read one at a time.
const LARGE_FILE_BYTES: u64 = 32 << 20;

/// What a message of a decoder may be long, in characters.
const MAX_REASON_CHARS: usize = 160;

/// A decoded picture: interleaved bytes `[height, width, channels]`, upright and opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    channels: usize,
    bytes: Vec<u8>,
}

/// How the reason of a [`DecodeError::Unreadable`] begins: it may be another the next time.
pub(super) const UNREADABLE: &str = "cannot be read: ";

/// Why a file yields no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The content is of no known picture format.
    #[error("not a picture: the content is of no known format")]
    UnknownFormat,
    /// A picture format that Kao does not read.
    #[error("{0} pictures are not supported; JPEG, PNG, GIF, WebP, BMP and TIFF are")]
    UnsupportedFormat(&'static str),
    /// A sound picture of a format that Kao reads, but of a variety that it does not.
    #[error("{format} pictures with {what} are not supported")]
    UnsupportedVariant {
        /// The format.
        format: &'static str,
        /// What sets the variety apart.
        what: String,
    },
    /// The file holds nothing.
    #[error("the file is empty")]
    Empty,
    /// The data of the file do not cover the picture, whether the file ends early or is closed as
    /// if it were whole.
    #[error("the file is cut short")]
    CutShort,
    /// The decoder gave up, for the reason given.
    #[error("broken: {0}")]
    Broken(String),
    /// The declared size is above [`MAX_SIDE`], or above [`MAX_PIXELS`] or what the caller allows.
    #[error("{width}×{height} pixels; up to {MAX_SIDE} a side and {most} in all are decoded")]
    TooManyPixels {
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The most pixels that are decoded.
        most: u64,
    },
    /// The file is above [`MAX_FILE_BYTES`].
    #[error("{0} bytes, more than the {MAX_FILE_BYTES} that are read")]
    TooManyBytes(u64),
    /// Decoding would take more memory than is used for a picture.
    #[error("decoding takes {0} bytes of memory, more than the {MAX_MEMORY_BYTES} that are used")]
    TooMuchMemory(u64),
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

impl Picture {
    /// Wraps interleaved bytes `[height, width, channels]`.
    ///
    /// # Errors
    /// When a side or the channel count is zero, or `bytes` does not hold exactly
    /// `height · width · channels` values.
    pub fn from_bytes(width: u32, height: u32, channels: usize, bytes: Vec<u8>) -> Result<Self> {
        let expected = u128::from(width) * u128::from(height) * channels as u128;
        if expected == 0 || bytes.len() as u128 != expected {
            return Err(Error::invalid(
                "picture",
                format!("{} bytes given for {width}×{height}×{channels}", bytes.len()),
            ));
        }
        Ok(Picture { width, height, channels, bytes })
    }

    /// Decodes the content of a picture file to RGB.
    ///
    /// Alpha is laid over white, grey and CMYK become RGB, 16 bits become 8, the EXIF orientation
    /// is applied, and of an animation the first frame is taken.
    ///
    /// Waits where other threads decode pictures so large that there is no memory left for this.
    ///
    /// # Errors
    /// When the content is no picture, is broken, does not cover the whole picture, or declares
    /// more than [`MAX_PIXELS`] or [`MAX_SIDE`].
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_up_to(content, MAX_PIXELS)
    }

    /// As [`decode`](Self::decode), for pictures of at most so many pixels. A larger one is refused
    /// for what its header declares, before memory is taken for its pixels.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_up_to(content: &[u8], most: u64) -> Result<Self, DecodeError> {
        decode_within(content, most.min(MAX_PIXELS), true).map(|(picture, _)| picture)
    }

    /// Reads and decodes the file at `path` as [`decode`](Self::decode) does.
    ///
    /// # Errors
    /// When the file cannot be read, is no regular file, is above [`MAX_FILE_BYTES`], or holds no
    /// picture.
    pub fn read(path: &Path) -> Result<Self, DecodeError> {
        Self::read_with(path, |picture| picture)
    }

    /// Reads and decodes the file at `path`, and counts the memory as taken until `then` is done.
    /// `then` must not wait for other threads, which may be waiting for that memory.
    pub(super) fn read_with<T>(
        path: &Path,
        then: impl FnOnce(Picture) -> T,
    ) -> Result<T, DecodeError> {
        let file = open_regular(path).map_err(unreadable)?;
        let declared =
            file.metadata().map_err(|error| DecodeError::Unreadable(error.to_string()))?;
        Self::read_content_with(file, declared.len(), then)
    }

    /// As [`read_with`](Self::read_with), of the `declared` bytes that `file` gives.
    pub(super) fn read_content_with<T>(
        file: impl Read,
        declared: u64,
        then: impl FnOnce(Picture) -> T,
    ) -> Result<T, DecodeError> {
        // Nobody may hold a part of the memory while waiting for more of it. So a large file waits
        // for all of it, and a small one is not counted until it is known what it holds.
        let is_large = declared > LARGE_FILE_BYTES;
        let _all = is_large.then(|| Reservation::wait_for(u64::MAX));
        let content = read_content(file, declared)?;
        let (picture, _part) = decode_within(&content, MAX_PIXELS, !is_large)?;
        drop(content);
        Ok(then(picture))
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Bytes per pixel: 3 for RGB, 1 for luma.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The pixels, `[height, width, channels]` row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The pixels, without the shape.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The picture in one channel: luma after ITU-R BT.601, rounded as Pillow's mode `L` does. A
    /// picture that is in one channel already is returned as it is, and one whose channels are
    /// equal keeps its values.
    #[must_use]
    pub fn into_luma(self) -> Self {
        if self.channels != 3 {
            return self;
        }
        let bytes = self
            .bytes
            .chunks_exact(3)
            .map(|rgb| {
                let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
                // The weights sum to 2^16, so that the shift leaves 0..=255.
                ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
            })
            .collect();
        Picture { channels: 1, bytes, ..self }
    }
}

/// The header of a picture file, and the way to its pixels.
trait Source {
    /// Width and height in pixels, as they are stored.
    fn size(&self) -> [u32; 2];

    /// Memory that decoding takes at most, besides the file and the pixels.
    fn working_bytes(&self) -> u64;

    /// The EXIF orientation, 1 to 8.
    fn orientation(&self) -> u8 {
        1
    }

    /// All pixels, `[height, width, 3]`, opaque.
    fn decode(self: Box<Self>) -> Result<Vec<u8>, DecodeError>;
}

/// Decodes `content`, of at most so many pixels; with `reserves`, in memory that is taken out of the
/// common budget.
fn decode_within(
    content: &[u8],
    most: u64,
    reserves: bool,
) -> Result<(Picture, Option<Reservation>), DecodeError> {
    // The decoders are written to return errors, but this is the border where the files of
    // strangers come in, and one of them must not end a run over thousands.
    catch_unwind(AssertUnwindSafe(|| {
        let source = open(content)?;
        let [width, height] = source.size();
        let n_pixels = u64::from(width) * u64::from(height);
        if n_pixels > most || width.max(height) > MAX_SIDE {
            return Err(DecodeError::TooManyPixels { width, height, most });
        }
        if n_pixels == 0 {
            return Err(DecodeError::Broken(format!("{width}×{height} pixels")));
        }
        let orientation = source.orientation();
        // The pixels lie there twice while they are turned.
        let copies = if orientation > 1 { 2 } else { 1 };
        let working_bytes = source.working_bytes().max(n_pixels * 3 * (copies - 1));
        let needed = working_bytes.saturating_add(n_pixels * 3 + content.len() as u64);
        if needed > MAX_MEMORY_BYTES {
            return Err(DecodeError::TooMuchMemory(needed));
        }
        let reservation = reserves.then(|| Reservation::wait_for(needed));
        let pixels = source.decode()?;
        let (bytes, [width, height]) = pixels::upright(pixels, [width, height], orientation);
        Ok((Picture { width, height, channels: 3, bytes }, reservation))
    }))
    .unwrap_or_else(|_| Err(DecodeError::Broken("the decoder failed on it".into())))
}

/// Reads the header of a picture file.
fn open<'a>(content: &'a [u8]) -> Result<Box<dyn Source + 'a>, DecodeError> {
    if content.is_empty() {
        return Err(DecodeError::Empty);
    }
    Ok(match recognize(content) {
        Recognized::Nothing => return Err(DecodeError::UnknownFormat),
        Recognized::Other(name) => return Err(DecodeError::UnsupportedFormat(name)),
        Recognized::Read(Format::Jpeg) => Box::new(jpeg::Jpeg::open(content)?),
        Recognized::Read(Format::Png) => Box::new(png::Png::open(content)?),
        Recognized::Read(Format::Gif) => Box::new(gif::Gif::open(content)?),
        Recognized::Read(Format::WebP) => Box::new(webp::WebP::open(content)?),
        Recognized::Read(Format::Bmp) => Box::new(bmp::Bmp::open(content)?),
        Recognized::Read(Format::Tiff) => Box::new(tiff::Tiff::open(content)?),
    })
}

/// Whether the first 16 bytes are those of a picture, of whatever format. Only signatures that no
/// text begins with count: a note that starts with "BM" is no bitmap.
pub(super) fn begins_as_picture(start: &[u8]) -> bool {
    format::recognize_start(start) != Recognized::Nothing
}

/// The content of a file, bounded by [`MAX_FILE_BYTES`].
fn read_content(file: impl Read, declared: u64) -> Result<Vec<u8>, DecodeError> {
    if declared > MAX_FILE_BYTES {
        return Err(DecodeError::TooManyBytes(declared));
    }
    let mut content = Vec::with_capacity(declared as usize);
    // The file may grow while it is read.
    let read = file.take(MAX_FILE_BYTES).read_to_end(&mut content);
    read.map_err(|error| DecodeError::Unreadable(error.to_string()))?;
    Ok(content)
}

/// Why a file could not be opened, without its path, which the caller names.
fn unreadable(error: Error) -> DecodeError {
    DecodeError::Unreadable(match error.kind() {
        ErrorKind::Io { source, .. } => source.to_string(),
        ErrorKind::Malformed { problem, .. } => problem.clone(),
        _ => error.to_string(),
    })
}

/// Decoders' messages may run over several lines, and repeat what a file holds; ours never do.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}
