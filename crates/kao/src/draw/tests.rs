use std::collections::HashSet;
use std::ops::ControlFlow;

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::*;
use crate::control::{Report, Unattended};
use crate::vocabulary::TAG_LIST;

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
    let config = FolderConfig {
        count: 6,
        out_dir: dir.path().join("faces"),
        size: 32,
        seed: SEED,
        shard: None,
    };
    let highest = std::sync::atomic::AtomicU64::new(0);
    let control = |report: &Report<'_>| {
        assert_eq!((report.stage, report.total), ("drawing", Some(6)));
        highest.fetch_max(report.done, std::sync::atomic::Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let written = write_folder(&config, &control).unwrap();
    assert_eq!(written, Written { drawn: 6, replaced: 0, kept: 0 });
    assert_eq!(highest.into_inner(), 6);
    let path = |index| config.out_dir.join(file_name(index));
    assert!(path(5).ends_with("face-000005.png"));
    let picture = image::open(path(5)).unwrap().to_rgb8();
    assert_eq!(picture, drawn(SEED, 5, 32));

    std::fs::remove_file(path(3)).unwrap();
    std::fs::write(path(4), b"cut off").unwrap();
    // As a killed run leaves it.
    std::fs::write(config.out_dir.join(".face-x1y2z3.tmp"), b"half a f").unwrap();
    assert!(write_folder(&config, &|_: &Report<'_>| ControlFlow::Break(())).is_err());
    // One that is stopped may have drawn a face before.
    let _ = std::fs::remove_file(path(3));
    std::fs::write(path(4), b"cut off").unwrap();
    let written = write_folder(&config, &Unattended).unwrap();
    assert_eq!(written, Written { drawn: 2, replaced: 1, kept: 4 });
    assert_eq!(image::open(path(4)).unwrap().to_rgb8(), drawn(SEED, 4, 32));
    // Nothing temporary is left; beside the faces are their tags.
    assert_eq!(std::fs::read_dir(&config.out_dir).unwrap().count(), 7);
    let lines = std::fs::read_to_string(config.out_dir.join(TAG_LIST)).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[5]["file_name"], "face-000005.png");
    assert_eq!(lines[5]["tags"], serde_json::json!(tags(SEED, 5)));
    // Fewer faces the next time: the tags of those behind them stay.
    let fewer = FolderConfig { count: 2, ..config.clone() };
    write_folder(&fewer, &Unattended).unwrap();
    let text = std::fs::read_to_string(config.out_dir.join(TAG_LIST)).unwrap();
    assert_eq!(text.lines().count(), 6);

    // So is one of which a copy broke off, wherever that was.
    let whole = std::fs::read(path(0)).unwrap();
    for len in [100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(path(0), &whole[..len]).unwrap();
        let written = write_folder(&config, &Unattended).unwrap();
        assert_eq!(written, Written { drawn: 1, replaced: 1, kept: 5 }, "{len}");
        assert_eq!(std::fs::read(path(0)).unwrap(), whole);
    }

    // A face of another version is drawn again.
    let mut bytes = std::fs::read(path(0)).unwrap();
    let text = bytes.windows(9).position(|words| words == b"kao draw ").unwrap();
    let end = text + bytes[text..].iter().position(|&byte| byte == b',').unwrap();
    bytes[text + 9..end].fill(b'7');
    let chunk = bytes[..text].windows(4).rposition(|kind| kind == b"tEXt").unwrap();
    let length = u32::from_be_bytes(bytes[chunk - 4..chunk].try_into().unwrap()) as usize;
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let checksum = checksum.checksum(&bytes[chunk..chunk + 4 + length]).to_be_bytes();
    bytes[chunk + 4 + length..][..4].copy_from_slice(&checksum);
    std::fs::write(path(0), &bytes).unwrap();
    let written = write_folder(&config, &Unattended).unwrap();
    assert_eq!(written, Written { drawn: 1, replaced: 1, kept: 5 });
}

#[test]
fn faces_of_another_version_that_stay_keep_their_tags() {
    let dir = tempfile::tempdir().unwrap();
    let out_dir = dir.path().to_path_buf();
    let config = FolderConfig { count: 3, out_dir, size: 32, seed: SEED, shard: None };
    write_folder(&config, &Unattended).unwrap();
    // Unreadable as a picture of this version, by its name alone a face of this folder.
    let path = dir.path().join(file_name(2));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    write_folder(&FolderConfig { count: 1, ..config }, &Unattended).unwrap();
    assert!(path.exists());
    let text = std::fs::read_to_string(dir.path().join(TAG_LIST)).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn faces_of_another_set_are_not_mixed_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = FolderConfig {
        count: 2,
        out_dir: dir.path().to_path_buf(),
        size: 32,
        seed: SEED,
        shard: None,
    };
    write_folder(&config, &Unattended).unwrap();
    let before = std::fs::read(dir.path().join(file_name(1))).unwrap();
    let refusal = |config: &FolderConfig| {
        let error = write_folder(config, &Unattended).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("new folder")), "{error:?}");
        error.to_string()
    };
    let larger = FolderConfig { size: 48, count: 9, ..config.clone() };
    assert!(refusal(&larger).ends_with("32×32 pixels, where 48×48 are asked for"));
    let other = FolderConfig { seed: SEED + 1, ..config.clone() };
    assert!(refusal(&other).contains("face 0 of seed 7, where face 0 of seed 8"));
    // Faces behind the count count too.
    let fewer = FolderConfig { seed: SEED + 1, count: 1, ..config.clone() };
    std::fs::remove_file(dir.path().join(file_name(0))).unwrap();
    assert!(refusal(&fewer).contains("face 1 of seed 7"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    // Somebody else's tags.
    let tags = dir.path().join(TAG_LIST);
    let own = std::fs::read(&tags).unwrap();
    let edited = String::from_utf8(own.clone()).unwrap().replace("[\"", "[\"mine\",\"");
    let foreign = ["{\"file_name\": \"cat.png\"}\n", "", "no JSON", "{\"file_name\": 3}"];
    for other in foreign.into_iter().chain([edited.as_str()]) {
        std::fs::write(&tags, other).unwrap();
        let error = write_folder(&config, &Unattended).unwrap_err();
        assert!(error.to_string().contains(TAG_LIST), "{error}");
        assert_eq!(std::fs::read_to_string(&tags).unwrap(), other);
    }
    std::fs::write(&tags, own).unwrap();
    // Somebody else's picture, and a face under another's name.
    drawn(SEED, 0, 32).save(dir.path().join(file_name(0))).unwrap();
    assert!(refusal(&config).contains("was not drawn as one"));
    std::fs::copy(dir.path().join(file_name(1)), dir.path().join(file_name(0))).unwrap();
    assert!(refusal(&config).contains("face 1 of seed 7, where face 0 of seed 7"));
    assert_eq!(std::fs::read(dir.path().join(file_name(1))).unwrap(), before);
    // Other files are nobody's business.
    std::fs::remove_file(dir.path().join(file_name(0))).unwrap();
    std::fs::write(dir.path().join("face-of-a-friend.png"), b"hello").unwrap();
    write_folder(&config, &Unattended).unwrap();
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_face_is_refused_and_two_runs_at_once_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = FolderConfig {
        count: 2,
        out_dir: dir.path().to_path_buf(),
        size: 16,
        seed: SEED,
        shard: None,
    };
    let pipe = dir.path().join(file_name(1));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = write_folder(&config, &Unattended).unwrap_err().to_string();
    assert!(error.ends_with("this is a pipe, not a regular file"), "{error}");
    std::fs::remove_file(&pipe).unwrap();
    let again = |_: &Report<'_>| {
        let error = write_folder(&config, &Unattended).unwrap_err().to_string();
        assert!(error.ends_with("another `kao draw` is writing to this folder"), "{error}");
        ControlFlow::Continue(())
    };
    write_folder(&config, &again).unwrap();
}

