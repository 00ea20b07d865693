//! Files whose data end before the picture does, and that are closed as if they were whole: with
//! right lengths, checksums and end marks. Every decoder on the way fills what is missing with
//! something; here such files are no pictures. (JPEG has tests of its own beside its decoder.)

use std::borrow::Cow;
use std::io::Cursor;

use image::{GrayImage, ImageFormat, RgbImage};

use super::{encoded, sample};
use crate::dataset::{DecodeError, Picture};

/// Checks that `file` of all data is a picture, and of fewer none; cuts at `n_cuts` places.
#[track_caller]
fn assert_all_data_are_needed(name: &str, data: &[u8], file: impl Fn(&[u8]) -> Vec<u8>) {
    if let Err(error) = Picture::decode(&file(data)) {
        panic!("{name}: {error}");
    }
    for twentieth in 0..20 {
        let end = data.len() * twentieth / 20;
        let found = Picture::decode(&file(&data[..end]));
        assert!(found.is_err(), "{name} with {end} of {} bytes", data.len());
    }
}

/// A chunk of PNG: length, kind, body, checksum.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let checked = [&kind[..], body].concat();
    let checksum = super::decode::crc32(&checked).to_be_bytes();
    [&(body.len() as u32).to_be_bytes()[..], &checked, &checksum].concat()
}

#[test]
fn png() {
    for interlaced in [false, true] {
        // The pixels of an interlaced file are those of the passes, one after the other.
        let (w, h) = (24u32, 20u32);
        let raw: Vec<u8> = if interlaced {
            let passes = [(8, 0, 8, 0), (8, 4, 8, 0), (4, 0, 8, 4), (4, 2, 4, 0), (2, 0, 4, 2)];
            let passes = passes.into_iter().chain([(2, 1, 2, 0), (1, 0, 2, 1)]);
            let mut raw = Vec::new();
            for (step_x, x, step_y, y) in passes {
                for y in (y..h).step_by(step_y) {
                    raw.push(0);
                    raw.extend((x..w).step_by(step_x).flat_map(|x| [x as u8, y as u8, 7]));
                }
            }
            raw
        } else {
            (0..h)
                .flat_map(|y| {
                    let row = (0..w).flat_map(move |x| [x as u8, y as u8, 7]);
                    std::iter::once(0).chain(row)
                })
                .collect()
        };
        let data = deflated(&raw);
        let header = |kind: u8| {
            let sizes = [w.to_be_bytes(), h.to_be_bytes()].concat();
            chunk(b"IHDR", &[&sizes[..], &[8, 2, 0, 0, kind]].concat())
        };
        let file = |data: &[u8]| {
            [
                b"\x89PNG\r\n\x1a\n".to_vec(),
                header(interlaced.into()),
                chunk(b"IDAT", data),
                chunk(b"IEND", b""),
            ]
            .concat()
        };
        let picture = Picture::decode(&file(&data)).unwrap();
        for (at, pixel) in picture.bytes().as_chunks::<3>().0.iter().enumerate() {
            assert_eq!(*pixel, [(at as u32 % w) as u8, (at as u32 / w) as u8, 7]);
        }
        assert_all_data_are_needed("png", &data, file);
        // Whole data of too few rows.
        let fewer = deflated(&raw[..raw.len() / 2]);
        assert!(Picture::decode(&file(&fewer)).is_err(), "fewer rows, interlaced {interlaced}");
    }
}

/// `bytes` as a zlib stream, taken out of a file of another format.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let grey = GrayImage::from_raw(bytes.len() as u32, 1, bytes.to_vec()).unwrap();
    let mut file = Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut file)
        .unwrap()
        .with_compression(tiff::encoder::Compression::Deflate(Default::default()));
    encoder.write_image::<tiff::encoder::colortype::Gray8>(grey.width(), 1, grey.as_raw()).unwrap();
    strip(file.get_ref())
}

