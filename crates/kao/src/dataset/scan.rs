//! What lies in a folder: the files that are pictures or claim to be, in a fixed order.
//!
//! This opens a file only to look at its first bytes where the name does not say what it is.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::decode;
use super::report::Skipped;
use super::tags::{EDM_FILE, TEXT_EXTENSIONS};
use crate::error::{Error, Result};
use crate::files::open_regular;
use crate::vocabulary::TAG_LIST;

/// Names that promise a picture. What cannot be read of these is worth telling the user, so
/// formats that Kao does not decode are among them.
const PICTURE_EXTENSIONS: [&str; 39] = [
    "apng", "arw", "avif", "bmp", "cr2", "cr3", "dds", "dib", "dng", "exr", "gif", "heic", "heif",
    "hif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpf", "jpg", "jpx", "jxl", "jxr", "nef",
    "orf", "pbm", "pcx", "pgm", "png", "ppm", "psd", "qoi", "tga", "tif", "tiff", "webp", "xcf",
];

/// What every run directory of `kao train` holds.
const RUN_FOLDERS: [&str; 3] = ["checkpoints", "samples", "logs"];
const RUN_FILE: &str = "config.toml";

/// A file that is a picture or claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub path: PathBuf,
    /// Below the scanned folder, parts joined by `/`.
    pub relative: String,
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

/// Looks through `dir` and the folders below it. Links are followed; hidden files (whose name
/// begins with a dot) are ignored, and hidden folders passed over. So are run directories of
/// training: a model must not learn from its own samples.
pub(super) fn scan(dir: &Path) -> Result<Scan> {
    let metadata = std::fs::metadata(dir).map_err(|source| Error::io("read", dir, source))?;
    if !metadata.is_dir() {
        return Err(Error::malformed(dir, "is a file, where a folder of pictures is expected"));
    }
    let mut scan = Scan::default();
    let entries = WalkDir::new(dir).follow_links(true).into_iter().filter_entry(|entry| {
        let is_below = entry.file_type().is_dir() && entry.depth() > 0;
        !(is_below && (is_hidden(entry) || is_run(entry.path())))
    });
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if entry.file_type().is_file() && is_picture(&entry) => {
                let relative = relative_name(dir, entry.path());
                scan.pictures.push(Found { path: entry.into_path(), relative });
            }
            Ok(entry) => scan.n_ignored += usize::from(!is_tag_list(&entry)),
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
    scan.pictures.sort_by(|a, b| (&a.relative, &a.path).cmp(&(&b.relative, &b.path)));
    scan.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(scan)
}

/// How many texts with tags there are beside the pictures, which are read and not ignored.
fn n_texts_beside(pictures: &[Found]) -> usize {
    let beside: BTreeSet<PathBuf> = pictures
        .iter()
        .flat_map(|found| TEXT_EXTENSIONS.map(|extension| found.path.with_extension(extension)))
        .collect();
    // One that holds a picture is none.
    let is_picture = |path: &Path| pictures.iter().any(|found| found.path == path);
    beside.iter().filter(|path| path.is_file() && !is_picture(path)).count()
}

/// `path` below `dir`, parts joined by `/`; what is not Unicode is replaced.
pub(super) fn relative_name(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Whether a name ends as those of pictures do.
pub(super) fn is_named_as_picture(name: &Path) -> bool {
    name.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| PICTURE_EXTENSIONS.contains(&extension.to_lowercase().as_str()))
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
