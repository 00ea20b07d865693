//! Raw pictures to a clean folder: one size, one format, each once.
//!
//! Pictures are read in parallel, but whatever one picture means for another (names, duplicates)
//! is decided in the order of paths, so the result is the same on every machine. How files get
//! into the output folder is the business of `output`, and what becomes of each picture that of `run`.

mod run;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicU64;

use self::run::Run;
use super::cache::source_fingerprint;
use super::fit::Fit;
use super::journal::{self, Journal};
use super::names::output_names;
use super::output::{
    Before, create_dir, remove_tags, remove_temporary, save_report, temporary_prefix, write_tags,
};
use super::pack::{archive_names, member_name, remove_staged, write_archives};
use super::report::{Duplicate, PrepareReport, Skipped, counted};
use super::scan::{Found, Scan, scan};
use super::tags::{Classes, Tags};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::files::remove_leftovers;
use crate::locks::FolderLock;
use crate::shard::{Shard, range_of};

/// Sides that a prepared picture may have, in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 1..=4096;

/// What [`prepare`] is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareConfig {
    /// The folder of raw pictures, flat or with sub-folders.
    pub raw_dir: PathBuf,
    /// The folder to fill. It is created where it does not exist; sub-folders of the raw folder
    /// are kept below it.
    pub out_dir: PathBuf,
    /// Side of the written pictures in pixels, 1 to 4096.
    pub size: u32,
    /// How pictures that are not square become so.
    pub fit: Fit,
    /// Write pictures whose pixels are those of another, too.
    pub keep_duplicates: bool,
    /// Fail when a picture would be skipped.
    pub strict: bool,
    /// Skip pictures with a side below this many pixels.
    pub min_side: u32,
    /// What besides files of tags says of pictures what they show.
    pub classes: Option<Classes>,
    /// Tags of fewer pictures are called rare in the report. They are carried over all the same.
    pub min_tag_count: u64,
    /// Write tar archives of so many pictures each in the place of a file for each picture.
    pub pictures_per_archive: Option<usize>,
    /// Prepare only a part of the pictures. The run without it takes over what the parts have done.
    pub shard: Option<Shard>,
}

impl PrepareConfig {
    /// 64 pixels, [`Fit::Crop`], duplicates dropped, sides from 16 pixels, unusable files skipped.
    pub fn new(raw_dir: impl Into<PathBuf>, out_dir: impl Into<PathBuf>) -> Self {
        PrepareConfig {
            raw_dir: raw_dir.into(),
            out_dir: out_dir.into(),
            size: 64,
            fit: Fit::default(),
            keep_duplicates: false,
            strict: false,
            min_side: 16,
            classes: None,
            min_tag_count: 10,
            pictures_per_archive: None,
            shard: None,
        }
    }

