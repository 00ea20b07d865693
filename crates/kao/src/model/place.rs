//! What a user names as a model: a file, a run directory, a folder of diffusers, a repository of a hub,
//! or the model that is part of the program.

use super::folder::{self, DiffusersFolder};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::formats::{self, Contents, WeightsFile};
use crate::hub::{Hub, Repository};
use crate::sampler::GuideModel;
use std::path::{Path, PathBuf};

/// The file of a run directory to sample from.
pub const RUN_MODEL: &str = "model.safetensors";

/// What the built-in model is called where a path is asked for.
pub const BUILT_IN: &str = "built-in";

/// The same for the smaller model that guides it.
pub const BUILT_IN_GUIDE: &str = GuideModel::BuiltInGuide.name();

/// The file of the built-in model; `models/face64` tells how it came to be.
static BUILT_IN_FILE: &[u8] = include_bytes!("../../../../models/face64/model.safetensors");

static BUILT_IN_GUIDE_FILE: &[u8] = include_bytes!("../../../../models/face64/guide.safetensors");

/// A model that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    /// The one that samples.
    Model,
    /// The smaller one that guides it.
    Guide,
}

impl BuiltIn {
    /// The one of that name; a file of the name goes before it.
    fn of(path: &Path) -> Option<Self> {
        let all = [BuiltIn::Model, BuiltIn::Guide];
        all.into_iter().find(|one| path == Path::new(one.name()) && !path.exists())
    }

    /// What it is called where a path is asked for.
    pub(super) fn name(self) -> &'static str {
        match self {
            BuiltIn::Model => BUILT_IN,
            BuiltIn::Guide => BUILT_IN_GUIDE,
        }
    }

    fn bytes(self) -> &'static [u8] {
        match self {
            BuiltIn::Model => BUILT_IN_FILE,
            BuiltIn::Guide => BUILT_IN_GUIDE_FILE,
        }
    }

    pub(super) fn read(self) -> Result<WeightsFile> {
        formats::read_embedded(self.name(), self.bytes())
    }
}

/// What a path leads to.
pub(super) enum Place {
    /// A model that is part of the program.
    BuiltIn(BuiltIn),
    /// A folder of diffusers, whose configuration has been read.
    Folder(DiffusersFolder),
    /// A file, that of a run directory perhaps.
    File(PathBuf),
}

impl Place {
    /// # Errors
    /// When a folder holds no model, or its configuration cannot be read.
    pub(super) fn of(path: &Path) -> Result<Self> {
        if let Some(built_in) = BuiltIn::of(path) {
            return Ok(Place::BuiltIn(built_in));
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
        Place::BuiltIn(_) | Place::Folder(_) => Ok(path.to_path_buf()),
        Place::File(file) => Ok(file),
    }
}

/// Tells what is in what a user names as a model, without reading its weights.
///
/// # Errors
/// When the file cannot be read, or is no weights file.
pub fn peek(path: &Path) -> Result<Contents> {
    match Place::of(path)? {
        Place::BuiltIn(built_in) => formats::peek_embedded(built_in.name(), built_in.bytes()),
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
        Place::BuiltIn(_) => Ok(()),
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
    let is_whole = |folder: &Path| folder.join(RUN_MODEL).is_file() || !folder::lacks_files(folder);
    match hub.cached(&repository) {
        Some(folder) if is_whole(&folder) => Ok(()),
        _ => hub.fetch(&repository, control).map(|_| ()),
    }
}

/// Whether a path means a model that is part of the program; a file of that name goes before it.
pub fn is_built_in(path: &Path) -> bool {
    BuiltIn::of(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_models_are_small() {
        assert!(BUILT_IN_FILE.len() <= 16 << 20);
        assert!(BUILT_IN_GUIDE_FILE.len() <= 4 << 20);
    }
}
