//! What lies in a folder or in archives: the files that are pictures or claim to be, in a fixed
//! order.
//!
//! This opens a file only to look at its first bytes where the name does not say what it is.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use walkdir::{DirEntry, WalkDir};

use super::archives;

use super::decode::{self, DecodeError, MAX_FILE_BYTES, Picture};
use super::kinds::{EDM_FILE, TEXT_EXTENSIONS, is_named_as_archive, is_named_as_picture};
use super::report::Skipped;
use super::tar::{self, Entry};
use crate::error::{Error, Result};
use crate::files::{open_regular, read_exact_at};
use crate::vocabulary::TAG_LIST;

/// What every run directory of `kao train` holds.
const RUN_FOLDERS: [&str; 3] = ["checkpoints", "samples", "logs"];
const RUN_FILE: &str = "config.toml";

/// A file that is a picture or claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub source: Source,
    /// Below the scanned folder, parts joined by `/`; of a picture in an archive, the archive's name
    /// and the picture's in it.
    pub relative: String,
}

/// Where the content of a picture is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// Part of an archive.
    InArchive { archive: Arc<Path>, offset: u64, len: u64 },
}

thread_local! {
    /// The archive that a thread has read from last: pictures that follow each other are mostly in
    /// one. It is known by its address, so that a file which took its place later is another.
    static OPENED: RefCell<Option<(Arc<Path>, File)>> = const { RefCell::new(None) };
}

impl Found {
    /// Reads and decodes the picture, as [`Picture::read_with`] does.
    pub fn read_with<T>(&self, then: impl FnOnce(Picture) -> T) -> Result<T, DecodeError> {
        match &self.source {
            Source::File(path) => Picture::read_with(path, then),
            Source::InArchive { archive, offset, len } => {
                let unreadable =
                    |error: &dyn std::fmt::Display| DecodeError::Unreadable(error.to_string());
                let length = usize::try_from(*len).ok().filter(|_| *len <= MAX_FILE_BYTES);
                let Some(length) = length else { return Err(DecodeError::TooManyBytes(*len)) };
                let mut content = vec![0; length];
                OPENED.with_borrow_mut(|opened| {
                    let is_open = |(path, _): &&mut (Arc<Path>, File)| Arc::ptr_eq(path, archive);
                    let file = match opened.as_mut().filter(is_open) {
                        Some((_, file)) => file,
                        None => {
                            let file = open_regular(archive).map_err(|error| unreadable(&error))?;
                            &mut opened.insert((archive.clone(), file)).1
                        }
                    };
                    read_exact_at(file, &mut content, *offset).map_err(|error| unreadable(&error))
                })?;
                Picture::read_content_with(content.as_slice(), *len, then)
            }
        }
    }
}

/// The content of a folder and its sub-folders.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Sorted by `relative`.
    pub pictures: Vec<Found>,
    /// How many other files there are.
    pub n_ignored: usize,
    /// Entries that could not even be looked at, sorted.
    pub unreadable: Vec<Skipped>,
}

/// Looks through `dir` and the folders below it, and where there is no picture, through the
/// archives in them; or through the archives that `dir` names. Links are followed; hidden files (whose name
/// begins with a dot) are ignored, and hidden folders passed over. So are run directories of
/// training: a model must not learn from its own samples.
pub(super) fn scan(dir: &Path) -> Result<Scan> {
    let (mut scan, archives) = scan_with_archives(dir)?;
    if scan.pictures.is_empty() && !archives.is_empty() {
        scan.n_ignored = scan.n_ignored.saturating_sub(archives.len());
        for (name, path) in archives {
            scan.read_archive(&name, path)?;
        }
        scan.pictures.sort_by(|a, b| a.relative.cmp(&b.relative));
        scan.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    }
    Ok(scan)
}

/// The archives with the pictures that [`scan`] finds: their names as those of pictures begin with
/// them, and where they are.
pub(super) fn archives_of(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let (scan, archives) = scan_with_archives(dir)?;
    Ok(if scan.pictures.is_empty() { archives } else { Vec::new() })
}

impl Scan {
    fn read_archive(&mut self, name: &str, path: PathBuf) -> Result<()> {
        let archive: Arc<Path> = path.into();
        tar::read(&archive, &mut |entry| {
            match entry {
                Entry::File { name: member, offset, len } if archives::is_picture(&member) => {
                    let source = Source::InArchive { archive: archive.clone(), offset, len };
                    self.pictures.push(Found { source, relative: format!("{name}/{member}") });
                }
                Entry::PassedOver { name: member, reason } if archives::is_picture(&member) => {
                    self.unreadable.push(Skipped { path: format!("{name}/{member}"), reason });
                }
                Entry::File { name: member, .. } => {
                    self.n_ignored += usize::from(archives::beside(&member).is_none());
                }
                Entry::PassedOver { .. } => self.n_ignored += 1,
            }
            Ok(())
        })
    }
}

