//! Raw pictures to a clean folder: one size, one format, each once.
//!
//! Pictures are read in parallel, but whatever one picture means for another (names, duplicates)
//! is decided in the order of paths, so the result is the same on every machine. How files get
//! into the output folder is the business of `output`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::cache::source_fingerprint;
use super::decode::Picture;
use super::fit::Fit;
use super::journal::{self, Journal, Outcome};
use super::names::output_names;
use super::output::{
    Before, create_dir, remove_tags, remove_temporary, save_report, temporary_prefix, write_png,
    write_tags,
};
use super::pack::{archive_names, member_name, remove_staged, staged, write_archives};
use super::report::{Duplicate, PrepareReport, Skipped, counted};
use super::scan::{Found, Scan, scan};
use super::tags::{Classes, Tags};
use crate::control::{Control, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::files::remove_leftovers;
use crate::locks::FolderLock;
use crate::shard::{Shard, range_of};

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
            shards: vec![],
            files: BTreeMap::new(),
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

    report.skipped.extend(scan.unreadable);
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
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
    let tags = take_tags(&tags, &mut report);
    match config.pictures_per_archive {
        Some(n) => {
            let out_dir = &config.out_dir;
            write_archives(out_dir, &written, n, &tags, &report.files, control)?;
            report.shards = archive_names(written.len(), n);
            remove_tags(out_dir)?;
        }
        None if report.n_tagged == 0 => remove_tags(&config.out_dir)?,
        None => write_tags(&config.out_dir, &tags.to_jsonl())?,
    }
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

/// What all steps of one run share.
struct Run<'a> {
    config: &'a PrepareConfig,
    pictures: &'a [Found],
    /// The name of each picture's file.
    outputs: &'a [String],
    temporary_prefix: &'a str,
    /// Pictures read so far.
    n_done: AtomicU64,
    /// Pictures to read in all.
    n_total: u64,
    control: &'a dyn Control,
}

/// A picture at its final size, and the hash of its pixels before that.
struct Ready {
    hash: [u64; 2],
    picture: Picture,
    is_enlarged: bool,
}

/// What is known of a picture before it is decided on.
enum Candidate {
    /// From this run.
    Read(Result<Ready, String>),
    /// From an earlier one.
    Known(Outcome),
}