#[test]
fn a_folder_of_impossible_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = FolderConfig {
        count: 1,
        out_dir: dir.path().to_path_buf(),
        size: 8,
        seed: SEED,
        shard: None,
    };
    assert!(write_folder(&config, &Unattended).is_err());
    let none = FolderConfig { count: 0, size: 32, ..config };
    assert!(write_folder(&none, &Unattended).is_err());
}

#[test]
fn tags_say_what_a_face_shows() {
    let all: Vec<Vec<&str>> = (0..3000).map(|index| tags(SEED, index)).collect();
    for (index, tags) in all.iter().enumerate() {
        let of_kind = |kind: &str| tags.iter().filter(|tag| tag.ends_with(kind)).count();
        let colours = ["black", "brown", "auburn", "blonde", "silver", "grey", "red", "orange"]
            .into_iter()
            .chain(["pink", "purple", "blue", "light blue", "teal", "green"]);
        let hair = colours.filter(|colour| tags.contains(&&*format!("{colour} hair"))).count();
        assert_eq!(hair, 1, "face {index}: {tags:?}");
        let eye_colours = of_kind(" eyes") - usize::from(tags.contains(&"hair between eyes"));
        let expected = if tags.contains(&"heterochromia") { 2 } else { 1 };
        assert_eq!(eye_colours, expected, "face {index}, closed eyes counting: {tags:?}");
        let unique: HashSet<_> = tags.iter().collect();
        assert_eq!(unique.len(), tags.len(), "face {index}: {tags:?}");
        let is_known =
            |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || "- ".contains(c));
        assert!(tags.iter().all(|tag| is_known(tag)), "face {index}: {tags:?}");
    }
    let share =
        |tag: &str| all.iter().filter(|tags| tags.contains(&tag)).count() as f64 / all.len() as f64;
    for (tag, low, high) in [
        ("glasses", 0.03, 0.08),
        ("animal ears", 0.03, 0.07),
        ("hat", 0.005, 0.03),
        ("girl", 0.75, 0.9),
        ("blue hair", 0.02, 0.12),
        ("closed eyes", 0.03, 0.12),
    ] {
        assert!((low..high).contains(&share(tag)), "{tag}: {}", share(tag));
    }
}

