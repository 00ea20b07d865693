//! The segments of a JPEG file (T.81, annex B): what they declare, up to and between its scans.

use super::super::DecodeError;
use super::super::exif;
use super::huffman::{HuffmanTable, standard_tables};
use super::{broken, next_marker, unsupported};

/// Blocks of an MCU, at most (T.81, B.2.3).
const MAX_MCU_BLOCKS: usize = 10;

/// From the order of coefficients in the file to row-major.
#[rustfmt::skip]
pub(super) const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// What the segments read so far declare.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub content: &'a [u8],
    /// Where the entropy-coded data of the scan that was read last begin, or where the next
    /// segment is looked for.
    pub position: usize,
    pub width: u32,
    pub height: u32,
    pub is_progressive: bool,
    pub components: Vec<Component>,
    pub quantization: [Option<[u16; 64]>; 4],
    /// Of DC coefficients, of AC coefficients.
    pub huffman: [[Option<HuffmanTable>; 4]; 2],
    /// MCUs from one restart marker to the next; 0 when there are none.
    pub restart_interval: usize,
    pub has_jfif: bool,
    /// The transform that Adobe's segment declares.
    pub adobe_transform: Option<u8>,
    pub orientation: u8,
    pub scan: ScanHeader,
}

/// A component of the picture: one plane of samples.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub id: u8,
    /// Sampling factors, across and down.
    pub h: usize,
    pub v: usize,
    pub quantization: usize,
    /// Samples of the component that the picture needs, across and down.
    pub width: usize,
    pub height: usize,
    /// Blocks of a scan of this component alone.
    pub blocks: [usize; 2],
    /// Blocks in memory: whole MCUs of a scan of all components.
    pub stored_blocks: [usize; 2],
    /// Pixels of the picture to a sample, across and down.
    pub steps: [usize; 2],
}

impl Component {
    pub fn n_samples(&self) -> u64 {
        self.stored_blocks.iter().map(|&n| n as u64 * 8).product()
    }
}

/// The header of a scan.
#[derive(Clone, Debug, Default)]
pub(super) struct ScanHeader {
    /// The component, and its Huffman tables for DC and AC coefficients.
    pub parts: Vec<(usize, usize, usize)>,
    /// The coefficients that the scan brings, in the order of the file.
    pub first: usize,
    pub last: usize,
    /// Low bits that these lacked before, 0 when they come for the first time; and lack now.
    pub bits_before: u8,
    pub bits_after: u8,
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A scan, whose header is read.
    Scan,
    /// The end-of-image marker.
    End,
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header {
            content: &[],
            position: 0,
            width: 0,
            height: 0,
            is_progressive: false,
            components: vec![],
            quantization: [None; 4],
            huffman: standard_tables(),
            restart_interval: 0,
            has_jfif: false,
            adobe_transform: None,
            orientation: 1,
            scan: ScanHeader::default(),
        }
    }
}

impl<'a> Header<'a> {
    pub fn size(&self) -> [u32; 2] {
        [self.width, self.height]
    }

    /// MCUs of a scan of all components, across and down.
    pub fn mcus(&self) -> [usize; 2] {
        match self.components.first() {
            Some(first) => [first.stored_blocks[0] / first.h, first.stored_blocks[1] / first.v],
            None => [0, 0],
        }
    }

    /// Reads a stream that holds tables and no picture.
    pub fn read_tables(&mut self, content: &'a [u8]) -> Result<(), DecodeError> {
        self.begin(content)?;
        // Some writers leave the end marker out, which costs nothing here.
        while let Some((code, after)) = next_marker(self.content, self.position) {
            if matches!(code, 0xD9 | 0xDA | 0xC0..=0xC3 | 0xC5..=0xCF) {
                break;
            }
            self.position = after;
            self.read_segment(code)?;
        }
        Ok(())
    }

    /// Reads the segments of a picture up to its first scan.
    pub fn read_to_first_scan(&mut self, content: &'a [u8]) -> Result<(), DecodeError> {
        self.begin(content)?;
        match self.advance()? {
            Next::Scan => Ok(()),
            Next::End => Err(broken("it holds no picture data")),
        }
    }

    /// Reads the segments up to the next scan or the end of the picture.
    pub fn advance(&mut self) -> Result<Next, DecodeError> {
        loop {
            let marker = next_marker(self.content, self.position);
            let (code, after) = marker.ok_or(DecodeError::CutShort)?;
            self.position = after;
            match code {
                0xD9 => return Ok(Next::End),
                0xDA => {
                    let body = self.segment()?;
                    self.scan = ScanHeader::read(body, self)?;
                    return Ok(Next::Scan);
                }
                _ => self.read_segment(code)?,
            }
        }
    }

