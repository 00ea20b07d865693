//! Where the pixels of a folder's pictures are: in memory, or in a file that is read at places.

use std::borrow::Cow;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::read_exact_at;

/// What a [`Folder`](super::Folder) knows of a picture besides its pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPicture {
    /// Below the folder, parts joined by `/`; of a picture in an archive, the archive's name and the
    /// picture's in it.
    pub name: String,
    /// SHA-256 of the picture's bytes `[H, W, C]` at the size of the model.
    pub content_hash: [u8; 32],
}

/// The bytes `[H, W, C]` of all pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pixels {
    /// One picture after the other.
    Memory(Vec<u8>),
    /// In a file.
    Disk(DiskPixels),
}

/// Pictures in a file, one after the other from its beginning.
#[derive(Clone, Debug)]
pub(super) struct DiskPixels {
    pub file: Arc<File>,
    pub path: PathBuf,
    /// Which of the file's pictures each picture is; the same number where there are none.
    pub places: Option<Vec<u32>>,
}

impl PartialEq for DiskPixels {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.places == other.places
    }
}

impl Eq for DiskPixels {}

impl Pixels {
    /// Picture `index`, of `len` bytes, where the hash of its content is `expected`. There must be
    /// such a picture.
    ///
    /// # Errors
    /// When the file cannot be read, or no longer holds what was written to it.
    pub fn picture(&self, index: usize, len: usize, expected: &[u8; 32]) -> Result<Cow<'_, [u8]>> {
        match self {
            Pixels::Memory(bytes) => Ok(Cow::Borrowed(&bytes[index * len..][..len])),
            Pixels::Disk(disk) => {
                let mut bytes = vec![0; len];
                disk.read(index, expected, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Appends picture `index` to `into`, as [`picture`](Self::picture) gives it.
    ///
    /// # Errors
    /// As there.
    pub fn append(
        &self,
        index: usize,
        len: usize,
        expected: &[u8; 32],
        into: &mut Vec<u8>,
    ) -> Result<()> {
        match self {
            Pixels::Memory(bytes) => into.extend_from_slice(&bytes[index * len..][..len]),
            Pixels::Disk(disk) => {
                let start = into.len();
                into.resize(start + len, 0);
                disk.read(index, expected, &mut into[start..])?;
            }
        }
        Ok(())
    }
}

impl DiskPixels {
    fn read(&self, index: usize, expected: &[u8; 32], into: &mut [u8]) -> Result<()> {
        let place = self.places.as_ref().map_or(index, |places| places[index] as usize);
        let offset = place as u64 * into.len() as u64;
        read_exact_at(&self.file, into, offset)
            .map_err(|source| Error::io("read", &self.path, source))?;
        // A disk that has lost or changed a block must not be learned from.
        match Sha256::digest(&*into)[..] == expected[..] {
            true => Ok(()),
            false => Err(Error::malformed(&self.path, format!("picture {place} is damaged"))
                .with_hint("remove this file: it is made anew from the pictures")),
        }
    }
}
