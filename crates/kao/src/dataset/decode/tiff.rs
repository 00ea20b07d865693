//! TIFF: the first picture of a file, strip by strip or tile by tile.

use std::io::{Cursor, ErrorKind};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{SampleFormat, Tag};
use tiff::{ColorType, TiffError};

use super::jpeg::{Jpeg, Meaning};
use super::pixels::{byte_of_f32, byte_of_u16, over_black_ink, over_white};
use super::{DecodeError, Format, MAX_MEMORY_BYTES, MAX_PIXELS, Source, one_line};

/// Values of the tag `Compression`.
const UNCOMPRESSED: u16 = 1;
const JPEG: u16 = 7;

/// Values of the tag `PhotometricInterpretation`.
const WHITE_IS_ZERO: u16 = 0;
const INKS: u16 = 5;
const YCBCR: u16 = 6;

/// A TIFF file whose first directory is read.
pub(super) struct Tiff<'a> {
    content: &'a [u8],
    decoder: Decoder<Cursor<&'a [u8]>>,
    size: [u32; 2],
    colours: Colours,
    /// Samples of a pixel in the file, those that mean nothing here among them.
    n_samples: u16,
    n_bits: u16,
    /// Whether each sample has chunks of its own.
    is_planar: bool,
    compression: u16,
    photometric: u16,
    orientation: u8,
    /// Where strips or tiles lie, and how long they are.
    offsets: Vec<u64>,
    lengths: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    Grey,
    Rgb,
    Rgba,
    /// With colours that are multiplied by their alpha already.
    PremultipliedRgba,
    Cmyk,
}

impl Colours {
    fn n_samples(self) -> usize {
        match self {
            Colours::Grey => 1,
            Colours::Rgb => 3,
            Colours::Rgba | Colours::PremultipliedRgba | Colours::Cmyk => 4,
        }
    }
}

impl<'a> Tiff<'a> {
    pub fn open(content: &'a [u8]) -> Result<Self, DecodeError> {
        let decoder = Decoder::new(Cursor::new(content)).map_err(reason)?;
        let mut limits = Limits::default();
        limits.decoding_buffer_size = MAX_MEMORY_BYTES as usize;
        limits.intermediate_buffer_size = MAX_MEMORY_BYTES as usize;
        let mut decoder = decoder.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(reason)?;

        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).map_err(reason)?;
        if kind.is_some_and(|kind| kind & 1 == 1) {
            return Err(unsupported("a preview in front, as cameras write them,"));
        }
        let mut short = |tag| decoder.find_tag_unsigned::<u16>(tag).map_err(reason);
        let compression = short(Tag::Compression)?.unwrap_or(UNCOMPRESSED);
        let photometric = short(Tag::PhotometricInterpretation)?.unwrap_or(1);
        let n_samples = short(Tag::SamplesPerPixel)?.unwrap_or(1);
        let is_planar = short(Tag::PlanarConfiguration)? == Some(2);
        // A damaged orientation is no reason to lose a picture.
        let orientation = short(Tag::Orientation).ok().flatten();
        let orientation = orientation.and_then(|value| u8::try_from(value).ok()).unwrap_or(1);
        let colour_type = decoder.colortype().map_err(reason)?;
        let formats = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(reason)?;
        let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(reason)?;
        let is_premultiplied = extra.is_some_and(|extra| extra.first() == Some(&1));
        let format = formats.and_then(|formats| formats.first().copied()).unwrap_or(1);
        let format = SampleFormat::from_u16(format).unwrap_or(SampleFormat::Void);
        let (colours, n_bits) = match colour_type {
            ColorType::Gray(n_bits) => (Colours::Grey, n_bits),
            ColorType::RGB(n_bits) => (Colours::Rgb, n_bits),
            ColorType::RGBA(n_bits) if is_premultiplied => (Colours::PremultipliedRgba, n_bits),
            ColorType::RGBA(n_bits) => (Colours::Rgba, n_bits),
            ColorType::CMYK(n_bits) => (Colours::Cmyk, n_bits),
            ColorType::YCbCr(8) if compression == JPEG => (Colours::Rgb, 8),
            other => return Err(unsupported(format!("pixels of the kind {other:?}"))),
        };
        let is_known = match (n_bits, format) {
            (1, SampleFormat::Uint) => colours == Colours::Grey,
            (8 | 16, SampleFormat::Uint) => true,
            (32, SampleFormat::IEEEFP) => colours != Colours::Cmyk,
            _ => false,
        };
        if !is_known {
            return Err(unsupported(format!("{n_bits} bits a sample, {format:?}")));
        }

