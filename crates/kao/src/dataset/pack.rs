//! Prepared pictures into tar archives.
//!
//! Until all pictures are decided on, they are files in a folder of their own, which is hidden; then
//! they go into the archives in their order, and the files are removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archives::{self, Member};
use super::tags::Tags;
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::files::{atomic_write, read_regular};

const STAGING: &str = ".kao-prepared";

/// Files in one folder of those that wait.
const STAGED_TOGETHER: usize = 10_000;

/// The largest picture that is read back.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The file in which the picture at this position waits.
pub(super) fn staged(out_dir: &Path, index: usize) -> PathBuf {
    let folder = format!("{:05}", index / STAGED_TOGETHER);
    out_dir.join(STAGING).join(folder).join(format!("{index:09}.png"))
}

/// Removes all files that wait.
pub(super) fn remove_staged(out_dir: &Path) -> Result<()> {
    let path = out_dir.join(STAGING);
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// The names of the archives for so many pictures, so many in each.
pub(super) fn archive_names(n: usize, n_in_each: usize) -> Vec<String> {
    (0..n.div_ceil(n_in_each)).map(archive_name).collect()
}

fn archive_name(number: usize) -> String {
    format!("shards-{number:06}.tar")
}

/// What the picture number `k` of all that are written is called.
pub(super) fn member_name(k: usize, n_in_each: usize) -> String {
    format!("{}/{}.png", archive_name(k / n_in_each), key(k))
}

fn key(k: usize) -> String {
    format!("{k:08}")
}

/// Writes the archives of the pictures that wait at `positions`, so many in each, with the tags of
/// `files`: each written picture with its source.
pub(super) fn write_archives(
    out_dir: &Path,
    positions: &[u32],
    n_in_each: usize,
    tags: &Tags,
    files: &BTreeMap<String, String>,
    control: &dyn Control,
) -> Result<()> {
    debug_assert_eq!(positions.len(), files.len());
    let total = positions.len() as u64;
    for (number, positions) in positions.chunks(n_in_each).enumerate() {
        let first = number * n_in_each;
        control.check(&Report::progress("packing", first as u64, Some(total), "pictures"))?;
        let members = positions.iter().enumerate().map(|(k, &position)| {
            let path = staged(out_dir, position as usize);
            let picture = read_regular(path, MAX_FILE_BYTES).map_err(std::io::Error::other)?;
            let tags = tags.of(&member_name(first + k, n_in_each));
            Ok(Member { key: key(first + k), picture, tags })
        });
        atomic_write(out_dir.join(archive_name(number)), |file| archives::write(file, members))?;
    }
    Ok(())
}