#[test]
fn the_colour_of_hair_is_seen() {
    // The names of hues against the mean colour of the picture's upper third, where hair is.
    let mean = |tag: &str| {
        let found: Vec<u64> =
            (0..1500).filter(|&index| tags(SEED, index).contains(&tag)).take(12).collect();
        assert_eq!(found.len(), 12, "{tag}");
        let pictures = found.iter().map(|&index| {
            mean_colour(&imageops::crop_imm(&drawn(SEED, index, 32), 8, 4, 16, 8).to_image())
        });
        pictures.fold([0.0; 3], |sum, mean| [0, 1, 2].map(|c| sum[c] + mean[c] / 12.0))
    };
    let [red, _, blue] = mean("red hair");
    assert!(red > 1.3 * blue, "red hair: {red} {blue}");
    let [red, _, blue] = mean("blue hair");
    assert!(blue > 1.3 * red, "blue hair: {red} {blue}");
    let (black, blonde) = (mean("black hair"), mean("blonde hair"));
    assert!(blonde[1] > black[1] + 60.0, "{black:?} {blonde:?}");
}

#[test]
fn of_many_faces_that_do_not_belong_the_first_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = |seed| FolderConfig {
        count: 64,
        out_dir: folder.path().into(),
        size: 16,
        seed,
        shard: None,
    };
    write_folder(&config(1), &Unattended).unwrap();
    for _ in 0..20 {
        let error = write_folder(&config(2), &Unattended).unwrap_err().to_string();
        assert!(error.contains("this is face 0 of seed 1"), "{error}");
    }
}
