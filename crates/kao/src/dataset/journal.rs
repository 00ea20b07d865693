//! What a preparation has done so far, for the run that goes on with it.
//!
//! Each run writes a journal into the output folder: a line for each picture, with what became of
//! it. A run that begins there again takes over what all journals say, as long as the raw pictures
//! and the settings are the same. So a run that was killed goes on where it stopped, shards are runs
//! of a part of the pictures, and the run of the whole takes over what they have done. Files are not
//! synced; so a journal has the length and a checksum of each, and they are held against it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{open_regular, read_regular};
use crate::shard::Shard;

const PREFIX: &str = ".kao-prepared-";
const SUFFIX: &str = ".jsonl";

/// The longest line that is read, in bytes: a reason may be some hundred.
const MAX_LINE_BYTES: u64 = 1 << 16;

/// The largest file of a picture.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What became of a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// It can be used.
    #[serde(rename = "p")]
    Usable {
        /// The first 16 bytes of the hash of its pixels, as it was decoded.
        #[serde(rename = "h")]
        hash: [u64; 2],
        #[serde(rename = "e")]
        is_enlarged: bool,
        /// The file that was written; none where an earlier picture has the same pixels.
        #[serde(rename = "f")]
        file: Option<WrittenFile>,
    },
    /// It cannot, for this reason.
    #[serde(rename = "s")]
    Skipped(Box<str>),
}

/// What tells whether a file is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrittenFile(u32, u32);

impl WrittenFile {
    /// Of a file with this content.
    pub fn of(content: &[u8]) -> Self {
        WrittenFile(content.len() as u32, crc32c::crc32c(content))
    }

    /// Whether the file at `path` is this one.
    pub fn is_at(self, path: &Path) -> bool {
        read_regular(path, MAX_FILE_BYTES).is_ok_and(|content| WrittenFile::of(&content) == self)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    /// What stands for the raw pictures and the settings.
    preparation: String,
}

/// What all journals in `dir` of this preparation say, by the position of pictures among `n`.
pub(super) fn read_all(dir: &Path, preparation: &str, n: usize) -> Result<Vec<Option<Outcome>>> {
    let mut known = vec![None; n];
    for path in journals(dir)? {
        read(&path, preparation, &mut |index, outcome| {
            if let Some(place) = known.get_mut(index) {
                *place = Some(outcome);
            }
        })?;
    }
    Ok(known)
}

/// Removes all journals in `dir`.
pub(super) fn remove_all(dir: &Path) -> Result<()> {
    for path in journals(dir)? {
        std::fs::remove_file(&path).map_err(|source| Error::io("remove", path, source))?;
    }
    Ok(())
}

fn journals(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| Error::io("read", dir, source);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            found.push(entry.path());
        }
    }
    // Whole ones come last, and are the newest where two say something of one picture.
    found.sort();
    found.reverse();
    Ok(found)
}

/// Calls `each` with what a journal of this preparation says, and returns the length of its whole
/// lines; 0 for a journal of another.
fn read(path: &Path, preparation: &str, each: &mut dyn FnMut(usize, Outcome)) -> Result<u64> {
    let mut reader = BufReader::new(open_regular(path)?);
    let (mut len, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        read.map_err(|source| Error::io("read", path, source))?;
        // A run that was killed may have left the last line incomplete.
        let Some(whole) = line.strip_suffix(b"\n") else { return Ok(len) };
        if len == 0 {
            match serde_json::from_slice::<Header>(whole) {
                Ok(header) if header.preparation == preparation => {}
                _ => return Ok(0),
            }
        } else {
            let Ok((index, outcome)) = serde_json::from_slice(whole) else { return Ok(len) };
            each(index, outcome);
        }
        len += line.len() as u64;
    }
}

/// The journal of one run.
pub(super) struct Journal {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Journal {
    /// Goes on with the journal in `dir` of a shard or of the whole, or begins it.
    pub fn begin(dir: &Path, preparation: &str, shard: Option<Shard>) -> Result<Self> {
        let (index, count) = shard.map_or((0, 1), |shard| (shard.index(), shard.count()));
        let path = dir.join(format!("{PREFIX}{index}-of-{count}{SUFFIX}"));
        let refused = |source| Error::io("write", &path, source);
        let len = match path.exists() {
            true => read(&path, preparation, &mut |_, _| ())?,
            false => 0,
        };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(refused)?;
        file.set_len(len).map_err(refused)?;
        let mut journal = Journal { path: path.clone(), file: BufWriter::new(file) };
        if len == 0 {
            journal.line(&Header { preparation: preparation.to_owned() })?;
        }
        Ok(journal)
    }

    /// Notes what became of some pictures, once their files are written.
    pub fn note<'a>(&mut self, outcomes: impl Iterator<Item = (usize, &'a Outcome)>) -> Result<()> {
        for outcome in outcomes {
            self.line(&outcome)?;
        }
        self.file.flush().map_err(|source| Error::io("write", &self.path, source))
    }

    fn line(&mut self, line: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(line)
            .map_err(|error| Error::io("write", &self.path, std::io::Error::other(error)))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| Error::io("write", &self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_known_as_far_as_lines_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let usable = |k: u64| {
            let file = Some(WrittenFile::of(&k.to_le_bytes()));
            Outcome::Usable { hash: [k, u64::MAX - k], is_enlarged: k == 1, file }
        };
        let skipped = Outcome::Skipped("the file is empty".into());
        let shard = |index| Some(Shard::new(index, 2).unwrap());
        let mut one = Journal::begin(dir.path(), "x", shard(0)).unwrap();
        one.note([(0, &usable(0)), (1, &skipped)].into_iter()).unwrap();
        let mut other = Journal::begin(dir.path(), "x", shard(1)).unwrap();
        other.note([(3, &usable(1))].into_iter()).unwrap();
        drop((one, other));
        let expected = [Some(usable(0)), Some(skipped), None, Some(usable(1))];
        assert_eq!(read_all(dir.path(), "x", 4).unwrap(), expected);
        assert_eq!(read_all(dir.path(), "x", 1).unwrap(), expected[..1]);
        assert_eq!(read_all(dir.path(), "y", 4).unwrap(), vec![None; 4]);
        // Cut within its last line, and gone on with.
        let path = dir.path().join(".kao-prepared-0-of-2.jsonl");
        let len = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 3).unwrap();
        assert_eq!(read_all(dir.path(), "x", 2).unwrap(), [Some(usable(0)), None]);
        let mut one = Journal::begin(dir.path(), "x", shard(0)).unwrap();
        one.note([(1, &usable(7))].into_iter()).unwrap();
        drop(one);
        assert_eq!(read_all(dir.path(), "x", 2).unwrap(), [Some(usable(0)), Some(usable(7))]);
        // One of another preparation is begun anew.
        drop(Journal::begin(dir.path(), "y", shard(0)).unwrap());
        assert_eq!(read_all(dir.path(), "x", 2).unwrap(), [None, None]);
        remove_all(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
