//! A folder's pictures at the size of the model in one file on disk, for more pictures than memory
//! holds.
//!
//! The file has the pixels of all pictures one after the other, as a folder in memory has them; then
//! an index (names and content hashes); then a footer with the length of both and a checksum over
//! the index. It is written whole or not at all. What it was made from is remembered as names,
//! lengths and times of the sources, and each picture is held against its content hash whenever it
//! is read. So neither changed pictures nor a failing disk go unnoticed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pixels::{DiskPixels, FolderPicture};
use super::report::Skipped;
use super::scan::{Found, Source};
use crate::error::{Error, Result};
use crate::files::{atomic_write, open_regular};
use crate::memory;
use crate::named::names;

/// Where the pixels of a folder's pictures are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cache {
    /// In memory where they take at most half of what is free, otherwise on disk.
    #[default]
    Auto,
    /// In memory.
    Memory,
    /// On disk.
    Disk,
}

names!(Cache, "cache", {
    Auto => "auto",
    Memory => "memory",
    Disk => "disk",
});

/// Where the pixels of a folder's pictures are kept, and in which folder when on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheConfig {
    /// Memory or disk.
    pub cache: Cache,
    /// The folder of the files on disk: by default `kao` in the user's folder of caches
    /// (`XDG_CACHE_HOME`, or `.cache` in `HOME`).
    pub dir: Option<PathBuf>,
}

impl CacheConfig {
    /// In memory.
    pub fn memory() -> Self {
        CacheConfig { cache: Cache::Memory, dir: None }
    }

    /// Whether `n_bytes` of pixels go to disk.
    pub(super) fn is_disk(&self, n_bytes: u64) -> bool {
        match self.cache {
            Cache::Memory => false,
            Cache::Disk => true,
            Cache::Auto => memory::available().is_some_and(|free| n_bytes > free / 2),
        }
    }

    fn dir(&self) -> Result<PathBuf> {
        let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty());
        let home = || folder("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let caches = || folder("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let dir = self.dir.clone().or_else(|| caches().map(|caches| caches.join("kao")));
        dir.ok_or_else(|| {
            Error::invalid("cache_dir", "none given, and there is no home folder for caches")
        })
    }
}

const MAGIC: &[u8; 16] = b"kao pictures 1\n\0";

/// Magic, number of pictures, bytes of a picture, bytes of the index, checksum of the index.
const FOOTER_BYTES: u64 = 16 + 3 * 8 + 32;

/// The longest name of a picture in an index, in bytes.
const MAX_NAME_BYTES: u32 = 1 << 16;

/// The longest beginning of an index, with the files that were skipped.
const MAX_HEADER_BYTES: u32 = 1 << 30;

/// What an index says besides names and hashes.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// See [`source_fingerprint`].
    sources: String,
    shape: [usize; 3],
    n_enlarged: usize,
    skipped: Vec<Skipped>,
}

/// What is known of pictures that are on disk.
pub(super) struct Cached {
    pub pixels: DiskPixels,
    pub pictures: Vec<FolderPicture>,
    pub skipped: Vec<Skipped>,
    pub n_enlarged: usize,
}

/// What a folder's pictures came to, besides their pixels.
pub(super) struct Index {
    pub pictures: Vec<FolderPicture>,
    pub skipped: Vec<Skipped>,
    pub n_enlarged: usize,
}

/// The file for one folder of pictures at one shape.
pub(super) struct CacheFile {
    path: PathBuf,
    sources: String,
    shape: [usize; 3],
}

