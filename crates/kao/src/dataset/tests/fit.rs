use proptest::prelude::*;

use crate::dataset::{Fit, Picture};

/// The twin of `pattern` in testdata/make_pictures.py.
fn pattern(width: u32, height: u32) -> Picture {
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            bytes.extend((0..3).map(|c| ((3 * x * x + 5 * y * y + 2 * x * y + 91 * c) / 16) as u8));
        }
    }
    Picture::from_bytes(width, height, 3, bytes).unwrap()
}

#[test]
fn resizing_agrees_with_pillow() {
    macro_rules! golden {
        ($width:literal, $height:literal, $fit:literal, $side:literal) => {
            (
                $width,
                $height,
                $fit,
                $side,
                &include_bytes!(concat!(
                    "../testdata/resize_",
                    $width,
                    "x",
                    $height,
                    "_",
                    $fit,
                    "_",
                    $side,
                    ".png"
                ))[..],
            )
        };
    }
    let cases = [
        golden!(97, 71, "stretch", 32),
        golden!(97, 71, "crop", 32),
        golden!(50, 203, "stretch", 32),
        golden!(50, 203, "crop", 32),
        golden!(21, 13, "stretch", 32),
        golden!(21, 13, "crop", 32),
        golden!(220, 220, "stretch", 64),
    ];
    for (width, height, fit, side, expected) in cases {
        let expected = Picture::decode(expected).unwrap();
        let found = pattern(width, height).fit(side, side, fit.parse().unwrap()).unwrap();
        assert_eq!((found.width(), found.height()), (side, side));
        let pairs = found.bytes().iter().zip(expected.bytes());
        let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
        // Pillow 13 scales tall pictures along the vertical first; rounding between the passes then
        // makes single steps of difference.
        let largest = if height > 2 * width { 1 } else { 0 };
        let n_different = differences.iter().filter(|&&difference| difference > 0).count();
        println!("{width}×{height} {fit} {side}: {n_different} bytes differ");
        assert!(differences.iter().all(|&d| d <= largest), "{width}×{height} {fit} {side}");
        assert!(n_different < differences.len() / 3, "{width}×{height} {fit} {side}");
    }
}

#[test]
fn a_picture_of_the_right_size_is_left_alone() {
    for fit in [Fit::Crop, Fit::Stretch] {
        assert_eq!(pattern(32, 24).fit(32, 24, fit).unwrap(), pattern(32, 24));
    }
}

#[test]
fn crop_takes_the_centre_and_stretch_takes_all() {
    // Left third black, middle white, right black.
    let bytes = (0..96 * 32).flat_map(|k| [if (32..64).contains(&(k % 96)) { 255 } else { 0 }; 3]);
    let picture = Picture::from_bytes(96, 32, 3, bytes.collect()).unwrap();
    let cropped = picture.clone().fit(32, 32, Fit::Crop).unwrap();
    assert!(cropped.bytes().iter().all(|&value| value == 255));
    let stretched = picture.fit(32, 32, Fit::Stretch).unwrap();
    let row: Vec<u8> = stretched.bytes().chunks_exact(3).take(32).map(|pixel| pixel[0]).collect();
    assert_eq!((row[2], row[16], row[29]), (0, 255, 0));
}

#[test]
fn extreme_shapes_fit_in_memory() {
    // White in the middle third, else black.
    let line: Vec<u8> =
        (0..60_000).flat_map(|k| [if k / 20_000 == 1 { 255 } else { 0 }; 3]).collect();
    for (width, height) in [(60_000, 1), (1, 60_000)] {
        let ribbon = Picture::from_bytes(width, height, 3, line.clone()).unwrap();
        let cropped = ribbon.clone().fit(512, 512, Fit::Crop).unwrap();
        assert!(cropped.bytes().iter().all(|&value| value == 255));
        let stretched = ribbon.fit(512, 512, Fit::Stretch).unwrap();
        assert!(stretched.bytes().contains(&0));
    }
}

#[test]
fn the_cut_is_in_the_middle() {
    // Fourteen columns, each of its own grey, and as many rows as the target has: nothing is
    // scaled.
    let columns = |height: u32| {
        let bytes = (0..height).flat_map(|_| (0..14).flat_map(|x| [x * 10; 3])).collect();
        Picture::from_bytes(14, height, 3, bytes).unwrap()
    };
    let first = |height: u32| columns(height).fit(height, height, Fit::Crop).unwrap().bytes()[0];
    // The surplus is 4, 5 and 7; of the halves 2.5 and 3.5 Python's `round` makes 2 and 4.
    assert_eq!([first(10), first(9), first(7)], [20, 20, 40]);
}

#[test]
fn impossible_sizes_and_names_are_refused() {
    assert!(pattern(8, 8).fit(0, 8, Fit::Crop).is_err());
    assert!(pattern(8, 8).fit(u32::MAX, u32::MAX, Fit::Crop).is_err());
    let error = "shrink".parse::<Fit>().unwrap_err();
    assert_eq!(error.to_string(), "fit: `shrink` is neither `crop` nor `stretch`");
    for fit in [Fit::Crop, Fit::Stretch] {
        assert_eq!(fit.to_string().parse::<Fit>().unwrap(), fit);
    }
}

proptest! {
    #[test]
    fn any_shape_fits_any_other(
        (width, height) in (1_u32..70, 1_u32..70),
        (target_width, target_height) in (1_u32..40, 1_u32..40),
        channels in prop::sample::select(vec![1_usize, 3]),
        value in any::<u8>(),
        fit in prop::sample::select(vec![Fit::Crop, Fit::Stretch]),
    ) {
        let bytes = vec![value; (width * height) as usize * channels];
        let picture = Picture::from_bytes(width, height, channels, bytes).unwrap();
        let found = picture.fit(target_width, target_height, fit).unwrap();
        prop_assert_eq!((found.width(), found.height()), (target_width, target_height));
        prop_assert_eq!(found.channels(), channels);
        // A flat picture stays flat.
        prop_assert!(found.bytes().iter().all(|&found| found == value));
    }
}
