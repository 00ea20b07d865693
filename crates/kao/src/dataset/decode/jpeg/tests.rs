//! Files made here coefficient by coefficient, in every order and subsampling, and files whose
//! pixels libjpeg-turbo 3.2 told (`testdata/make_pictures.py`).

use super::super::{DecodeError, Picture};
use super::huffman::{AC_LUMINANCE, DC_LUMINANCE};

/// A JPEG file to make.
#[derive(Clone, Debug)]
pub(in crate::dataset) struct Recipe {
    pub size: [u16; 2],
    /// Sampling factors of each component, across and down.
    pub factors: Vec<[u8; 2]>,
    /// Whether each component has a scan of its own.
    pub separate: bool,
    /// MCUs from one restart marker to the next; 0 for none.
    pub restart_interval: u16,
    pub seed: u64,
}

impl Recipe {
    pub fn new(size: [u16; 2], factors: &[[u8; 2]]) -> Self {
        let factors = factors.to_vec();
        Recipe { size, factors, separate: false, restart_interval: 0, seed: 1 }
    }

    /// The file, and where the entropy-coded data of each scan lie in it.
    pub fn encode(&self) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
        let mut file = vec![0xFF, 0xD8];
        segment(&mut file, 0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
        segment(&mut file, 0xDB, &[&[0][..], &[5; 64]].concat());
        let [w, h] = self.size.map(u16::to_be_bytes);
        let mut frame = vec![8, h[0], h[1], w[0], w[1], self.factors.len() as u8];
        for (number, [h, v]) in (1..).zip(&self.factors) {
            frame.extend([number, h << 4 | v, 0]);
        }
        segment(&mut file, 0xC0, &frame);
        let dc: Vec<u8> = (0..12).collect();
        segment(&mut file, 0xC4, &[&[0x00][..], &DC_LUMINANCE, &dc].concat());
        segment(&mut file, 0xC4, &[&[0x10][..], &AC_LUMINANCE.0, &AC_LUMINANCE.1].concat());
        segment(&mut file, 0xDD, &self.restart_interval.to_be_bytes());
        let all: Vec<usize> = (0..self.factors.len()).collect();
        let scans = match self.separate {
            true => all.iter().map(|&part| vec![part]).collect(),
            false => vec![all],
        };
        let mut data = Vec::new();
        for parts in scans {
            let mut header = vec![parts.len() as u8];
            header.extend(parts.iter().flat_map(|&part| [part as u8 + 1, 0]));
            header.extend([0, 63, 0]);
            segment(&mut file, 0xDA, &header);
            let start = file.len();
            self.scan(&parts, &mut file);
            data.push(start..file.len());
        }
        file.extend([0xFF, 0xD9]);
        (file, data)
    }

    fn scan(&self, parts: &[usize], file: &mut Vec<u8>) {
        let most = [0, 1].map(|axis| {
            let factors = self.factors.iter().map(|pair| usize::from(pair[axis]));
            factors.max().unwrap()
        });
        let n_mcus = [0, 1].map(|axis| {
            let side = usize::from(self.size[axis]);
            match parts {
                &[part] => (side * usize::from(self.factors[part][axis])).div_ceil(8 * most[axis]),
                _ => side.div_ceil(8 * most[axis]),
            }
        });
        let (mut bits, mut dc) = (BitWriter::default(), [0; 4]);
        for index in 0..n_mcus[0] * n_mcus[1] {
            let interval = usize::from(self.restart_interval);
            if interval > 0 && index > 0 && index % interval == 0 {
                bits.flush(file);
                file.extend([0xFF, 0xD0 + ((index / interval - 1) % 8) as u8]);
                dc = [0; 4];
            }
            let (x, y) = (index % n_mcus[0], index / n_mcus[0]);
            for &part in parts {
                let factors = match parts.len() {
                    1 => [1, 1],
                    _ => self.factors[part].map(usize::from),
                };
                for dy in 0..factors[1] {
                    for dx in 0..factors[0] {
                        let at = [x * factors[0] + dx, y * factors[1] + dy];
                        self.block(part, at, &mut dc[part], &mut bits, file);
                    }
                }
            }
        }
        bits.flush(file);
    }