/// The pictures that are files of their own, and the archives that `dir` holds or names.
fn scan_with_archives(dir: &Path) -> Result<(Scan, Vec<(String, PathBuf)>)> {
    match archives::named(dir)? {
        Some(named) if !dir.is_dir() => Ok((Scan::default(), named)),
        _ => scan_files(dir),
    }
}

/// As [`scan`], with the pictures alone that are files of their own; and the archives.
pub(super) fn scan_files(dir: &Path) -> Result<(Scan, Vec<(String, PathBuf)>)> {
    let metadata = std::fs::metadata(dir).map_err(|source| Error::io("read", dir, source))?;
    if !metadata.is_dir() {
        return Err(Error::malformed(dir, "is a file, where a folder of pictures is expected"));
    }
    let (mut scan, mut archives) = (Scan::default(), Vec::new());
    let entries = WalkDir::new(dir).follow_links(true).into_iter().filter_entry(|entry| {
        let is_below = entry.file_type().is_dir() && entry.depth() > 0;
        !(is_below && (is_hidden(entry) || is_run(entry.path())))
    });
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if entry.file_type().is_file() && is_picture(&entry) => {
                let relative = relative_name(dir, entry.path());
                scan.pictures.push(Found { source: Source::File(entry.into_path()), relative });
            }
            Ok(entry) => {
                scan.n_ignored += usize::from(!is_tag_list(&entry));
                let is_archive = entry.file_type().is_file() && !is_hidden(&entry);
                if is_archive && is_named_as_archive(entry.path()) {
                    let relative = relative_name(dir, entry.path());
                    archives.push((relative, entry.into_path()));
                }
            }
            Err(error) if error.depth() == 0 => {
                return Err(Error::io("read", dir, error.into()));
            }
            Err(error) => scan.unreadable.push(Skipped {
                path: error.path().map(|path| relative_name(dir, path)).unwrap_or_default(),
                reason: match error.io_error() {
                    Some(source) => format!("cannot be read: {source}"),
                    None => "a link that leads back to a folder above it".into(),
                },
            }),
        }
    }
    scan.n_ignored -= n_texts_beside(&scan.pictures);
    // Names that are no Unicode may look alike.
    let path = |found: &Found| match &found.source {
        Source::File(path) => Some(path.clone()),
        Source::InArchive { .. } => None,
    };
    scan.pictures.sort_by(|a, b| a.relative.cmp(&b.relative).then_with(|| path(a).cmp(&path(b))));
    scan.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    archives.sort();
    Ok((scan, archives))
}

/// How many texts with tags there are beside the pictures, which are read and not ignored.
fn n_texts_beside(pictures: &[Found]) -> usize {
    let paths = || {
        pictures.iter().filter_map(|found| match &found.source {
            Source::File(path) => Some(path),
            Source::InArchive { .. } => None,
        })
    };
    let beside: BTreeSet<PathBuf> = paths()
        .flat_map(|path| TEXT_EXTENSIONS.map(|extension| path.with_extension(extension)))
        .collect();
    // One that holds a picture is none.
    let there: Vec<&PathBuf> = beside.iter().filter(|path| path.is_file()).collect();
    if there.is_empty() {
        return 0;
    }
    let pictures: HashSet<&PathBuf> = paths().collect();
    there.into_iter().filter(|path| !pictures.contains(path)).count()
}

/// `path` below `dir`, parts joined by `/`; what is not Unicode is replaced.
pub(super) fn relative_name(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// A list of tags, which is read beside the pictures and not ignored.
fn is_tag_list(entry: &DirEntry) -> bool {
    entry.file_name() == TAG_LIST || entry.depth() == 1 && entry.file_name() == EDM_FILE
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

/// Whether the folder is the run directory of a training.
fn is_run(folder: &Path) -> bool {
    folder.join(RUN_FILE).is_file() && RUN_FOLDERS.iter().all(|name| folder.join(name).is_dir())
}

fn is_picture(entry: &DirEntry) -> bool {
    !is_hidden(entry) && (is_named_as_picture(entry.path()) || begins_as_picture(entry.path()))
}

/// Whether the first bytes are those of a picture.
fn begins_as_picture(path: &Path) -> bool {
    let mut start = Vec::with_capacity(16);
    let Ok(file) = open_regular(path) else { return false };
    file.take(16).read_to_end(&mut start).is_ok() && decode::begins_as_picture(&start)
}
