//! An animation of a run's sample grids, oldest first: how it learned.

use super::summary::Summary;
use crate::error::{Error, Result};
use crate::files::prepare_path;
use crate::render::{self, Animation, AnimationFormat, Layout, Picture};
use std::path::Path;

/// Pictures in a second.
const FRAMES_PER_SECOND: u16 = 4;
/// The last picture stays longer.
const REST_MS: u16 = 2000;

/// What came of [`write()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timelapse {
    /// Grids in the animation.
    pub n_frames: usize,
    /// Grids that have another size than the newest, or cannot be read, and are left out.
    pub n_left_out: usize,
}

/// Checks that `path` names an animation.
///
/// # Errors
/// When it does not end in `.gif`, `.apng` or `.webp`.
pub fn check_path(path: &Path) -> Result<AnimationFormat> {
    AnimationFormat::of(path).ok_or_else(|| {
        let problem = "expected a name that ends in .gif, .apng or .webp";
        Error::invalid(format!("`{}`", path.display()), problem)
    })
}

/// Writes the sample grids of the run that `summary` is of to `path`, each with its step under it.
///
/// # Errors
/// When `path` names no animation, the run has no sample grid, or the file cannot be written.
pub fn write(summary: &Summary, path: &Path) -> Result<Timelapse> {
    let format = check_path(path)?;
    let size = |path: &Path| {
        let picture = render::read_png(path).ok()?;
        Some([picture.width(), picture.height()])
    };
    let sizes: Vec<Option<[usize; 2]>> = summary.samples.iter().map(|path| size(path)).collect();
    let Some(newest) = sizes.iter().rev().flatten().next() else {
        let problem = "the run has no sample grids yet";
        return Err(Error::malformed(&summary.path, problem));
    };
    let all = summary.samples.iter().zip(&sizes);
    let grids: Vec<&Path> =
        all.filter(|(_, size)| **size == Some(*newest)).map(|(path, _)| path.as_path()).collect();
    prepare_path(path)?;
    let texts = [
        ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("run", summary.path.display().to_string()),
        ("step", summary.step.to_string()),
    ];
    let texts = texts.map(|(key, text)| (key.to_owned(), text));
    let animation = Animation {
        format,
        n_frames: grids.len(),
        frames_per_second: FRAMES_PER_SECOND,
        rest_ms: REST_MS,
        texts: &texts,
    };
    animation.write(path, |index| frame(grids[index]))?;
    Ok(Timelapse { n_frames: grids.len(), n_left_out: sizes.len() - grids.len() })
}

/// A grid with its step under it.
fn frame(path: &Path) -> Result<Picture> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let step = name.trim_start_matches("step-").trim_start_matches('0');
    let step = if step.is_empty() { "0" } else { step };
    render::captioned(&render::read_png(path)?, &format!("step {step}"), &Layout::default())
}