    fn begin(&mut self, content: &'a [u8]) -> Result<(), DecodeError> {
        if !content.starts_with(&[0xFF, 0xD8]) {
            return Err(broken("it lacks the marker that JPEG begins with"));
        }
        (self.content, self.position) = (content, 2);
        Ok(())
    }

    /// Reads the segment of the marker `code`, behind which `position` is.
    fn read_segment(&mut self, code: u8) -> Result<(), DecodeError> {
        // Markers without a segment: TEM, and restart markers where none is expected.
        if matches!(code, 0x01 | 0xD0..=0xD7) {
            return Ok(());
        }
        if code == 0xD8 {
            return Err(broken("a second picture begins within it"));
        }
        let body = self.segment()?;
        match code {
            0xC4 => self.read_huffman_tables(body),
            0xDB => self.read_quantization_tables(body),
            0xDD => match *body {
                [high, low] => {
                    self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                    Ok(())
                }
                _ => Err(broken("its restart interval has a wrong length")),
            },
            0xC0..=0xC2 => self.read_frame(code, body),
            0xC3 | 0xC7 | 0xCB | 0xCF => Err(unsupported("lossless compression")),
            0xC5 | 0xC6 | 0xCD | 0xCE => Err(unsupported("a hierarchy of resolutions")),
            0xC9 | 0xCA => Err(unsupported("arithmetic coding")),
            0xF7 => Err(unsupported("lossless compression (JPEG-LS)")),
            0xE0 => {
                self.has_jfif |= body.starts_with(b"JFIF\0");
                Ok(())
            }
            0xE1 => {
                if let Some(exif) = body.strip_prefix(b"Exif\0\0") {
                    self.orientation = exif::orientation(exif).unwrap_or(self.orientation);
                }
                Ok(())
            }
            0xEE => {
                if body.starts_with(b"Adobe") && body.len() >= 12 {
                    self.adobe_transform = Some(body[11]);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The body of the segment at `position`, which moves behind it.
    fn segment(&mut self) -> Result<&'a [u8], DecodeError> {
        let rest = self.content.get(self.position..).unwrap_or_default();
        let [high, low, ..] = *rest else { return Err(DecodeError::CutShort) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return Err(broken("a segment has a length below 2"));
        }
        let body = rest.get(2..length).ok_or(DecodeError::CutShort)?;
        self.position += length;
        Ok(body)
    }

    fn read_huffman_tables(&mut self, mut body: &[u8]) -> Result<(), DecodeError> {
        let wrong = || broken("it holds an impossible Huffman table");
        while let Some((&place, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
            let n_symbols = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(n_symbols).ok_or_else(wrong)?;
            let (class, slot) = (usize::from(place >> 4), usize::from(place & 15));
            let slot = self.huffman.get_mut(class).and_then(|slots| slots.get_mut(slot));
            *slot.ok_or_else(wrong)? = Some(HuffmanTable::new(counts, symbols).ok_or_else(wrong)?);
            body = rest;
        }
        Ok(())
    }

    fn read_quantization_tables(&mut self, mut body: &[u8]) -> Result<(), DecodeError> {
        let wrong = || broken("it holds an impossible quantization table");
        while let Some((&place, rest)) = body.split_first() {
            let bytes_each = match place >> 4 {
                0 => 1,
                1 => 2,
                _ => return Err(wrong()),
            };
            let (values, rest) = rest.split_at_checked(64 * bytes_each).ok_or_else(wrong)?;
            let mut table = [0; 64];
            for (value, &at) in values.chunks_exact(bytes_each).zip(&ZIGZAG) {
                table[usize::from(at)] =
                    value.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte));
            }
            *self.quantization.get_mut(usize::from(place & 15)).ok_or_else(wrong)? = Some(table);
            body = rest;
        }
        Ok(())
    }

    fn read_frame(&mut self, code: u8, body: &[u8]) -> Result<(), DecodeError> {
        let wrong = || broken("its frame header has a wrong length");
        if !self.components.is_empty() {
            return Err(broken("it has two frame headers"));
        }
        let (&[precision, y1, y0, x1, x0, n], rest) = body.split_first_chunk().ok_or_else(wrong)?;
        if precision != 8 {
            return Err(unsupported(format!("{precision} bits a sample")));
        }
        if !matches!(n, 1 | 3 | 4) {
            return Err(unsupported(format!("{n} components")));
        }
        if rest.len() != usize::from(n) * 3 {
            return Err(wrong());
        }
        self.is_progressive = code == 0xC2;
        self.width = u32::from(u16::from_be_bytes([x1, x0]));
        self.height = u32::from(u16::from_be_bytes([y1, y0]));
        if self.height == 0 {
            return Err(unsupported("a height that is declared behind the first scan"));
        }
        if self.width == 0 {
            return Err(broken("it is 0 pixels wide"));
        }
        let factors: Vec<[usize; 2]> = rest
            .chunks_exact(3)
            .map(|entry| [usize::from(entry[1] >> 4), usize::from(entry[1] & 15)])
            .collect();
        if !factors.iter().flatten().all(|factor| (1..=4).contains(factor)) {
            return Err(broken("a sampling factor is not 1 to 4"));
        }
        let most = [0, 1].map(|axis| factors.iter().map(|pair| pair[axis]).max().unwrap_or(1));
        if factors
            .iter()
            .any(|pair| !most[0].is_multiple_of(pair[0]) || !most[1].is_multiple_of(pair[1]))
        {
            return Err(unsupported("samples that stand for parts of pixels"));
        }
        let size = self.size().map(|side| side as usize);
        let n_mcus = [0, 1].map(|axis| size[axis].div_ceil(8 * most[axis]));
        for (entry, pair) in rest.chunks_exact(3).zip(factors) {
            let sizes = [0, 1].map(|axis| (size[axis] * pair[axis]).div_ceil(most[axis]));
            self.components.push(Component {
                id: entry[0],
                h: pair[0],
                v: pair[1],
                quantization: usize::from(entry[2]),
                width: sizes[0],
                height: sizes[1],
                blocks: sizes.map(|side| side.div_ceil(8)),
                stored_blocks: [n_mcus[0] * pair[0], n_mcus[1] * pair[1]],
                steps: [most[0] / pair[0], most[1] / pair[1]],
            });
        }
        Ok(())
    }
}

impl ScanHeader {
    fn read(body: &[u8], header: &Header<'_>) -> Result<Self, DecodeError> {
        let wrong = || broken("a scan header has a wrong length");
        let (&n, rest) = body.split_first().ok_or_else(wrong)?;
        let (entries, rest) = rest.split_at_checked(2 * usize::from(n)).ok_or_else(wrong)?;
        let &[first, last, bits] = rest else { return Err(wrong()) };
        if header.components.is_empty() {
            return Err(broken("a scan comes before the frame header"));
        }
        let mut parts = Vec::new();
        for entry in entries.chunks_exact(2) {
            let found = header.components.iter().position(|component| component.id == entry[0]);
            let component = found.ok_or_else(|| broken("a scan names an unknown component"))?;
            if parts.iter().any(|&(other, _, _)| other == component) {
                return Err(broken("a scan names a component twice"));
            }
            parts.push((component, usize::from(entry[1] >> 4), usize::from(entry[1] & 15)));
        }
        let n_blocks: usize = parts
            .iter()
            .map(|&(part, ..)| header.components[part].h * header.components[part].v)
            .sum();
        if parts.is_empty() || parts.len() > 1 && n_blocks > MAX_MCU_BLOCKS {
            return Err(broken("a scan has an impossible number of components"));
        }
        if parts.iter().any(|&(_, dc, ac)| dc > 3 || ac > 3) {
            return Err(broken("a scan names an impossible Huffman table"));
        }
        let scan = ScanHeader {
            parts,
            first: usize::from(first),
            last: usize::from(last),
            bits_before: bits >> 4,
            bits_after: bits & 15,
        };
        // Sequential scans have one meaning, whatever they declare here.
        if header.is_progressive {
            scan.check_progressive()?;
        }
        Ok(scan)
    }

    fn check_progressive(&self) -> Result<(), DecodeError> {
        let of_coefficients = match self.first {
            0 => self.last == 0,
            first => first <= self.last && self.last < 64 && self.parts.len() == 1,
        };
        let of_bits = self.bits_after <= 13
            && (self.bits_before == 0 || self.bits_before == self.bits_after + 1);
        match of_coefficients && of_bits {
            true => Ok(()),
            false => Err(broken("a scan holds an impossible part of the coefficients")),
        }
    }
}
