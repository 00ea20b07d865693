//! Pictures from strangers: files with damage of every kind, and small files that declare much.
//! Each must end in a picture or an error, within bounds of time and memory.
//!
//! `KAO_MUTATIONS` sets how many damaged files are tried, `KAO_MUTATION_SEED` which.

use std::io::Cursor;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use kao::dataset::{DecodeError, Picture};
use tiff::encoder::colortype::{ColorType, Gray8, RGB8, RGB16, RGBA8};
use tiff::encoder::{Compression, TiffEncoder, TiffValue};

/// What one file may take.
const MAX_TIME: Duration = Duration::from_secs(10);
const MAX_BYTES: u64 = 1 << 30;

/// Held by whoever measures memory: it is that of the whole process.
static MEASURING: Mutex<()> = Mutex::new(());

/// Decodes `content` and checks what that took.
fn decode_within_bounds(content: &[u8], name: &dyn Fn() -> String) -> Result<Picture, DecodeError> {
    let before = memory::reset_peak();
    let started = Instant::now();
    let found = Picture::decode(content);
    let time = started.elapsed();
    assert!(time < MAX_TIME, "{}: {time:?}", name());
    if let (Some(before), Some(peak)) = (before, memory::peak()) {
        let taken = peak.saturating_sub(before);
        assert!(taken <= MAX_BYTES, "{}: {taken} bytes", name());
    }
    if let Err(error) = &found {
        let text = error.to_string();
        assert!(text.chars().count() < 300 && !text.contains('\n'), "{}: {text}", name());
        assert!(!text.contains("the decoder failed"), "{}: a decoder panicked", name());
    }
    found
}

/// The largest memory of this process since it was reset, as Linux counts it.
mod memory {
    /// Forgets the peak so far; the memory that is in use.
    pub fn reset_peak() -> Option<u64> {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        peak()
    }

    pub fn peak() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes * 1024)
    }
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut content = Cursor::new(Vec::new());
    image.into().write_to(&mut content, format).unwrap();
    content.into_inner()
}

/// Small whole files of every format and most varieties.
fn corpus() -> Vec<Vec<u8>> {
    let rgb = RgbImage::from_fn(24, 18, |x, y| Rgb([x * 9, y * 13, x * y].map(|v| v as u8)));
    let rgba =
        RgbaImage::from_fn(17, 11, |x, y| Rgba([x * 9, y * 13, x * y, x * 15].map(|v| v as u8)));
    let grey = DynamicImage::from(rgb.clone()).into_luma8();
    let deep = DynamicImage::from(rgb.clone()).into_rgb16();
    let mut files = vec![
        include_bytes!("../src/dataset/testdata/lossy.webp").to_vec(),
        include_bytes!("../src/dataset/testdata/first_frame.webp").to_vec(),
        include_bytes!("../src/dataset/testdata/first_frame.gif").to_vec(),
        include_bytes!("../src/dataset/testdata/first_frame.png").to_vec(),
        include_bytes!("../src/dataset/testdata/orientation.jpg").to_vec(),
        include_bytes!("../src/dataset/testdata/jpeg/progressive.jpg").to_vec(),
        include_bytes!("../src/dataset/testdata/jpeg/separate_420.jpg").to_vec(),
        include_bytes!("../src/dataset/testdata/jpeg/restarts.jpg").to_vec(),
        include_bytes!("../src/dataset/testdata/jpeg/cmyk.jpg").to_vec(),
        include_bytes!("../src/dataset/testdata/jpeg/410.jpg").to_vec(),
    ];
    for format in
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp]
    {
        files.push(encoded(rgb.clone(), format));
    }
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
        files.push(encoded(rgba.clone(), format));
    }
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp] {
        files.push(encoded(grey.clone(), format));
    }
    files.push(encoded(deep.clone(), ImageFormat::Png));
    for compression in [
        Compression::Uncompressed,
        Compression::Lzw,
        Compression::Deflate(Default::default()),
        Compression::Packbits,
    ] {
        files.push(tiff_file::<RGB8>(rgb.dimensions(), compression, rgb.as_raw()));
    }
    files.push(tiff_file::<RGBA8>(rgba.dimensions(), Compression::Lzw, rgba.as_raw()));
    files.push(tiff_file::<Gray8>(grey.dimensions(), Compression::Uncompressed, grey.as_raw()));
    files.push(tiff_file::<RGB16>(deep.dimensions(), Compression::Lzw, deep.as_raw()));
    files.push(bitmap_of_runs());
    files
}

