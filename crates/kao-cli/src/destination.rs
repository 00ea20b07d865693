//! Where results go, looked at before the work that makes them.

use kao::{Error, Result, files};
use std::path::{Component, Path, PathBuf};

/// Makes sure that the file of `flag` can be written: folders above it are created.
pub fn file(path: &Path) -> Result<()> {
    files::prepare_path(path)
}

/// Makes sure that a folder of results can be at `path`: that no file is there.
pub fn folder(path: &Path) -> Result<()> {
    // The folder itself is created by whoever fills it.
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
