//! Huffman codes of JPEG and the bits they are read from (ITU-T T.81, annexes C and F).

use super::super::DecodeError;

/// Codes of up to this many bits are found in one step.
const FAST_BITS: u32 = 9;

/// A Huffman table, ready to decode with.
#[derive(Clone, Debug)]
pub(super) struct HuffmanTable {
    /// For the next [`FAST_BITS`] bits: the symbol, and the length of its code; 0 where it is
    /// longer.
    fast: Vec<(u8, u8)>,
    /// For each length: the first code above those of that length, aligned to 16 bits; and what to
    /// add to a code of that length to get the position of its symbol.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// The table of `counts` (codes of 1 to 16 bits) and the symbols in the order of their codes.
    /// `None` when there are more codes than fit.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let n_symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
        if n_symbols > 256 || symbols.len() != n_symbols {
            return None;
        }
        let mut fast = vec![(0, 0); 1 << FAST_BITS];
        let mut limits = [(0, 0); 17];
        let mut code = 0u32;
        let mut position = 0;
        for (length, &count) in (1u32..).zip(counts) {
            let first = position as i32 - code as i32;
            for &symbol in &symbols[position..position + usize::from(count)] {
                if code >= 1 << length {
                    return None;
                }
                if length <= FAST_BITS {
                    let start = (code << (FAST_BITS - length)) as usize;
                    fast[start..start + (1 << (FAST_BITS - length))].fill((symbol, length as u8));
                }
                code += 1;
            }
            position += usize::from(count);
            limits[length as usize] = (code << (16 - length), first);
            code <<= 1;
        }
        Some(HuffmanTable { fast, limits, symbols: symbols.to_vec() })
    }
}

/// The bits of a scan, up to the next marker.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    content: &'a [u8],
    /// Of the next byte that is not in `bits` yet.
    position: usize,
    /// The next bits, from the highest down.
    bits: u64,
    n_bits: u32,
}

impl<'a> BitReader<'a> {
    /// Reads from `position` of `content` on.
    pub fn new(content: &'a [u8], position: usize) -> Self {
        BitReader { content, position, bits: 0, n_bits: 0 }
    }

    /// Where the next marker is looked for: no further than the bits that were asked for.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The next symbol by `table`.
    #[inline]
    pub fn symbol(&mut self, table: &HuffmanTable) -> Result<u8, DecodeError> {
        if self.n_bits < 16 {
            self.fill();
        }
        let (symbol, length) = table.fast[(self.bits >> (64 - FAST_BITS)) as usize];
        if length > 0 {
            self.consume(u32::from(length))?;
            return Ok(symbol);
        }
        let next = (self.bits >> 48) as u32;
        for length in FAST_BITS + 1..=16 {
            let (limit, first) = table.limits[length as usize];
            if next < limit {
                self.consume(length)?;
                let position = (next >> (16 - length)) as i32 + first;
                let symbol = usize::try_from(position).ok().and_then(|k| table.symbols.get(k));
                return symbol.copied().ok_or_else(no_such_code);
            }
        }
        // Zeros that stand for missing bits may look like no code at all.
        Err(if self.n_bits < 16 { DecodeError::CutShort } else { no_such_code() })
    }

    /// A number of `n` bits, at most 16.
    #[inline]
    pub fn number(&mut self, n: u32) -> Result<i32, DecodeError> {
        if n == 0 {
            return Ok(0);
        }
        if self.n_bits < n {
            self.fill();
        }
        let value = (self.bits >> (64 - n)) as i32;
        self.consume(n)?;
        Ok(value)
    }

    /// A signed number of `n` bits (T.81, F.2.2.1): those with a leading 0 are negative.
    #[inline]
    pub fn signed(&mut self, n: u32) -> Result<i32, DecodeError> {
        let value = self.number(n)?;
        Ok(if n > 0 && value < 1 << (n - 1) { value - (1 << n) + 1 } else { value })
    }

    /// One bit.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, DecodeError> {
        Ok(self.number(1)? == 1)
    }

    /// Goes to behind the restart marker `number` (0 to 7), which must be the next marker.
    pub fn restart(&mut self, number: u8) -> Result<(), DecodeError> {
        (self.bits, self.n_bits) = (0, 0);
        match super::next_marker(self.content, self.position) {
            Some((code, after)) if code == 0xD0 + number => {
                self.position = after;
                Ok(())
            }
            Some((0xD0..=0xD7, _)) => Err(DecodeError::Broken("a part of it is missing".into())),
            _ => Err(DecodeError::CutShort),
        }
    }

    #[inline]
    fn consume(&mut self, n: u32) -> Result<(), DecodeError> {
        if n > self.n_bits {
            return Err(DecodeError::CutShort);
        }
        self.bits <<= n;
        self.n_bits -= n;
        Ok(())
    }

    /// Takes in bytes up to a marker. Behind it, `bits` holds zeros that are not counted.
    fn fill(&mut self) {
        while self.n_bits <= 56 {
            let rest = self.content.get(self.position..).unwrap_or_default();
            let Some(&byte) = rest.first() else { return };
            let mut step = 1;
            if byte == 0xFF {
                // Data where a zero follows, behind any number of fill bytes; else a marker.
                while rest.get(step) == Some(&0xFF) {
                    step += 1;
                }
                if rest.get(step) != Some(&0x00) {
                    return;
                }
                step += 1;
            }
            self.bits |= u64::from(byte) << (56 - self.n_bits);
            self.n_bits += 8;
            self.position += step;
        }
    }
}

fn no_such_code() -> DecodeError {
    DecodeError::Broken("it holds a code that its Huffman table lacks".into())
}

/// The tables that a file without any means: those of T.81, annex K.3. First those of DC
/// coefficients, then those of AC; of each, luminance first.
pub(super) fn standard_tables() -> [[Option<HuffmanTable>; 4]; 2] {
    let table = |counts, symbols: &[u8]| HuffmanTable::new(counts, symbols);
    let dc: [u8; 12] = std::array::from_fn(|k| k as u8);
    [
        [table(&DC_LUMINANCE, &dc), table(&DC_CHROMINANCE, &dc), None, None],
        [
            table(&AC_LUMINANCE.0, &AC_LUMINANCE.1),
            table(&AC_CHROMINANCE.0, &AC_CHROMINANCE.1),
            None,
            None,
        ],
    ]
}

pub(crate) const DC_LUMINANCE: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const DC_CHROMINANCE: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];

#[rustfmt::skip]
pub(crate) const AC_LUMINANCE: ([u8; 16], [u8; 162]) = (
    [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
    [
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61,
        0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52,
        0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25,
        0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45,
        0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64,
        0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
        0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6,
        0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3,
        0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8,
        0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    ],
);

#[rustfmt::skip]
pub(crate) const AC_CHROMINANCE: ([u8; 16], [u8; 162]) = (
    [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
    [
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61,
        0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33,
        0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18,
        0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44,
        0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63,
        0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
        0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4,
        0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca,
        0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7,
        0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    ],
);
