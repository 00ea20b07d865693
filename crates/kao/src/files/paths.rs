//! What a path leads to, without opening it.

use crate::error::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// Makes sure that a folder of results can be at `path`, which whoever fills it creates.
///
/// # Errors
/// When a file is there, or in the place of a folder above it.
pub fn check_folder(path: &Path) -> Result<()> {
    match path.ancestors().find(|ancestor| ancestor.exists()) {
        Some(there) if !there.is_dir() => {
            Err(Error::malformed(there, "a file, where a folder is expected"))
        }
        _ => Ok(()),
    }
}

/// The absolute path, with links followed as far as it exists.
pub fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).map_or_else(
        |_| path.to_path_buf(),
        |path| path.components().filter(|part| *part != Component::CurDir).collect(),
    )
}
