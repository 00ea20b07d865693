//! PNG, row by row: a picture of 16 bits a sample takes no more memory than one of 8.

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, DecodingError, InterlaceInfo, Transformations};

use super::pixels::{byte_of_u16, over_white};
use super::{DecodeError, Source, exif, one_line};

/// What the decoder may allocate besides rows: chunks that are kept whole.
const MAX_CHUNK_BYTES: usize = 32 << 20;

pub(super) struct Png<'a> {
    reader: png::Reader<Cursor<&'a [u8]>>,
    content: &'a [u8],
}

impl<'a> Png<'a> {
    pub fn open(content: &'a [u8]) -> Result<Self, DecodeError> {
        let limits = png::Limits { bytes: MAX_CHUNK_BYTES };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(content), limits);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::EXPAND);
        Ok(Png { reader: decoder.read_info().map_err(reason)?, content })
    }
}

impl Source for Png<'_> {
    fn size(&self) -> [u32; 2] {
        self.reader.info().size().into()
    }

    fn working_bytes(&self) -> u64 {
        // Some rows at the widest: four samples of two bytes.
        MAX_CHUNK_BYTES as u64 + u64::from(self.size()[0]) * 8 * 4
    }

    fn orientation(&self) -> u8 {
        let exif = self.reader.info().exif_metadata.as_deref();
        // Some programs write it behind the pixels.
        exif.or_else(|| chunk(self.content, *b"eXIf")).and_then(exif::orientation).unwrap_or(1)
    }

    fn decode(mut self: Box<Self>) -> Result<Vec<u8>, DecodeError> {
        let [width, height] = self.size().map(|side| side as usize);
        let (colour, depth) = self.reader.output_color_type();
        let stride = width * 3;
        let mut pixels = vec![0; stride * height];
        let mut y = 0;
        let mut expanded = Vec::new();
        while let Some(row) = self.reader.next_interlaced_row().map_err(reason)? {
            match *row.interlace() {
                InterlaceInfo::Adam7(info) => {
                    expanded.resize(row.data().len() / bytes_each(colour, depth) * 3, 0);
                    to_rgb(row.data(), colour, depth, &mut expanded)?;
                    png::expand_interlaced_row(&mut pixels, stride, &expanded, &info, 24);
                }
                InterlaceInfo::Null(_) => {
                    let into = pixels.get_mut(y * stride..(y + 1) * stride);
                    let into = into.ok_or_else(|| broken("it has more rows than it declares"))?;
                    to_rgb(row.data(), colour, depth, into)?;
                }
            }
            y += 1;
        }
        Ok(pixels)
    }
}

/// The content of the first chunk of this kind, as far as the file is whole.
fn chunk(content: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    const SIGNATURE_BYTES: usize = 8;
    let mut rest = content.get(SIGNATURE_BYTES..)?;
    loop {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let [a, b, c, d, own @ ..] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let found = behind.get(..length)?;
        if own == kind {
            return Some(found);
        }
        // A checksum stands behind it.
        rest = behind.get(length.checked_add(4)?..)?;
    }
}

fn bytes_each(colour: ColorType, depth: BitDepth) -> usize {
    colour.samples() * if depth == BitDepth::Sixteen { 2 } else { 1 }
}

/// A row of samples of 8 or 16 bits to red, green and blue.
fn to_rgb(
    row: &[u8],
    colour: ColorType,
    depth: BitDepth,
    into: &mut [u8],
) -> Result<(), DecodeError> {
    let n_samples = colour.samples();
    let n_bytes = bytes_each(colour, depth);
    let into = into.as_chunks_mut::<3>().0.iter_mut();
    for (pixel, into) in row.chunks_exact(n_bytes).zip(into) {
        let sample = |k: usize| match n_bytes > n_samples {
            true => byte_of_u16(u16::from_be_bytes([pixel[2 * k], pixel[2 * k + 1]])),
            false => pixel[k],
        };
        *into = match colour {
            ColorType::Grayscale => [sample(0); 3],
            ColorType::GrayscaleAlpha => over_white([sample(0); 3], sample(1)),
            ColorType::Rgb => [sample(0), sample(1), sample(2)],
            ColorType::Rgba => over_white([sample(0), sample(1), sample(2)], sample(3)),
            // Expanded by the decoder.
            ColorType::Indexed => return Err(broken("it has no palette")),
        };
    }
    Ok(())
}

fn broken(problem: &str) -> DecodeError {
    DecodeError::Broken(problem.to_owned())
}

fn reason(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::CutShort
        }
        error => DecodeError::Broken(one_line(&error)),
    }
}
