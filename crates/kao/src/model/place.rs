//! What a user names as a model: a file, a run directory, a folder of diffusers, a repository of a hub,
//! or the model that is part of the program.

use super::folder::{self, DiffusersFolder};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::formats::{self, Contents, WeightsFile};
use crate::hub::{Hub, Repository};
use std::path::{Path, PathBuf};

/// The file of a run directory to sample from.
pub const RUN_MODEL: &str = "model.safetensors";

/// What the built-in model is called where a path is asked for.
pub const BUILT_IN: &str = "built-in";

/// The file of the built-in model; `models/face64` tells how it came to be.
static BUILT_IN_FILE: &[u8] = include_bytes!("../../../../models/face64/model.safetensors");

/// Reads the built-in model.
pub(super) fn read_built_in() -> Result<WeightsFile> {
    formats::read_embedded(BUILT_IN, BUILT_IN_FILE)
}

/// What a path leads to.
pub(super) enum Place {
    /// The model that is part of the program.
    BuiltIn,
    /// A folder of diffusers, whose configuration has been read.
    Folder(DiffusersFolder),
    /// A file, that of a run directory perhaps.
    File(PathBuf),
}

impl Place {
    /// # Errors
    /// When a folder holds no model, or its configuration cannot be read.
    pub(super) fn of(path: &Path) -> Result<Self> {
        if is_built_in(path) {
            return Ok(Place::BuiltIn);
        }
        if let Some(repository) = repository(path)? {
            return Place::of(&Hub::from_environment()?.needed(&repository)?);
        }
        if !path.is_dir() {
            return Ok(Place::File(path.to_path_buf()));
        }
        let model = path.join(RUN_MODEL);
        if model.is_file() {
            return Ok(Place::File(model));
        }
        if folder::is_one(path) {
            return DiffusersFolder::open(path).map(Place::Folder);
        }
        let problem = format!("a folder without a {RUN_MODEL}, and none of diffusers");
        Err(Error::malformed(path, problem).with_hint(
            "give a model file, a Lightning checkpoint, or a folder that `kao train` or diffusers \
             wrote",
        ))
    }
}

/// The file behind what a user names as a model: a run directory's model for instance. A folder of
/// diffusers is several files, and stays the folder.
///
/// # Errors
/// As [`check`], when there is no such file.
pub fn model_file(path: &Path) -> Result<PathBuf> {
    match Place::of(path)? {
        Place::BuiltIn | Place::Folder(_) => Ok(path.to_path_buf()),
        Place::File(file) => Ok(file),
    }
}

/// Tells what is in what a user names as a model, without reading its weights.
///
/// # Errors
/// When the file cannot be read, or is no weights file.
pub fn peek(path: &Path) -> Result<Contents> {
    match Place::of(path)? {
        Place::BuiltIn => formats::peek_embedded(BUILT_IN, BUILT_IN_FILE),
        Place::Folder(folder) => folder.contents(),
        Place::File(file) => formats::peek(file),
    }
}

/// Checks by the first bytes that what a user names as a model can be one: a quick look before
/// other arguments are checked.
///
/// # Errors
/// When there is no such file, or it is something else.
pub fn check(path: &Path) -> Result<()> {
    match Place::of(path)? {
        Place::BuiltIn => Ok(()),
        Place::Folder(folder) => folder.check(),
        Place::File(file) => formats::check(file),
    }
}

/// The repository that a path means; a file or folder of that name goes before it.
fn repository(path: &Path) -> Result<Option<Repository>> {
    match Repository::of(path) {
        Some(repository) if !path.exists() => repository.map(Some),
        _ => Ok(None),
    }
}

/// Fetches the model that a path means from its hub, unless it is here already, or is no repository.
///
/// # Errors
/// When it cannot be fetched, or `control` stops the work.
pub fn fetch_if_needed(path: &Path, control: &dyn Control) -> Result<()> {
    let Some(repository) = repository(path)? else { return Ok(()) };
    let hub = Hub::from_environment()?;
    match hub.cached(&repository) {
        Some(_) => Ok(()),
        None => hub.fetch(&repository, control).map(|_| ()),
    }
}

/// Whether a path means the built-in model; a file of that name goes before it.
pub fn is_built_in(path: &Path) -> bool {
    path == Path::new(BUILT_IN) && !path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_small() {
        assert!(BUILT_IN_FILE.len() <= 12 << 20);
    }
}
