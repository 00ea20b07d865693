use image::{DynamicImage, ImageFormat, LumaA, Rgba, RgbaImage};
use proptest::prelude::*;

use super::{encoded, sample};
use crate::dataset::{DecodeError, MAX_PIXELS, Picture};

const CMYK: &[u8] = include_bytes!("../testdata/cmyk.jpg");
const ORIENTATION: &[u8] = include_bytes!("../testdata/orientation.jpg");

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Gif,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let start = ((y * picture.width() + x) * 3) as usize;
    picture.bytes()[start..start + 3].try_into().unwrap()
}

#[track_caller]
fn assert_near(found: [u8; 3], expected: [u8; 3], tolerance: u8) {
    let near = found.iter().zip(expected).all(|(&a, b)| a.abs_diff(b) <= tolerance);
    assert!(near, "{found:?}, where {expected:?} is expected");
}

#[test]
fn lossless_formats_keep_every_pixel() {
    let image = sample(33, 17, 1);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let picture = Picture::decode(&encoded(image.clone(), format)).unwrap();
        assert_eq!((picture.width(), picture.height(), picture.channels()), (33, 17, 3));
        assert_eq!(picture.bytes(), image.as_raw(), "{format:?}");
    }
}

#[test]
fn alpha_is_laid_over_white() {
    let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([0, 100, 200, [0, 128, 255][x as usize]]));
    let picture = Picture::decode(&encoded(image, ImageFormat::Png)).unwrap();
    assert_eq!(picture.channels(), 3);
    // (value · alpha + 255 · (255 − alpha)) / 255
    assert_eq!(pixel(&picture, 0, 0), [255, 255, 255]);
    assert_eq!(pixel(&picture, 1, 0), [127, 177, 227]);
    assert_eq!(pixel(&picture, 2, 0), [0, 100, 200]);
}

#[test]
fn grey_becomes_rgb_with_and_without_alpha() {
    let grey = image::GrayImage::from_fn(4, 4, |x, y| image::Luma([(x * 50 + y) as u8]));
    let picture = Picture::decode(&encoded(grey.clone(), ImageFormat::Png)).unwrap();
    assert_eq!(pixel(&picture, 3, 2), [152; 3]);
    // And luma of that is what it was.
    assert_eq!(picture.into_luma().bytes(), grey.as_raw());

    let faint = image::ImageBuffer::from_pixel(2, 2, LumaA([0_u8, 51]));
    let picture =
        Picture::decode(&encoded(DynamicImage::ImageLumaA8(faint), ImageFormat::Png)).unwrap();
    assert_eq!(pixel(&picture, 1, 1), [204; 3]);
}

#[test]
fn luma_weighs_the_channels_as_pillow_does() {
    // Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0)), Pillow 13.0.0
    for (rgb, luma) in [
        ([255, 0, 0], 76),
        ([0, 255, 0], 150),
        ([0, 0, 255], 29),
        ([10, 200, 77], 129),
        ([255; 3], 255),
    ] {
        let picture = Picture::from_bytes(1, 1, 3, rgb.to_vec()).unwrap().into_luma();
        assert_eq!((picture.channels(), picture.bytes()), (1, &[luma][..]), "{rgb:?}");
    }
}

#[test]
fn sixteen_bits_become_eight() {
    let deep = image::ImageBuffer::from_fn(2, 1, |x, _| {
        image::Rgb([[0_u16, 0x8080, 0xFFFF], [0x0101, 0x7F7F, 0xFE00]][x as usize])
    });
    let picture =
        Picture::decode(&encoded(DynamicImage::ImageRgb16(deep), ImageFormat::Png)).unwrap();
    assert_eq!(pixel(&picture, 0, 0), [0, 128, 255]);
    assert_eq!(pixel(&picture, 1, 0), [1, 127, 253]);
}

#[test]
fn cmyk_jpeg_becomes_rgb() {
    let picture = Picture::decode(CMYK).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
    // Pillow: Image.open("cmyk.jpg").convert("RGB"); the last quadrant is (255 − 40) · (255 − 100)
    // / 255.
    assert_near(pixel(&picture, 8, 8), [55, 255, 255], 3);
    assert_near(pixel(&picture, 24, 8), [255, 55, 255], 3);
    assert_near(pixel(&picture, 8, 24), [255, 255, 55], 3);
    assert_near(pixel(&picture, 24, 24), [131, 131, 131], 3);
}