    /// A block whose coefficients depend on where it stands, and on nothing else.
    fn block(
        &self,
        part: usize,
        [x, y]: [usize; 2],
        dc: &mut i32,
        bits: &mut BitWriter,
        file: &mut Vec<u8>,
    ) {
        let mut state = self.seed ^ (part as u64) << 50 ^ (x as u64) << 25 ^ y as u64;
        let mut random = |bound: i32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1234_5679);
            ((state >> 33) % (2 * bound as u64 + 1)) as i32 - bound
        };
        // Discards the first, in which neighbours are alike.
        random(1);
        let value = random(100);
        let (size, extra) = signed_bits(value - *dc);
        *dc = value;
        bits.symbol(&DC_LUMINANCE, &(0..12).collect::<Vec<u8>>(), size as u8, file);
        bits.put(extra, size, file);
        let mut run = 0;
        for k in 1..64 {
            let value = if random(10) > 6 && k < 50 { random(12) } else { 0 };
            if value == 0 {
                run += 1;
                continue;
            }
            while run > 15 {
                bits.symbol(&AC_LUMINANCE.0, &AC_LUMINANCE.1, 0xF0, file);
                run -= 16;
            }
            let (size, extra) = signed_bits(value);
            bits.symbol(&AC_LUMINANCE.0, &AC_LUMINANCE.1, run << 4 | size as u8, file);
            bits.put(extra, size, file);
            run = 0;
        }
        bits.symbol(&AC_LUMINANCE.0, &AC_LUMINANCE.1, 0, file);
    }
}

/// How many bits `value` takes, and which.
fn signed_bits(value: i32) -> (u32, u32) {
    let size = 32 - value.unsigned_abs().leading_zeros();
    let bits = if value < 0 { value + (1 << size) - 1 } else { value };
    (size, bits as u32)
}

fn segment(file: &mut Vec<u8>, code: u8, body: &[u8]) {
    file.extend([0xFF, code]);
    file.extend((body.len() as u16 + 2).to_be_bytes());
    file.extend(body);
}

#[derive(Default)]
struct BitWriter {
    bits: u32,
    n_bits: u32,
}

impl BitWriter {
    fn put(&mut self, value: u32, n_bits: u32, file: &mut Vec<u8>) {
        for k in (0..n_bits).rev() {
            self.bits = self.bits << 1 | value >> k & 1;
            self.n_bits += 1;
            if self.n_bits == 8 {
                file.push(self.bits as u8);
                if self.bits as u8 == 0xFF {
                    file.push(0);
                }
                (self.bits, self.n_bits) = (0, 0);
            }
        }
    }

    fn symbol(&mut self, counts: &[u8; 16], symbols: &[u8], wanted: u8, file: &mut Vec<u8>) {
        let (mut code, mut symbols) = (0, symbols.iter());
        for (length, &count) in (1..).zip(counts) {
            for _ in 0..count {
                if *symbols.next().unwrap() == wanted {
                    return self.put(code, length, file);
                }
                code += 1;
            }
            code <<= 1;
        }
        panic!("no code for {wanted}");
    }

    /// Fills the last byte with ones.
    fn flush(&mut self, file: &mut Vec<u8>) {
        self.put(0x7F, (8 - self.n_bits) % 8, file);
    }
}

