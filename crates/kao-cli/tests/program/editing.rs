//! `edit`: variations of pictures, and pictures with a part painted anew.

use crate::fixture::{kao, names, trained, with_model};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with the model's first faces as `a.png` and `b.png`, and the beginning of a command.
fn place() -> (TempDir, String) {
    let (folder, edit) = with_model("edit --model MODEL --steps 4");
    for (from, to) in [("face-000000.png", "a.png"), ("face-000001.png", "b.png")] {
        fs::copy(trained().join("faces").join(from), folder.path().join(to)).unwrap();
    }
    (folder, edit)
}

fn pixels(folder: &Path, name: &str) -> RgbImage {
    image::open(folder.join(name)).unwrap().into_rgb8()
}

/// A mask of 16 × 16 pixels, of these shades in its columns.
fn mask(folder: &Path, name: &str, shade: impl Fn(u32) -> u8) {
    GrayImage::from_fn(16, 16, |x, _| Luma([shade(x)])).save(folder.join(name)).unwrap();
}

/// The mean difference of two pictures in the columns of a range, 0 to 255.
fn difference(one: &RgbImage, other: &RgbImage, columns: std::ops::Range<u32>) -> f64 {
    let places = columns.clone().flat_map(|x| (0..one.height()).map(move |y| (x, y)));
    let of = |(x, y)| {
        let (a, b) = (one.get_pixel(x, y).0, other.get_pixel(x, y).0);
        (0..3).map(|c| f64::from(a[c].abs_diff(b[c]))).sum::<f64>() / 3.0
    };
    places.map(of).sum::<f64>() / f64::from(columns.len() as u32 * one.height())
}

#[test]
fn strength_goes_from_the_picture_to_noise() {
    let (folder, edit) = place();
    let folder = folder.path();
    let original = pixels(folder, "a.png");
    let mut differences = Vec::new();
    for strength in ["0", "0.25", "0.75", "1"] {
        let arguments =
            format!("{edit} a.png --strength {strength} --count 1 --out {strength}.png");
        kao(folder, &arguments).ok();
        let row = pixels(folder, &format!("{strength}.png"));
        // The picture first, then its variation.
        assert_eq!(row.dimensions(), (2 + 2 * 18, 20));
        let cell = |n: u32| image::imageops::crop_imm(&row, 2 + n * 18, 2, 16, 16).to_image();
        assert!(cell(0) == original);
        differences.push(difference(&cell(1), &original, 0..16));
    }
    assert_eq!(differences[0], 0.0, "strength 0 changes nothing");
    assert!(differences.windows(2).all(|pair| pair[0] < pair[1]), "{differences:?}");
    // Strength 1 leaves nothing: another picture gives the same images.
    kao(folder, &format!("{edit} a.png --strength 1 --out a/")).ok();
    kao(folder, &format!("{edit} b.png --strength 1 --out b/")).ok();
    for k in [0, 7] {
        let name = format!("seed-999-image-0000{k}.png");
        let [a, b] = ["a", "b"].map(|of| pixels(folder, &format!("{of}/{of}-{name}")));
        assert!(a == b, "{k}");
    }
}

#[test]
fn a_variation_has_the_same_bytes_however_it_is_made() {
    let (folder, edit) = place();
    let folder = folder.path();
    mask(folder, "m.png", |x| if x < 8 { 0 } else { 255 });
    for more in ["--eta 1", "--mask m.png --jumps 2 --sampler ddpm"] {
        let edit = format!("{edit} {more} --seed 5");
        let both = format!("{edit} a.png b.png --count 5 --batch-size 3 --out both/");
        kao(folder, &both).ok();
        assert_eq!(names(&folder.join("both")).len(), 10);
        let alone = format!("{edit} b.png --pick 3 --batch-size 1 --threads 1 --out alone.png");
        kao(folder, &alone).ok();
        kao(folder, &format!("{edit} b.png --first 3 --count 1 --out alone/")).ok();
        let read = |path: &str| fs::read(folder.join(path)).unwrap();
        let name = "b-seed-5-image-00003.png";
        assert!(read(&format!("alone/{name}")) == read(&format!("both/{name}")), "{more}");
        // The command in it repeats it, here within a grid.
        let told = kao(folder, &format!("info both/{name}")).ok().out;
        let said = told.lines().find_map(|line| line.strip_prefix("command")).unwrap().trim();
        kao(folder, &format!("{} --out again/", said.strip_prefix("kao ").unwrap())).ok();
        assert!(read(&format!("again/{name}")) == read(&format!("both/{name}")), "{more}: {said}");
        let grid = pixels(folder, "alone.png");
        let cell = image::imageops::crop_imm(&grid, 2 + 18, 2, 16, 16).to_image();
        assert!(cell == pixels(folder, &format!("both/{name}")));
        // Nothing is made twice.
        let ran = kao(folder, &both).ok();
        assert!(ran.err.contains("10 of 10 images done before"), "{ran:?}");
        for dir in ["both", "alone", "again"] {
            fs::remove_dir_all(folder.join(dir)).unwrap();
        }
    }
}

