use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::{TempDir, tempdir};

use super::{encoded, sample, write};
use crate::control::{Report, Unattended};
use crate::dataset::{
    Classes, Duplicate, Fit, Folder, Picture, PrepareConfig, PrepareReport, REPORT_FILE, Skipped,
    prepare,
};
use crate::error::{ErrorKind, Result};

struct Case {
    dir: TempDir,
    config: PrepareConfig,
}

impl Case {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
        std::fs::create_dir(&raw).unwrap();
        Case { dir, config: PrepareConfig { size: 24, ..PrepareConfig::new(raw, out) } }
    }

    fn raw(&self, name: &str, content: &[u8]) {
        write(&self.config.raw_dir, name, content);
    }

    fn run(&self) -> Result<PrepareReport> {
        prepare(&self.config, &Unattended)
    }

    fn out(&self, name: &str) -> Picture {
        Picture::read(&self.config.out_dir.join(name)).unwrap()
    }

    /// All files of the output folder, hidden ones too, with their content.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        walkdir::WalkDir::new(&self.config.out_dir)
            .into_iter()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(&self.config.out_dir).unwrap();
                (name.to_str().unwrap().to_owned(), std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().filter(|name| name != REPORT_FILE).collect()
    }
}

fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    encoded(sample(width, height, seed), ImageFormat::Png)
}

/// One of everything that a folder of downloads may hold.
fn everything() -> Case {
    let case = Case::new();
    case.raw("a.png", &png(40, 40, 1));
    case.raw("b.jpg", &encoded(sample(30, 50, 2), ImageFormat::Jpeg));
    case.raw("copy of a.png", &png(40, 40, 1));
    case.raw("same pixels as a.bmp", &encoded(sample(40, 40, 1), ImageFormat::Bmp));
    case.raw("really a png.jpg", &png(25, 25, 3));
    case.raw("no extension", &png(25, 25, 4));
    case.raw("sub/folder/a.png", &png(24, 24, 5));
    let faint = RgbaImage::from_pixel(30, 30, Rgba([0, 0, 0, 0]));
    case.raw("alpha.png", &encoded(faint, ImageFormat::Png));
    let grey = DynamicImage::ImageRgb8(sample(30, 30, 6)).into_luma8();
    case.raw("grey.png", &encoded(grey, ImageFormat::Png));
    case.raw("broken.jpg", &encoded(sample(30, 30, 7), ImageFormat::Jpeg)[..300]);
    case.raw("tiny.png", &png(90, 8, 8));
    case.raw("empty.gif", b"");
    case.raw("notes.txt", b"BM is how a bitmap begins");
    case.raw(".DS_Store", b"\0\0\0\x01Bud1");
    case.raw("._a.png", b"\0\x05\x16\x07");
    case.raw(".hidden/x.png", &png(24, 24, 9));
    case
}

