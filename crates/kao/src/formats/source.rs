//! An open file of weights, or one that is part of the program, for the readers of the formats.

use crate::error::{Error, Result};
use crate::files::open_regular;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

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
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let metadata = file.metadata().map_err(|source| Error::io("read", path, source))?;
        let file = Content::File(file);
        Ok(Source { path: path.to_path_buf(), file, len: metadata.len() })
    }

    /// A file that is part of the program; errors call it `name`.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        let file = Content::Memory(Cursor::new(bytes));
        Source { path: PathBuf::from(name), file, len: bytes.len() as u64 }
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
