//! The entropy-coded data of a JPEG file (T.81, annexes F and G), and whether they cover the
//! picture.

use super::super::DecodeError;
use super::broken;
use super::header::{Component, Header, ScanHeader, ZIGZAG};
use super::huffman::{BitReader, HuffmanTable};
use super::idct::block_to_samples;
use super::upsample::Plane;

/// Scans of one component, at most: a few bytes of a progressive scan stand for a walk through
/// the whole picture, so their number bounds the work.
const MAX_SCANS: u32 = 64;

/// The precision of a coefficient that no scan has brought yet.
const ABSENT: u8 = u8::MAX;

/// What the scans read so far have brought.
#[derive(Debug)]
pub(super) struct Decoded {
    components: Vec<DecodedComponent>,
}

#[derive(Debug)]
struct DecodedComponent {
    /// Of sequential files: samples, in the component's stored size.
    samples: Vec<u8>,
    /// Of progressive files: coefficients by block, row-major.
    coefficients: Vec<[i16; 64]>,
    /// Low bits that each coefficient lacks.
    lacking: [u8; 64],
    /// As it was when the component's first scan began.
    quantization: Option<[u16; 64]>,
    n_scans: u32,
}

impl Decoded {
    pub fn new(header: &Header<'_>) -> Self {
        let components = header.components.iter().map(|component| {
            let n_blocks = component.stored_blocks[0] * component.stored_blocks[1];
            let (n_samples, n_coefficients) = match header.is_progressive {
                true => (0, n_blocks),
                false => (n_blocks * 64, 0),
            };
            DecodedComponent {
                samples: vec![0; n_samples],
                coefficients: vec![[0; 64]; n_coefficients],
                lacking: [ABSENT; 64],
                quantization: None,
                n_scans: 0,
            }
        });
        Decoded { components: components.collect() }
    }

    /// Fails when scans are missing.
    pub fn check_complete(&self, header: &Header<'_>) -> Result<(), DecodeError> {
        let is_whole = |component: &DecodedComponent| match header.is_progressive {
            true => component.lacking.iter().all(|&bits| bits == 0),
            false => component.n_scans > 0,
        };
        match self.components.iter().all(is_whole) {
            true => Ok(()),
            false => Err(DecodeError::CutShort),
        }
    }

    /// The samples of all components.
    pub fn into_planes<'h>(self, header: &'h Header<'_>) -> Result<Vec<Plane<'h>>, DecodeError> {
        let planes = header.components.iter().zip(self.components).map(|(component, decoded)| {
            let stride = component.stored_blocks[0] * 8;
            let DecodedComponent { mut samples, coefficients, quantization, .. } = decoded;
            if header.is_progressive {
                let table = quantization.ok_or_else(no_quantization)?;
                samples = vec![0; coefficients.len() * 64];
                for (index, block) in coefficients.iter().enumerate() {
                    let start = block_start(component, index);
                    block_to_samples(block, &table, &mut samples, start, stride);
                }
            }
            Ok(Plane { component, samples, stride })
        });
        planes.collect()
    }
}

/// Where the samples of the stored block `index` begin.
fn block_start(component: &Component, index: usize) -> usize {
    let across = component.stored_blocks[0];
    (index / across) * across * 64 + (index % across) * 8
}

fn no_quantization() -> DecodeError {
    broken("it lacks a quantization table")
}

