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
        let path = path.as_ref();
        let Ok(folder) = File::open(path) else { return Ok(FolderLock { _folder: None }) };
        let mut locked = folder.try_lock();
        for _ in 0..RETRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(RETRY_AFTER);
            locked = folder.try_lock();
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
        let held = FolderLock::take(folder.path(), "another `kao draw`").unwrap();
        let refused = FolderLock::take(folder.path(), "another `kao draw`").unwrap_err();
        let message = refused.to_string();
        assert!(message.ends_with("another `kao draw` is writing to this folder"), "{message}");
        drop(held);
        FolderLock::take(folder.path(), "another `kao draw`").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