#[test]
fn every_exif_orientation_is_applied() {
    const R: [u8; 3] = [220, 30, 40];
    const G: [u8; 3] = [30, 200, 60];
    const B: [u8; 3] = [40, 60, 210];
    const Y: [u8; 3] = [240, 230, 50];
    // Stored: R G over B Y, 32×16. What shows at top left, top right, bottom left, bottom right;
    // EXIF 2.32, table of tag 0x0112: 6 means that row 0 of the file is the right-hand side.
    let shown = [
        (1, [R, G, B, Y]),
        (2, [G, R, Y, B]),
        (3, [Y, B, G, R]),
        (4, [B, Y, R, G]),
        (5, [R, B, G, Y]),
        (6, [B, R, Y, G]),
        (7, [Y, G, B, R]),
        (8, [G, Y, R, B]),
    ];
    // The entry: tag, type 3 (short), count 1, value; Pillow writes the lower byte first or last.
    let entry = ORIENTATION
        .windows(12)
        .position(|at| {
            at == [1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]
                || at == [0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]
        })
        .expect("the file has an orientation entry");
    let value = entry + if ORIENTATION[entry] == 1 { 9 } else { 8 };
    for (orientation, corners) in shown {
        let mut content = ORIENTATION.to_vec();
        content[value] = orientation;
        let picture = Picture::decode(&content).unwrap();
        let (width, height) = if orientation < 5 { (32, 16) } else { (16, 32) };
        assert_eq!((picture.width(), picture.height()), (width, height), "{orientation}");
        for (corner, expected) in corners.into_iter().enumerate() {
            let x = width / 4 + width / 2 * (corner as u32 % 2);
            let y = height / 4 + height / 2 * (corner as u32 / 2);
            assert_near(pixel(&picture, x, y), expected, 6);
        }
    }
}

#[test]
fn an_animation_yields_its_first_frame() {
    for (name, content) in [
        ("gif", &include_bytes!("../testdata/first_frame.gif")[..]),
        ("png", &include_bytes!("../testdata/first_frame.png")[..]),
        ("webp", &include_bytes!("../testdata/first_frame.webp")[..]),
    ] {
        let picture = Picture::decode(content).unwrap();
        assert_eq!((picture.width(), picture.height()), (24, 24), "{name}");
        assert_eq!(pixel(&picture, 5, 12), [255, 255, 255], "{name}: transparent there");
        assert_eq!(pixel(&picture, 20, 12), [255, 0, 0], "{name}: red there, blue later");
    }
}

#[test]
fn content_that_is_no_picture_is_refused() {
    assert_eq!(Picture::decode(b""), Err(DecodeError::Empty));
    assert_eq!(Picture::decode(b"<html>not found</html>"), Err(DecodeError::UnknownFormat));
    let problem = |content: &[u8]| Picture::decode(content).unwrap_err().to_string();
    for (content, name) in [
        (&b"\0\0\0\x20ftypavif\0\0\0\0"[..], "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\xFF\x0A\x41\x0F", "JPEG XL"),
        (b"8BPS\0\x01", "PSD"),
    ] {
        assert_eq!(
            problem(content),
            format!("{name} pictures are not supported; JPEG, PNG, GIF, WebP, BMP and TIFF are")
        );
    }
    // Words that begin as a bitmap does.
    assert_eq!(Picture::decode(b"BMW is a maker of cars"), Err(DecodeError::UnknownFormat));
    // Sound bitmaps of a kind that is not read.
    let mut bmp = encoded(sample(8, 8, 0), ImageFormat::Bmp);
    bmp[30] = 4;
    assert_eq!(problem(&bmp), "BMP pictures with a JPEG picture inside are not supported");
    let cmyk = [&b"II*\0\x08\0\0\0\x02\0"[..], &[0; 30]].concat();
    assert!(problem(&cmyk).starts_with("broken: "), "{}", problem(&cmyk));
}