        // A JPEG stream comes out as red, green and blue, whatever it holds.
        let colours = if compression == JPEG { Colours::Rgb } else { colours };
        let mut longs = |tags: [Tag; 2]| {
            let [first, second] = tags.map(|tag| decoder.find_tag_unsigned_vec::<u64>(tag));
            match first.map_err(reason)? {
                Some(values) => Ok(values),
                None => Ok(second.map_err(reason)?.unwrap_or_default()),
            }
        };
        let offsets = longs([Tag::StripOffsets, Tag::TileOffsets])?;
        let lengths = longs([Tag::StripByteCounts, Tag::TileByteCounts])?;
        Ok(Tiff {
            content,
            decoder,
            size: [width, height],
            colours,
            n_samples,
            n_bits: n_bits.into(),
            is_planar,
            compression,
            photometric,
            orientation,
            offsets,
            lengths,
        })
    }

    /// The bytes of strip or tile `index`, which must lie in the file.
    fn chunk_content(&self, index: u32) -> Result<&'a [u8], DecodeError> {
        let offset = self.offsets.get(index as usize).copied();
        let length = self.lengths.get(index as usize).copied();
        let range = offset.zip(length).and_then(|(offset, length)| {
            let start = usize::try_from(offset).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        range.and_then(|range| self.content.get(range)).ok_or(DecodeError::CutShort)
    }

    /// The samples of strip or tile `index`, of which `n_across`×`n_down` pixels belong to the
    /// picture.
    fn chunk(
        &mut self,
        index: u32,
        [n_across, n_down]: [usize; 2],
    ) -> Result<Samples, DecodeError> {
        let content = self.chunk_content(index)?;
        if self.compression == JPEG {
            return self.jpeg_chunk(content, [n_across, n_down]);
        }
        if self.compression == UNCOMPRESSED {
            // The decoder would read on behind what belongs to the chunk.
            let stored_across = self.decoder.chunk_dimensions().0 as usize;
            let n_samples = if self.is_planar { 1 } else { usize::from(self.n_samples) };
            let n_bits = stored_across.checked_mul(n_samples * usize::from(self.n_bits));
            let n_bytes = n_bits.and_then(|n_bits| n_bits.div_ceil(8).checked_mul(n_down));
            if n_bytes.is_none_or(|n_bytes| n_bytes > content.len()) {
                return Err(DecodeError::CutShort);
            }
        }
        match self.decoder.read_chunk(index).map_err(reason)? {
            DecodingResult::U8(values) if self.n_bits == 1 => {
                let row_bytes = n_across.div_ceil(8);
                let bit = |row: &[u8], x: usize| 255 * (row[x / 8] >> (7 - x % 8) & 1);
                let rows = values.chunks_exact(row_bytes);
                Ok(Samples::U8(
                    rows.flat_map(|row| (0..n_across).map(move |x| bit(row, x))).collect(),
                ))
            }
            DecodingResult::U8(values) => Ok(Samples::U8(values)),
            DecodingResult::U16(values) => Ok(Samples::U16(values)),
            DecodingResult::F32(values) => Ok(Samples::F32(values)),
            _ => Err(unsupported("such samples")),
        }
    }

    /// A strip or tile that is a JPEG stream.
    fn jpeg_chunk(
        &mut self,
        content: &'a [u8],
        [n_across, n_down]: [usize; 2],
    ) -> Result<Samples, DecodeError> {
        if self.is_planar {
            return Err(unsupported("JPEG compression of planes"));
        }
        let tables = self.decoder.find_tag(Tag::JPEGTables).map_err(reason)?;
        let tables = tables.map(|value| value.into_u8_vec()).transpose().map_err(reason)?;
        let tables = tables.unwrap_or_default();
        let meaning = match self.photometric {
            YCBCR => Meaning::YCbCr,
            INKS => Meaning::Inks,
            _ => Meaning::Rgb,
        };
        let jpeg = Jpeg::open_embedded(&tables, content, meaning)?;
        let [width, height] = jpeg.size().map(|side| side as usize);
        if jpeg.size().iter().map(|&side| u64::from(side)).product::<u64>() > MAX_PIXELS {
            return Err(broken("a part of it is larger than any picture"));
        }
        if width < n_across || height < n_down {
            return Err(broken("a part of it is smaller than it declares"));
        }
        let pixels = Box::new(jpeg).decode()?;
        let is_inverted = self.photometric == WHITE_IS_ZERO;
        let rows = pixels.chunks_exact(width * 3).take(n_down);
        let values = rows.flat_map(|row| &row[..n_across * 3]);
        let shown = |&value: &u8| if is_inverted { 255 - value } else { value };
        Ok(Samples::U8(values.map(shown).collect()))
    }
}