    /// What stands for the raw pictures and for the settings on which files and hashes depend.
    fn fingerprint(&self, pictures: &[Found]) -> Result<String> {
        let PrepareConfig { size, fit, keep_duplicates, min_side, pictures_per_archive, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        let into_archives = pictures_per_archive.is_some();
        let settings = (version, size, fit, keep_duplicates, min_side, into_archives);
        source_fingerprint(pictures, settings)
    }

    /// How a report begins.
    fn report(&self) -> PrepareReport {
        PrepareReport {
            complete: false,
            raw_dir: self.raw_dir.to_string_lossy().into_owned(),
            size: self.size,
            fit: self.fit,
            keep_duplicates: self.keep_duplicates,
            min_side: self.min_side,
            n_read: 0,
            n_ignored: 0,
            n_written: 0,
            n_enlarged: 0,
            n_tagged: 0,
            min_tag_count: self.min_tag_count,
            tags: BTreeMap::new(),
            warnings: vec![],
            duplicates: vec![],
            skipped: vec![],
            tag_lists: None,
            shards: vec![],
            files: BTreeMap::new(),
        }
    }
}

/// Turns the pictures of a folder into PNGs (RGB, 8 bits) of one size in another folder.
///
/// Pictures are decoded as [`Picture::decode`](super::Picture::decode) says. Those whose decoded pixels are the same are
/// duplicates, whatever their files look like (equal files always are); the first in the order of
/// paths is written. Files that are broken, too small or unreadable are skipped and listed in the
/// report. The result does not depend on the number of threads.
///
/// The report is returned, and saved in the output folder as [`REPORT_FILE`](super::REPORT_FILE).
/// Each file is written under a temporary name and renamed. A second run into the same folder
/// replaces what the first wrote and removes those of its pictures that it does not write again;
/// while the first is under way it is refused.
/// [`Folder::load`](super::Folder::load) refuses a folder whose last run did not end.
///
/// A run that was killed leaves a journal, and the next one goes on where it stopped, to the same
/// bytes. A shard does a part of the pictures and leaves its journal; when all have come to their
/// end, or some of them, the run of the whole takes over what is done, does what is left, drops
/// duplicates among all, and writes tags and report. Shards may run into one folder at the same time.
///
/// Memory grows with the number of pictures by what is known of each (names, hash, outcome: some
/// hundred bytes), and not with their size.
///
/// `control` gets reports from several threads: the number of pictures read so far. With `strict`
/// each is read twice: once to check, once to write.
///
/// # Errors
/// When a folder cannot be read or written, when one of the two folders lies within the other,
/// when there is no usable picture, when the output folder holds pictures that no earlier run
/// wrote, when another run writes to it, when `size` is out of range, or when `control` stops the work ([`ErrorKind::Interrupted`]). With
/// `strict` also when any picture would be skipped; then nothing has been written.
///
/// [`ErrorKind::Interrupted`]: crate::error::ErrorKind::Interrupted
pub fn prepare(config: &PrepareConfig, control: &dyn Control) -> Result<PrepareReport> {
    if !SIZES.contains(&config.size) {
        let allowed = format!("between {} and {} pixels", SIZES.start(), SIZES.end());
        return Err(Error::out_of_range("size", config.size, allowed));
    }
    let scan = scan(&config.raw_dir)?;
    refuse_nested(&config.raw_dir, &config.out_dir)?;
    if scan.pictures.is_empty() {
        return Err(no_pictures(&config.raw_dir, &scan));
    }
    if config.pictures_per_archive == Some(0) {
        return Err(Error::out_of_range("shards", 0, "at least 1 picture in each"));
    }
    let outputs = output_names(scan.pictures.iter().map(|found| found.relative.as_str()));
    let into_archives = config.pictures_per_archive.is_some();
    Before::look(&config.out_dir, into_archives)?;
    let tags = match config.shard {
        None => {
            let names = scan.pictures.iter().map(|found| found.relative.as_str());
            Tags::read(&config.raw_dir, names, config.classes)?
        }
        Some(_) => Tags::default(),
    };
    let fingerprint = config.fingerprint(&scan.pictures)?;
    let range = range_of(config.shard, scan.pictures.len());

    let passes = if config.strict { 2 } else { 1 };
    let n_total = (passes * range.len()) as u64;
    let temporary_prefix = temporary_prefix(config.shard);
    let run = Run {
        config,
        pictures: &scan.pictures,
        outputs: &outputs,
        temporary_prefix: &temporary_prefix,
        n_done: AtomicU64::new(0),
        n_total,
        control,
    };
    if config.strict {
        run.check(&scan, range.clone())?;
    }

    create_dir(&config.out_dir)?;
    let work = "another `kao prepare`";
    let _lock = match config.shard {
        None => FolderLock::take(&config.out_dir, work)?,
        Some(_) => FolderLock::share(&config.out_dir, work)?,
    };
    // Once more: another run may have begun and ended there meanwhile.
    let before = Before::look(&config.out_dir, into_archives)?;
    let planned: BTreeSet<&String> = match into_archives {
        true => BTreeSet::new(),
        false => outputs.iter().collect(),
    };
    let mut report = PrepareReport {
        n_read: scan.pictures.len() + scan.unreadable.len(),
        n_ignored: scan.n_ignored,
        warnings: tags.warnings().to_vec(),
        tag_lists: Some(before.tag_list.into_iter().collect()),
        // Until the run is complete: whatever may lie there and is Kao's own.
        files: outputs
            .iter()
            .zip(&scan.pictures)
            .filter(|_| !into_archives)
            .map(|(output, found)| (output.clone(), found.relative.clone()))
            .chain(before.owned.iter().map(|output| (output.clone(), String::new())))
            .collect(),
        shards: match config.pictures_per_archive {
            None => before.archives().cloned().collect(),
            Some(n) => archive_names(scan.pictures.len(), n),
        },
        ..config.report()
    };
    save_report(&config.out_dir, &report, &temporary_prefix)?;
    (report.files, report.shards) = Default::default();
    remove_temporary(&config.out_dir, &temporary_prefix)?;
    if config.shard.is_none() {
        remove_leftovers(&config.out_dir)?;
    }
    // What is not to be written again goes before anything is written: on a disk that ignores
    // case the new `a.png` would replace the old `A.png`.
    before.remove(&config.out_dir, |output| !planned.contains(output))?;

    let known = journal::read_all(&config.out_dir, &fingerprint, scan.pictures.len())?;
    let journal = Journal::begin(&config.out_dir, &fingerprint, config.shard)?;
    let written = run.write(range.clone(), known, journal, &mut report)?;
    report.n_written = written.len();
    if config.shard.is_some() {
        report.n_read = range.len();
        return Ok(report);
    }
    report.skipped.extend(scan.unreadable);
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    if report.n_written == 0 {
        // What an earlier run has prepared stays: a disk may have failed.
        let Skipped { path, reason } = &report.skipped[0];
        return Err(Error::malformed(
            &config.raw_dir,
            format!(
                "none of {} can be used; the first, `{path}`: {reason}",
                counted(report.n_read, "picture")
            ),
        ));
    }
    let position_of = |k: usize| written[k] as usize;
    report.files = (0..written.len())
        .map(|k| {
            let output = match config.pictures_per_archive {
                None => outputs[position_of(k)].clone(),
                Some(n) => member_name(k, n),
            };
            (output, scan.pictures[position_of(k)].relative.clone())
        })
        .collect();
    let is_dropped =
        |output: &String| planned.contains(output) && !report.files.contains_key(output);
    before.remove(&config.out_dir, is_dropped)?;
    before.remove_empty_folders(&config.out_dir, is_dropped);

    let tags = take_tags(&tags, &mut report);
    report.tag_lists = Some(match config.pictures_per_archive {
        Some(n) => {
            let out_dir = &config.out_dir;
            write_archives(out_dir, &written, n, &tags, &report.files, control)?;
            report.shards = archive_names(written.len(), n);
            remove_tags(out_dir)?;
            Vec::new()
        }
        None if report.n_tagged == 0 => {
            remove_tags(&config.out_dir)?;
            Vec::new()
        }
        None => {
            let lines = tags.to_jsonl();
            let checksum = crc32c::crc32c(lines.as_bytes());
            // Both are Kao's, whichever is there when the power fails now.
            report.tag_lists.get_or_insert_default().push(checksum);
            save_report(&config.out_dir, &report, &temporary_prefix)?;
            write_tags(&config.out_dir, &lines)?;
            vec![checksum]
        }
    });
    before.remove_archives(&config.out_dir, &report.shards)?;
    report.complete = true;
    save_report(&config.out_dir, &report, &temporary_prefix)?;
    journal::remove_all(&config.out_dir)?;
    remove_staged(&config.out_dir)?;
    Ok(report)
}

/// The tags of the pictures that were written, by the names of their files, counted in the report. A
/// duplicate that was dropped leaves its tags to the picture that is there.
fn take_tags(tags: &Tags, report: &mut PrepareReport) -> Tags {
    if tags.n_tagged() == 0 {
        return Tags::default();
    }
    let mut outputs: HashMap<&str, &str> =
        report.files.iter().map(|(output, source)| (source.as_str(), output.as_str())).collect();
    for Duplicate { path, of } in &report.duplicates {
        if let Some(&output) = outputs.get(of.as_str()) {
            outputs.entry(path).or_insert(output);
        }
    }
    let written = tags.renamed(|source| outputs.get(source).copied());
    for tag in report.files.keys().flat_map(|output| written.of(output)) {
        *report.tags.entry(tag.clone()).or_default() += 1;
    }
    report.n_tagged = written.n_tagged();
    written
}

/// Refuses folders of which one lies within the other, or is the other.
fn refuse_nested(raw_dir: &Path, out_dir: &Path) -> Result<()> {
    let raw = resolved(raw_dir)?;
    let out = resolved(out_dir)?;
    let problem = if raw == out {
        "the output folder is the raw folder"
    } else if out.starts_with(&raw) {
        "the output folder lies within the raw folder"
    } else if raw.starts_with(&out) {
        "the raw folder lies within the output folder"
    } else {
        return Ok(());
    };
    Err(Error::malformed(out_dir, problem).with_hint("choose a folder beside the raw one"))
}

/// The absolute path with links followed, as far as it exists.
fn resolved(path: &Path) -> Result<PathBuf> {
    let failed = |source| Error::io("find", path, source);
    let mut resolved = PathBuf::new();
    for component in std::path::absolute(path).map_err(failed)?.components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            component => resolved.push(component),
        }
        // Step by step, because `..` behind a link leads to the parent of its target.
        match resolved.canonicalize() {
            Ok(canonical) => resolved = canonical,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(resolved)
}

fn no_pictures(dir: &Path, scan: &Scan) -> Error {
    let found = match (scan.unreadable.first(), scan.n_ignored) {
        (Some(Skipped { path, reason }), _) => format!("holds no picture; `{path}` {reason}"),
        (None, 0) => "holds no picture: it is empty".into(),
        (None, n_ignored) => format!("holds no picture, only {}", counted(n_ignored, "other file")),
    };
    Error::malformed(dir, found)
        .with_hint("give a folder with JPEG, PNG, GIF, WebP, BMP or TIFF files, in it or below it")
}
