//! The zip archives that `torch.save` writes.
//!
//! An archive has one folder, whose name varies, with the pickle `data.pkl` and one entry per
//! storage under `data/`. Entries are mostly stored as they are, but may be compressed, so what
//! they unpack to is limited in proportion to the file. This module does not know what the entries
//! mean.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::rc::Rc;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::{Error, Result};
use crate::formats::limits::{FREE_ARCHIVE_BYTES, MAX_DIRECTORY_BYTES};
use crate::formats::source::{Content, Source};

/// A zip archive of PyTorch's layout.
pub struct Archive {
    path: PathBuf,
    /// The size of the archive itself.
    pub file_bytes: u64,
    zip: ZipArchive<BufReader<Limited>>,
    /// The folder that everything is in, with its slash.
    folder: String,
    /// Bytes that may still be unpacked.
    bytes_left: u64,
}

impl Archive {
    /// Reads the archive's directory.
    pub fn open(source: Source) -> Result<Self> {
        let Source { path, file, len } = source;
        let n_left = Rc::new(Cell::new(MAX_DIRECTORY_BYTES));
        let limited = Limited { content: file, n_left: Rc::clone(&n_left) };
        let zip = ZipArchive::new(BufReader::new(limited)).map_err(|error| match error {
            ZipError::Io(source)
                if source.kind() != io::ErrorKind::UnexpectedEof && n_left.get() > 0 =>
            {
                Error::io("read", &path, source)
            }
            other => Error::malformed(
                &path,
                format!("{len} bytes of a zip archive without its end ({other})"),
            )
            .with_hint("the file seems truncated or damaged: fetch it again"),
        })?;
        // From here on, what is unpacked is what is limited.
        n_left.set(u64::MAX);
        let folder = zip.file_names().find_map(|name| name.strip_suffix("data.pkl"));
        let folder = folder.filter(|f| f.ends_with('/') && f.matches('/').count() == 1);
        let Some(folder) = folder.map(str::to_owned) else {
            return Err(Error::malformed(&path, "a zip archive without PyTorch's data.pkl")
                .with_hint("this is no checkpoint"));
        };
        let bytes_left = FREE_ARCHIVE_BYTES.saturating_add(len.saturating_mul(4));
        let mut archive = Archive { path, file_bytes: len, zip, folder, bytes_left };
        if archive.entry_bytes("constants.pkl")?.is_some() {
            return Err(archive
                .malformed("this is a TorchScript program, not a checkpoint")
                .with_hint("save the state dictionary of its model with torch.save"));
        }
        if archive.entry_bytes("byteorder")?.is_some()
            && archive.read_entry("byteorder", 16)? != b"little"
        {
            return Err(archive
                .malformed("its values are big-endian, which is not supported")
                .with_hint("save it again on a little-endian machine"));
        }
        Ok(archive)
    }

    /// The content of this archive is not what it should be.
    pub fn malformed(&self, problem: impl std::fmt::Display) -> Error {
        Error::malformed(&self.path, problem)
    }

    /// The declared size of an entry, where there is one.
    pub fn entry_bytes(&mut self, name: &str) -> Result<Option<u64>> {
        let full_name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&full_name) else { return Ok(None) };
        let n_bytes = self.zip.by_index_raw(index).map(|entry| entry.size());
        n_bytes.map(Some).map_err(|e| self.malformed(format!("`{full_name}` is damaged: {e}")))
    }

    /// Unpacks an entry of at most `limit` bytes.
    pub fn read_entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (path, full_name) = (&self.path, format!("{}{name}", self.folder));
        let malformed = |problem| Err(Error::malformed(path, format!("`{full_name}` {problem}")));
        let mut entry = match self.zip.by_name(&full_name) {
            Ok(entry) => entry,
            Err(ZipError::Io(source)) => return Err(Error::io("read", path, source)),
            Err(error) => return malformed(format!("cannot be unpacked: {error}")),
        };
        let n_bytes = entry.size();
        let allowed = limit.min(self.bytes_left);
        if n_bytes > allowed {
            return malformed(format!(
                "unpacks to {n_bytes} bytes, more than may be in a file of {} bytes ({allowed})",
                self.file_bytes
            ));
        }
        // Beyond the size of the file, memory is taken only as the bytes come.
        let mut bytes = Vec::with_capacity(n_bytes.min(self.file_bytes) as usize);
        match entry.by_ref().take(n_bytes + 1).read_to_end(&mut bytes) {
            Ok(n_read) if n_read as u64 == n_bytes => {}
            Ok(_) => return malformed(format!("does not have the {n_bytes} bytes it declares")),
            Err(error) => return malformed(format!("cannot be unpacked: {error}")),
        }
        self.bytes_left -= n_bytes;
        Ok(bytes)
    }
}

/// A reader that gives no more than so many bytes. The directory of an archive is searched for from
/// the end of the file, through all of it where there is none.
struct Limited {
    content: Content,
    n_left: Rc<Cell<u64>>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_left = self.n_left.get();
        if n_left == 0 && !buffer.is_empty() {
            let words = format!("no directory within {MAX_DIRECTORY_BYTES} bytes");
            return Err(io::Error::other(words));
        }
        let allowed = buffer.len().min(usize::try_from(n_left).unwrap_or(usize::MAX));
        let n_read = self.content.read(&mut buffer[..allowed])?;
        self.n_left.set(n_left - n_read as u64);
        Ok(n_read)
    }
}

impl Seek for Limited {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.content.seek(position)
    }
}