/// Reads the scan at `header.position` into `decoded`, and moves behind it.
pub(super) fn read(header: &mut Header<'_>, decoded: &mut Decoded) -> Result<(), DecodeError> {
    let scan = &header.scan;
    for &(part, ..) in &scan.parts {
        let component = &mut decoded.components[part];
        component.n_scans += 1;
        if component.n_scans > MAX_SCANS {
            return Err(broken("it has more scans than any picture needs"));
        }
        if component.quantization.is_none() {
            let slot = header.quantization.get(header.components[part].quantization);
            component.quantization = Some(slot.copied().flatten().ok_or_else(no_quantization)?);
        }
        if header.is_progressive {
            component.refine(scan)?;
        }
    }

    let mut walk =
        Walk { bits: BitReader::new(header.content, header.position), dc: [0; 4], end_of_band: 0 };
    let is_single = scan.parts.len() == 1;
    let [n_across, n_down] = match is_single {
        true => header.components[scan.parts[0].0].blocks,
        false => header.mcus(),
    };
    let mut n_until_restart = header.restart_interval;
    let mut n_restarts = 0u8;
    for y in 0..n_down {
        for x in 0..n_across {
            if header.restart_interval > 0 {
                if n_until_restart == 0 {
                    walk.bits.restart(n_restarts % 8)?;
                    (walk.dc, walk.end_of_band) = ([0; 4], 0);
                    n_restarts = n_restarts.wrapping_add(1);
                    n_until_restart = header.restart_interval;
                }
                n_until_restart -= 1;
            }
            for (number, &(part, dc, ac)) in scan.parts.iter().enumerate() {
                let component = &header.components[part];
                let tables = [&header.huffman[0][dc], &header.huffman[1][ac]];
                let into = &mut decoded.components[part];
                if is_single {
                    walk.block(header, scan, component, tables, into, number, [x, y])?;
                    continue;
                }
                let (h, v) = (component.h, component.v);
                for block_y in y * v..(y + 1) * v {
                    for block_x in x * h..(x + 1) * h {
                        let at = [block_x, block_y];
                        walk.block(header, scan, component, tables, into, number, at)?;
                    }
                }
            }
        }
    }
    header.position = walk.bits.position();
    Ok(())
}

impl DecodedComponent {
    /// Notes that a progressive scan brings bits, and fails when they do not follow on what is
    /// there.
    fn refine(&mut self, scan: &ScanHeader) -> Result<(), DecodeError> {
        let before = if scan.bits_before == 0 { ABSENT } else { scan.bits_before };
        for lacking in &mut self.lacking[scan.first..=scan.last] {
            if *lacking != before {
                return Err(broken("its scans do not follow on each other"));
            }
            *lacking = scan.bits_after;
        }
        Ok(())
    }
}

/// The state of a scan that is being read.
struct Walk<'a> {
    bits: BitReader<'a>,
    /// The last DC coefficient of each component.
    dc: [i32; 4],
    /// Blocks that have nothing more in this scan.
    end_of_band: u32,
}

