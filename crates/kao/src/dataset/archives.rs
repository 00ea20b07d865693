//! Pictures in tar archives, as WebDataset has them: which archives a path names, and what of a
//! picture lies beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::kinds::{is_named_as_archive, is_named_as_picture};
use super::tar::{self, Entry};
use crate::error::{Error, Result};
use crate::files::{open_regular, read_exact_at};

/// The most archives that a pattern may name.
const MAX_ARCHIVES: usize = 1 << 20;

/// What says something of a picture beside it, in the same archive.
const BESIDE: [&str; 4] = ["txt", "caption", "json", "cls"];

/// The extension of a file that says something of a picture beside it.
pub(super) fn beside(name: &str) -> Option<&'static str> {
    let (_, end) = name.rsplit_once('.')?;
    BESIDE.into_iter().find(|extension| end.eq_ignore_ascii_case(extension))
}

/// The archives that a path names, which is one or a pattern such as `shards-{000..099}.tar`, each
/// with what it is called: the end of its path from the first part on that has a brace. `None` where
/// the path names no archive.
///
/// # Errors
/// When a brace of the pattern says no range, or too many archives.
pub(super) fn named(path: &Path) -> Result<Option<Vec<(String, PathBuf)>>> {
    let Some(text) = path.to_str().filter(|_| is_named_as_archive(path)) else { return Ok(None) };
    let first_brace = text.find('{').unwrap_or(text.len());
    let folder_len = text[..first_brace].rfind(std::path::is_separator).map_or(0, |at| at + 1);
    // A file that has braces in its name is itself.
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Some(vec![(name, path.to_path_buf())]));
    }
    let mut patterns = vec![text.to_owned()];
    while let Some(first) = patterns.first().filter(|pattern| pattern.contains('{')).cloned() {
        let wrong = || {
            let problem = "expected a range between braces, as in shards-{000..099}.tar";
            Error::malformed(path, problem)
        };
        let (start, rest) = first.split_once('{').ok_or_else(wrong)?;
        let (range, _) = rest.split_once('}').ok_or_else(wrong)?;
        let (low, high) = range.split_once("..").ok_or_else(wrong)?;
        let width = if low.starts_with('0') { low.len() } else { 0 };
        let [low, high] = [low, high].map(|end| end.parse::<usize>().ok());
        let (low, high) = low.zip(high).filter(|(low, high)| low <= high).ok_or_else(wrong)?;
        if (high - low).saturating_add(1).saturating_mul(patterns.len()) > MAX_ARCHIVES {
            let problem = format!("the pattern names more than {MAX_ARCHIVES} archives");
            return Err(Error::malformed(path, problem));
        }
        let at = start.len()..start.len() + range.len() + 2;
        // All have the same braces, though not at the same place.
        let brace = first[at].to_owned();
        patterns = patterns
            .iter()
            .flat_map(|pattern| {
                let number = |number| pattern.replacen(&brace, &format!("{number:0width$}"), 1);
                (low..=high).map(number)
            })
            .collect();
    }
    let named = patterns.into_iter().map(|path| (path[folder_len..].to_owned(), path.into()));
    Ok(Some(named.collect()))
}

/// The part of a name in an archive that a picture and what lies beside it have in common: up to
/// the first dot of the last part, as WebDataset has it.
pub(super) fn key(name: &str) -> &str {
    let start = name.rfind('/').map_or(0, |at| at + 1);
    name[start..].find('.').map_or(name, |dot| &name[..start + dot])
}

/// Whether a file of an archive is a picture, by its name. Names of hidden files, which some
/// programs add beside each, are none.
pub(super) fn is_picture(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    !last.starts_with('.') && is_named_as_picture(Path::new(last))
}

/// A text beside a picture in an archive.
pub(super) struct Beside<'a> {
    /// The picture's name in the archive.
    pub picture: &'a str,
    /// The text's extension.
    pub extension: &'static str,
    /// What it holds, or why it cannot be read.
    pub content: Result<Vec<u8>, String>,
}

/// Calls `each` with the texts of at most `limit` bytes beside the pictures of an archive.
///
/// # Errors
/// When the archive cannot be read, or `each` fails.
pub(super) fn texts(
    archive: &Path,
    limit: u64,
    each: &mut dyn FnMut(Beside<'_>) -> Result<()>,
) -> Result<()> {
    let mut pictures: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut found: Vec<(String, &'static str, u64, u64)> = Vec::new();
    tar::read(archive, &mut |entry| {
        let Entry::File { name, offset, len } = entry else { return Ok(()) };
        match beside(&name) {
            Some(extension) => found.push((key(&name).to_owned(), extension, offset, len)),
            None if is_picture(&name) => {
                pictures.entry(key(&name).to_owned()).or_default().insert(name);
            }
            None => {}
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Ok(());
    }
    let file = open_regular(archive)?;
    for (key, extension, offset, len) in found {
        let Some(names) = pictures.get(&key) else { continue };
        let content = match len <= limit {
            true => {
                let mut content = vec![0; len as usize];
                let read = read_exact_at(&file, &mut content, offset);
                read.map(|()| content).map_err(|error| format!("cannot be read: {error}"))
            }
            false => Err(format!("{len} bytes, more than the {limit} that are read")),
        };
        for name in names {
            each(Beside { picture: name, extension, content: content.clone() })?;
        }
    }
    Ok(())
}

/// A picture of an archive that is to be written.
pub(super) struct Member<'a> {
    /// The name without its extension.
    pub key: String,
    /// The picture's file.
    pub picture: Vec<u8>,
    /// The tags beside it.
    pub tags: &'a [String],
}

/// Writes an archive of pictures with the tags of each in a text beside it.
pub(super) fn write<'a, W: Write>(
    into: W,
    members: impl Iterator<Item = std::io::Result<Member<'a>>>,
) -> std::io::Result<()> {
    let mut archive = tar::Writer(into);
    for member in members {
        let Member { key, picture, tags } = member?;
        archive.add(&format!("{key}.png"), &picture)?;
        if !tags.is_empty() {
            archive.add(&format!("{key}.txt"), tags.join(", ").as_bytes())?;
        }
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<(String, String)> {
        let named = named(Path::new(path)).unwrap().unwrap();
        named.into_iter().map(|(name, path)| (name, path.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn patterns_name_archives() {
        let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        let found = names("d/s-{08..11}.tar");
        let expected =
            ["08", "09", "10", "11"].map(|n| pair(&format!("s-{n}.tar"), &format!("d/s-{n}.tar")));
        assert_eq!(found, expected);
        assert_eq!(names("d/{1..2}/{3..4}.TAR")[1], pair("1/4.TAR", "d/1/4.TAR"));
        assert_eq!(names("d/{1..2}/{3..4}.TAR").len(), 4);
        assert_eq!(names("a.tar"), [pair("a.tar", "a.tar")]);
        assert_eq!(named(Path::new("a.zip")).unwrap(), None);
        for path in ["{a..b}.tar", "{3..1}.tar", "{1,2}.tar", "{1..2.tar", "{1..9999999}.tar"] {
            let error = named(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("expected a range") || error.contains("more than"), "{error}");
        }
    }

    #[test]
    fn keys_end_at_the_first_dot() {
        assert_eq!(key("a.b/c.d.png"), "a.b/c");
        assert_eq!(key("c"), "c");
        assert!(is_picture("x/a.JPG") && !is_picture("x/._a.jpg") && !is_picture("a.txt"));
    }
}
