//! Preparations that are interrupted, and gone on with.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use image::ImageFormat;
use tempfile::tempdir;

use super::{encoded, sample, write};
use crate::control::{Report, Unattended};
use crate::dataset::{Folder, PrepareConfig, PrepareReport, prepare};
use crate::error::Result;

/// More than are read at a time.
const N: u32 = 1500;

/// Raw pictures with a duplicate in each two hundred, of one that lies far before.
fn raw(dir: &Path) {
    for k in 0..N {
        let shown = if k % 100 == 99 { k / 2 } else { k };
        let content = encoded(sample(9, 8, shown), ImageFormat::Bmp);
        write(dir, &format!("raw/{k:05}.bmp"), &content);
    }
    write(dir, "raw/00007.txt", b"seven");
    write(dir, "raw/01399.txt", b"a copy");
    write(dir, "raw/00500.png", b"none");
}

fn config(dir: &Path, out: &str, pictures_per_archive: Option<usize>) -> PrepareConfig {
    let config = PrepareConfig::new(dir.join("raw"), dir.join(out));
    PrepareConfig { size: 8, min_side: 4, pictures_per_archive, ..config }
}

/// All files of a folder with their content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let walk = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    let files = walk.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Runs until so many pictures are read.
fn interrupted(config: &PrepareConfig, after: u64) {
    let n_reports = AtomicU64::new(0);
    let control = |report: &Report<'_>| match report.stage {
        "preparing" if n_reports.fetch_add(1, Ordering::Relaxed) >= after => ControlFlow::Break(()),
        "packing" if after == u64::MAX && report.done > 0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let stopped: Result<PrepareReport> = prepare(config, &control);
    assert_eq!(stopped.unwrap_err().to_string(), "interrupted");
}

/// Modification times, by which a file that was written again is known.
fn times(dir: &Path) -> BTreeMap<String, std::time::SystemTime> {
    let time = |name: String| {
        let time = std::fs::metadata(dir.join(&name)).unwrap().modified().unwrap();
        (name, time)
    };
    files(dir).into_keys().filter(|name| name.ends_with(".png")).map(time).collect()
}

#[test]
fn a_run_goes_on_where_another_was_stopped() {
    let dir = tempdir().unwrap();
    raw(dir.path());
    for archives in [None, Some(200)] {
        let whole = format!("whole-{archives:?}");
        let report = prepare(&config(dir.path(), &whole, archives), &Unattended).unwrap();
        assert_eq!((report.duplicates.len(), report.skipped.len()), (8, 1));
        assert_eq!(report.tags.keys().collect::<Vec<_>>(), ["a copy", "seven"]);
        let expected = files(&dir.path().join(&whole));
        // In the middle of the first pictures that are read together, after them, and at the end.
        for after in [3, 2300, u64::MAX] {
            if after == u64::MAX && archives.is_none() {
                continue;
            }
            let out = format!("out-{archives:?}-{after}");
            let place = dir.path().join(&out);
            interrupted(&config(dir.path(), &out, archives), after);
            let before = times(&place);
            let pattern = place.join("shards-{000000..000001}.tar");
            for data in [&place, &pattern] {
                let error = Folder::load(data, [3, 8, 8], &Unattended).unwrap_err().to_string();
                let words = ["was interrupted", "cannot read"];
                assert!(words.iter().any(|words| error.contains(words)), "{error}");
            }
            let again = prepare(&config(dir.path(), &out, archives), &Unattended).unwrap();
            assert_eq!(again, report);
            assert!(files(&place) == expected, "{out}: {:?}", files(&place).keys());
            if archives.is_none() && after > 1024 {
                let kept = times(&place);
                let n_kept = before.iter().filter(|(name, time)| kept.get(*name) == Some(time));
                assert!(n_kept.count() > 900, "pictures were written again");
            }
        }
    }
}

#[test]
fn what_is_damaged_or_has_changed_meanwhile_is_made_anew() {
    let dir = tempdir().unwrap();
    raw(dir.path());
    let config = config(dir.path(), "out", None);
    interrupted(&config, 2300);
    // Of three files, one is lost, one torn, and one empty, as a power cut leaves them.
    let out = dir.path().join("out");
    std::fs::remove_file(out.join("00003.png")).unwrap();
    let torn = std::fs::read(out.join("00004.png")).unwrap();
    std::fs::write(out.join("00004.png"), &torn[..torn.len() - 5]).unwrap();
    std::fs::write(out.join("00005.png"), b"").unwrap();
    let report = prepare(&config, &Unattended).unwrap();
    let whole = PrepareConfig { out_dir: dir.path().join("whole"), ..config.clone() };
    assert_eq!(prepare(&whole, &Unattended).unwrap(), report);
    assert!(files(&out) == files(&dir.path().join("whole")));

    // Another raw picture, or another size: nothing of the journal holds.
    let other = PrepareConfig { out_dir: dir.path().join("other"), ..config.clone() };
    interrupted(&other, 2300);
    write(dir.path(), "raw/00002.bmp", &encoded(sample(20, 20, 77), ImageFormat::Bmp));
    prepare(&other, &Unattended).unwrap();
    prepare(&whole, &Unattended).unwrap();
    assert!(files(&dir.path().join("other")) == files(&dir.path().join("whole")));
    interrupted(&PrepareConfig { size: 6, ..other.clone() }, 2300);
    prepare(&other, &Unattended).unwrap();
    assert!(files(&dir.path().join("other")) == files(&dir.path().join("whole")));
}

#[test]
fn files_and_archives_take_each_others_place() {
    let dir = tempdir().unwrap();
    raw(dir.path());
    let [files_only, packed] = [None, Some(500)].map(|n| config(dir.path(), "out", n));
    let out = dir.path().join("out");
    prepare(&files_only, &Unattended).unwrap();
    let expected = files(&out);
    let report = prepare(&packed, &Unattended).unwrap();
    assert_eq!(
        files(&out).into_keys().collect::<Vec<_>>(),
        ["prepare.json", "shards-000000.tar", "shards-000001.tar", "shards-000002.tar"]
    );
    assert_eq!(report.shards.len(), 3);
    assert_eq!(report.files["shards-000000.tar/00000007.png"], "00007.bmp");
    let fewer = config(dir.path(), "out", Some(2000));
    assert_eq!(prepare(&fewer, &Unattended).unwrap().shards, ["shards-000000.tar"]);
    assert_eq!(files(&out).len(), 2);
    prepare(&files_only, &Unattended).unwrap();
    assert!(files(&out) == expected);
    // An archive of somebody else would be read with those that are written.
    std::fs::write(out.join("mine.tar"), b"").unwrap();
    let error = prepare(&packed, &Unattended).unwrap_err().to_string();
    assert!(error.contains("archives that were not prepared, `mine.tar` first"), "{error}");
}