#[test]
fn what_a_mask_keeps_is_exact_to_the_byte() {
    let (folder, edit) = place();
    let folder = folder.path();
    mask(folder, "half.png", |x| if x < 8 { 0 } else { 255 });
    let original = pixels(folder, "a.png");
    for more in [
        "",
        "--clip",
        "--jumps 3",
        "--sampler ddpm",
        "--spacing linear",
        "--strength 0.5",
        "--eta 1",
    ] {
        kao(folder, &format!("{edit} a.png --mask half.png {more} --count 3 --out out/")).ok();
        for name in names(&folder.join("out")) {
            let made = pixels(folder, &format!("out/{name}"));
            assert_eq!(difference(&made, &original, 0..8), 0.0, "{more}: {name}");
            assert!(difference(&made, &original, 8..16) > 1.0, "{more}: {name}");
        }
        fs::remove_dir_all(folder.join("out")).unwrap();
    }
}

#[test]
fn grey_changes_less_and_white_all_over_is_like_no_mask() {
    let (folder, edit) = place();
    let folder = folder.path();
    let original = pixels(folder, "a.png");
    let made = |shade: u8| {
        mask(folder, "m.png", |_| shade);
        let ran =
            kao(folder, &format!("{edit} a.png --mask m.png --jumps 1 --count 1 --out out/")).ok();
        let told = ran.err.contains("warning: the mask is white all over");
        assert_eq!(told, shade == 255, "{ran:?}");
        let made = pixels(folder, "out/a-seed-999-image-00000.png");
        difference(&made, &original, 0..16)
    };
    let changes = [20, 128, 255].map(made);
    assert!(changes[0] < changes[1] && changes[1] < changes[2], "{changes:?}");
    kao(folder, &format!("{edit} a.png --strength 1 --count 1 --out all/")).ok();
    let without = pixels(folder, "all/a-seed-999-image-00000.png");
    let with = pixels(folder, "out/a-seed-999-image-00000.png");
    assert!(difference(&without, &with, 0..16) < 0.1, "up to rounding");
}

#[test]
fn pictures_and_masks_of_any_size_are_prepared_alike() {
    let (folder, edit) = place();
    let folder = folder.path();
    // A wide picture: its middle is taken. The mask keeps the left half of that.
    let wide = RgbImage::from_fn(80, 40, |x, y| Rgb([(x * 3) as u8, (y * 6) as u8, 99]));
    wide.save(folder.join("wide.bmp")).unwrap();
    let shade = |width: u32| move |x: u32, _| Luma([if x < width / 2 { 0 } else { 255u8 }]);
    GrayImage::from_fn(80, 40, shade(80)).save(folder.join("same.png")).unwrap();
    GrayImage::from_fn(40, 20, shade(40)).save(folder.join("scaled.png")).unwrap();
    GrayImage::from_fn(16, 16, shade(16)).save(folder.join("ready.png")).unwrap();
    kao(folder, &format!("{edit} wide.bmp --strength 0 --count 1 --out kept/")).ok();
    let prepared = pixels(folder, "kept/wide-seed-999-image-00000.png");
    fs::create_dir(folder.join("raw")).unwrap();
    fs::copy(folder.join("wide.bmp"), folder.join("raw/wide.bmp")).unwrap();
    kao(folder, "prepare raw ready --size 16").ok();
    assert!(prepared == pixels(folder, "ready/wide.png"), "as `kao prepare` does");
    for (mask, note) in
        [("same", None), ("scaled", Some("is scaled to")), ("ready", Some("is scaled"))]
    {
        let arguments = format!("{edit} wide.bmp --mask {mask}.png --count 1 --out {mask}/");
        let ran = kao(folder, &arguments).ok();
        assert_eq!(ran.err.contains("the mask, "), note.is_some(), "{ran:?}");
        assert!(note.is_none_or(|note| ran.err.contains(note)), "{ran:?}");
        assert!(
            ran.err.contains("1 of 1 pictures cropped or scaled to the model's 16 × 16"),
            "{ran:?}"
        );
        let made = pixels(folder, &format!("{mask}/wide-seed-999-image-00000.png"));
        // The edge of a mask that was scaled is grey.
        assert_eq!(difference(&made, &prepared, 0..6), 0.0, "{mask}");
        assert!(difference(&made, &prepared, 8..16) > 1.0, "{mask}");
    }
}

