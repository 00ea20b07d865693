//! A folder full of portraits.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::RgbImage;
use rayon::prelude::*;

use super::{check_size, face};
use crate::error::{Error, Result};

/// The key of the PNG text that says which picture a file holds.
const TEXT_KEY: &str = "Source";

/// What [`write_folder`] draws, and where to.
#[derive(Clone, Debug)]
pub struct FolderConfig {
    /// How many portraits: indices 0 to `count` − 1.
    pub count: u64,
    /// The folder, created if need be.
    pub out_dir: PathBuf,
    /// Side of the pictures in pixels, see [`face`].
    pub size: u32,
    /// The seed of the whole set.
    pub seed: u64,
}

/// How far [`write_folder`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pictures that are there: drawn now, or found.
    pub done: u64,
    /// Pictures wanted.
    pub total: u64,
}

/// What [`write_folder`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Pictures drawn.
    pub drawn: u64,
    /// Pictures that were there from an earlier run.
    pub kept: u64,
}

/// The file name of picture `index`: `face-000123.png`.
pub fn file_name(index: u64) -> String {
    format!("face-{index:06}.png")
}

/// Draws `config.count` portraits into a folder, in parallel on rayon's threads.
///
/// Every file is written under a temporary name and renamed, so that a file with a picture's name
/// is whole. Each says in a text of its own which picture it is: run again, after an interruption
/// or for a larger count, only what is missing or of another seed or size is drawn. `observer` is
/// called after every picture, from several threads. When `cancelled` returns true the work stops
/// soon; what was drawn stays.
///
/// # Errors
/// When the count is 0 or the size out of range, when the file system refuses, or when cancelled.
pub fn write_folder(
    config: &FolderConfig,
    observer: &(dyn Fn(Progress) + Sync),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Written> {
    if config.count == 0 {
        return Err(Error::out_of_range("count", 0, "at least 1"));
    }
    check_size(config.size)?;
    let dir = &config.out_dir;
    fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    let (done, drawn) = (AtomicU64::new(0), AtomicU64::new(0));
    (0..config.count).into_par_iter().try_for_each(|index| {
        if cancelled() {
            return Err(Error::interrupted());
        }
        let path = dir.join(file_name(index));
        if !holds(&path, config, index) {
            write_one(&path, config, index)?;
            drawn.fetch_add(1, Ordering::Relaxed);
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        observer(Progress { done, total: config.count });
        Ok::<(), Error>(())
    })?;
    let drawn = drawn.into_inner();
    Ok(Written { drawn, kept: config.count - drawn })
}

/// What is written into picture `index`. The version is in it because another may draw otherwise.
fn source_text(config: &FolderConfig, index: u64) -> String {
    format!("kao draw {}, seed {}, index {index}", env!("CARGO_PKG_VERSION"), config.seed)
}

/// Whether the file at `path` is picture `index` of `config`.
fn holds(path: &Path, config: &FolderConfig, index: u64) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let Ok(reader) = png::Decoder::new(BufReader::new(file)).read_info() else { return false };
    let info = reader.info();
    let text = source_text(config, index);
    info.size() == (config.size, config.size)
        && info.uncompressed_latin1_text.iter().any(|chunk| chunk.text == text)
}

fn write_one(path: &Path, config: &FolderConfig, index: u64) -> Result<()> {
    let failed = |source| Error::io("write", path, source);
    let bytes = encode(config, index, &face(config.seed, index, config.size)?)
        .map_err(|error| failed(error.into()))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".face-").suffix(".tmp");
    // Temporary files are private by default; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(&config.out_dir).map_err(failed)?;
    temporary.write_all(&bytes).map_err(failed)?;
    // Not synced: thousands of small files would wait for the disk, and any can be drawn again.
    temporary.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// `picture` as a PNG file that says what it is.
fn encode(
    config: &FolderConfig,
    index: u64,
    picture: &RgbImage,
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk(TEXT_KEY.to_owned(), source_text(config, index))?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.as_raw())?;
    writer.finish()?;
    Ok(bytes)
}