fn tiff_file<C: ColorType>(
    (width, height): (u32, u32),
    compression: Compression,
    samples: &[C::Inner],
) -> Vec<u8>
where
    [C::Inner]: TiffValue,
{
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap().with_compression(compression);
    encoder.write_image::<C>(width, height, samples).unwrap();
    file.into_inner()
}

/// A bitmap of 16 by 4 pixels in run lengths.
fn bitmap_of_runs() -> Vec<u8> {
    let header =
        b"BM\0\0\0\0\0\0\0\0\x36\x04\0\0\x28\0\0\0\x10\0\0\0\x04\0\0\0\x01\0\x08\0\x01\0\0\0";
    let palette = (0..=255u8).flat_map(|k| [k, 255 - k, k / 2, 0]);
    let rows = (0..4).flat_map(|y| [9, y, 0, 7, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0]);
    header.iter().copied().chain([0; 20]).chain(palette).chain(rows).chain([0, 1]).collect()
}

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// A file with damage: bytes and numbers changed, parts lost, repeated, or of another file.
fn damaged(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut file = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        if file.is_empty() {
            break;
        }
        // Headers matter most.
        let reach = if random.below(2) == 0 { file.len().min(64) } else { file.len() };
        let at = random.below(reach);
        match random.below(8) {
            0 => file[at] = random.below(256) as u8,
            1 => file[at] ^= 1 << random.below(8),
            2 => file[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
            3 => {
                let end = file.len().min(at + 1 + random.below(4));
                file[at..end].fill([0, 0xFF][random.below(2)]);
            }
            4 => file.truncate(at.max(4)),
            5 => {
                let end = file.len().min(at + random.below(40));
                file.drain(at..end);
            }
            6 => {
                let end = file.len().min(at + random.below(80));
                let part = file[at..end].to_vec();
                file.splice(at..at, part);
            }
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                file.truncate(at);
                file.extend_from_slice(&other[from..]);
            }
        }
    }
    file
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn damaged_pictures_take_bounded_time_and_memory() {
    let _measuring = MEASURING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let corpus = corpus();
    for (number, file) in corpus.iter().enumerate() {
        decode_within_bounds(file, &|| format!("whole file {number}")).unwrap();
    }
    let n_files = from_environment("KAO_MUTATIONS", 6000);
    let seed = from_environment("KAO_MUTATION_SEED", 1);
    let mut n_pictures = 0;
    for number in 0..n_files {
        let mut random = Random(seed.wrapping_mul(1 << 40).wrapping_add(number));
        // Discards the first, in which neighbours are alike.
        random.below(2);
        let file = damaged(&corpus, &mut random);
        let name = || format!("seed {seed}, file {number}");
        if let Ok(picture) = decode_within_bounds(&file, &name) {
            let n_pixels = picture.width() as usize * picture.height() as usize;
            assert_eq!(picture.bytes().len(), n_pixels * 3, "{}", name());
            n_pictures += 1;
        }
    }
    println!("{n_pictures} of {n_files} damaged files still were pictures");
    assert!(n_pictures > 0 && n_pictures < n_files, "the damage is none, or total");
}

/// A PNG of one colour, row by row.
fn flat_png([width, height]: [u32; 2], colour: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let n_bytes = if depth == png::BitDepth::Sixteen { 2 } else { 1 };
    let row = vec![0x80; width as usize * colour.samples() * n_bytes];
    for _ in 0..height {
        std::io::Write::write_all(&mut stream, &row).unwrap();
    }
    stream.finish().unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn a_small_file_of_many_deep_pixels_takes_bounded_memory() {
    let _measuring = MEASURING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let size = [8192, 8192];
    let file = flat_png(size, png::ColorType::Rgba, png::BitDepth::Sixteen);
    assert!(file.len() < 8 << 20, "{} bytes", file.len());
    let before = memory::reset_peak();
    let picture = decode_within_bounds(&file, &|| "the picture".to_owned()).unwrap();
    assert_eq!([picture.width(), picture.height()], size);
    if let (Some(before), Some(peak)) = (before, memory::peak()) {
        // Little more than the pixels that come out.
        let taken = peak - before;
        assert!(taken < 300 << 20, "{taken} bytes");
    }
    // A pixel more is too many, and costs nothing.
    let larger = flat_png([8192, 8193], png::ColorType::Grayscale, png::BitDepth::Eight);
    let before = memory::reset_peak();
    let found = decode_within_bounds(&larger, &|| "the larger picture".to_owned());
    assert_eq!(found, Err(DecodeError::TooManyPixels { width: 8192, height: 8193 }));
    if let (Some(before), Some(peak)) = (before, memory::peak()) {
        assert!(peak - before < 8 << 20, "{} bytes", peak - before);
    }
}