#[test]
fn gif() {
    let indices: Vec<u8> = (0..30 * 20u32).map(|k| (k * k % 61) as u8).collect();
    let palette: Vec<u8> = (0..64 * 3).collect();
    for interlaced in [false, true] {
        let mut frame = gif::Frame::from_palette_pixels(30, 20, &indices[..], &palette[..], None);
        frame.interlaced = interlaced;
        frame.make_lzw_pre_encoded();
        let data = frame.buffer.to_vec();
        let file = |data: &[u8]| {
            let mut file = Vec::new();
            let mut encoder = gif::Encoder::new(&mut file, 30, 20, &[]).unwrap();
            frame_with(&frame, data, &mut encoder);
            drop(encoder);
            file
        };
        // The first byte says how long codes are at first; without it there is no frame.
        assert_all_data_are_needed("gif", &data[1..], |rest| file(&[&data[..1], rest].concat()));
    }
}

fn frame_with(frame: &gif::Frame<'_>, data: &[u8], encoder: &mut gif::Encoder<&mut Vec<u8>>) {
    let frame = gif::Frame { buffer: Cow::Borrowed(data), ..frame.clone() };
    encoder.write_lzw_pre_encoded_frame(&frame).unwrap();
}

#[test]
fn webp() {
    let lossless = encoded(sample(30, 20, 2), ImageFormat::WebP);
    let lossy = include_bytes!("../testdata/lossy.webp").to_vec();
    for (kind, content) in [(b"VP8L", lossless), (b"VP8 ", lossy)] {
        assert_eq!(&content[12..16], kind);
        let length = u32::from_le_bytes(content[16..20].try_into().unwrap()) as usize;
        let file = |data: &[u8]| {
            let padded = data.len().next_multiple_of(2);
            let mut file = b"RIFF".to_vec();
            file.extend((padded as u32 + 12).to_le_bytes());
            file.extend(b"WEBP");
            file.extend(kind);
            file.extend((data.len() as u32).to_le_bytes());
            file.extend(data);
            file.resize(20 + padded, 0);
            file
        };
        assert_all_data_are_needed("webp", &content[20..20 + length], file);
    }
}

#[test]
fn bitmaps_with_run_lengths() {
    // Of each row a run of three and five single pixels; the last row ends the picture.
    let rows: Vec<Vec<u8>> =
        (0..6).map(|y| vec![3, y, 0, 5, 10 + y, 20 + y, 30 + y, 40 + y, 50 + y, 0, 0, 0]).collect();
    let file = |rows: &[Vec<u8>]| {
        let palette: Vec<u8> = (0..=255u8).flat_map(|k| [k, k, k, 0]).collect();
        let data = [rows.concat(), vec![0, 1]].concat();
        [
            b"BM\0\0\0\0\0\0\0\0\x36\x04\0\0\x28\0\0\0\x08\0\0\0\x06\0\0\0\x01\0\x08\0\x01\0\0\0"
                .to_vec(),
            vec![0; 20],
            palette,
            data,
        ]
        .concat()
    };
    let picture = Picture::decode(&file(&rows)).unwrap();
    for (y, row) in picture.bytes().chunks_exact(8 * 3).enumerate() {
        let y = 5 - y as u8;
        let expected = [y, y, y, 10 + y, 20 + y, 30 + y, 40 + y, 50 + y].map(|k| [k; 3]);
        assert_eq!(row, expected.as_flattened());
    }
    for n_rows in 0..6 {
        let found = Picture::decode(&file(&rows[..n_rows]));
        assert_eq!(found, Err(DecodeError::CutShort), "{n_rows} rows");
    }
    let whole = file(&rows);
    for length in 0x436..whole.len() {
        assert_eq!(Picture::decode(&whole[..length]), Err(DecodeError::CutShort), "{length}");
    }
}

/// The one strip of a file.
fn strip(content: &[u8]) -> Vec<u8> {
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(content)).unwrap();
    let mut value = |tag| decoder.get_tag_u64(tag).unwrap() as usize;
    let start = value(tiff::tags::Tag::StripOffsets);
    content[start..start + value(tiff::tags::Tag::StripByteCounts)].to_vec()
}