impl Run<'_> {
    /// Fails when any picture in `range` would be skipped, and writes nothing.
    fn check(&self, scan: &Scan, range: Range<usize>) -> Result<()> {
        let reasons: Vec<Option<String>> = self.pictures[range.clone()]
            .par_iter()
            .map(|found| self.read(found).map(|outcome| outcome.err()))
            .collect::<Result<_>>()?;
        let mut unusable: Vec<Skipped> = self.pictures[range]
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

    /// Where the file of the picture at position `index` goes.
    fn path(&self, index: usize) -> PathBuf {
        match self.config.pictures_per_archive {
            None => self.config.out_dir.join(&self.outputs[index]),
            Some(_) => staged(&self.config.out_dir, index),
        }
    }

    /// Writes the pictures in `range` that are not `known` yet and completes the report's lists;
    /// returns the positions of those that are written, in their order.
    fn write(
        &self,
        range: Range<usize>,
        mut known: Vec<Option<Outcome>>,
        mut journal: Journal,
        report: &mut PrepareReport,
    ) -> Result<Vec<u32>> {
        let side = self.config.size as usize;
        let chunk_len = (CHUNK_BYTES / (side * side * 3)).clamp(8, 1024);
        let mut first_of: HashMap<[u64; 2], u32> = HashMap::new();
        let mut written = Vec::new();
        // Whether a picture is a duplicate depends on those before it, so this is decided in order,
        // between the reading and the writing of a chunk.
        for start in range.clone().step_by(chunk_len) {
            let end = (start + chunk_len).min(range.end);
            let candidates: Vec<Candidate> = known[start..end]
                .par_iter_mut()
                .enumerate()
                .map(|(at, known)| self.candidate(start + at, known.take()))
                .collect::<Result<_>>()?;
            // What becomes of each picture of the chunk; those that are written come later.
            let mut to_write = Vec::with_capacity(candidates.len());
            let mut is_new = vec![false; candidates.len()];
            let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(candidates.len());
            for (index, candidate) in (start..).zip(candidates) {
                is_new[index - start] = matches!(candidate, Candidate::Read(_));
                let hash = match &candidate {
                    Candidate::Read(Ok(Ready { hash, .. }))
                    | Candidate::Known(Outcome::Usable { hash, .. }) => *hash,
                    Candidate::Read(Err(reason)) => {
                        outcomes.push(Some(Outcome::Skipped(reason.as_str().into())));
                        continue;
                    }
                    Candidate::Known(Outcome::Skipped(_)) => {
                        let Candidate::Known(outcome) = candidate else { continue };
                        outcomes.push(Some(outcome));
                        continue;
                    }
                };
                // Positions fit, since each picture takes memory.
                let first = *first_of.entry(hash).or_insert(index as u32) as usize;
                if first != index {
                    report.duplicates.push(Duplicate {
                        path: self.pictures[index].relative.clone(),
                        of: self.pictures[first].relative.clone(),
                    });
                }
                let is_dropped = first != index && !self.config.keep_duplicates;
                match candidate {
                    Candidate::Read(Ok(Ready { is_enlarged, .. })) if is_dropped => {
                        outcomes.push(Some(Outcome::Usable { hash, is_enlarged, file: None }));
                    }
                    Candidate::Known(Outcome::Usable { is_enlarged, .. }) if is_dropped => {
                        outcomes.push(Some(Outcome::Usable { hash, is_enlarged, file: None }));
                    }
                    Candidate::Read(Ok(ready)) => {
                        to_write.push((index, ready));
                        outcomes.push(None);
                    }
                    Candidate::Known(outcome @ Outcome::Usable { file: Some(_), .. }) => {
                        outcomes.push(Some(outcome));
                    }
                    // Dropped before, when another picture was there that has changed since.
                    Candidate::Known(_) | Candidate::Read(Err(_)) => {
                        let read =
                            self.pictures[index].read_with(|found| self.ready_picture(found));
                        let read = read.map_err(|error| error.to_string()).and_then(|read| read);
                        is_new[index - start] = true;
                        match read {
                            Ok(ready) => {
                                to_write.push((index, ready));
                                outcomes.push(None);
                            }
                            Err(reason) => outcomes.push(Some(Outcome::Skipped(reason.into()))),
                        }
                    }
                }
            }
            let files: Vec<(usize, Outcome)> = to_write
                .into_par_iter()
                .map(|(index, Ready { hash, picture, is_enlarged })| {
                    self.report(self.n_done.load(Ordering::Relaxed))?;
                    match write_png(&self.path(index), &picture, self.temporary_prefix) {
                        Ok(file) => {
                            Ok((index, Outcome::Usable { hash, is_enlarged, file: Some(file) }))
                        }
                        Err(error) => match why_unnameable(&error) {
                            Some(reason) => Ok((index, Outcome::Skipped(reason.into()))),
                            None => Err(error),
                        },
                    }
                })
                .collect::<Result<_>>()?;
            for (index, outcome) in files {
                outcomes[index - start] = Some(outcome);
            }
            let decided = (start..).zip(outcomes.iter().flatten());
            journal.note(decided.clone().filter(|(index, _)| is_new[*index - start]))?;
            for (index, outcome) in decided {
                match outcome {
                    Outcome::Skipped(reason) => {
                        let path = self.pictures[index].relative.clone();
                        report.skipped.push(Skipped { path, reason: reason.to_string() });
                    }
                    Outcome::Usable { file: None, .. } => {}
                    Outcome::Usable { is_enlarged, .. } => {
                        report.n_enlarged += usize::from(*is_enlarged);
                        written.push(index as u32);
                    }
                }
            }
        }
        Ok(written)
    }

    /// What is known of the picture at position `index`: from an earlier run where its file is whole,
    /// otherwise it is read.
    fn candidate(&self, index: usize, known: Option<Outcome>) -> Result<Candidate> {
        let is_there = match &known {
            None => false,
            Some(Outcome::Usable { file: Some(file), .. }) => file.is_at(&self.path(index)),
            Some(_) => true,
        };
        match known.filter(|_| is_there) {
            Some(known) => {
                let n_done = self.n_done.fetch_add(1, Ordering::Relaxed) + 1;
                self.report(n_done)?;
                Ok(Candidate::Known(known))
            }
            None => self.read(&self.pictures[index]).map(Candidate::Read),
        }
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
            .finalize();
        // Half of it tells billions of pictures apart.
        let part = |at: usize| {
            hash[at..at + 8].iter().fold(0, |word: u64, &byte| word << 8 | u64::from(byte))
        };
        let hash = [part(0), part(8)];
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
