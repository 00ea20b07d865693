//! Windows and OS/2 bitmaps: palettes, run lengths, and 16 to 32 bits a pixel.

use super::pixels::over_white;
use super::{DecodeError, Format, Source};

const FILE_HEADER_BYTES: usize = 14;

/// A bitmap whose headers are read.
#[derive(Debug)]
pub(super) struct Bmp<'a> {
    width: u32,
    height: u32,
    /// Whether the first row of the file is the top one; mostly it is the bottom one.
    is_top_down: bool,
    coding: Coding,
    /// From the first row on.
    data: &'a [u8],
}

/// How pixels are stored.
#[derive(Debug)]
enum Coding {
    /// An index of so many bits, 1 to 8.
    Indexed(usize, Palette),
    /// Run lengths of indices of 4 or 8 bits.
    RunLengths(usize, Palette),
    /// So many bytes, lowest first, whose bits the masks part.
    Masked(usize, [Mask; 4]),
}

/// Colours of indices; black where a file has fewer.
type Palette = Vec<[u8; 3]>;

/// The bits of one channel.
#[derive(Clone, Copy, Debug)]
struct Mask {
    shift: u32,
    n_bits: u32,
}

impl<'a> Bmp<'a> {
    pub fn open(content: &'a [u8]) -> Result<Self, DecodeError> {
        let u16_at = |at: usize| Ok(u16::from_le_bytes(bytes_at(content, at)?));
        let u32_at = |at: usize| Ok(u32::from_le_bytes(bytes_at(content, at)?));
        let data_start = u32_at(10)? as usize;
        let header_bytes = u32_at(14)? as usize;
        let is_core = header_bytes == 12;
        // Words may begin with the same two letters.
        if !(12..=124).contains(&header_bytes) {
            return Err(DecodeError::UnknownFormat);
        }
        if !matches!(header_bytes, 12 | 40 | 52 | 56 | 64 | 108 | 124) {
            return Err(unsupported(format!("a header of {header_bytes} bytes")));
        }
        let (width, height, n_bits) = match is_core {
            true => (i32::from(u16_at(18)?), i32::from(u16_at(20)?), u16_at(24)?),
            false => (u32_at(18)? as i32, u32_at(22)? as i32, u16_at(28)?),
        };
        let compression = if is_core { 0 } else { u32_at(30)? };
        if width <= 0 || height == 0 {
            return Err(broken(format!("it declares {width}×{height} pixels")));
        }

        let headers_end = FILE_HEADER_BYTES + header_bytes;
        let palette = || {
            let bytes_each = if is_core { 3 } else { 4 };
            let declared = if is_core { 0 } else { u32_at(46)? as usize };
            let n_most = 1 << n_bits;
            let n_colours = if declared == 0 { n_most } else { declared.min(n_most) };
            let end = headers_end + n_colours * bytes_each;
            let stored = content.get(headers_end..end).ok_or(DecodeError::CutShort)?;
            let mut colours: Palette =
                stored.chunks_exact(bytes_each).map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect();
            colours.resize(256, [0; 3]);
            Ok((colours, end))
        };
        let masks = |masks: [u32; 4]| {
            let [red, green, blue, alpha] = masks.map(Mask::of);
            match [red, green, blue, alpha] {
                [Some(r), Some(g), Some(b), Some(a)] if r.n_bits * g.n_bits * b.n_bits > 0 => {
                    Ok([r, g, b, a])
                }
                _ => Err(broken("it holds impossible colour masks".into())),
            }
        };
        let (coding, coding_end) = match (compression, n_bits) {
            (0, 1 | 2 | 4 | 8) => {
                let (palette, end) = palette()?;
                (Coding::Indexed(n_bits.into(), palette), end)
            }
            (1, 8) | (2, 4) => {
                let (palette, end) = palette()?;
                (Coding::RunLengths(n_bits.into(), palette), end)
            }
            (0, 16) => (Coding::Masked(2, masks([0x7C00, 0x3E0, 0x1F, 0])?), headers_end),
            // The fourth byte is padding, whatever it holds.
            (0, 24 | 32) => {
                let masks = masks([0xFF_0000, 0xFF00, 0xFF, 0])?;
                (Coding::Masked(usize::from(n_bits) / 8, masks), headers_end)
            }
            (3 | 6, 16 | 32) if header_bytes != 64 => {
                // Within longer headers, and behind the shortest, at the same place.
                let has_alpha = header_bytes >= 56 || compression == 6;
                let alpha = if has_alpha { u32_at(66)? } else { 0 };
                let masks = masks([u32_at(54)?, u32_at(58)?, u32_at(62)?, alpha])?;
                let end = headers_end.max(66 + if has_alpha { 4 } else { 0 });
                (Coding::Masked(usize::from(n_bits) / 8, masks), end)
            }
            (0..=3 | 6, _) => return Err(broken(format!("it declares {n_bits} bits a pixel"))),
            (4, _) => return Err(unsupported("a JPEG picture inside".into())),
            (5, _) => return Err(unsupported("a PNG picture inside".into())),
            _ => return Err(unsupported(format!("compression {compression}"))),
        };
        let is_top_down = height < 0;
        if is_top_down && matches!(coding, Coding::RunLengths(..)) {
            return Err(broken("it has run lengths from the top down".into()));
        }
        if data_start < coding_end {
            return Err(broken("its pixels begin within its headers".into()));
        }
        Ok(Bmp {
            width: width as u32,
            height: height.unsigned_abs(),
            is_top_down,
            coding,
            data: content.get(data_start..).ok_or(DecodeError::CutShort)?,
        })
    }

