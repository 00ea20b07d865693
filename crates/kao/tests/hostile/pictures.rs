//! Pictures: damage of every kind, and small files that declare much.

use crate::bounds::{self, measured};
use crate::fuzz::{Kind, Outcome, run};
use crate::support::mutate;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use kao::dataset::{DecodeError, MAX_PIXELS, Picture};
use tiff::encoder::colortype::{ColorType, Gray8, RGB8, RGB16, RGBA8};
use tiff::encoder::{Compression, TiffEncoder, TiffValue};

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
        include_bytes!("../../src/dataset/testdata/lossy.webp").to_vec(),
        include_bytes!("../../src/dataset/testdata/first_frame.webp").to_vec(),
        include_bytes!("../../src/dataset/testdata/first_frame.gif").to_vec(),
        include_bytes!("../../src/dataset/testdata/first_frame.png").to_vec(),
        include_bytes!("../../src/dataset/testdata/orientation.jpg").to_vec(),
        include_bytes!("../../src/dataset/testdata/jpeg/progressive.jpg").to_vec(),
        include_bytes!("../../src/dataset/testdata/jpeg/separate_420.jpg").to_vec(),
        include_bytes!("../../src/dataset/testdata/jpeg/restarts.jpg").to_vec(),
        include_bytes!("../../src/dataset/testdata/jpeg/cmyk.jpg").to_vec(),
        include_bytes!("../../src/dataset/testdata/jpeg/410.jpg").to_vec(),
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

fn decode(content: &[u8]) -> Outcome {
    match Picture::decode(content) {
        Ok(picture) => {
            let n_pixels = picture.width() as usize * picture.height() as usize;
            assert_eq!(picture.bytes().len(), n_pixels * 3);
            Outcome::Read
        }
        Err(error) => {
            assert!(!error.to_string().contains("the decoder failed"), "a decoder panicked");
            Outcome::Refused(error.to_string())
        }
    }
}

#[test]
fn damaged_pictures_take_bounded_time_and_memory() {
    run(&mut Kind {
        name: "pictures",
        corpus: corpus(),
        default_mutations: 6000,
        mutate: &mutate::bytes,
        read: &mut |_, content| decode(content),
    });
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
    let _alone = bounds::alone();
    let size = [8192, 8192];
    let file = flat_png(size, png::ColorType::Rgba, png::BitDepth::Sixteen);
    assert!(file.len() < 8 << 20, "{} bytes", file.len());
    let (picture, taken) = measured(|| Picture::decode(&file));
    let picture = picture.unwrap();
    assert_eq!([picture.width(), picture.height()], size);
    // Little more than the pixels that come out.
    assert!(taken.bytes.unwrap_or(0) < 300 << 20, "{taken:?}");
    // A pixel more is too many, and costs nothing.
    let larger = flat_png([8192, 8193], png::ColorType::Grayscale, png::BitDepth::Eight);
    let (found, taken) = measured(|| Picture::decode(&larger));
    let most = MAX_PIXELS;
    assert_eq!(found, Err(DecodeError::TooManyPixels { width: 8192, height: 8193, most }));
    assert!(taken.bytes.unwrap_or(0) < 8 << 20, "{taken:?}");
    // So is one more than a caller allows.
    let most = 8192 * 8191;
    let (found, taken) = measured(|| Picture::decode_up_to(&file, most));
    assert_eq!(found, Err(DecodeError::TooManyPixels { width: 8192, height: 8192, most }));
    assert!(taken.bytes.unwrap_or(0) < 8 << 20, "{taken:?}");
}
