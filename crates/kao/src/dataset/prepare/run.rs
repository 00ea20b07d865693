//! One run of a preparation over the raw pictures: what becomes of each.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::PrepareConfig;
use crate::control::{Control, Report};
use crate::dataset::decode::{Picture, UNREADABLE};
use crate::dataset::journal::{Journal, Outcome};
use crate::dataset::output::write_png;
use crate::dataset::pack::staged;
use crate::dataset::report::{Duplicate, PrepareReport, Skipped, counted};
use crate::dataset::scan::{Found, Scan};
use crate::error::{Error, ErrorKind, Result};

/// Memory for prepared pictures that wait to be written.
const CHUNK_BYTES: usize = 64 << 20;

/// What all steps of one run share.
pub(super) struct Run<'a> {
    pub config: &'a PrepareConfig,
    pub pictures: &'a [Found],
    /// The name of each picture's file.
    pub outputs: &'a [String],
    pub temporary_prefix: &'a str,
    /// Pictures read so far.
    pub n_done: AtomicU64,
    /// Pictures to read in all.
    pub n_total: u64,
    pub control: &'a dyn Control,
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
    pub fn check(&self, scan: &Scan, range: Range<usize>) -> Result<()> {
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
    pub fn write(
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
                        if self.config.strict {
                            // It was good when all were looked at.
                            let path = self.config.raw_dir.join(path);
                            return Err(Error::malformed(path, reason));
                        }
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
            Some(Outcome::Usable { file: None, .. }) => true,
            // It may be readable now.
            Some(Outcome::Skipped(reason)) => {
                !self.config.strict && !reason.starts_with(UNREADABLE)
            }
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