/// The samples of a strip or tile.
enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

impl Samples {
    /// Sample `index` in 8 bits.
    fn byte(&self, index: usize) -> Option<u8> {
        match self {
            Samples::U8(values) => values.get(index).copied(),
            Samples::U16(values) => values.get(index).copied().map(byte_of_u16),
            Samples::F32(values) => values.get(index).copied().map(byte_of_f32),
        }
    }
}

impl Source for Tiff<'_> {
    fn size(&self) -> [u32; 2] {
        self.size
    }

    fn working_bytes(&self) -> u64 {
        let chunk = self.decoder.chunk_dimensions();
        let [across, down] = [(chunk.0, self.size[0]), (chunk.1, self.size[1])]
            .map(|(chunk, side)| u64::from(chunk.min(side)));
        let n_samples = if self.is_planar { 1 } else { u64::from(self.n_samples) };
        // JPEG needs planes, perhaps coefficients, and pixels besides the samples that come out.
        let copies = if self.compression == JPEG { 5 } else { 1 };
        let bytes_each = copies * n_samples * u64::from(self.n_bits).div_ceil(8);
        // In planes of their own, fourth samples wait for the others.
        let waiting = if self.is_planar { 1 } else { 0 };
        (across * down).saturating_mul(bytes_each)
            + u64::from(self.size[0]) * u64::from(self.size[1]) * waiting
    }

    fn orientation(&self) -> u8 {
        self.orientation
    }

    fn decode(mut self: Box<Self>) -> Result<Vec<u8>, DecodeError> {
        let [width, height] = self.size.map(|side| side as usize);
        let chunk = self.decoder.chunk_dimensions();
        let [chunk_across, chunk_down] = [chunk.0, chunk.1].map(|side| side as usize);
        let n_chunks = [width.div_ceil(chunk_across), height.div_ceil(chunk_down)];
        let n_samples = self.colours.n_samples();
        let n_planes = if self.is_planar { n_samples } else { 1 };
        let mut pixels = vec![0; width * height * 3];
        // The fourth samples of a planar file.
        let mut fourth = vec![0; if n_planes == 4 { width * height } else { 0 }];
        for index in 0..n_chunks[0] * n_chunks[1] * n_planes {
            let (plane, place) =
                (index / (n_chunks[0] * n_chunks[1]), index % (n_chunks[0] * n_chunks[1]));
            let left = place % n_chunks[0] * chunk_across;
            let top = place / n_chunks[0] * chunk_down;
            let [across, down] = [chunk_across.min(width - left), chunk_down.min(height - top)];
            let samples = self.chunk(index as u32, [across, down])?;
            for y in 0..down {
                for x in 0..across {
                    let from = y * across + x;
                    let pixel = (top + y) * width + left + x;
                    let into = &mut pixels[pixel * 3..][..3];
                    if n_planes > 1 {
                        let value = samples.byte(from).ok_or(DecodeError::CutShort)?;
                        match plane {
                            0..3 => into[plane] = value,
                            _ => fourth[pixel] = value,
                        }
                        continue;
                    }
                    let mut values = [0; 4];
                    for (k, value) in values.iter_mut().take(n_samples).enumerate() {
                        let found = samples.byte(from * n_samples + k);
                        *value = found.ok_or(DecodeError::CutShort)?;
                    }
                    into.copy_from_slice(&self.colours.to_rgb(values));
                }
            }
        }
        if n_planes == 4 {
            for (pixel, &fourth) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(&fourth) {
                let [a, b, c] = *pixel;
                *pixel = self.colours.to_rgb([a, b, c, fourth]);
            }
        }
        Ok(pixels)
    }
}

impl Colours {
    fn to_rgb(self, [a, b, c, fourth]: [u8; 4]) -> [u8; 3] {
        match self {
            Colours::Grey => [a; 3],
            Colours::Rgb => [a, b, c],
            Colours::Rgba => over_white([a, b, c], fourth),
            Colours::PremultipliedRgba => [a, b, c].map(|value| value.saturating_add(255 - fourth)),
            Colours::Cmyk => over_black_ink([a, b, c], fourth),
        }
    }
}

fn broken(problem: &str) -> DecodeError {
    DecodeError::Broken(problem.to_owned())
}

fn unsupported(what: impl Into<String>) -> DecodeError {
    DecodeError::UnsupportedVariant { format: Format::Tiff.name(), what: what.into() }
}

fn reason(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::CutShort
        }
        TiffError::UnsupportedError(what) => unsupported(one_line(&what)),
        error => DecodeError::Broken(one_line(&error)),
    }
}
