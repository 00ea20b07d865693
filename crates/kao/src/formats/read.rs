//! Opening a weights file: the format is recognised by content, never by the file's name.

use super::contents::{Contents, WeightsFile};
use super::safetensors::SafetensorsFile;
use super::source::Source;
use super::torch::TorchFile;
use crate::error::Result;
use std::path::Path;

/// Reads all tensors of `path`, whichever of the known [`Format`](super::Format)s it is in.
///
/// # Errors
/// When the file cannot be read, is in none of the formats, is truncated or damaged, or declares
/// sizes that it does not have.
pub fn read(path: impl AsRef<Path>) -> Result<WeightsFile> {
    match open(path.as_ref())? {
        Opened::Safetensors(file) => file.read(),
        Opened::Torch(file) => file.read(),
    }
}

/// Reads all tensors of a safetensors file that is part of the program; errors call it `name`.
///
/// # Errors
/// When `bytes` are not such a file.
pub fn read_embedded(name: &str, bytes: &'static [u8]) -> Result<WeightsFile> {
    open_embedded(name, bytes)?.read()
}

/// As [`peek`], of a safetensors file that is part of the program; errors call it `name`.
///
/// # Errors
/// When `bytes` are not such a file.
pub fn peek_embedded(name: &str, bytes: &'static [u8]) -> Result<Contents> {
    Ok(open_embedded(name, bytes)?.contents())
}

fn open_embedded(name: &str, bytes: &'static [u8]) -> Result<SafetensorsFile> {
    SafetensorsFile::open(Source::embedded(name, bytes))
}

/// Tells what is in `path` without reading the values of its tensors, so at the cost of a few
/// kilobytes whatever the size of the file.
///
/// # Errors
/// As for [`read`], as far as it shows without the values.
pub fn peek(path: impl AsRef<Path>) -> Result<Contents> {
    match open(path.as_ref())? {
        Opened::Safetensors(file) => Ok(file.contents()),
        Opened::Torch(file) => Ok(file.contents()),
    }
}

/// Checks by its first bytes that `path` is a file of one of the
/// [`Format`](super::Format)s, or seems to be.
///
/// # Errors
/// When the file cannot be read, or is something else.
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    let mut source = Source::open(path.as_ref())?;
    recognise(&mut source).map(|_| ())
}

enum Opened {
    Safetensors(SafetensorsFile),
    Torch(TorchFile),
}

fn open(path: &Path) -> Result<Opened> {
    let mut source = Source::open(path)?;
    match recognise(&mut source)? {
        Kind::Torch => TorchFile::open(source).map(Opened::Torch),
        Kind::Safetensors => SafetensorsFile::open(source).map(Opened::Safetensors),
    }
}

enum Kind {
    Torch,
    Safetensors,
}

/// The reader that a file is for, by how it starts.
fn recognise(source: &mut Source) -> Result<Kind> {
    let start = source.read_at(0, source.len.min(512))?;
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Ok(Kind::Torch);
    }
    let stranger = recognise_stranger(&start);
    if stranger.is_none() && start.get(8) == Some(&b'{') {
        return Ok(Kind::Safetensors);
    }
    let (what, hint) = match stranger {
        Some((what, Some(hint))) => (what, hint),
        Some((what, None)) => (what, READABLE),
        None if source.len == 0 => ("an empty file", READABLE),
        None => ("not a weights file: neither safetensors nor a PyTorch zip archive", READABLE),
    };
    Err(source.malformed(format!("this is {what}")).with_hint(hint))
}

const READABLE: &str = "Kao reads .safetensors files, and checkpoints that PyTorch 1.6 or newer \
                        saved (.ckpt, .pt, .pth)";
const SAVE_AGAIN: &str = "load it in PyTorch 1.6 or newer and save it again with torch.save";

/// Names what a file is that is not for us, by how it starts.
fn recognise_stranger(start: &[u8]) -> Option<(&'static str, Option<&'static str>)> {
    // The number 0x1950a86a20f9469cfc6c as a pickled LONG1: how torch.save began before 1.6.
    const LEGACY_TORCH: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let is_pickle = matches!(start, [0x80, 2..=5, ..]);
    if is_pickle && start.get(2..).is_some_and(|rest| rest.starts_with(LEGACY_TORCH)) {
        return Some(("a legacy PyTorch file, from before its zip format", Some(SAVE_AGAIN)));
    }
    if is_pickle {
        return Some(("a bare Python pickle, not a PyTorch archive", Some(SAVE_AGAIN)));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", Some(SAVE_AGAIN)));
    }
    let magics: [(&[u8], &str); 9] = [
        (b"\x89HDF", "an HDF5 file"),
        (b"GGUF", "a GGUF file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE", "an HTML page, perhaps of a download that failed"),
    ];
    magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|&(_, what)| (what, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content: &[u8]) -> (String, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let error = read(file.path()).unwrap_err();
        assert_eq!(peek(file.path()).unwrap_err().to_string(), error.to_string());
        (error.to_string(), error.hint().unwrap().to_owned())
    }

    #[test]
    fn other_files_are_told_by_name() {
        let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.rest";
        let (error, hint) = refusal(legacy);
        assert!(error.contains("legacy PyTorch file"), "{error}");
        assert!(hint.contains("torch.save"), "{hint}");
        assert!(refusal(b"\x80\x04}.").0.contains("bare Python pickle"));
        assert!(refusal(b"").0.contains("empty"));
        assert!(refusal(b"GGUF....").0.contains("GGUF"));
        assert!(refusal(b"some words, and then some").0.contains("neither safetensors nor"));
    }

    #[test]
    fn folders_and_missing_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("a folder"));
        let missing = read(folder.path().join("no.ckpt")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read"), "{missing}");
    }
}