/// A TIFF file of one strip: RGB, 8 bits a sample.
fn tiff_file(
    [width, height]: [u32; 2],
    compression: u16,
    photometric: u16,
    data: &[u8],
) -> Vec<u8> {
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    let n_entries = 9u16;
    let end = 8 + 2 + u32::from(n_entries) * 12 + 4;
    let entries: [(u16, u16, u32); 9] = [
        (256, LONG, width),
        (257, LONG, height),
        (258, SHORT, 8),
        (259, SHORT, compression.into()),
        (262, SHORT, photometric.into()),
        (273, LONG, end),
        (277, SHORT, 3),
        (278, LONG, height),
        (279, LONG, data.len() as u32),
    ];
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend(n_entries.to_le_bytes());
    for (tag, kind, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([1u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file.extend(data);
    file
}

#[test]
fn tiff() {
    use tiff::encoder::Compression;
    let image: RgbImage = sample(30, 20, 4);
    for (number, compression) in [
        (1, Compression::Uncompressed),
        (5, Compression::Lzw),
        (8, Compression::Deflate(Default::default())),
        (32773, Compression::Packbits),
    ] {
        let mut file = Cursor::new(Vec::new());
        let encoder = tiff::encoder::TiffEncoder::new(&mut file).unwrap();
        let mut encoder = encoder.with_compression(compression);
        let mut image_encoder =
            encoder.new_image::<tiff::encoder::colortype::RGB8>(30, 20).unwrap();
        image_encoder.rows_per_strip(20).unwrap();
        image_encoder.write_data(image.as_raw()).unwrap();
        let data = strip(file.get_ref());
        let file = |data: &[u8]| tiff_file([30, 20], number, 2, data);
        assert_eq!(Picture::decode(&file(&data)).unwrap().bytes(), image.as_raw(), "{number}");
        assert_all_data_are_needed(&format!("tiff {number}"), &data, file);
        // Bytes of something else behind the strip do not make up for what it lacks.
        let half = &data[..data.len() / 2];
        let followed = [file(half), data.clone()].concat();
        assert!(Picture::decode(&followed).is_err(), "tiff {number} with something behind it");
    }
}

#[test]
fn tiff_with_colours_multiplied_by_their_alpha() {
    use tiff::encoder::colortype::RGBA8;
    for (extra, expected) in [(1u16, [255, 127, 127]), (2, [191, 127, 127])] {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = tiff::encoder::TiffEncoder::new(&mut file).unwrap();
        let mut image = encoder.new_image::<RGBA8>(1, 1).unwrap();
        let tags = image.encoder();
        tags.write_tag(tiff::tags::Tag::ExtraSamples, &[extra][..]).unwrap();
        image.write_data(&[128, 0, 0, 128]).unwrap();
        assert_eq!(Picture::decode(file.get_ref()).unwrap().bytes(), expected, "{extra}");
    }
}

#[test]
fn png_is_turned_wherever_its_exif_stands() {
    let image = encoded(RgbImage::new(20, 10), ImageFormat::Png);
    let exif = [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"[..], &[0; 4]].concat();
    let exif = chunk(b"eXIf", &exif);
    let place = |kind: &[u8; 4]| image.windows(4).position(|at| at == kind).unwrap() - 4;
    for at in [place(b"IDAT"), place(b"IEND")] {
        let turned = [&image[..at], &exif, &image[at..]].concat();
        let picture = Picture::decode(&turned).unwrap();
        assert_eq!((picture.width(), picture.height()), (10, 20));
    }
}

#[test]
fn tiff_with_jpeg_inside() {
    let (jpeg, scans) =
        crate::dataset::decode::jpeg_files::Recipe::new([30, 20], &[[2, 2], [1, 1], [1, 1]])
            .encode();
    // The JPEG stream says YCbCr, and so does this.
    let file = |data: &[u8]| tiff_file([30, 20], 7, 6, data);
    assert_eq!(Picture::decode(&file(&jpeg)).unwrap(), Picture::decode(&jpeg).unwrap());
    let start = scans[0].start;
    assert_all_data_are_needed("jpeg in tiff", &jpeg[start..scans[0].end], |rest| {
        file(&[&jpeg[..start], rest, &[0xFF, 0xD9]].concat())
    });
    // As red, green and blue the same samples are other colours.
    let rgb = Picture::decode(&tiff_file([30, 20], 7, 2, &jpeg)).unwrap();
    assert_ne!(rgb, Picture::decode(&jpeg).unwrap());
    // A stream smaller than its place.
    assert!(Picture::decode(&tiff_file([40, 20], 7, 6, &jpeg)).is_err());
}