#[test]
fn what_cannot_be_edited_is_refused_in_a_line() {
    let (folder, edit) = place();
    let folder = folder.path();
    mask(folder, "black.png", |_| 0);
    GrayImage::from_pixel(30, 20, Luma([255])).save(folder.join("other.png")).unwrap();
    fs::write(folder.join("words.png"), "words").unwrap();
    let before = names(folder);
    for (arguments, words) in [
        ("a.png --mask black.png", "`black.png`: black all over"),
        (
            "a.png --mask other.png",
            "`other.png`: a mask of 30 × 20 pixels; expected the 16 × 16 of `a.png`",
        ),
        ("a.png --mask words.png", "`words.png`: not a picture"),
        ("words.png", "`words.png`: not a picture"),
        ("no.png", "`no.png`: cannot be read"),
        ("a.png --strength 1.5", "--strength 1.5: must be between 0"),
        ("a.png --strength NaN", "--strength NaN: must be between 0"),
        ("a.png --jumps 3", "--jumps: only applies with a mask"),
        ("a.png --mask black.png --jumps 0", "--jumps 0: must be between 1 and 1000"),
        (
            "a.png --mask black.png --jumps 1 --jump-length 2",
            "--jump-length: only applies where parts",
        ),
        ("a.png --out a.gif", "`a.gif`: pictures are written as PNG"),
        ("a.png --out a.png", "--out: names the file of pictures"),
        ("a.png --count 0", "--count 0: must be at least 1"),
        (". --count 1", "`.`: this is a folder; expected a picture"),
    ] {
        let ran = kao(folder, &format!("{edit} {arguments}"));
        assert!(ran.error().starts_with(&format!("error: {words}")), "{arguments}: {ran:?}");
        assert_eq!(names(folder), before, "{arguments}");
    }
}

#[test]
fn a_hundred_pictures_and_wishes_go_through() {
    let (folder, edit) = place();
    let folder = folder.path();
    let many: Vec<String> = (0..100).map(|k| format!("p{k}.png")).collect();
    for name in &many {
        fs::copy(folder.join("a.png"), folder.join(name)).unwrap();
    }
    let edit = edit.replace("--steps 4", "--steps 1");
    let arguments =
        format!("{edit} {} --count 1 --strength 1 --out many.png --labels", many.join(" "));
    kao(folder, &arguments).ok();
    // A hundred rows of a picture and a variation; columns are as wide as the longest label.
    let (width, height) = pixels(folder, "many.png").dimensions();
    assert!(width < 50 && height > 100 * 18, "{width} {height}");
    kao(folder, &format!("{edit} a.png --columns-of smile,sad,boy --out wishes.png")).ok();
    assert_eq!(pixels(folder, "wishes.png").width(), 2 + 4 * 18);
    kao(folder, &format!("{edit} a.png --tags smile --guidance 3 --count 1 --out tagged.png")).ok();
    let ran = kao(folder, &format!("{edit} a.png --columns-of smile,sad --pick 2"));
    assert!(
        ran.error().contains("--pick 2: must be below 2, to be one of the 2 variations"),
        "{ran:?}"
    );
}
