//! Files that are either the old one or the new one, whole, whatever happens in between.
//!
//! The content goes to a temporary file in the same folder, which is synced and renamed over the
//! target, and then the folder is synced.
//!
//! A writer that is killed leaves its temporary file. While a writer lives, it holds a lock on that
//! file; so whoever writes to the folder next removes those that nobody has locked. Where a file
//! system offers no locks, they stay.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::regular::open_regular;
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
        if is_temporary(&entry.file_name()) {
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
    sweep_once(folder);
    loop {
        let temporary = builder.tempfile_in(folder).map_err(refused)?;
        let locked = temporary.as_file().lock();
        // Between the two steps another process may have taken it for that of a dead one.
        if locked.is_err() || temporary.path().exists() {
            return Ok(temporary);
        }
    }
}

/// Removes temporary files of dead writers from `folder`, the first time that this process writes
/// there. It is a courtesy: what fails is left.
fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let is_new = SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_path_buf());
    if is_new {
        sweep(folder);
    }
}

fn sweep(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.filter(|entry| is_temporary(&entry.file_name())).map(|entry| entry.path()) {
        let Ok(file) = open_regular(&path) else { continue };
        if file.try_lock().is_ok() {
            // Locked while it is removed: see `temporary_beside`.
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename in `folder` survive a power cut. Only Unix lets a folder be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { unless_not_offered(File::open(folder)?.sync_all()) } else { Ok(()) }
}

/// Some file systems, CIFS and several in user space among them, do not offer to sync a folder.
/// The file is there and whole all the same.
fn unless_not_offered(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        // EINVAL, and ENOSYS or EOPNOTSUPP.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        other => other,
    }
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

    #[test]
    fn temporary_files_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().unwrap();
        let [dead, alive, other] =
            [".kao-dead.tmp", ".kao-alive.tmp", ".other.tmp"].map(|name| folder.path().join(name));
        for path in [&dead, &alive, &other] {
            std::fs::write(path, b"half").unwrap();
        }
        let writer = File::open(&alive).unwrap();
        writer.lock().unwrap();
        atomic_write(folder.path().join("model"), |_| Ok(())).unwrap();
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".kao-alive.tmp", ".other.tmp", "model"]);
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_no_failure() {
        let failed = |kind: io::ErrorKind| unless_not_offered(Err(kind.into()));
        assert!(failed(io::ErrorKind::InvalidInput).is_ok());
        assert!(failed(io::ErrorKind::Unsupported).is_ok());
        assert!(failed(io::ErrorKind::StorageFull).is_err());
        #[cfg(target_os = "linux")]
        for code in [22, 38, 95] {
            assert!(unless_not_offered(Err(io::Error::from_raw_os_error(code))).is_ok(), "{code}");
        }
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
