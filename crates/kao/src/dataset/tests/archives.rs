//! Pictures in archives and on disk are those of a folder in memory.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::ImageFormat;
use tempfile::tempdir;

use super::{encoded, sample, write};
use crate::control::{Report, Unattended};
use crate::dataset::tar::Writer;
use crate::dataset::{
    Cache, CacheConfig, Classes, Folder, Loader, LoaderConfig, Tags, common_size, usual_side,
};
use crate::error::Result;
use crate::vocabulary::Vocabulary;

const SHAPE: [usize; 3] = [3, 24, 24];

fn picture(seed: u8) -> Vec<u8> {
    encoded(sample(24, 24, seed.into()), ImageFormat::Png)
}

/// Writes an archive of files.
fn archive(path: &Path, files: &[(&str, Vec<u8>)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Writer(std::fs::File::create(path).unwrap());
    files.iter().for_each(|(name, content)| writer.add(name, content).unwrap());
    writer.finish().unwrap();
}

/// The same 12 pictures with tags as files in `plain` and in three archives in `packed`.
fn both(dir: &Path) -> [PathBuf; 2] {
    for shard in 0..3_u8 {
        let names: Vec<[String; 2]> = (0..4)
            .map(|k| ["png", "txt"].map(|extension| format!("{}.{extension}", 4 * shard + k + 10)))
            .collect();
        let mut files = Vec::new();
        for (k, [name, text]) in (0..4).zip(&names) {
            files.push((name.as_str(), picture(4 * shard + k)));
            files.push((text.as_str(), format!("tag {}, all", k % 2).into_bytes()));
        }
        for (name, content) in &files {
            write(dir, &format!("plain/{name}"), content);
        }
        archive(&dir.join(format!("packed/s-{shard:03}.tar")), &files);
    }
    ["plain", "packed"].map(|name| dir.join(name))
}

fn disk(dir: &Path) -> CacheConfig {
    CacheConfig { cache: Cache::Disk, dir: Some(dir.join("caches")) }
}

fn load(data: &Path, cache: &CacheConfig) -> Result<Folder> {
    let folder = Folder::load_with(data, SHAPE, cache, &Unattended)?;
    let names = folder.pictures().iter().map(|picture| picture.name.as_str());
    let tags = Tags::read(data, names, None)?;
    assert_eq!(tags.warnings(), Vec::<String>::new());
    Ok(folder.with_tags(tags))
}

/// The bytes of a batch's pictures, their positions, and their tags.
type Seen = (Vec<u8>, Vec<usize>, Vec<Vec<usize>>);

/// Everything that training sees: three epochs and a bit, in batches of changing size.
fn stream(folder: &Arc<Folder>, seed: u64) -> Vec<Seen> {
    let all = Vec::from_iter(0..folder.len());
    let config = LoaderConfig { seed, horizontal_flip: true };
    let tags = all.iter().map(|&index| folder.tags_of(index));
    let vocabulary = Vocabulary::of_pictures(tags, 1).0;
    let loader = Loader::new(folder.clone(), all, config).unwrap().with_vocabulary(vocabulary);
    let (mut seen, mut batches) = (0, Vec::new());
    for size in [5, 5, 5, 5, 5, 7, 7, 1] {
        let batch = loader.batch(seen, size).unwrap();
        let bytes = (0..size).flat_map(|k| batch.images.to_bytes_hwc(k)).collect();
        batches.push((bytes, batch.indices, batch.tags));
        seen += size as u64;
    }
    // Parts of batches, as one of several ranks takes them.
    for step in 0..6 {
        let (at, whole) = (10 * step, loader.batch(10 * step, 10).unwrap());
        let part = loader.batch(at + 4, 3).unwrap();
        assert_eq!(part, whole.slice(4..7));
    }
    for step in 0..6 {
        let part = loader.part_of_batch(10 * step + 4, 3, 10).unwrap();
        batches.push((Vec::new(), part.indices, part.tags));
    }
    // Back to the start, as a run that is resumed.
    let again = loader.batch(0, 5).unwrap();
    assert_eq!(again.indices, batches[0].1);
    batches
}

#[test]
fn training_sees_the_same_whatever_holds_the_pictures() {
    let dir = tempdir().unwrap();
    let [plain, packed] = both(dir.path());
    let expected = load(&plain, &CacheConfig::memory()).unwrap();
    let batches = stream(&Arc::new(expected.clone()), 3);
    let pattern = packed.join("s-{000..002}.tar");
    for data in [&plain, &packed, &pattern] {
        for cache in [CacheConfig::memory(), disk(dir.path()), CacheConfig::default()] {
            let found = load(data, &cache).unwrap();
            assert_eq!(found.on_disk().is_some(), cache.cache == Cache::Disk);
            assert_eq!(found.fingerprint(), expected.fingerprint(), "{data:?} {cache:?}");
            assert_eq!(found.tags().n_tagged(), 12);
            assert!(stream(&Arc::new(found.clone()), 3) == batches, "{data:?} {cache:?}");
            let some = found.subset(&[7, 2]).unwrap().subset(&[1, 0]).unwrap();
            assert_eq!(some.picture_bytes(0).unwrap(), expected.picture_bytes(2).unwrap());
            assert_eq!(found.images(&[3, 4]).unwrap(), expected.images(&[3, 4]).unwrap());
        }
        assert_eq!(common_size(data, &Unattended).unwrap(), [24, 24]);
        assert_eq!(usual_side(data).unwrap(), Some(24));
    }
    let one = load(&packed.join("s-001.tar"), &CacheConfig::memory()).unwrap();
    assert_eq!((one.len(), one.pictures()[0].name.as_str()), (4, "s-001.tar/14.png"));
    let names: Vec<String> = load(&pattern, &disk(dir.path()))
        .unwrap()
        .pictures()
        .iter()
        .map(|p| p.name.clone())
        .collect();
    assert_eq!((names[0].as_str(), names[11].as_str()), ("s-000.tar/10.png", "s-002.tar/21.png"));
}

#[test]
fn a_file_on_disk_is_made_once_and_anew_when_pictures_change() {
    let dir = tempdir().unwrap();
    let [plain, packed] = both(dir.path());
    for data in [plain, packed] {
        let n_read = |expected: usize| {
            let n_read = AtomicUsize::new(0);
            let control = |_: &Report<'_>| {
                n_read.fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            };
            let found = Folder::load_with(&data, SHAPE, &disk(dir.path()), &control).unwrap();
            assert_eq!(n_read.into_inner(), expected, "{data:?}");
            found
        };
        let first = n_read(12);
        let again = n_read(0);
        assert_eq!(first, again);
        // One byte of pixels is wrong: only who reads that picture notices, and is told.
        let path = first.on_disk().unwrap().to_path_buf();
        let whole = std::fs::read(&path).unwrap();
        let len = SHAPE.iter().product::<usize>();
        let mut damaged = whole.clone();
        damaged[5 * len + 3] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let found = n_read(0);
        assert_eq!(found.picture_bytes(4).unwrap(), first.picture_bytes(4).unwrap());
        let error = found.picture_bytes(5).unwrap_err();
        assert!(error.to_string().ends_with("picture 5 is damaged"), "{error}");
        assert!(error.hint().unwrap().contains("made anew"));
        // The index is wrong, or the file is cut short: it is made anew.
        for at in [12 * len + 10, whole.len() - 1, whole.len() - 40] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            n_read(12);
            assert!(std::fs::read(&path).unwrap() == whole);
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        n_read(12);
        // A picture more.
        match data.ends_with("plain") {
            true => write(&data, "99.png", &picture(99)),
            false => archive(&data.join("s-009.tar"), &[("99.png", picture(99))]),
        }
        assert_eq!(n_read(13).len(), 13);
        n_read(0);
    }
    let names: Vec<_> = std::fs::read_dir(dir.path().join("caches")).unwrap().collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn work_that_is_stopped_leaves_no_file() {
    let dir = tempdir().unwrap();
    let [plain, _] = both(dir.path());
    let stop = |_: &Report<'_>| ControlFlow::Break(());
    let error = Folder::load_with(&plain, SHAPE, &disk(dir.path()), &stop).unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
    assert_eq!(std::fs::read_dir(dir.path().join("caches")).unwrap().count(), 0);
}

#[test]
fn texts_beside_pictures_in_archives_are_tags() {
    let dir = tempdir().unwrap();
    let text = |text: &str| text.as_bytes().to_vec();
    archive(
        &dir.path().join("a.tar"),
        &[
            ("x/1.png", picture(1)),
            ("x/1.cls", text("7\n")),
            ("x/1.json", text(r#"{"tags": ["Blue Hair", "hat"], "width": 24, "label": 3}"#)),
            ("x/2.a.png", picture(2)),
            ("x/2.b.png", picture(3)),
            ("x/2.txt", text("smile, hat")),
            ("x/3.txt", text("of nothing")),
            ("4.json", text("{")),
            ("4.png", picture(4)),
            ("._4.png", text("hidden")),
        ],
    );
    let folder = Folder::load(dir.path(), SHAPE, &Unattended).unwrap();
    let names: Vec<&str> = folder.pictures().iter().map(|picture| picture.name.as_str()).collect();
    assert_eq!(names, ["a.tar/4.png", "a.tar/x/1.png", "a.tar/x/2.a.png", "a.tar/x/2.b.png"]);
    // A folder is one within an archive; the archive's own name says nothing.
    let classes = Tags::read(dir.path(), names.clone(), Some(Classes::Folders)).unwrap();
    assert_eq!(classes.of("a.tar/x/2.a.png"), ["hat", "smile", "x"]);
    assert!(classes.of("a.tar/4.png").is_empty());
    let tags = Tags::read(dir.path(), names, None).unwrap();
    assert_eq!(tags.of("a.tar/x/1.png"), ["blue hair", "class 3", "class 7", "hat"]);
    assert_eq!(tags.of("a.tar/x/2.a.png"), ["hat", "smile"]);
    assert_eq!(tags.of("a.tar/x/2.b.png"), ["hat", "smile"]);
    let [warning] = tags.warnings() else { panic!("{:?}", tags.warnings()) };
    assert!(warning.contains("beside 1 picture cannot be read; of `a.tar/4.png`"), "{warning}");
}

#[test]
fn archives_among_pictures_are_no_pictures() {
    let dir = tempdir().unwrap();
    archive(&dir.path().join("a.tar"), &[("1.png", picture(1))]);
    write(dir.path(), "2.png", &picture(2));
    let folder = Folder::load(dir.path(), SHAPE, &Unattended).unwrap();
    let names: Vec<&str> = folder.pictures().iter().map(|picture| picture.name.as_str()).collect();
    assert_eq!(names, ["2.png"]);
}

#[test]
fn damaged_and_missing_archives_are_named() {
    let dir = tempdir().unwrap();
    let [_, packed] = both(dir.path());
    let problem = |data: &Path| {
        let error = Folder::load(data, SHAPE, &Unattended).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let error = problem(&packed.join("s-{000..003}.tar"));
    assert!(error.starts_with("cannot read") && error.contains("s-003.tar"), "{error}");
    let path = packed.join("s-001.tar");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = problem(&packed);
    assert!(error.contains("s-001.tar`: damaged archive, at byte"), "{error}");
    std::fs::write(&path, b"").unwrap();
    assert!(problem(&packed).contains("the archive is empty"));
    // A picture that is none costs that picture alone.
    archive(&path, &[("a.png", b"no picture".to_vec()), ("b.png", picture(5))]);
    let folder = Folder::load(&packed, SHAPE, &Unattended).unwrap();
    assert_eq!((folder.len(), folder.skipped()[0].path.as_str()), (9, "s-001.tar/a.png"));
}