impl Walk<'_> {
    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost of four loops, on parts of one state"
    )]
    fn block(
        &mut self,
        header: &Header<'_>,
        scan: &ScanHeader,
        component: &Component,
        [dc_table, ac_table]: [&Option<HuffmanTable>; 2],
        into: &mut DecodedComponent,
        number: usize,
        [x, y]: [usize; 2],
    ) -> Result<(), DecodeError> {
        let given = |table: &'_ Option<HuffmanTable>| -> Result<(), DecodeError> {
            match table {
                Some(_) => Ok(()),
                None => Err(broken("it lacks a Huffman table")),
            }
        };
        let index = y * component.stored_blocks[0] + x;
        if !header.is_progressive {
            let (Some(dc_table), Some(ac_table)) = (dc_table, ac_table) else {
                given(dc_table)?;
                return given(ac_table);
            };
            let mut block = [0; 64];
            self.sequential(&mut block, dc_table, ac_table, number)?;
            let table = into.quantization.as_ref().ok_or_else(no_quantization)?;
            let stride = component.stored_blocks[0] * 8;
            let start = block_start(component, index);
            block_to_samples(&block, table, &mut into.samples, start, stride);
            return Ok(());
        }
        let block = &mut into.coefficients[index];
        match (scan.first, scan.bits_before, dc_table, ac_table) {
            (0, 0, Some(table), _) => self.dc_first(block, table, number, scan.bits_after),
            (0, 0, None, _) => given(dc_table),
            (0, ..) => self.dc_refinement(block, scan.bits_after),
            (_, 0, _, Some(table)) => self.ac_first(block, table, scan),
            (_, _, _, Some(table)) => self.ac_refinement(block, table, scan),
            (_, _, _, None) => given(ac_table),
        }
    }

    /// All coefficients of a block (T.81, F.2.2).
    fn sequential(
        &mut self,
        block: &mut [i16; 64],
        dc_table: &HuffmanTable,
        ac_table: &HuffmanTable,
        number: usize,
    ) -> Result<(), DecodeError> {
        self.dc_first(block, dc_table, number, 0)?;
        let mut k = 1;
        while k < 64 {
            let symbol = self.bits.symbol(ac_table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            *coefficient(block, k)? = self.bits.signed(size)? as i16;
            k += 1;
        }
        Ok(())
    }

    /// The DC coefficient without its low `lacking` bits.
    fn dc_first(
        &mut self,
        block: &mut [i16; 64],
        table: &HuffmanTable,
        number: usize,
        lacking: u8,
    ) -> Result<(), DecodeError> {
        let size = u32::from(self.bits.symbol(table)?);
        if size > 15 {
            return Err(broken("it holds a coefficient of more than 15 bits"));
        }
        self.dc[number] += self.bits.signed(size)?;
        let value = i16::try_from(self.dc[number] << lacking);
        block[0] = value.map_err(|_| broken("its brightness is out of range"))?;
        Ok(())
    }

    /// One more bit of the DC coefficient.
    fn dc_refinement(&mut self, block: &mut [i16; 64], lacking: u8) -> Result<(), DecodeError> {
        if self.bits.bit()? {
            block[0] |= 1 << lacking;
        }
        Ok(())
    }

    /// AC coefficients without their low bits (T.81, G.1.2.2).
    fn ac_first(
        &mut self,
        block: &mut [i16; 64],
        table: &HuffmanTable,
        scan: &ScanHeader,
    ) -> Result<(), DecodeError> {
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            return Ok(());
        }
        let mut k = scan.first;
        while k <= scan.last {
            let symbol = self.bits.symbol(table)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    self.end_of_band = (1 << run) + self.bits.number(run)? as u32 - 1;
                    break;
                }
                k += 16;
                continue;
            }
            k += run as usize;
            *coefficient(block, k)? = (self.bits.signed(size)? << scan.bits_after) as i16;
            k += 1;
        }
        Ok(())
    }

    /// One more bit of AC coefficients, and those that were zero until now (T.81, G.1.2.3).
    fn ac_refinement(
        &mut self,
        block: &mut [i16; 64],
        table: &HuffmanTable,
        scan: &ScanHeader,
    ) -> Result<(), DecodeError> {
        let one = 1i16 << scan.bits_after;
        let mut k = scan.first;
        while k <= scan.last && self.end_of_band == 0 {
            let symbol = self.bits.symbol(table)?;
            let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            match size {
                0 if run < 15 => {
                    self.end_of_band = (1 << run) + self.bits.number(run)? as u32;
                    break;
                }
                0 => {}
                1 => new = if self.bits.bit()? { one } else { -one },
                _ => return Err(broken("it holds an impossible refinement")),
            }
            // Over `run` coefficients that stay zero, refining those between them.
            while k <= scan.last {
                let old = coefficient(block, k)?;
                if *old != 0 {
                    self.refine(old, one)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if new != 0 {
                if k > scan.last {
                    return Err(broken("it holds more coefficients than a block has"));
                }
                *coefficient(block, k)? = new;
            }
            k += 1;
        }
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            for k in k..=scan.last {
                let old = coefficient(block, k)?;
                if *old != 0 {
                    self.refine(old, one)?;
                }
            }
        }
        Ok(())
    }

    fn refine(&mut self, value: &mut i16, one: i16) -> Result<(), DecodeError> {
        if self.bits.bit()? && *value & one == 0 {
            *value = value.wrapping_add(if *value >= 0 { one } else { -one });
        }
        Ok(())
    }
}

/// The coefficient at position `k` in the order of the file.
#[inline]
fn coefficient(block: &mut [i16; 64], k: usize) -> Result<&mut i16, DecodeError> {
    match ZIGZAG.get(k) {
        Some(&at) => Ok(&mut block[usize::from(at)]),
        None => Err(broken("it holds more coefficients than a block has")),
    }
}
