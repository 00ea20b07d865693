//! Raw pictures to a clean folder: one size, one format, each once.
//!
//! Pictures are read in parallel, but whatever one picture means for another (names, duplicates)
//! is decided in the order of paths, so the result is the same on every machine. How files get
//! into the output folder is the business of `output`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::Picture;
use super::fit::Fit;
use super::names::output_names;
use super::output::{
    Before, create_dir, remove_tags, remove_temporary, save_report, write_png, write_tags,
};
use super::report::{Duplicate, PrepareReport, Skipped, counted};
use super::scan::{Found, Scan, scan};
use super::tags::{Classes, Tags};
use crate::control::{Control, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::locks::FolderLock;

/// Sides that a prepared picture may have, in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 1..=4096;

/// Memory for prepared pictures that wait to be written.
const CHUNK_BYTES: usize = 64 << 20;

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
        }
    }
}

/// Turns the pictures of a folder into PNGs (RGB, 8 bits) of one size in another folder.
///
/// Pictures are decoded as [`Picture::decode`] says. Those whose decoded pixels are the same are
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
    let outputs = output_names(scan.pictures.iter().map(|found| found.relative.as_str()));
    Before::look(&config.out_dir)?;
    let names = scan.pictures.iter().map(|found| found.relative.as_str());
    let tags = Tags::read(&config.raw_dir, names, config.classes)?;

    let passes = if config.strict { 2 } else { 1 };
    let n_total = (passes * scan.pictures.len()) as u64;
    let run = Run { config, n_done: AtomicU64::new(0), n_total, control };
    if config.strict {
        run.check(&scan)?;
    }

    create_dir(&config.out_dir)?;
    let _lock = FolderLock::take(&config.out_dir, "another `kao prepare`")?;
    // Once more: another run may have begun and ended there meanwhile.
    let before = Before::look(&config.out_dir)?;
    let mut report = PrepareReport {
        complete: false,
        raw_dir: config.raw_dir.to_string_lossy().into_owned(),
        size: config.size,
        fit: config.fit,
        keep_duplicates: config.keep_duplicates,
        min_side: config.min_side,
        n_read: scan.pictures.len() + scan.unreadable.len(),
        n_ignored: scan.n_ignored,
        n_written: 0,
        n_enlarged: 0,
        n_tagged: 0,
        min_tag_count: config.min_tag_count,
        tags: BTreeMap::new(),
        warnings: tags.warnings().to_vec(),
        duplicates: vec![],
        skipped: vec![],
        // Until the run is complete: whatever may lie there and is Kao's own.
        files: outputs
            .iter()
            .zip(&scan.pictures)
            .map(|(output, found)| (output.clone(), found.relative.clone()))
            .chain(before.owned.iter().map(|output| (output.clone(), String::new())))
            .collect(),
    };
    save_report(&config.out_dir, &report)?;
    remove_temporary(&config.out_dir)?;
    // What is not to be written again goes before anything is written: on a disk that ignores
    // case the new `a.png` would replace the old `A.png`.
    let planned: BTreeSet<&String> = outputs.iter().collect();
    before.remove(&config.out_dir, |output| !planned.contains(output))?;

    let written = run.write(&scan.pictures, &outputs, &mut report)?;
    before.remove(&config.out_dir, |output| {
        planned.contains(output) && !written.contains_key(output)
    })?;

    report.skipped.extend(scan.unreadable);
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    report.n_written = written.len();
    report.files = written;
    if report.n_written == 0 {
        let Skipped { path, reason } = &report.skipped[0];
        return Err(Error::malformed(
            &config.raw_dir,
            format!(
                "none of {} can be used; the first, `{path}`: {reason}",
                counted(report.n_read, "picture")
            ),
        ));
    }
    save_tags(&config.out_dir, &tags, &mut report)?;
    report.complete = true;
    save_report(&config.out_dir, &report)?;
    Ok(report)
}

/// Writes the tags of the pictures that were written beside them, and counts them. A duplicate that
/// was dropped leaves its tags to the picture that is there.
fn save_tags(out_dir: &Path, tags: &Tags, report: &mut PrepareReport) -> Result<()> {
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
    match report.n_tagged {
        0 => remove_tags(out_dir),
        _ => write_tags(out_dir, &written.to_jsonl()),
    }
}

/// What all steps of one run share.
struct Run<'a> {
    config: &'a PrepareConfig,
    /// Pictures read so far.
    n_done: AtomicU64,
    /// Pictures to read in all.
    n_total: u64,
    control: &'a dyn Control,
}

/// A picture at its final size, and the hash of its pixels before that.
struct Ready {
    hash: [u8; 32],
    picture: Picture,
    is_enlarged: bool,
}

