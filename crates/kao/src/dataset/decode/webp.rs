//! WebP, lossy and lossless: of an animation the first frame.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::pixels::flatten_rgba;
use super::{DecodeError, Format, MAX_MEMORY_BYTES, Source, exif, one_line};

pub(super) struct WebP<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    orientation: u8,
}

impl<'a> WebP<'a> {
    pub fn open(content: &'a [u8]) -> Result<Self, DecodeError> {
        // The container says how long it is.
        let declared = content.get(4..).and_then(|rest| rest.first_chunk().copied());
        let declared = declared.map_or(u64::MAX, |bytes| u64::from(u32::from_le_bytes(bytes)) + 8);
        if declared > content.len() as u64 {
            return Err(DecodeError::CutShort);
        }
        let mut decoder = WebPDecoder::new(Cursor::new(content)).map_err(reason)?;
        decoder.set_memory_limit(MAX_MEMORY_BYTES as usize);
        // A damaged orientation is no reason to lose a picture.
        let exif = decoder.exif_metadata().ok().flatten();
        let orientation = exif.and_then(|data| {
            // Some writers keep the prefix that JPEG needs.
            exif::orientation(data.strip_prefix(b"Exif\0\0").unwrap_or(&data))
        });
        Ok(WebP { decoder, orientation: orientation.unwrap_or(1) })
    }
}

impl Source for WebP<'_> {
    fn size(&self) -> [u32; 2] {
        self.decoder.dimensions().into()
    }

    fn working_bytes(&self) -> u64 {
        let [width, height] = self.size().map(u64::from);
        // In bytes a pixel: an animation has a canvas, a frame and an output of four each, which
        // the pixels that come out are part of. Lossless pictures have transforms and codes of up
        // to a fourth, lossy ones planes of 1.5 and an alpha channel that is coded as lossless.
        let bytes_each = if self.decoder.is_animated() { 12 } else { 8 };
        width * height * bytes_each
    }

    fn orientation(&self) -> u8 {
        self.orientation
    }

    fn decode(mut self: Box<Self>) -> Result<Vec<u8>, DecodeError> {
        let n_bytes = self.decoder.output_buffer_size();
        let mut pixels = vec![0; n_bytes.ok_or_else(|| broken("it is too large"))?];
        self.decoder.read_image(&mut pixels).map_err(reason)?;
        Ok(if self.decoder.has_alpha() { flatten_rgba(pixels) } else { pixels })
    }
}

fn broken(problem: &str) -> DecodeError {
    DecodeError::Broken(problem.to_owned())
}

fn reason(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::CutShort
        }
        DecodingError::UnsupportedFeature(what) => {
            DecodeError::UnsupportedVariant { format: Format::WebP.name(), what }
        }
        error => DecodeError::Broken(one_line(&error)),
    }
}
