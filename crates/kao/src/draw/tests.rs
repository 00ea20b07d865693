use std::collections::HashSet;

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::*;

const SEED: u64 = 7;

/// Portrait `index` of `seed` as a picture of the crate that looks at it here.
fn drawn(seed: u64, index: u64, size: u32) -> RgbImage {
    let face = face(seed, index, size).unwrap();
    RgbImage::from_raw(face.side(), face.side(), face.bytes().to_vec()).unwrap()
}

fn mean_colour(picture: &RgbImage) -> [f64; 3] {
    let n = f64::from(picture.width() * picture.height());
    [0, 1, 2].map(|c| picture.pixels().map(|pixel| f64::from(pixel.0[c])).sum::<f64>() / n)
}

/// Root of the mean squared difference, in steps of 255.
fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| {
        let difference = f64::from(a) - f64::from(b);
        difference * difference
    });
    (squares.sum::<f64>() / a.as_raw().len() as f64).sqrt()
}

#[test]
fn the_same_picture_has_the_same_bytes() {
    for index in 0..8 {
        assert_eq!(face(SEED, index, 48).unwrap(), face(SEED, index, 48).unwrap());
    }
    assert_ne!(face(SEED, 0, 48).unwrap(), face(SEED + 1, 0, 48).unwrap());
}

#[test]
fn no_two_of_two_hundred_are_equal() {
    let pictures: HashSet<Vec<u8>> =
        (0..200).map(|index| drawn(SEED, index, 16).into_raw()).collect();
    assert_eq!(pictures.len(), 200);
}

#[test]
fn another_size_is_the_same_face() {
    for index in 0..6 {
        let small = drawn(SEED, index, 64);
        let large = drawn(SEED, index, 256);
        let reduced = imageops::resize(&large, 64, 64, FilterType::Triangle);
        let other = drawn(SEED, index + 100, 64);
        let same = distance(&small, &reduced);
        assert!(same < 12.0, "picture {index}: {same}");
        assert!(same < 0.35 * distance(&other, &reduced), "picture {index}: {same}");
    }
}

#[test]
fn colours_are_diverse_and_no_pixel_is_fixed() {
    const COUNT: usize = 120;
    const SIDE: u32 = 16;
    let pictures: Vec<RgbImage> = (0..COUNT as u64).map(|index| drawn(SEED, index, SIDE)).collect();
    let means: Vec<[f64; 3]> = pictures.iter().map(mean_colour).collect();
    for channel in 0..3 {
        let mean = means.iter().map(|m| m[channel]).sum::<f64>() / COUNT as f64;
        let variance =
            means.iter().map(|m| (m[channel] - mean).powi(2)).sum::<f64>() / COUNT as f64;
        assert!((90.0..230.0).contains(&mean), "channel {channel}: {mean}");
        assert!(variance.sqrt() > 12.0, "channel {channel}: {}", variance.sqrt());
    }
    for (x, y, first) in pictures[0].enumerate_pixels() {
        let differing = pictures.iter().filter(|picture| picture.get_pixel(x, y) != first).count();
        assert!(differing > COUNT / 2, "pixel ({x}, {y}) hardly changes");
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    for size in [0, 1, 15, 513, u32::MAX] {
        assert!(face(SEED, 0, size).is_err(), "{size}");
    }
    for size in [16, 17, 63, 100, 512] {
        assert_eq!(face(SEED, 0, size).unwrap().side(), size);
    }
}

#[test]
fn any_seed_and_index_can_be_drawn() {
    for (seed, index) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
        face(seed, index, 32).unwrap();
    }
}

#[test]
fn a_folder_is_written_and_completed() {
    let dir = tempfile::tempdir().unwrap();
    let config = FolderConfig { count: 6, out_dir: dir.path().join("faces"), size: 32, seed: SEED };
    let highest = std::sync::atomic::AtomicU64::new(0);
    let observer = |progress: Progress| {
        assert_eq!(progress.total, 6);
        highest.fetch_max(progress.done, std::sync::atomic::Ordering::Relaxed);
    };
    assert_eq!(write_folder(&config, &observer, &|| false).unwrap(), Written { drawn: 6, kept: 0 });
    assert_eq!(highest.into_inner(), 6);
    let path = |index| config.out_dir.join(file_name(index));
    assert!(path(5).ends_with("face-000005.png"));
    let picture = image::open(path(5)).unwrap().to_rgb8();
    assert_eq!(picture, drawn(SEED, 5, 32));

    std::fs::remove_file(path(3)).unwrap();
    std::fs::write(path(4), b"cut off").unwrap();
    drawn(SEED + 1, 5, 32).save(path(5)).unwrap();
    assert!(write_folder(&config, &|_| (), &|| true).is_err());
    assert_eq!(write_folder(&config, &|_| (), &|| false).unwrap(), Written { drawn: 3, kept: 3 });
    assert_eq!(image::open(path(4)).unwrap().to_rgb8(), drawn(SEED, 4, 32));
    assert_eq!(image::open(path(5)).unwrap().to_rgb8(), picture);
    // Nothing temporary is left.
    assert_eq!(std::fs::read_dir(&config.out_dir).unwrap().count(), 6);
}

#[test]
fn a_folder_of_impossible_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = FolderConfig { count: 1, out_dir: dir.path().to_path_buf(), size: 8, seed: SEED };
    assert!(write_folder(&config, &|_| (), &|| false).is_err());
    let none = FolderConfig { count: 0, size: 32, ..config };
    assert!(write_folder(&none, &|_| (), &|| false).is_err());
}