impl CacheFile {
    /// The file for the pictures `found` in `data`, which may not be there yet.
    pub fn of(
        config: &CacheConfig,
        data: &Path,
        found: &[Found],
        shape: [usize; 3],
    ) -> Result<Self> {
        let dir = config.dir()?;
        std::fs::create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
        // A folder that has changed takes the place of what it was.
        let place = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
        let digest = Sha256::new()
            .chain_update(place.as_os_str().as_encoded_bytes())
            .chain_update(format!("{shape:?}"))
            .finalize();
        let path = dir.join(format!("pictures-{}.kao", &hexadecimal(&digest)[..16]));
        let sources = source_fingerprint(found, shape)?;
        Ok(CacheFile { path, sources, shape })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pictures, where the file is there, whole, and made from the same sources.
    pub fn open(&self) -> Result<Option<Cached>> {
        let Ok(file) = open_regular(&self.path) else { return Ok(None) };
        // Whatever is wrong with a cache, it can be made anew.
        let read = self.read(&file).ok().filter(|(header, _)| header.sources == self.sources);
        Ok(read.map(|(header, pictures)| Cached {
            pixels: DiskPixels { file: Arc::new(file), path: self.path.clone(), places: None },
            pictures,
            skipped: header.skipped,
            n_enlarged: header.n_enlarged,
        }))
    }

    fn read(&self, mut file: &File) -> io::Result<(Header, Vec<FolderPicture>)> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let len = file.metadata()?.len();
        let end = len.checked_sub(FOOTER_BYTES).ok_or_else(|| wrong("too short"))?;
        file.seek(SeekFrom::Start(end))?;
        let mut footer = [0; FOOTER_BYTES as usize];
        file.read_exact(&mut footer)?;
        let number = |at: usize| {
            footer[at..at + 8].iter().rev().fold(0_u64, |n, &byte| n << 8 | u64::from(byte))
        };
        let [n, picture_len, index_len] = [16, 24, 32].map(number);
        let start =
            n.checked_mul(picture_len).filter(|start| start.checked_add(index_len) == Some(end));
        let start = start.filter(|_| footer[..16] == MAGIC[..]).ok_or_else(|| wrong("a footer"))?;
        if picture_len != self.shape.iter().product::<usize>() as u64 {
            return Err(wrong("another shape"));
        }
        file.seek(SeekFrom::Start(start))?;
        let mut index = Hashed { of: BufReader::new(file.take(index_len)), hash: Sha256::new() };
        let header_len = index.number()?;
        if header_len > MAX_HEADER_BYTES || u64::from(header_len) > index_len {
            return Err(wrong("a header"));
        }
        let header = index.bytes(header_len as usize)?;
        let header: Header = serde_json::from_slice(&header)?;
        // Each picture takes 36 bytes of the index at least.
        if n > index_len / 36 || header.shape != self.shape {
            return Err(wrong("an index"));
        }
        let mut pictures = Vec::with_capacity(n as usize);
        for _ in 0..n {
            let mut content_hash = [0; 32];
            index.fill(&mut content_hash)?;
            let name_len = index.number()?;
            if name_len > MAX_NAME_BYTES {
                return Err(wrong("a name"));
            }
            let name = String::from_utf8(index.bytes(name_len as usize)?);
            let name = name.map_err(|_| wrong("a name"))?.into_boxed_str().into();
            pictures.push(FolderPicture { name, content_hash });
        }
        match index.hash.finalize()[..] == footer[40..] {
            true => Ok((header, pictures)),
            false => Err(wrong("a checksum")),
        }
    }

    /// Makes the file: `write` writes the pixels and returns what else is known of the pictures.
    pub fn make(&self, write: impl FnOnce(&mut dyn Write) -> Result<Index>) -> Result<()> {
        let mut failed = None;
        let written = atomic_write(&self.path, |file| {
            let index = write(file).map_err(|error| {
                failed = Some(error);
                io::Error::other("the pictures cannot be read")
            })?;
            self.write_index(file, index)
        });
        match failed {
            Some(error) => Err(error),
            None => written,
        }
    }

    fn write_index(&self, file: &mut dyn Write, index: Index) -> io::Result<()> {
        let Index { pictures, skipped, n_enlarged } = index;
        let (sources, shape) = (self.sources.clone(), self.shape);
        let header = serde_json::to_vec(&Header { sources, shape, n_enlarged, skipped })?;
        let (mut hash, mut index_len) = (Sha256::new(), 0);
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            index_len += bytes.len() as u64;
            file.write_all(bytes)
        };
        put(&(header.len() as u32).to_le_bytes())?;
        put(&header)?;
        for FolderPicture { name, content_hash } in &pictures {
            put(content_hash)?;
            put(&(name.len() as u32).to_le_bytes())?;
            put(name.as_bytes())?;
        }
        let picture_len = self.shape.iter().product::<usize>() as u64;
        file.write_all(MAGIC)?;
        for number in [pictures.len() as u64, picture_len, index_len] {
            file.write_all(&number.to_le_bytes())?;
        }
        file.write_all(&hash.finalize())
    }
}

/// A reader that hashes what it gives.
struct Hashed<R> {
    of: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    fn fill(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.of.read_exact(into)?;
        self.hash.update(&*into);
        Ok(())
    }

    fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// What stands for the sources of pictures: their names, and where each is a file of its own, its
/// length and the time of its last change; of archives the same, and the places of pictures in them.
pub(super) fn source_fingerprint(found: &[Found], shape: impl std::fmt::Debug) -> Result<String> {
    let mut digest = Sha256::new_with_prefix(format!("kao sources 2 {shape:?}"));
    let state = |digest: &mut Sha256, path: &Path| -> Result<()> {
        let unreadable = |source| Error::io("read", path, source);
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let changed =
            metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        digest.update(metadata.len().to_le_bytes());
        digest.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
        Ok(())
    };
    let mut last: Option<&Arc<Path>> = None;
    for Found { source, relative } in found {
        digest.update((relative.len() as u64).to_le_bytes());
        digest.update(relative);
        match source {
            // What cannot be looked at now is skipped later, or is there then.
            Source::File(path) => match state(&mut digest, path) {
                Ok(()) => {}
                Err(_) => digest.update(b"unreadable"),
            },
            Source::InArchive { archive, offset, len } => {
                if !last.is_some_and(|last| Arc::ptr_eq(last, archive)) {
                    state(&mut digest, archive)?;
                    last = Some(archive);
                }
                digest.update(offset.to_le_bytes());
                digest.update(len.to_le_bytes());
            }
        }
    }
    Ok(hexadecimal(&digest.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
