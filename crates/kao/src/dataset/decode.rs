//! Any picture file to one canonical form: RGB (or luma), 8 bits a channel, upright, opaque.
//!
//! Everything after this file sees only [`Picture`]. What a file is, is told from its content,
//! never from its name; files come from strangers, so sizes are checked before memory is taken
//! and a decoder that panics costs one file, not the run. Colour profiles are not applied.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::jpeg;
use crate::error::{Error, Result};

/// The largest picture that is decoded: 64 Mi pixels (8192×8192, or any other shape of that area).
pub const MAX_PIXELS: u64 = 1 << 26;

/// The longest side that is decoded, in pixels: that of JPEG. Scaling a ribbon takes memory for its
/// long side times the target's.
pub const MAX_SIDE: u32 = 65_535;

/// The largest file that is read: 512 MiB.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// What a decoder may allocate for one picture: 16-bit RGBA at [`MAX_PIXELS`], twice.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8 * 2;

/// A decoded picture: interleaved bytes `[height, width, channels]`, upright and opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    channels: usize,
    bytes: Vec<u8>,
}

/// Why a file yields no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The content is of no known picture format.
    #[error("not a picture: the content is of no known format")]
    UnknownFormat,
    /// A picture format that Kao does not read.
    #[error("{0} pictures are not supported; JPEG, PNG, GIF, WebP, BMP and TIFF are")]
    UnsupportedFormat(String),
    /// The file holds nothing.
    #[error("the file is empty")]
    Empty,
    /// The file ends before the picture does.
    #[error("the file is cut short")]
    CutShort,
    /// The decoder gave up, for the reason given.
    #[error("broken: {0}")]
    Broken(String),
    /// The declared size is above [`MAX_PIXELS`] or [`MAX_SIDE`].
    #[error("{width}×{height} pixels; up to {MAX_SIDE} a side and {MAX_PIXELS} in all are decoded")]
    TooManyPixels {
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
    },
    /// The file is above [`MAX_FILE_BYTES`].
    #[error("{0} bytes, more than the {MAX_FILE_BYTES} that are read")]
    TooManyBytes(u64),
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
    /// # Errors
    /// When the content is no picture, is broken or cut short, or declares more than
    /// [`MAX_PIXELS`] or [`MAX_SIDE`].
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        // The decoders are written to return errors, but this is the border where the files of
        // strangers come in, and one of them must not end a run over thousands.
        catch_unwind(AssertUnwindSafe(|| decode_rgb(content)))
            .unwrap_or_else(|_| Err(DecodeError::Broken("the decoder failed on it".into())))
    }

    /// Reads and decodes the file at `path` as [`decode`](Self::decode) does.
    ///
    /// # Errors
    /// When the file cannot be read, is above [`MAX_FILE_BYTES`], or holds no picture.
    pub fn read(path: &Path) -> Result<Self, DecodeError> {
        Self::decode(&read_content(path)?)
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

/// The content of a file, bounded by [`MAX_FILE_BYTES`].
fn read_content(path: &Path) -> Result<Vec<u8>, DecodeError> {
    let unreadable = |source: std::io::Error| DecodeError::Unreadable(source.to_string());
    let file = File::open(path).map_err(unreadable)?;
    let declared = file.metadata().map_err(unreadable)?.len();
    if declared > MAX_FILE_BYTES {
        return Err(DecodeError::TooManyBytes(declared));
    }
    let mut content = Vec::with_capacity(declared as usize);
    // The file may grow while it is read.
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

fn decode_rgb(content: &[u8]) -> Result<Picture, DecodeError> {
    if content.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(content).map_err(|_| DecodeError::UnknownFormat)?;
    if !format.reading_enabled() {
        return Err(DecodeError::UnsupportedFormat(format!("{format:?}")));
    }
    if format == ImageFormat::Jpeg && !jpeg::is_complete(content) {
        return Err(DecodeError::CutShort);
    }

    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(reason)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(DecodeError::TooManyPixels { width, height });
    }
    if width == 0 || height == 0 {
        return Err(DecodeError::Broken(format!("{width}×{height} pixels")));
    }
    // A damaged orientation entry is no reason to lose a picture.
    let orientation = decoder.orientation().ok();
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(reason)?;
    if let Some(orientation) = orientation {
        decoded.apply_orientation(orientation);
    }

    let (width, height) = (decoded.width(), decoded.height());
    let bytes = if decoded.color().has_alpha() {
        over_white(decoded.into_rgba8().as_raw())
    } else {
        decoded.into_rgb8().into_raw()
    };
    Ok(Picture { width, height, channels: 3, bytes })
}

/// RGBA to RGB over a white ground, rounded to nearest.
fn over_white(rgba: &[u8]) -> Vec<u8> {
    rgba.chunks_exact(4)
        .flat_map(|pixel| {
            let alpha = u32::from(pixel[3]);
            let blend =
                |value: u8| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            [blend(pixel[0]), blend(pixel[1]), blend(pixel[2])]
        })
        .collect()
}

fn reason(error: image::ImageError) -> DecodeError {
    match error {
        image::ImageError::IoError(source)
            if source.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            DecodeError::CutShort
        }
        error => DecodeError::Broken(one_line(&error)),
    }
}

/// Decoders' messages may run over several lines; ours never do.
fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