#[test]
fn bitmaps_of_every_depth_agree_with_another_decoder() {
    for (n_bits, compression, masks) in [
        (1u16, 0u8, None),
        (4, 0, None),
        (8, 0, None),
        (16, 0, None),
        (24, 0, None),
        (32, 0, None),
        (16, 3, Some([0xF800u32, 0x7E0, 0x1F, 0])),
        (16, 3, Some([0xF00, 0xF0, 0xF, 0xF000])),
        (32, 3, Some([0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000])),
        (32, 3, Some([0xFF00_0000, 0xFF_0000, 0xFF00, 0])),
    ] {
        for (width, height) in [(1i32, 1i32), (7, 5), (13, -9), (32, 4)] {
            let n_colours = if n_bits <= 8 { 1 << n_bits } else { 0 };
            let header_bytes: u32 = if masks.is_some() { 56 } else { 40 };
            let start = 14 + header_bytes + n_colours * 4;
            let mut file = b"BM\0\0\0\0\0\0\0\0".to_vec();
            file.extend([start, header_bytes].map(u32::to_le_bytes).concat());
            file.extend([width, height].map(i32::to_le_bytes).concat());
            file.extend([1, n_bits].map(u16::to_le_bytes).concat());
            file.extend([compression, 0, 0, 0]);
            file.extend([0; 20]);
            for mask in masks.into_iter().flatten() {
                file.extend(mask.to_le_bytes());
            }
            file.extend((0..n_colours * 4).map(|k| (k * 67 % 255) as u8));
            let stride = (width as usize * usize::from(n_bits)).div_ceil(8).next_multiple_of(4);
            let n_bytes = stride * height.unsigned_abs() as usize;
            file.extend((0..n_bytes).map(|k| (k * k * 7 + k * 13) as u8));
            let found = Picture::decode(&file).unwrap();
            let expected = image::load_from_memory(&file).unwrap();
            assert_eq!((found.width(), found.height()), (expected.width(), expected.height()));
            let flat = expected.into_rgba8();
            let flat = flat.pixels().flat_map(|pixel| {
                let alpha = u32::from(pixel[3]);
                let blend =
                    |k: usize| (u32::from(pixel[k]) * alpha + 255 * (255 - alpha) + 127) / 255;
                [0, 1, 2].map(|k| blend(k) as u8)
            });
            assert!(flat.eq(found.bytes().iter().copied()), "{n_bits} bits, {masks:?}, {width}");
            let cut = &file[..file.len() - stride];
            assert_eq!(Picture::decode(cut), Err(DecodeError::CutShort));
        }
    }
}

#[test]
fn a_file_that_is_cut_short_is_refused() {
    for format in FORMATS {
        let content = encoded(sample(40, 40, 3), format);
        for length in [12, content.len() / 3, content.len() / 2] {
            let outcome = Picture::decode(&content[..length]);
            assert!(outcome.is_err(), "{format:?} cut to {length} of {} bytes", content.len());
        }
    }
}

#[test]
fn a_declared_size_is_checked_before_memory_is_taken() {
    // A whole PNG of 8×8 pixels that declares another size; the last is a ribbon of few pixels.
    for (width, height) in [(50_000_u32, 50_000_u32), (8_193, 8_193), (70_000, 1)] {
        let mut png = encoded(sample(8, 8, 0), ImageFormat::Png);
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let most = MAX_PIXELS;
        assert_eq!(Picture::decode(&png), Err(DecodeError::TooManyPixels { width, height, most }));
    }
    let mut bmp = encoded(sample(8, 8, 0), ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0x30, 0x75, 0, 0, 0x30, 0x75, 0, 0]);
    assert_eq!(
        Picture::decode(&bmp),
        Err(DecodeError::TooManyPixels { width: 30_000, height: 30_000, most: MAX_PIXELS })
    );
}

#[test]
fn a_caller_may_allow_fewer_pixels() {
    for format in FORMATS {
        let content = encoded(sample(40, 30, 3), format);
        assert!(Picture::decode_up_to(&content, 1200).is_ok(), "{format:?}");
        let expected = DecodeError::TooManyPixels { width: 40, height: 30, most: 1199 };
        assert_eq!(Picture::decode_up_to(&content, 1199), Err(expected), "{format:?}");
    }
}

pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut crc, &byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
        crc
    })
}

#[test]
fn impossible_pictures_are_refused() {
    assert!(Picture::from_bytes(2, 2, 3, vec![0; 11]).is_err());
    assert!(Picture::from_bytes(0, 2, 3, vec![]).is_err());
    assert!(Picture::from_bytes(u32::MAX, u32::MAX, usize::MAX, vec![1]).is_err());
}

proptest! {
    /// Damage anywhere in any format ends in a picture or an error, never in a panic.
    #[test]
    fn damaged_files_never_panic(
        format in prop::sample::select(vec![
            ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif,
            ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff,
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut content = encoded(sample(16, 16, 5), format);
        for (at, value) in damage {
            let at = at.index(content.len());
            content[at] = value;
        }
        let end = cut.index(content.len() * 3).min(content.len());
        if let Ok(picture) = Picture::decode(&content[..end]) {
            prop_assert_eq!(
                picture.bytes().len() as u64,
                u64::from(picture.width()) * u64::from(picture.height()) * 3
            );
        }
    }
}
