//! Files that are either the old one or the new one, whole, whatever happens in between.
//!
//! The content goes to a temporary file in the same folder, which is synced and renamed over the
//! target, and then the folder is synced.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

const TEMPORARY_PREFIX: &str = ".kao-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes `path` through `write`, atomically. When `write` fails, nothing is left behind and a
/// file that was at `path` stays as it was.
///
/// # Errors
/// When the folder of `path` does not exist or cannot be written, or when `write` fails.
pub fn atomic_write<T>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<T>,
) -> Result<T> {
    let path = path.as_ref();
    let refused = |source| Error::io("write", path, source);
    let temporary = temporary_beside(path)?;
    let mut writer = BufWriter::with_capacity(1 << 18, temporary.as_file());
    let value = write(&mut writer).map_err(refused)?;
    writer.flush().map_err(refused)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(refused)?;
    temporary.persist(path).map_err(|failed| refused(failed.error))?;
    sync_folder(folder_of(path)).map_err(refused)?;
    Ok(value)
}

/// Makes sure, before long work, that [`atomic_write`] can write `path` after it: creates the
/// folders above it where they do not exist, and tries a temporary file there.
///
/// # Errors
/// When `path` is a folder, or the file system refuses.
pub fn prepare_path(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
    temporary_beside(path).map(|_| ())
}

/// Removes from `folder` what writers left there that were killed in the middle. Only for folders
/// that nobody else writes to.
///
/// # Errors
/// When the file system refuses.
pub fn remove_leftovers(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    let refused = |source| Error::io("read", folder, source);
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
        }
    }
    Ok(())
}

/// An empty file beside `path` that goes away unless it is renamed.
fn temporary_beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let refused = |source| Error::io("write", path, source);
    if path.is_dir() {
        return Err(refused(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        let words = format!("there is no folder `{}`", folder.display());
        return Err(refused(io::Error::new(io::ErrorKind::NotFound, words)));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX).suffix(TEMPORARY_SUFFIX);
    // Temporary files are private by default; this one becomes an ordinary file, so it gets the
    // permissions of one (which the user's umask narrows).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(refused)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename in `folder` survive a power cut. Only Unix lets a folder be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        atomic_write(&path, |file| file.write_all(b"old")).unwrap();
        let failed = atomic_write(&path, |file| {
            file.write_all(b"half of the n")?;
            Err::<(), _>(io::Error::other("power cut"))
        });
        assert!(failed.unwrap_err().to_string().contains("power cut"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model"]);
        atomic_write(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[test]
    fn a_missing_folder_is_named_and_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/model");
        let error = atomic_write(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("there is no folder"), "{error}");
        prepare_path(&path).unwrap();
        assert_eq!(names(path.parent().unwrap()), [""; 0]);
        atomic_write(&path, |_| Ok(())).unwrap();
        prepare_path(&path).unwrap();
        assert!(prepare_path(path.join("below a file")).is_err());
        assert!(prepare_path(folder.path()).is_err());
        assert!(atomic_write(folder.path(), |_| Ok(())).is_err());
        assert!(atomic_write("/", |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_file_gets_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        atomic_write(&ours, |_| Ok(())).unwrap();
        std::fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