/// One to four components, from the usual to the odd.
const FACTORS: [&[[u8; 2]]; 14] = [
    &[[1, 1]],
    &[[2, 2]],
    &[[1, 1], [1, 1], [1, 1]],
    &[[2, 1], [1, 1], [1, 1]],
    &[[2, 2], [1, 1], [1, 1]],
    &[[1, 2], [1, 1], [1, 1]],
    &[[4, 1], [1, 1], [1, 1]],
    &[[4, 2], [1, 1], [1, 1]],
    &[[1, 4], [1, 1], [1, 1]],
    &[[1, 1], [2, 2], [2, 1]],
    &[[2, 2], [2, 1], [1, 2]],
    &[[2, 1], [1, 1], [2, 1]],
    &[[1, 1], [1, 1], [1, 1], [1, 1]],
    &[[2, 2], [1, 1], [1, 1], [2, 2]],
];

const SIZES: [[u16; 2]; 7] = [[1, 1], [3, 2], [8, 8], [17, 9], [16, 33], [40, 24], [5, 70]];

#[test]
fn separate_scans_give_the_pixels_of_one() {
    for factors in FACTORS {
        for size in SIZES {
            let together = Recipe::new(size, factors);
            let expected = Picture::decode(&together.encode().0).unwrap();
            for restart_interval in [0, 1, 5] {
                for separate in [false, true] {
                    let recipe = Recipe { restart_interval, separate, ..together.clone() };
                    let found = Picture::decode(&recipe.encode().0).unwrap();
                    assert!(found == expected, "{recipe:?}");
                }
            }
        }
    }
}

#[test]
fn pixels_are_those_of_libjpeg() {
    macro_rules! files {
        ($($name:literal),*) => {
            [$((
                $name,
                &include_bytes!(concat!("../../testdata/jpeg/", $name, ".jpg"))[..],
                &include_bytes!(concat!("../../testdata/jpeg/", $name, ".png"))[..],
            )),*]
        };
    }
    for (name, jpeg, png) in files!(
        "grey",
        "444",
        "422",
        "420",
        "440",
        "411",
        "410",
        "chroma_larger",
        "separate_420",
        "separate_440",
        "restarts",
        "progressive",
        "cmyk",
        "rgb"
    ) {
        let expected = Picture::decode(png).unwrap();
        let found = Picture::decode(jpeg).unwrap();
        assert!(found == expected, "{name}");
    }
}

#[test]
fn stored_files_are_those_of_their_recipes() {
    // So that make_pictures.py needs no encoder of its own.
    for (name, stored, factors, separate) in [
        (
            "440",
            &include_bytes!("../../testdata/jpeg/440.jpg")[..],
            [[1, 2], [1, 1], [1, 1]],
            false,
        ),
        ("411", include_bytes!("../../testdata/jpeg/411.jpg"), [[4, 1], [1, 1], [1, 1]], false),
        ("410", include_bytes!("../../testdata/jpeg/410.jpg"), [[4, 2], [1, 1], [1, 1]], false),
        (
            "chroma_larger",
            include_bytes!("../../testdata/jpeg/chroma_larger.jpg"),
            [[1, 1], [2, 2], [2, 2]],
            false,
        ),
        (
            "separate_420",
            include_bytes!("../../testdata/jpeg/separate_420.jpg"),
            [[2, 2], [1, 1], [1, 1]],
            true,
        ),
        (
            "separate_440",
            include_bytes!("../../testdata/jpeg/separate_440.jpg"),
            [[1, 2], [1, 1], [1, 1]],
            true,
        ),
    ] {
        let recipe = Recipe { separate, ..Recipe::new([37, 29], &factors) };
        assert!(recipe.encode().0 == stored, "{name}");
    }
}

