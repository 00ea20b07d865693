use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::ImageFormat;
use tempfile::tempdir;

use super::{encoded, sample, write};
use crate::control::{Report, Unattended};
use crate::dataset::{Fit, Folder, Picture, PrepareConfig, SplitConfig, prepare};
use crate::error::{ErrorKind, Result};

const SHAPE: [usize; 3] = [3, 24, 24];

fn load(dir: &Path, shape: [usize; 3]) -> Result<Folder> {
    Folder::load(dir, shape, &Unattended)
}

/// Class folders, several formats, other sizes, a broken file and one that is no picture.
fn mixed(dir: &Path) {
    write(dir, "images/b.png", &encoded(sample(24, 24, 1), ImageFormat::Png));
    write(dir, "images/a.jpg", &encoded(sample(24, 24, 2), ImageFormat::Jpeg));
    write(dir, "images/c.gif", b"GIF89a, or so it says");
    write(dir, "more/d.bmp", &encoded(sample(60, 31, 3), ImageFormat::Bmp));
    write(dir, "more/notes.txt", b"nothing to see");
    write(dir, "e.webp", &encoded(sample(24, 24, 4), ImageFormat::WebP));
}

#[test]
fn a_folder_is_loaded_in_the_order_of_its_names() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    let (n_calls, n_total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let folder = Folder::load(dir.path(), SHAPE, &|report: &Report<'_>| {
        n_calls.fetch_add(1, Ordering::Relaxed);
        n_total.store(report.total.unwrap() as usize, Ordering::Relaxed);
        ControlFlow::Continue(())
    })
    .unwrap();
    let names: Vec<&str> = folder.pictures().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["e.webp", "images/a.jpg", "images/b.png", "more/d.bmp"]);
    assert_eq!((n_calls.into_inner(), n_total.into_inner()), (5, 5));
    let [skipped] = folder.skipped() else { panic!("{:?}", folder.skipped()) };
    assert_eq!(skipped.path, "images/c.gif");

    // Files at the size are taken as they are, others are covered and cut.
    assert_eq!(folder.picture_bytes(0).unwrap(), *sample(24, 24, 4).as_raw());
    assert_eq!(folder.picture_bytes(2).unwrap(), *sample(24, 24, 1).as_raw());
    let cut = Picture::from_bytes(60, 31, 3, sample(60, 31, 3).into_raw()).unwrap();
    assert_eq!(folder.picture_bytes(3).unwrap(), cut.fit(24, 24, Fit::Crop).unwrap().bytes());
    assert!(folder.picture_bytes(4).is_err());
}

#[test]
fn images_are_planes_in_the_range_of_the_model() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    let folder = load(dir.path(), SHAPE).unwrap();
    let images = folder.images(&[2, 0, 2]).unwrap();
    assert_eq!(images.shape(), [3, 3, 24, 24]);
    for (image, index) in [2, 0, 2].into_iter().enumerate() {
        assert_eq!(folder.picture_bytes(index).unwrap(), images.to_bytes_hwc(image));
    }
    assert!(images.data().iter().all(|value| (-1.0..=1.0).contains(value)));
    assert_eq!(folder.images(&[]).unwrap().len(), 0);
    assert_eq!(
        folder.images(&[9]).unwrap_err().to_string(),
        "picture index: 9, but there are 4 pictures"
    );
}

#[test]
fn one_channel_is_luma() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    let folder = load(dir.path(), [1, 24, 24]).unwrap();
    let luma = Picture::from_bytes(24, 24, 3, sample(24, 24, 1).into_raw()).unwrap().into_luma();
    assert_eq!(folder.images(&[2]).unwrap().to_bytes_hwc(0), luma.bytes());
}

#[test]
fn sides_may_differ() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    assert_eq!(
        load(dir.path(), [3, 16, 40]).unwrap().images(&[1]).unwrap().shape(),
        [1, 3, 16, 40]
    );
}

#[test]
fn files_can_be_named_one_by_one() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    let path = |name: &str| dir.path().join(name);
    let folder = Folder::load_files(&[path("images/b.png"), path("e.webp")], SHAPE).unwrap();
    assert_eq!(folder.picture_bytes(0).unwrap(), *sample(24, 24, 1).as_raw());
    assert_eq!(folder.picture_bytes(1).unwrap(), *sample(24, 24, 4).as_raw());
    let error = Folder::load_files(&[path("e.webp"), path("missing.png")], SHAPE).unwrap_err();
    assert!(error.to_string().contains("missing.png"), "{error}");
    assert!(Folder::load_files(&[], SHAPE).is_err());
}

#[test]
fn of_many_files_that_cannot_be_read_the_first_is_named() {
    let dir = tempdir().unwrap();
    let paths: Vec<_> = (0..64).map(|k| dir.path().join(format!("{k:02}.png"))).collect();
    for path in &paths {
        std::fs::write(path, b"no picture").unwrap();
    }
    for _ in 0..20 {
        let error = Folder::load_files(&paths, [3, 8, 8]).unwrap_err().to_string();
        assert!(error.contains("00.png"), "{error}");
    }
}

#[test]
fn a_folder_without_a_usable_picture_is_refused() {
    let dir = tempdir().unwrap();
    let problem = |dir: &Path| load(dir, SHAPE).unwrap_err().to_string();
    assert!(problem(dir.path()).ends_with("holds no picture: it is empty"));
    write(dir.path(), "notes.txt", b"nothing");
    assert!(problem(dir.path()).ends_with("holds no picture, only 1 other file"));
    write(dir.path(), "a.png", b"");
    let error = load(dir.path(), SHAPE).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("none of 1 picture can be used; the first, `a.png`: the file is empty"),
        "{error}"
    );
    assert!(error.hint().is_some());
    assert!(problem(&dir.path().join("nowhere")).starts_with("cannot read"));
    assert!(problem(&dir.path().join("a.png")).contains("is a file"));
}

