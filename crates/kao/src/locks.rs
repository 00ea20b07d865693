//! A folder that one process alone writes to.
//!
//! The folder itself is locked, so nothing is left in it, and the lock goes when its process does,
//! however that ends. Where a file system offers no locks (some network ones, and Windows for
//! folders) the work goes on without: two programs at once are rare, and refusing to work at all
//! would help nobody.

use crate::error::{Error, Result};
use crate::files::{is_missing, open_regular};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// The lock on a folder, held until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// `None` where folders cannot be locked. Held, not read: the lock goes with it.
    _folder: Option<File>,
}

impl FolderLock {
    /// Locks the existing folder `path`; `work` says what others do who have it, as in
    /// "another `kao draw`".
    ///
    /// # Errors
    /// When another process holds the lock.
    pub fn take(path: impl AsRef<Path>, work: &str) -> Result<Self> {
        Self::lock(path.as_ref(), work, File::try_lock)
    }

    /// Locks the existing folder `path` together with others who [`share`](Self::share) it, and
    /// against all who [`take`](Self::take) it: for shards of one task, which write different files.
    ///
    /// # Errors
    /// When another process has taken the lock for itself.
    pub fn share(path: impl AsRef<Path>, work: &str) -> Result<Self> {
        Self::lock(path.as_ref(), work, File::try_lock_shared)
    }

    fn lock(
        path: &Path,
        work: &str,
        try_lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Self> {
        let Ok(folder) = File::open(path) else { return Ok(FolderLock { _folder: None }) };
        let mut locked = try_lock(&folder);
        for _ in 0..RETRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(RETRY_AFTER);
            locked = try_lock(&folder);
        }
        match locked {
            Ok(()) => Ok(FolderLock { _folder: Some(folder) }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::malformed(path, format!("{work} is writing to this folder"))
                    .with_hint("wait for it, stop it, or choose another folder"))
            }
            Err(TryLockError::Error(_)) => Ok(FolderLock { _folder: None }),
        }
    }
}

/// Whether a process holds the lock on the file at `path`; none where that cannot be told. Taking it
/// as one of many readers shows it, and keeps nobody else who looks from it.
pub fn is_locked(path: &Path) -> Option<bool> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Some(false),
        Err(_) => return None,
    };
    match file.try_lock_shared() {
        // Given back at once, with the file.
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

/// A process that starts another one shares its locks with it for a moment, until the other program
/// is loaded. So a lock that was just given back may seem to be held.
const RETRIES: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_is_locked_once_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let shared = [(); 2].map(|()| FolderLock::share(folder.path(), "a shard").unwrap());
        FolderLock::take(folder.path(), "a shard").unwrap_err();
        drop(shared);
        let held = FolderLock::take(folder.path(), "another `kao draw`").unwrap();
        FolderLock::share(folder.path(), "another `kao draw`").unwrap_err();
        let refused = FolderLock::take(folder.path(), "another `kao draw`").unwrap_err();
        let message = refused.to_string();
        assert!(message.ends_with("another `kao draw` is writing to this folder"), "{message}");
        drop(held);
        FolderLock::take(folder.path(), "another `kao draw`").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