    /// Rows of equal length.
    fn read_rows(
        &self,
        n_bits: usize,
        pixels: &mut [u8],
        to_rgb: impl Fn(&[u8], usize) -> [u8; 3],
    ) -> Result<(), DecodeError> {
        let [width, height] = self.size().map(|side| side as usize);
        let row_bytes = (width * n_bits).div_ceil(8);
        let stride = row_bytes.next_multiple_of(4);
        // The last row may lack its padding.
        if self.data.len() < stride * (height - 1) + row_bytes {
            return Err(DecodeError::CutShort);
        }
        for (y, row) in self.data.chunks(stride).take(height).enumerate() {
            let shown = if self.is_top_down { y } else { height - 1 - y };
            let into = pixels[shown * width * 3..][..width * 3].as_chunks_mut::<3>().0;
            for (x, pixel) in into.iter_mut().enumerate() {
                *pixel = to_rgb(row, x);
            }
        }
        Ok(())
    }

    /// Run lengths: pairs of a count and an index, and escapes behind a zero.
    fn read_run_lengths(
        &self,
        n_bits: usize,
        palette: &[[u8; 3]],
        pixels: &mut [u8],
    ) -> Result<(), DecodeError> {
        let [width, height] = self.size().map(|side| side as usize);
        pixels.as_chunks_mut::<3>().0.fill(palette[0]);
        let mut put = |x: usize, y: usize, index: u8| {
            // Runs may end in padding behind the last column.
            if x < width && y < height {
                let at = ((height - 1 - y) * width + x) * 3;
                pixels[at..at + 3].copy_from_slice(&palette[usize::from(index)]);
            }
        };
        let index_of = |byte: u8, k: usize| match (n_bits, k % 2) {
            (8, _) => byte,
            (_, 0) => byte >> 4,
            _ => byte & 15,
        };
        let mut data = self.data.iter().copied();
        let mut next = || data.next().ok_or(DecodeError::CutShort);
        let (mut x, mut y) = (0usize, 0usize);
        loop {
            match [next()?, next()?] {
                [0, 0] => (x, y) = (0, y + 1),
                // The end of the picture: its last row must have been reached.
                [0, 1] if y >= height || y + 1 == height && x > 0 => return Ok(()),
                [0, 1] => return Err(DecodeError::CutShort),
                [0, 2] => (x, y) = (x + usize::from(next()?), y + usize::from(next()?)),
                [0, count] => {
                    let n_bytes = (usize::from(count) * n_bits).div_ceil(8);
                    let mut byte = 0;
                    for k in 0..usize::from(count) {
                        if n_bits == 8 || k % 2 == 0 {
                            byte = next()?;
                        }
                        put(x + k, y, index_of(byte, k));
                    }
                    if n_bytes % 2 == 1 {
                        next()?;
                    }
                    x += usize::from(count);
                }
                [count, byte] => {
                    for k in 0..usize::from(count) {
                        put(x + k, y, index_of(byte, k));
                    }
                    x += usize::from(count);
                }
            }
            if x > width + 3 {
                return Err(broken("a row has more pixels than the picture is wide".into()));
            }
        }
    }
}

impl Source for Bmp<'_> {
    fn size(&self) -> [u32; 2] {
        [self.width, self.height]
    }

    fn working_bytes(&self) -> u64 {
        0
    }

    fn decode(self: Box<Self>) -> Result<Vec<u8>, DecodeError> {
        let [width, height] = self.size().map(|side| side as usize);
        let mut pixels = vec![0; width * height * 3];
        match &self.coding {
            Coding::Indexed(n_bits, palette) => {
                let (n_bits, n_each) = (*n_bits, 8 / n_bits);
                self.read_rows(n_bits, &mut pixels, |row, x| {
                    let shift = 8 - n_bits - (x % n_each) * n_bits;
                    let index = usize::from(row[x / n_each]) >> shift & ((1 << n_bits) - 1);
                    palette[index]
                })?;
            }
            Coding::RunLengths(n_bits, palette) => {
                self.read_run_lengths(*n_bits, palette, &mut pixels)?;
            }
            &Coding::Masked(n_bytes, [red, green, blue, alpha]) => {
                self.read_rows(n_bytes * 8, &mut pixels, |row, x| {
                    let stored = &row[x * n_bytes..][..n_bytes];
                    let value =
                        stored.iter().rev().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
                    let colour = [red, green, blue].map(|mask| mask.read(value));
                    match alpha.n_bits {
                        0 => colour,
                        _ => over_white(colour, alpha.read(value)),
                    }
                })?;
            }
        }
        Ok(pixels)
    }
}

impl Mask {
    /// `None` where the bits of `mask` do not stand together.
    fn of(mask: u32) -> Option<Self> {
        let n_bits = mask.count_ones();
        let shift = if mask == 0 { 0 } else { mask.trailing_zeros() };
        let together = ((1u64 << n_bits) - 1) << shift;
        (u64::from(mask) == together).then_some(Mask { shift, n_bits })
    }

    /// The channel of a stored pixel, scaled to 8 bits.
    fn read(self, pixel: u32) -> u8 {
        let most = (1u64 << self.n_bits) - 1;
        let value = u64::from(pixel >> self.shift) & most;
        ((value * 255 + most / 2) / most) as u8
    }
}

fn bytes_at<const N: usize>(content: &[u8], at: usize) -> Result<[u8; N], DecodeError> {
    let found = content.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or(DecodeError::CutShort)
}

fn broken(problem: String) -> DecodeError {
    DecodeError::Broken(problem)
}

fn unsupported(what: String) -> DecodeError {
    DecodeError::UnsupportedVariant { format: Format::Bmp.name(), what }
}