#[test]
fn data_that_end_early_are_told_of_even_with_an_end_marker() {
    for factors in [&[[1, 1]][..], &[[2, 2], [1, 1], [1, 1]], &[[1, 1]; 4]] {
        for (separate, restart_interval) in [(false, 0), (true, 0), (false, 2), (true, 3)] {
            let recipe = Recipe { separate, restart_interval, ..Recipe::new([19, 21], factors) };
            let (file, scans) = recipe.encode();
            Picture::decode(&file).unwrap();
            for data in scans {
                for end in data.clone() {
                    // Closed at once, and with what follows the scan.
                    let closed = [&file[..end], &[0xFF, 0xD9]].concat();
                    assert_eq!(Picture::decode(&closed), Err(DecodeError::CutShort), "{end}");
                    let shortened = [&file[..end], &file[data.end..]].concat();
                    assert_eq!(Picture::decode(&shortened), Err(DecodeError::CutShort), "{end}");
                }
            }
        }
    }
}

#[test]
fn a_progressive_file_without_its_last_scans_is_cut_short() {
    let file = include_bytes!("../../testdata/jpeg/progressive.jpg");
    let scans: Vec<usize> = file
        .windows(2)
        .enumerate()
        .filter_map(|(at, pair)| (pair == [0xFF, 0xDA]).then_some(at))
        .collect();
    assert!(scans.len() > 5, "{} scans", scans.len());
    Picture::decode(file).unwrap();
    for (number, &start) in scans.iter().enumerate() {
        let closed = [&file[..start], &[0xFF, 0xD9]].concat();
        assert!(Picture::decode(&closed).is_err(), "{number} scans");
        // Without one in between, those that follow have nothing to refine.
        if let Some(&next) = scans.get(number + 1) {
            let gap = [&file[..start], &file[next..]].concat();
            assert!(Picture::decode(&gap).is_err(), "without scan {number}");
        }
    }
    for length in (scans[0]..file.len()).step_by(7) {
        let closed = [&file[..length], &[0xFF, 0xD9]].concat();
        assert!(Picture::decode(&closed).is_err(), "{length} bytes");
    }
}

#[test]
fn no_beginning_of_a_file_is_a_picture() {
    let (file, _) = Recipe::new([20, 12], &[[2, 1], [1, 1], [1, 1]]).encode();
    for length in 1..file.len() {
        assert!(Picture::decode(&file[..length]).is_err(), "{length} of {} bytes", file.len());
    }
    // What follows the end marker does not matter.
    let longer = [&file[..], b"and more"].concat();
    assert_eq!(Picture::decode(&longer), Picture::decode(&file));
}

#[test]
fn sound_varieties_that_are_not_read_are_called_so() {
    let (file, _) = Recipe::new([16, 16], &[[1, 1]; 3]).encode();
    let frame = file.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    let with = |changes: &[(usize, u8)]| {
        let mut file = file.clone();
        for &(at, value) in changes {
            file[frame + at] = value;
        }
        Picture::decode(&file).unwrap_err().to_string()
    };
    for (changes, what) in [
        (&[(1, 0xC9)][..], "arithmetic coding"),
        (&[(1, 0xC3)], "lossless compression"),
        (&[(1, 0xC5)], "a hierarchy of resolutions"),
        (&[(4, 12)], "12 bits a sample"),
        (&[(5, 0), (6, 0)], "a height that is declared behind the first scan"),
        (&[(11, 0x31), (14, 0x21)], "samples that stand for parts of pixels"),
    ] {
        assert_eq!(with(changes), format!("JPEG pictures with {what} are not supported"));
    }
    let (two, _) = Recipe::new([16, 16], &[[1, 1]; 2]).encode();
    let found = Picture::decode(&two).unwrap_err().to_string();
    assert_eq!(found, "JPEG pictures with 2 components are not supported");
}

#[test]
fn a_picture_of_many_scans_is_refused() {
    let (file, scans) = Recipe::new([16, 16], &[[1, 1]]).encode();
    let scan = file.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let again = &file[scan..scans[0].end];
    let with = |n: usize| [&file[..scan], &again.repeat(n), &[0xFF, 0xD9]].concat();
    assert_eq!(Picture::decode(&with(64)), Picture::decode(&file));
    assert!(matches!(Picture::decode(&with(65)), Err(DecodeError::Broken(_))));
}