#[test]
fn impossible_shapes_are_refused() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    for shape in [[2, 8, 8], [3, 0, 8], [3, 8, usize::MAX], [3, 1 << 16, 1 << 16]] {
        assert!(matches!(load(dir.path(), shape).unwrap_err().kind(), ErrorKind::Invalid { .. }));
    }
}

#[test]
fn loading_can_be_cancelled() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    let error =
        Folder::load(dir.path(), SHAPE, &|_: &Report<'_>| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Interrupted));
}

#[test]
fn an_interrupted_preparation_is_not_loaded() {
    let dir = tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    mixed(&raw);
    let config = PrepareConfig { size: 24, ..PrepareConfig::new(raw, &out) };
    let n_calls = AtomicUsize::new(0);
    let stop = |_: &Report<'_>| match n_calls.fetch_add(1, Ordering::Relaxed) {
        0..6 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let error = prepare(&config, &stop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Interrupted));
    let error = load(&out, SHAPE).unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    prepare(&config, &Unattended).unwrap();
    assert_eq!(load(&out, SHAPE).unwrap().len(), 4);
}

#[test]
fn the_fingerprint_is_that_of_the_content() {
    let pictures = |seeds: &[u32]| {
        let names = (0..seeds.len()).map(|k| format!("{k}.png")).collect();
        let bytes = seeds.iter().flat_map(|&seed| sample(24, 24, seed).into_raw()).collect();
        Folder::from_bytes(SHAPE, names, bytes).unwrap()
    };
    let folder = pictures(&[1, 2, 3]);
    assert_eq!(folder.fingerprint().len(), 64);
    assert_eq!(folder.fingerprint(), pictures(&[3, 1, 2]).fingerprint());
    for other in [&[1, 2][..], &[1, 2, 3, 3], &[1, 2, 4]] {
        assert_ne!(folder.fingerprint(), pictures(other).fingerprint());
    }
    assert!(Folder::from_bytes(SHAPE, vec!["a".into()], vec![0; 7]).is_err());
    assert!(Folder::from_bytes(SHAPE, vec![], vec![]).is_err());
}

#[test]
fn duplicates_never_straddle_the_split() {
    // Each picture three times, under names that part them.
    let names = (0..120).map(|k| format!("{k:03}.png")).collect();
    let bytes = (0..120).flat_map(|k| sample(24, 24, k % 40).into_raw()).collect();
    let folder = Folder::from_bytes(SHAPE, names, bytes).unwrap();
    let split = folder.split(&SplitConfig { validation: 0.3, test: 0.3, seed: 999 }).unwrap();
    assert_eq!(split.train.len() + split.validation.len() + split.test.len(), 120);
    for set in [&split.train, &split.validation, &split.test] {
        assert!(!set.is_empty());
        assert!(set.is_sorted());
        let copies = set.iter().map(|k| k % 40).collect::<std::collections::HashSet<_>>();
        assert_eq!(set.len(), 3 * copies.len());
    }
}

#[test]
fn with_no_picture_left_to_train_on_all_are() {
    let one = |seed: u32| {
        let bytes = sample(24, 24, seed).into_raw();
        Folder::from_bytes(SHAPE, vec!["a.png".into()], bytes).unwrap()
    };
    let config = SplitConfig { validation: 0.3, test: 0.3, seed: 999 };
    let mut n_held_by_chance = 0;
    for seed in 0..20 {
        let folder = one(seed);
        let by_chance = config.of(&folder.pictures()[0].content_hash).unwrap();
        n_held_by_chance += usize::from(by_chance != crate::dataset::Split::Train);
        let split = folder.split(&config).unwrap();
        assert_eq!((split.train, split.validation.len(), split.test.len()), (vec![0], 0, 0));
    }
    assert!(n_held_by_chance > 3, "the test is of none");
    // Who asks for no training gets none.
    let none = SplitConfig { validation: 1.0, test: 0.0, seed: 1 };
    assert_eq!(one(0).split(&none).unwrap().validation, [0]);
}

#[test]
fn samples_of_a_run_are_no_pictures_to_train_on() {
    let dir = tempdir().unwrap();
    mixed(dir.path());
    let before = load(dir.path(), SHAPE).unwrap();
    for folder in ["run/checkpoints", "run/samples", "run/logs", "more/album/samples"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let grid = encoded(sample(90, 90, 9), ImageFormat::Png);
    write(dir.path(), "run/samples/step-00000001.png", &grid);
    write(dir.path(), "run/config.toml", b"steps = 1");
    assert_eq!(load(dir.path(), SHAPE).unwrap().fingerprint(), before.fingerprint());
    // A folder that only has a name in common with one of a run is looked through.
    write(dir.path(), "more/album/samples/x.png", &grid);
    assert_eq!(load(dir.path(), SHAPE).unwrap().len(), before.len() + 1);
    // And a run's own samples can be looked at by who asks for them.
    assert_eq!(load(&dir.path().join("run/samples"), SHAPE).unwrap().len(), 1);
}

#[test]
fn the_test_pictures_of_the_project_load_where_they_are() {
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/anime/raw/images");
    let Ok(entries) = std::fs::read_dir(&raw) else {
        println!("skipped: {} is not there", raw.display());
        return;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.truncate(200);
    let folder = Folder::load_files(&paths, [3, 64, 64]).unwrap();
    assert_eq!(folder.len(), paths.len());
}