#[test]
fn everything_in_a_folder_is_written_dropped_skipped_or_ignored() {
    let case = everything();
    let report = case.run().unwrap();
    assert_eq!(
        report.to_string().lines().next().unwrap(),
        "12 read, 2 duplicates dropped, 3 skipped, 7 written (3 other files ignored)"
    );
    assert_eq!(report.n_read, report.n_written + report.duplicates.len() + report.skipped.len());
    let duplicate = |path: &str| Duplicate { path: path.into(), of: "a.png".into() };
    assert_eq!(report.duplicates, [duplicate("copy of a.png"), duplicate("same pixels as a.bmp")]);
    let skipped = |path: &str, reason: &str| Skipped { path: path.into(), reason: reason.into() };
    assert_eq!(
        report.skipped,
        [
            skipped("broken.jpg", "the file is cut short"),
            skipped("empty.gif", "the file is empty"),
            skipped("tiny.png", "90×8 pixels; a side is below 16"),
        ]
    );
    let names = [
        "a.png",
        "alpha.png",
        "b.png",
        "grey.png",
        "no extension.png",
        "really a png.png",
        "sub/folder/a.png",
    ];
    assert_eq!(case.names(), names);
    assert!(report.files.keys().eq(names));
    assert_eq!(report.files["b.png"], "b.jpg");

    for name in names {
        let picture = case.out(name);
        assert_eq!((picture.width(), picture.height()), (24, 24), "{name}");
        let content = std::fs::read(case.config.out_dir.join(name)).unwrap();
        assert_eq!(image::guess_format(&content).unwrap(), ImageFormat::Png, "{name}");
        // Colour type 2: RGB.
        assert_eq!((content[24], content[25]), (8, 2), "{name}");
    }
    assert!(case.out("alpha.png").bytes().iter().all(|&value| value == 255));
    assert!(case.out("grey.png").bytes().chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    assert_eq!(case.out("sub/folder/a.png").bytes(), sample(24, 24, 5).as_raw());
}

#[test]
fn the_fit_is_as_asked() {
    let mut case = everything();
    let wide = Picture::from_bytes(90, 40, 3, sample(90, 40, 1).into_raw()).unwrap();
    case.raw("wide.png", &png(90, 40, 1));
    for fit in [Fit::Crop, Fit::Stretch] {
        case.config.fit = fit;
        case.run().unwrap();
        assert_eq!(case.out("wide.png"), wide.clone().fit(24, 24, fit).unwrap());
    }
}

#[test]
fn duplicates_are_kept_when_asked() {
    let mut case = everything();
    case.config.keep_duplicates = true;
    let report = case.run().unwrap();
    assert_eq!((report.n_written, report.duplicates.len()), (9, 2));
    assert!(report.to_string().contains("2 duplicates kept"));
    assert_eq!(case.out("copy of a.png"), case.out("a.png"));
}

#[test]
fn strict_fails_before_anything_is_written() {
    let mut case = everything();
    case.config.strict = true;
    let error = case.run().unwrap_err();
    let message = error.to_string();
    assert!(
        message.ends_with("broken.jpg`: the file is cut short; 3 pictures cannot be used"),
        "{message}"
    );
    assert!(!case.config.out_dir.exists());
    for name in ["broken.jpg", "empty.gif", "tiny.png"] {
        std::fs::remove_file(case.config.raw_dir.join(name)).unwrap();
    }
    assert_eq!(case.run().unwrap().n_written, 7);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let outcome = |n_threads: usize| {
        let case = everything();
        for k in 0..40 {
            case.raw(&format!("{k}.png"), &png(30, 30, 50 + k % 10));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let mut report = pool.install(|| case.run().unwrap());
        report.raw_dir.clear();
        let mut files = case.files();
        files.remove(REPORT_FILE);
        (report, files)
    };
    assert_eq!(outcome(1), outcome(4));
}

#[test]
fn a_second_run_repeats_the_first() {
    let case = everything();
    let report = case.run().unwrap();
    let files = case.files();
    assert_eq!(case.run().unwrap(), report);
    assert_eq!(case.files(), files);
    let saved: PrepareReport = serde_json::from_slice(&files[REPORT_FILE]).unwrap();
    assert_eq!(saved, report);
    assert!(saved.complete);
}

#[test]
fn a_second_run_removes_what_it_does_not_write_again() {
    let case = everything();
    case.run().unwrap();
    std::fs::remove_file(case.config.raw_dir.join("b.jpg")).unwrap();
    // One that was fine breaks, and one becomes a copy of another.
    case.raw("grey.png", b"\x89PNG\r\n\x1a\n");
    case.raw("no extension", &png(40, 40, 1));
    case.raw("new.png", &png(40, 40, 11));
    case.run().unwrap();
    assert_eq!(
        case.names(),
        ["a.png", "alpha.png", "new.png", "really a png.png", "sub/folder/a.png"]
    );
}

#[test]
fn an_interrupted_run_can_be_repeated() {
    let case = everything();
    let whole = everything();
    whole.run().unwrap();
    for n_polls in 0..30 {
        let n_calls = AtomicUsize::new(0);
        let stop = |_: &Report<'_>| match n_calls.fetch_add(1, Ordering::Relaxed) < n_polls {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        if let Err(error) = prepare(&case.config, &stop) {
            assert!(matches!(error.kind(), ErrorKind::Interrupted), "{error}");
        }
        // What is there is whole; the journal is for the next run.
        for name in case.names().iter().filter(|name| !name.starts_with(".kao-prepared-")) {
            assert_eq!(case.out(name), whole.out(name));
        }
    }
    // As a killed process leaves it.
    write(&case.config.out_dir, "sub/.kao-prepare-x1y2z3", b"half a pict");
    case.run().unwrap();
    assert_eq!(case.names(), whole.names());
}

#[test]
fn pictures_stay_where_none_can_be_used_any_more() {
    let case = Case::new();
    case.raw("a.png", &png(40, 40, 1));
    case.raw("b.png", &png(40, 40, 2));
    case.run().unwrap();
    let before = [case.out("a.png"), case.out("b.png")];
    case.raw("a.png", b"");
    case.raw("b.png", b"");
    let error = case.run().unwrap_err().to_string();
    assert!(error.contains("none of 2 pictures can be used"), "{error}");
    assert_eq!([case.out("a.png"), case.out("b.png")], before);
}

#[test]
fn what_could_not_be_read_once_is_read_again() {
    let mut case = Case::new();
    case.raw("a.png", &png(40, 40, 1));
    case.raw("b.png", &png(40, 40, 2));
    case.config.shard = Some("0/1".parse().unwrap());
    case.run().unwrap();
    // As if a disk had failed at the time.
    let journal = case.config.out_dir.join(".kao-prepared-0-of-1.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let first = text.lines().find(|line| line.starts_with("[0,")).unwrap();
    let failed = format!("[0,{{\"s\":\"{}: a reason\"}}]", "cannot be read");
    for (reason, n_skipped) in [(failed.as_str(), 0), ("[0,{\"s\":\"broken: a reason\"}]", 1)] {
        std::fs::write(&journal, text.replace(first, reason)).unwrap();
        assert_eq!(case.run().unwrap().skipped.len(), n_skipped, "{reason}");
    }
    // Whoever wants no picture left out does not believe what was written before.
    case.config.strict = true;
    assert_eq!(case.run().unwrap().skipped.len(), 0);
    let unreadable = crate::dataset::DecodeError::Unreadable("x".to_owned()).to_string();
    assert!(unreadable.starts_with(crate::dataset::decode::UNREADABLE));
}

#[test]
fn enlarged_pictures_are_counted() {
    let case = Case::new();
    case.raw("large.png", &png(40, 40, 1));
    case.raw("same.png", &png(24, 24, 2));
    case.raw("narrow.png", &png(20, 90, 3));
    case.raw("small.png", &png(16, 16, 4));
    let report = case.run().unwrap();
    assert_eq!(report.n_enlarged, 2);
    assert_eq!(report.to_string(), "4 read, 4 written, 2 of them enlarged");
    // Who trains on them hears of it, at the prepared size and at larger ones.
    let load = |dir: &Path, side| Folder::load(dir, [3, side, side], &Unattended).unwrap();
    assert_eq!(load(&case.config.out_dir, 24).n_enlarged(), 2);
    assert_eq!(load(&case.config.out_dir, 32).n_enlarged(), 4);
    assert_eq!(load(&case.config.raw_dir, 16).n_enlarged(), 0);
    assert_eq!(load(&case.config.raw_dir, 24).n_enlarged(), 2);
}

#[test]
fn a_name_that_cannot_be_written_costs_one_picture() {
    let case = Case::new();
    case.raw("a.png", &png(24, 24, 1));
    // Longer with the extension than any file system allows.
    case.raw(&"u".repeat(253), &png(24, 24, 2));
    case.raw(&format!("{}.jpg", "b".repeat(251)), &png(24, 24, 3));
    case.raw(&format!("{}.png", "b".repeat(251)), &png(24, 24, 4));
    let report = case.run().unwrap();
    assert_eq!((report.n_written, report.skipped.len()), (4, 0));
    assert!(case.names().iter().all(|name| name.len() <= 255 && name.ends_with(".png")));
    // A path that is too long as a whole: the raw folder is reached by a shorter one.
    if cfg!(target_os = "linux") {
        let deep = "d".repeat(200);
        let mut out = case.dir.path().join("deep");
        while out.as_os_str().len() < 3700 {
            out.push(&deep);
        }
        std::fs::create_dir_all(&out).unwrap();
        case.raw(&format!("{}/{}/c.png", "e".repeat(200), "f".repeat(200)), &png(24, 24, 5));
        let config = PrepareConfig { out_dir: out, ..case.config.clone() };
        let report = prepare(&config, &Unattended).unwrap();
        assert_eq!(report.n_written + report.skipped.len(), 5);
        assert!(!report.skipped.is_empty());
        for Skipped { reason, .. } in &report.skipped {
            assert_eq!(reason, "its name is too long for the output folder");
        }
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_no_unicode_are_prepared() {
    use std::os::unix::ffi::OsStrExt;
    let case = Case::new();
    for (name, seed) in [(&b"\x93\xfa\x96\x7b.png"[..], 1), (b"\x8a\xe7\x96\x7b.png", 2)] {
        let path = case.config.raw_dir.join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(path, png(24, 24, seed)).unwrap();
    }
    let report = case.run().unwrap();
    assert_eq!((report.n_written, case.names().len()), (2, 2));
}

#[cfg(unix)]
#[test]
fn pipes_are_not_waited_for() {
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let case = everything();
    pipe(&case.config.raw_dir.join("pipe.png"));
    case.run().unwrap();
    let file = case.config.raw_dir.join("pipe.png");
    let error = Picture::read(&file).unwrap_err().to_string();
    assert_eq!(error, "cannot be read: this is a pipe, not a regular file");
    let error = Folder::load_files(&[file], [3, 24, 24]).unwrap_err().to_string();
    assert!(error.contains("this is a pipe"), "{error}");
    // Where a picture is to be written, and where the report is.
    std::fs::remove_file(case.config.out_dir.join("b.png")).unwrap();
    pipe(&case.config.out_dir.join("b.png"));
    let error = case.run().unwrap_err().to_string();
    assert!(error.ends_with("b.png`: what is there is no regular file"), "{error}");
    std::fs::remove_file(case.config.out_dir.join(REPORT_FILE)).unwrap();
    pipe(&case.config.out_dir.join(REPORT_FILE));
    let error = case.run().unwrap_err().to_string();
    assert!(error.ends_with("this is a pipe, not a regular file"), "{error}");
}

#[cfg(unix)]
#[test]
fn two_runs_into_one_folder_are_kept_apart() {
    let case = everything();
    // While pictures are written, the number of those that were read is reported again.
    let refused = Mutex::new(BTreeSet::new());
    let again = |report: &Report<'_>| {
        let error = case.run().unwrap_err().to_string();
        assert!(error.ends_with("another `kao prepare` is writing to this folder"), "{error}");
        refused.lock().unwrap().insert(report.done);
        ControlFlow::Continue(())
    };
    let report = prepare(&case.config, &again).unwrap();
    assert_eq!((report.n_written, refused.into_inner().unwrap().len()), (7, 12));
    case.run().unwrap();
}

#[test]
fn an_output_folder_with_other_pictures_is_refused() {
    let case = everything();
    write(&case.config.out_dir, "mine/photo.png", &png(24, 24, 1));
    let error = case.run().unwrap_err();
    assert!(error.to_string().contains("1 picture"), "{error}");
    assert!(error.to_string().contains("mine/photo.png"), "{error}");
    assert_eq!(case.names(), ["mine/photo.png"]);

    // Other files are nobody's business.
    std::fs::remove_dir_all(&case.config.out_dir).unwrap();
    write(&case.config.out_dir, "README.md", b"my data");
    case.run().unwrap();
    assert!(case.names().contains(&"README.md".to_owned()));
    // A report of something else is not overwritten.
    write(&case.config.out_dir, REPORT_FILE, b"{\"mine\": 1}");
    assert!(case.run().unwrap_err().to_string().contains(REPORT_FILE));
}

#[test]
fn folders_within_each_other_are_refused() {
    let case = everything();
    let raw = &case.config.raw_dir;
    let problem = |raw_dir: &Path, out_dir: &Path| {
        let config = PrepareConfig::new(raw_dir, out_dir);
        prepare(&config, &Unattended).unwrap_err().to_string()
    };
    assert!(problem(raw, raw).ends_with("the output folder is the raw folder"));
    assert!(problem(raw, &raw.join("sub/..")).ends_with("the output folder is the raw folder"));
    assert!(problem(raw, &raw.join("new/x")).ends_with("lies within the raw folder"));
    assert!(problem(&raw.join("sub"), raw).ends_with("lies within the output folder"));
    assert!(problem(raw, &case.dir.path().join("new/../raw")).ends_with("is the raw folder"));
    #[cfg(unix)]
    {
        let link = case.dir.path().join("link");
        std::os::unix::fs::symlink(raw, &link).unwrap();
        assert!(problem(raw, &link.join("new")).ends_with("lies within the raw folder"));
    }
    assert!(!raw.join("new").exists());
}

#[test]
fn a_raw_folder_without_a_usable_picture_is_refused() {
    let case = Case::new();
    let error = case.run().unwrap_err();
    assert!(error.to_string().ends_with("holds no picture: it is empty"), "{error}");
    assert!(error.hint().is_some());
    case.raw("notes.txt", b"nothing");
    let error = case.run().unwrap_err();
    assert!(error.to_string().ends_with("holds no picture, only 1 other file"), "{error}");
    case.raw("a.png", b"");
    let error = case.run().unwrap_err();
    assert!(error.to_string().ends_with("`a.png`: the file is empty"), "{error}");

    let missing = PrepareConfig::new(case.dir.path().join("nowhere"), &case.config.out_dir);
    let error = prepare(&missing, &Unattended).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn sizes_out_of_range_are_refused() {
    let mut case = everything();
    for size in [0, 4097] {
        case.config.size = size;
        assert!(matches!(case.run().unwrap_err().kind(), ErrorKind::Invalid { .. }));
    }
}

#[test]
fn progress_counts_every_picture() {
    let mut case = everything();
    for (strict, expected) in [(false, 12), (true, 18)] {
        case.config.strict = strict;
        if strict {
            for name in ["broken.jpg", "empty.gif", "tiny.png"] {
                std::fs::remove_file(case.config.raw_dir.join(name)).unwrap();
            }
        }
        let done = Mutex::new(BTreeSet::new());
        let control = |report: &Report<'_>| {
            done.lock().unwrap().insert(report.done);
            assert_eq!(report.total, Some(expected));
            ControlFlow::Continue(())
        };
        prepare(&case.config, &control).unwrap();
        assert_eq!(done.into_inner().unwrap(), (1..=expected).collect());
    }
}

#[cfg(unix)]
#[test]
fn prepared_files_can_be_read_as_any_new_file_can() {
    use std::os::unix::fs::PermissionsExt;
    let case = everything();
    case.run().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let plain = case.dir.path().join("plain");
    std::fs::write(&plain, b"").unwrap();
    assert_eq!(mode(&case.config.out_dir.join("a.png")), mode(&plain));
}

#[test]
fn a_prepared_folder_loads_as_it_was_written() {
    let case = everything();
    let report = case.run().unwrap();
    let folder = Folder::load(&case.config.out_dir, [3, 24, 24], &Unattended).unwrap();
    assert_eq!(folder.len(), report.n_written);
    assert!(folder.skipped().is_empty());
    for (index, picture) in folder.pictures().iter().enumerate() {
        assert_eq!(folder.picture_bytes(index).unwrap(), case.out(&picture.name).bytes());
    }
}

#[test]
fn the_pictures_of_the_project_are_counted_rightly() {
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/anime/raw/images");
    if !raw.exists() {
        println!("skipped: {} is not there", raw.display());
        return;
    }
    let out = tempdir().unwrap();
    let config = PrepareConfig::new(raw, out.path());
    let report = prepare(&config, &Unattended).unwrap();
    let expected = "5,600 read, 600 duplicates dropped, 5,000 written, 504 of them enlarged";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn tags_go_with_the_pictures_and_those_of_duplicates_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    std::fs::create_dir_all(raw.join("cats")).unwrap();
    let picture = |shade| RgbImage::from_pixel(20, 20, Rgb([shade, 0, 0]));
    picture(10).save(raw.join("a.png")).unwrap();
    picture(10).save(raw.join("b.bmp")).unwrap();
    picture(90).save(raw.join("cats/c.png")).unwrap();
    std::fs::write(raw.join("a.txt"), "red, dark").unwrap();
    std::fs::write(raw.join("b.txt"), "square").unwrap();
    let config = PrepareConfig { size: 16, ..PrepareConfig::new(&raw, &out) };
    let report = prepare(&config, &Unattended).unwrap();
    assert_eq!((report.n_written, report.n_tagged, report.tags.len()), (2, 1, 3));
    let lines = || std::fs::read_to_string(out.join("metadata.jsonl")).unwrap();
    let expected = r#"{"file_name":"a.png","tags":["dark","red","square"]}"#;
    assert_eq!(lines(), format!("{expected}\n"));

    let classes = PrepareConfig { classes: Some(Classes::Folders), ..config.clone() };
    let report = prepare(&classes, &Unattended).unwrap();
    assert_eq!(report.n_tagged, 2);
    assert!(lines().ends_with("{\"file_name\":\"cats/c.png\",\"tags\":[\"cats\"]}\n"));
    let text = report.to_string();
    assert!(text.contains("2 pictures with tags, 4 tags: "), "{text}");
    assert!(text.contains("rare: 4 tags of fewer than 10 pictures"), "{text}");

    // Tags that are gone leave none behind; somebody else's list is not touched.
    for name in ["a.txt", "b.txt"] {
        std::fs::remove_file(raw.join(name)).unwrap();
    }
    prepare(&config, &Unattended).unwrap();
    assert!(!out.join("metadata.jsonl").exists());
    let refused = || {
        let own = std::fs::read(out.join("metadata.jsonl")).unwrap();
        let error = prepare(&config, &Unattended).unwrap_err().to_string();
        assert!(error.contains("a metadata.jsonl that was not prepared"), "{error}");
        assert_eq!(std::fs::read(out.join("metadata.jsonl")).unwrap(), own);
        std::fs::remove_file(out.join("metadata.jsonl")).unwrap();
    };
    std::fs::write(out.join("metadata.jsonl"), "mine").unwrap();
    refused();
    std::fs::write(raw.join("a.txt"), "red").unwrap();
    prepare(&config, &Unattended).unwrap();
    prepare(&config, &Unattended).unwrap();
    std::fs::write(out.join("metadata.jsonl"), lines().replace("red", "blue")).unwrap();
    refused();
    std::fs::remove_file(raw.join("a.txt")).unwrap();
    prepare(&config, &Unattended).unwrap();
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("metadata.jsonl"), "mine").unwrap();
    let config = PrepareConfig { size: 16, ..PrepareConfig::new(&raw, &other) };
    let error = prepare(&config, &Unattended).unwrap_err().to_string();
    assert!(error.contains("a metadata.jsonl that was not prepared"), "{error}");
    assert_eq!(std::fs::read(other.join("metadata.jsonl")).unwrap(), b"mine");

    // A list that cannot be read ends the work before anything is written.
    std::fs::write(raw.join("metadata.jsonl"), "{").unwrap();
    let fresh = PrepareConfig { size: 16, ..PrepareConfig::new(&raw, dir.path().join("fresh")) };
    let error = prepare(&fresh, &Unattended).unwrap_err().to_string();
    assert!(error.contains("line 1: not a JSON object"), "{error}");
    assert!(!dir.path().join("fresh").exists());
}
