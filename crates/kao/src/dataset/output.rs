//! The output folder of a preparation: what in it is Kao's own, and how files get into it.
//!
//! The report in the folder lists the files that runs wrote, so that a later run may replace and
//! remove those, and refuses a folder with any others. While a run is under way the report says
//! so. No file is ever half there: each is written under a temporary name and renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use walkdir::WalkDir;

use super::decode::Picture;
use super::journal::WrittenFile;
use super::kinds::is_named_as_archive;
use super::report::{PrepareReport, REPORT_FILE, counted};
use super::scan::{Scan, scan_files};
use crate::error::{Error, Result};
use crate::files::read_regular;
use crate::shard::Shard;
use crate::vocabulary::TAG_LIST;

const TEMPORARY_PREFIX: &str = ".kao-prepare-";

/// How the names of a run's temporary files begin: those of other shards may be in use.
pub(super) fn temporary_prefix(shard: Option<Shard>) -> String {
    match shard {
        None => TEMPORARY_PREFIX.to_owned(),
        Some(shard) => format!("{TEMPORARY_PREFIX}{}-of-{}-", shard.index(), shard.count()),
    }
}

/// The longest report that is read: of some millions of pictures.
const MAX_REPORT_BYTES: u64 = 1 << 30;

/// What an output folder held before the run.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// What an earlier run wrote, or was about to write.
    pub owned: BTreeSet<String>,
    /// Of these, what is there.
    present: BTreeSet<String>,
    /// The archives that are there, all of them written by an earlier run.
    archives: BTreeSet<String>,
    /// The checksum of the list of tags that is there, written by an earlier run.
    pub tag_list: Option<u32>,
}

impl Before {
    /// Looks into the output folder and refuses one with pictures of somebody else; with
    /// `into_archives` also one with archives of somebody else, which would be read with those that
    /// are written.
    pub fn look(out_dir: &Path, into_archives: bool) -> Result<Self> {
        if !out_dir.exists() {
            return Ok(Before::default());
        }
        let Owned { files: owned, shards, tag_lists } = owned_files(out_dir)?;
        let tag_list = checksum_of_tags(out_dir)?;
        let is_ours = match (&tag_list, &tag_lists) {
            (None, _) => true,
            (Some(checksum), Some(known)) => known.contains(checksum),
            // Of a version that did not note it.
            (Some(_), None) => !owned.is_empty(),
        };
        if !is_ours {
            let problem = format!("the output folder holds a {TAG_LIST} that was not prepared");
            return Err(Error::malformed(out_dir, problem).with_hint(
                "put it beside the raw pictures, whose tags come along, or take it away",
            ));
        }
        let (Scan { pictures: found, .. }, archives) = scan_files(out_dir)?;
        let mut archives: BTreeSet<String> = archives.into_iter().map(|(name, _)| name).collect();
        let foreign = archives.iter().find(|name| !shards.contains(*name));
        if let Some(first) = foreign.filter(|_| into_archives) {
            let problem =
                format!("the output folder holds archives that were not prepared, `{first}` first");
            return Err(
                Error::malformed(out_dir, problem).with_hint("choose a new or empty folder")
            );
        }
        archives.retain(|name| shards.contains(name));
        let mut foreign = found.iter().filter(|found| !owned.contains(&found.relative));
        if let Some(first) = foreign.next() {
            return Err(Error::malformed(
                out_dir,
                format!(
                    "the output folder holds {} that were not prepared, `{}` first",
                    counted(1 + foreign.count(), "picture"),
                    first.relative
                ),
            )
            .with_hint("choose a new or empty folder"));
        }
        let present = found.into_iter().map(|found| found.relative).collect();
        Ok(Before { owned, present, archives, tag_list })
    }

    /// Removes the files of earlier runs for which `unwanted` holds.
    pub fn remove(&self, out_dir: &Path, unwanted: impl Fn(&String) -> bool) -> Result<()> {
        Self::remove_all(out_dir, self.present.iter().filter(|output| unwanted(output)))
    }

    /// Removes the folders of files that were removed, where nothing is left in them: a run that
    /// never wrote the files would not have made the folders.
    pub fn remove_empty_folders(&self, out_dir: &Path, was_removed: impl Fn(&String) -> bool) {
        for output in self.present.iter().filter(|output| was_removed(output)) {
            let folders = Path::new(output).ancestors().skip(1);
            for folder in folders.take_while(|folder| !folder.as_os_str().is_empty()) {
                // Refused where there is anything in it.
                if std::fs::remove_dir(out_dir.join(folder)).is_err() {
                    break;
                }
            }
        }
    }

    /// The archives of earlier runs.
    pub fn archives(&self) -> impl Iterator<Item = &String> {
        self.archives.iter()
    }

    /// Removes the archives of earlier runs but `wanted`.
    pub fn remove_archives(&self, out_dir: &Path, wanted: &[String]) -> Result<()> {
        Self::remove_all(out_dir, self.archives.iter().filter(|name| !wanted.contains(name)))
    }

