//! A folder full of portraits.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use rayon::prelude::*;

use super::{check_size, face};
use crate::error::{Error, Result};

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
    /// Pictures that were there from an earlier run of the same count, size and seed.
    pub kept: u64,
}

/// The file name of picture `index`: `face-000123.png`.
pub fn file_name(index: u64) -> String {
    format!("face-{index:06}.png")
}

/// Draws `config.count` portraits into a folder, in parallel on rayon's threads.
///
/// Every file is written under a temporary name and renamed, so that a file with a picture's name
/// is always whole. Run again after an interruption, it draws what is missing: a file that is
/// there and whose header says the wanted size is kept as it is, so a folder belongs to one seed.
/// `observer` is called after every picture, from several threads.
///
/// # Errors
/// When the size is out of range, or the file system refuses.
pub fn write_folder(
    config: &FolderConfig,
    observer: &(dyn Fn(Progress) + Sync),
) -> Result<Written> {
    check_size(config.size)?;
    let dir = &config.out_dir;
    fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    let (done, drawn) = (AtomicU64::new(0), AtomicU64::new(0));
    (0..config.count).into_par_iter().try_for_each(|index| {
        let path = dir.join(file_name(index));
        if !is_there(&path, config.size) {
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

fn is_there(path: &Path, size: u32) -> bool {
    image::image_dimensions(path).is_ok_and(|dimensions| dimensions == (size, size))
}

fn write_one(path: &Path, config: &FolderConfig, index: u64) -> Result<()> {
    let picture = face(config.seed, index, config.size)?;
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(picture.as_raw(), config.size, config.size, image::ExtendedColorType::Rgb8)
        .map_err(|problem| Error::malformed(path, problem))?;
    let failed = |source| Error::io("write", path, source);
    let mut file = tempfile::Builder::new()
        .prefix(".face-")
        .suffix(".tmp")
        .tempfile_in(&config.out_dir)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, &bytes).map_err(failed)?;
    file.persist(path).map_err(|error| Error::io("write", path, error.error))?;
    Ok(())
}
