//! Opening a weights file: the format is recognised by content, never by the file's name.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::tensor::{NamedTensors, TensorInfo};
use super::{lightning, safetensors};
use crate::error::{Error, Result};

/// What a file says besides its tensors, by name.
///
/// For safetensors: the strings of its `__metadata__`. For a Lightning checkpoint:
/// `hyper_parameters` (an object), `epoch`, `global_step`, `pytorch-lightning_version`, and any
/// other plain number or text at its top.
pub type Metadata = serde_json::Map<String, Value>;

/// The formats that [`read`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A `.safetensors` file, Kao's own among them.
    Safetensors,
    /// A PyTorch Lightning checkpoint: a zip archive with a pickle that has a `state_dict`.
    Lightning,
    /// A zip archive that `torch.save` made of a state dictionary alone.
    StateDict,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Safetensors => "safetensors",
            Format::Lightning => "Lightning checkpoint",
            Format::StateDict => "PyTorch state dictionary",
        })
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct WeightsFile {
    /// The format it was in.
    pub format: Format,
    /// The tensors, in the order of the file.
    pub tensors: NamedTensors,
    /// What the file says besides.
    pub metadata: Metadata,
    /// What a reader may want to know: a prefix taken off, an entry left out.
    pub notes: Vec<String>,
}

/// What is in a file, without the values of its tensors.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The format it is in.
    pub format: Format,
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// What the file says besides.
    pub metadata: Metadata,
    /// What a reader may want to know: a prefix taken off, an entry left out.
    pub notes: Vec<String>,
}

/// Reads all tensors of `path`, whichever of the known [`Format`]s it is in.
///
/// # Errors
/// When the file cannot be read, is in none of the formats, is truncated or damaged, or declares
/// sizes that it does not have.
pub fn read(path: impl AsRef<Path>) -> Result<WeightsFile> {
    match open(path.as_ref())? {
        Opened::Safetensors(file) => file.read(),
        Opened::Lightning(file) => file.read(),
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

fn open_embedded(name: &str, bytes: &'static [u8]) -> Result<safetensors::SafetensorsFile> {
    let content = Content::Memory(Cursor::new(bytes));
    let source = Source { path: PathBuf::from(name), file: content, len: bytes.len() as u64 };
    safetensors::SafetensorsFile::open(source)
}

/// Tells what is in `path` without reading the values of its tensors, so at the cost of a few
/// kilobytes whatever the size of the file.
///
/// # Errors
/// As for [`read`], as far as it shows without the values.
pub fn peek(path: impl AsRef<Path>) -> Result<Contents> {
    match open(path.as_ref())? {
        Opened::Safetensors(file) => Ok(file.contents()),
        Opened::Lightning(file) => Ok(file.contents()),
    }
}

enum Opened {
    Safetensors(safetensors::SafetensorsFile),
    Lightning(lightning::Checkpoint),
}

fn open(path: &Path) -> Result<Opened> {
    let mut source = Source::open(path)?;
    let start = source.read_at(0, source.len.min(512))?;
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return lightning::Checkpoint::open(source).map(Opened::Lightning);
    }
    let recognised = recognise(&start);
    if recognised.is_none() && start.get(8) == Some(&b'{') {
        return safetensors::SafetensorsFile::open(source).map(Opened::Safetensors);
    }
    let (what, hint) = match recognised {
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
fn recognise(start: &[u8]) -> Option<(&'static str, Option<&'static str>)> {
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

/// Where the bytes of a file are.
pub(super) enum Content {
    File(File),
    Memory(Cursor<&'static [u8]>),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::File(file) => file.read(buffer),
            Content::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match self {
            Content::File(file) => file.seek(position),
            Content::Memory(bytes) => bytes.seek(position),
        }
    }
}

/// An open file of known size, with its path for the errors.
pub(super) struct Source {
    pub path: PathBuf,
    pub file: Content,
    /// The real size in bytes.
    pub len: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let refused = |source| Error::io("read", path, source);
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let metadata = std::fs::metadata(path).map_err(refused)?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
            return Err(Error::malformed(path, format!("this is {what}")).with_hint(READABLE));
        }
        let file = Content::File(File::open(path).map_err(refused)?);
        Ok(Source { path: path.to_path_buf(), file, len: metadata.len() })
    }

    /// Reads `n_bytes` from `offset` on; the caller has checked both against `len`.
    pub fn read_at(&mut self, offset: u64, n_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; n_bytes as usize];
        self.read_exact_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset` on.
    pub fn read_exact_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(|source| Error::io("read", &self.path, source))
    }

    /// The content of this file is not what it should be.
    pub fn malformed(&self, problem: impl fmt::Display) -> Error {
        Error::malformed(&self.path, problem)
    }
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