    fn remove_all<'a>(out_dir: &Path, outputs: impl Iterator<Item = &'a String>) -> Result<()> {
        for output in outputs {
            let path = out_dir.join(output);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What earlier runs wrote or were about to write.
#[derive(Default)]
struct Owned {
    files: BTreeSet<String>,
    shards: Vec<String>,
    /// None where nothing was prepared, or by a version that did not note it.
    tag_lists: Option<Vec<u32>>,
}

/// The checksum of the list of tags in a folder, where there is one.
fn checksum_of_tags(dir: &Path) -> Result<Option<u32>> {
    let path = dir.join(TAG_LIST);
    match path.try_exists() {
        Ok(false) => Ok(None),
        _ => read_regular(&path, MAX_REPORT_BYTES).map(|content| Some(crc32c::crc32c(&content))),
    }
}

/// The files that the report in `out_dir` lists; none when there is no report.
fn owned_files(out_dir: &Path) -> Result<Owned> {
    #[derive(Deserialize)]
    struct Listed {
        files: BTreeMap<String, String>,
        #[serde(default)]
        shards: Vec<String>,
        #[serde(default)]
        tag_lists: Option<Vec<u32>>,
    }
    let listed = read_report::<Listed>(out_dir)?;
    let owned = |listed: Listed| {
        // What is in an archive is no file of its own.
        let is_file = |name: &String| {
            let archive = name.split_once('/').map(|(archive, _)| archive.to_owned());
            !archive.is_some_and(|archive| listed.shards.contains(&archive))
        };
        let files = listed.files.into_keys().filter(is_file).collect();
        Owned { files, shards: listed.shards, tag_lists: listed.tag_lists }
    };
    Ok(listed.map(owned).unwrap_or_default())
}

/// What the report in a folder says of all its pictures.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Preparation {
    /// Whether the run of [`prepare`](super::prepare()) came to its end.
    pub complete: bool,
    /// How many pictures it enlarged.
    #[serde(default)]
    pub n_enlarged: usize,
}

/// How the pictures in `dir`, or in the archives that it names, were prepared; `None` when they were
/// not.
pub(super) fn preparation(dir: &Path) -> Result<Option<Preparation>> {
    match dir.parent() {
        // The report lies beside archives.
        Some(folder) if is_named_as_archive(dir) && !dir.is_dir() => read_report(folder),
        _ => read_report(dir),
    }
}

fn read_report<T: serde::de::DeserializeOwned>(dir: &Path) -> Result<Option<T>> {
    let path = dir.join(REPORT_FILE);
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let content = read_regular(&path, MAX_REPORT_BYTES)?;
    serde_json::from_slice(&content).map(Some).map_err(|error| {
        Error::malformed(&path, format!("not the report of a preparation: {error}"))
            .with_hint("remove this file if it belongs to something else")
    })
}

/// Saves the report where [`preparation`] and later runs look for it.
pub(super) fn save_report(out_dir: &Path, report: &PrepareReport, prefix: &str) -> Result<()> {
    let path = out_dir.join(REPORT_FILE);
    let content = serde_json::to_vec_pretty(report)
        .map_err(|error| Error::io("write", &path, std::io::Error::other(error)))?;
    write_file(&path, &content, true, prefix)
}

/// Writes the tags of all pictures beside them.
pub(super) fn write_tags(out_dir: &Path, lines: &str) -> Result<()> {
    write_file(&out_dir.join(TAG_LIST), lines.as_bytes(), true, TEMPORARY_PREFIX)
}

/// Removes the tags that an earlier run wrote, where there are any.
pub(super) fn remove_tags(out_dir: &Path) -> Result<()> {
    let path = out_dir.join(TAG_LIST);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Writes a picture of three channels; what tells later whether the file is whole.
pub(super) fn write_png(path: &Path, picture: &Picture, prefix: &str) -> Result<WrittenFile> {
    let content = encoded(picture);
    let content = content.map_err(|error| Error::io("write", path, error.into()))?;
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    write_file(path, &content, false, prefix)?;
    Ok(WrittenFile::of(&content))
}

/// A picture of three channels as a PNG file.
fn encoded(picture: &Picture) -> Result<Vec<u8>, png::EncodingError> {
    let mut content = Vec::new();
    let mut encoder = png::Encoder::new(&mut content, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.bytes())?;
    writer.finish()?;
    Ok(content)
}

/// Creates a folder and those above it, as far as they are missing.
pub(super) fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))
}

/// Writes under a temporary name beside `path`, then renames.
fn write_file(path: &Path, content: &[u8], sync: bool, prefix: &str) -> Result<()> {
    let failed = |source| Error::io("write", path, source);
    // A pipe or a device that has the name is somebody's, and not to be replaced.
    if let Ok(metadata) = path.symlink_metadata()
        && !(metadata.is_file() || metadata.is_symlink())
    {
        return Err(Error::malformed(path, "what is there is no regular file"));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file; the default of temporary files is for the owner only.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    if sync {
        file.as_file().sync_all().map_err(failed)?;
    }
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}

/// Removes what a killed run left half-written.
pub(super) fn remove_temporary(out_dir: &Path, prefix: &str) -> Result<()> {
    for entry in WalkDir::new(out_dir).into_iter().flatten() {
        let is_temporary = entry.file_name().to_string_lossy().starts_with(prefix);
        if is_temporary && entry.file_type().is_file() {
            let path = entry.path();
            std::fs::remove_file(path).map_err(|source| Error::io("remove", path, source))?;
        }
    }
    Ok(())
}