impl Run<'_> {
    /// Fails when any picture would be skipped, and writes nothing.
    fn check(&self, scan: &Scan) -> Result<()> {
        let reasons: Vec<Option<String>> = scan
            .pictures
            .par_iter()
            .map(|found| self.read(found).map(|outcome| outcome.err()))
            .collect::<Result<_>>()?;
        let mut unusable: Vec<Skipped> = scan
            .pictures
            .iter()
            .zip(reasons)
            .filter_map(|(found, reason)| {
                Some(Skipped { path: found.relative.clone(), reason: reason? })
            })
            .chain(scan.unreadable.iter().cloned())
            .collect();
        unusable.sort_by(|a, b| a.path.cmp(&b.path));
        match unusable.first() {
            None => Ok(()),
            Some(Skipped { path, reason }) => Err(Error::malformed(
                self.config.raw_dir.join(path),
                format!("{reason}; {} cannot be used", counted(unusable.len(), "picture")),
            )
            .with_hint("leave `strict` out to have such files skipped and listed")),
        }
    }

    /// Writes the pictures and completes the report's lists; returns each output with its source.
    fn write(
        &self,
        pictures: &[Found],
        outputs: &[String],
        report: &mut PrepareReport,
    ) -> Result<BTreeMap<String, String>> {
        let side = self.config.size as usize;
        let chunk_len = (CHUNK_BYTES / (side * side * 3)).clamp(8, 4096);
        let mut first_of: HashMap<[u8; 32], usize> = HashMap::new();
        let mut written = BTreeMap::new();
        // Whether a picture is a duplicate depends on those before it, so this is decided in order,
        // between the reading and the writing of a chunk.
        for start in (0..pictures.len()).step_by(chunk_len) {
            let end = (start + chunk_len).min(pictures.len());
            let outcomes: Vec<Result<Ready, String>> = pictures[start..end]
                .par_iter()
                .map(|found| self.read(found))
                .collect::<Result<_>>()?;
            let mut to_write = Vec::with_capacity(outcomes.len());
            for (index, outcome) in (start..).zip(outcomes) {
                let path = pictures[index].relative.clone();
                let Ready { hash, picture, is_enlarged } = match outcome {
                    Ok(ready) => ready,
                    Err(reason) => {
                        report.skipped.push(Skipped { path, reason });
                        continue;
                    }
                };
                let first = *first_of.entry(hash).or_insert(index);
                if first != index {
                    let of = pictures[first].relative.clone();
                    report.duplicates.push(Duplicate { path: path.clone(), of });
                    if !self.config.keep_duplicates {
                        continue;
                    }
                }
                to_write.push((index, picture, is_enlarged));
            }
            let refusals: Vec<Option<String>> = to_write
                .par_iter()
                .map(|(index, picture, _)| {
                    self.report(self.n_done.load(Ordering::Relaxed))?;
                    let path = self.config.out_dir.join(&outputs[*index]);
                    match write_png(&path, picture) {
                        Ok(()) => Ok(None),
                        Err(error) => why_unnameable(&error).map(Some).ok_or(error),
                    }
                })
                .collect::<Result<_>>()?;
            for ((index, _, is_enlarged), refusal) in to_write.into_iter().zip(refusals) {
                let path = pictures[index].relative.clone();
                match refusal {
                    Some(reason) => report.skipped.push(Skipped { path, reason }),
                    None => {
                        written.insert(outputs[index].clone(), path);
                        report.n_enlarged += usize::from(is_enlarged);
                    }
                }
            }
        }
        Ok(written)
    }

    /// Reads one picture. The outer error ends the run, the inner one skips the picture.
    fn read(&self, found: &Found) -> Result<Result<Ready, String>> {
        let outcome = found.read_with(|picture| self.ready_picture(picture));
        let outcome = outcome.map_err(|error| error.to_string()).and_then(|ready| ready);
        let n_done = self.n_done.fetch_add(1, Ordering::Relaxed) + 1;
        self.report(n_done)?;
        Ok(outcome)
    }

    fn ready_picture(&self, picture: Picture) -> Result<Ready, String> {
        let (width, height) = (picture.width(), picture.height());
        if width.min(height) < self.config.min_side {
            return Err(format!(
                "{width}×{height} pixels; a side is below {}",
                self.config.min_side
            ));
        }
        let hash = Sha256::new()
            .chain_update(width.to_le_bytes())
            .chain_update(height.to_le_bytes())
            .chain_update(picture.bytes())
            .finalize()
            .into();
        let size = self.config.size;
        let is_enlarged = picture.is_smaller_than(size, size);
        let picture = picture.fit(size, size, self.config.fit);
        let picture = picture.map_err(|error| error.to_string())?;
        Ok(Ready { hash, picture, is_enlarged })
    }

    /// Reports so many pictures as read; an error when the work is to stop.
    fn report(&self, n_done: u64) -> Result<()> {
        self.control.check(&Report::progress("preparing", n_done, Some(self.n_total), "pictures"))
    }
}

/// Why a picture cannot have its name in the output folder, where that is what `error` says: the
/// file system allows fewer letters than most, or the whole path is too long.
fn why_unnameable(error: &Error) -> Option<String> {
    match error.kind() {
        ErrorKind::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidFilename => {
            Some("its name is too long for the output folder".into())
        }
        _ => None,
    }
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
