//! Opening a weights file: the format is recognised by content, never by the file's name.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::tensor::{NamedTensors, TensorInfo};
use super::{safetensors, torch_file};
use crate::error::{Error, Result};
use crate::files::open_regular;

/// What a file says besides its tensors, by name.
///
/// For safetensors: the strings of its `__metadata__`. For a checkpoint of Lightning or of another
/// training program: the settings (objects, under the names of [`SETTINGS`]), `epoch`,
/// `global_step`, `pytorch-lightning_version`, and any other plain number or text at its top.
pub type Metadata = serde_json::Map<String, Value>;

/// The entries under which training programs keep their settings; Lightning's is the first.
pub const SETTINGS: [&str; 7] =
    ["hyper_parameters", "hparams", "hyperparameters", "config", "cfg", "model_config", "args"];

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
    /// One that it made of the state of a training program, with state dictionaries among its
    /// entries.
    TrainingState,
    /// One that it made of a whole module.
    Module,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Safetensors => "safetensors",
            Format::Lightning => "Lightning checkpoint",
            Format::StateDict => "PyTorch state dictionary",
            Format::TrainingState => "PyTorch training state",
            Format::Module => "PyTorch module",
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
    /// What a reader may want to know: where the tensors are, an entry left out.
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
    /// What a reader may want to know: where the tensors are, an entry left out.
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
        Opened::Torch(file) => Ok(file.contents()),
    }
}

/// Checks by its first bytes that `path` is a file of one of the [`Format`]s, or seems to be.
///
/// # Errors
/// When the file cannot be read, or is something else.
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    let mut source = Source::open(path.as_ref())?;
    recognise(&mut source).map(|_| ())
}

enum Opened {
    Safetensors(safetensors::SafetensorsFile),
    Torch(torch_file::TorchFile),
}

fn open(path: &Path) -> Result<Opened> {
    let mut source = Source::open(path)?;
    match recognise(&mut source)? {
        Kind::Torch => torch_file::TorchFile::open(source).map(Opened::Torch),
        Kind::Safetensors => safetensors::SafetensorsFile::open(source).map(Opened::Safetensors),
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
        let file = open_regular(path)?;
        let metadata = file.metadata().map_err(|source| Error::io("read", path, source))?;
        let file = Content::File(file);
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
