//! JPEG (ITU-T T.81): sequential and progressive, Huffman-coded, 8 bits a sample.
//!
//! Kao has a decoder of its own because of two promises that no other in reach keeps. The pixels
//! are those of libjpeg, whatever order and subsampling the components are stored in. And a file
//! yields a picture only when its data cover every block of it: libjpeg and its kin make up for
//! missing data with grey, which is right for a viewer and wrong for a training set.

mod colour;
mod header;
mod huffman;
mod idct;
mod scan;
#[cfg(test)]
pub(in crate::dataset) mod tests;
mod upsample;

use super::{DecodeError, Format, Source};
use colour::Colours;
use header::{Header, Next};

/// A JPEG file whose headers are read.
#[derive(Debug)]
pub(super) struct Jpeg<'a> {
    header: Header<'a>,
    colours: Colours,
}

/// How the samples of an embedded JPEG stream are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// As the stream says itself, by libjpeg's rules.
    Declared,
    /// As red, green and blue, or as grey.
    Rgb,
    /// As luma and two differences of colour, or as grey.
    YCbCr,
    /// As amounts of four inks.
    Inks,
}

impl<'a> Jpeg<'a> {
    /// Reads the headers of a file up to its first scan.
    pub fn open(content: &'a [u8]) -> Result<Self, DecodeError> {
        Self::open_embedded(&[], content, Meaning::Declared)
    }

    /// As [`open`](Self::open), for a stream within another file, whose tables may stand in a
    /// stream of their own.
    pub fn open_embedded(
        tables: &'a [u8],
        content: &'a [u8],
        meaning: Meaning,
    ) -> Result<Self, DecodeError> {
        let mut header = Header::default();
        if !tables.is_empty() {
            header.read_tables(tables)?;
        }
        header.read_to_first_scan(content)?;
        let colours = Colours::of(&header, meaning)?;
        Ok(Jpeg { header, colours })
    }
}

impl Source for Jpeg<'_> {
    fn size(&self) -> [u32; 2] {
        self.header.size()
    }

    fn orientation(&self) -> u8 {
        self.header.orientation
    }

    fn working_bytes(&self) -> u64 {
        let samples = self.header.components.iter().map(|component| component.n_samples());
        let coefficients: u64 = match self.header.is_progressive {
            true => {
                samples.clone().map(|n| 2 * n).sum::<u64>() + samples.clone().max().unwrap_or(0)
            }
            false => 0,
        };
        coefficients.max(samples.sum())
    }

    fn decode(mut self: Box<Self>) -> Result<Vec<u8>, DecodeError> {
        let mut decoded = scan::Decoded::new(&self.header);
        let mut next = Next::Scan;
        while next == Next::Scan {
            scan::read(&mut self.header, &mut decoded)?;
            next = self.header.advance()?;
        }
        decoded.check_complete(&self.header)?;
        let planes = decoded.into_planes(&self.header)?;
        let [width, height] = self.size().map(|side| side as usize);
        let mut pixels = vec![0; width * height * 3];
        let mut rows = vec![vec![0; width + 1]; planes.len()];
        for (y, pixels) in pixels.chunks_exact_mut(width * 3).enumerate() {
            for (plane, row) in planes.iter().zip(&mut rows) {
                plane.upsampled_row(y, row);
            }
            self.colours.convert(&rows, pixels);
        }
        Ok(pixels)
    }
}

/// The code of the next marker at or behind `position`, and where what follows it begins. Fill
/// bytes and data that is no marker are passed over.
fn next_marker(content: &[u8], position: usize) -> Option<(u8, usize)> {
    let rest = content.get(position..)?;
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF);
    let at = rest.windows(2).position(is_marker)?;
    Some((rest[at + 1], position + at + 2))
}

fn broken(problem: &str) -> DecodeError {
    DecodeError::Broken(problem.to_owned())
}

fn unsupported(what: impl Into<String>) -> DecodeError {
    DecodeError::UnsupportedVariant { format: Format::Jpeg.name(), what: what.into() }
}
