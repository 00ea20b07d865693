//! What a user names as a model: a file, a run directory, or the model that is part of the program.

use crate::error::{Error, Result};
use crate::formats::{self, Contents, WeightsFile};
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

/// Tells what is in what a user names as a model, without reading its weights.
///
/// # Errors
/// When the file cannot be read, or is no weights file.
pub fn peek(path: &Path) -> Result<Contents> {
    match is_built_in(path) {
        true => formats::peek_embedded(BUILT_IN, BUILT_IN_FILE),
        false => formats::peek(model_file(path)?),
    }
}

/// Checks by the first bytes that what a user names as a model can be one: a quick look before
/// other arguments are checked.
///
/// # Errors
/// When there is no such file, or it is something else.
pub fn check(path: &Path) -> Result<()> {
    match is_built_in(path) {
        true => Ok(()),
        false => formats::check(model_file(path)?),
    }
}

/// Whether a path means the built-in model; a file of that name goes before it.
pub fn is_built_in(path: &Path) -> bool {
    path == Path::new(BUILT_IN) && !path.exists()
}

/// The file behind what a user names as a model: a file, or a run directory's model.
///
/// # Errors
/// When a folder holds no model.
pub fn model_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let model = path.join(RUN_MODEL);
    if model.is_file() {
        return Ok(model);
    }
    Err(Error::malformed(path, format!("a folder without a {RUN_MODEL}"))
        .with_hint("give a model file, a Lightning checkpoint, or a folder that `kao train` wrote"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_small() {
        assert!(BUILT_IN_FILE.len() <= 12 << 20);
    }
}
