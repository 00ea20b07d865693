//! The run directory: what `kao train` writes, and where.

use super::checkpoint::{self, Newest};
use super::config::TrainConfig;
use crate::error::{Error, Result};
use crate::files::check_regular_or_none;
use crate::files::{atomic_write, remove_leftovers};
use crate::locks::is_locked;
use crate::model::RUN_MODEL;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration that a run really used.
pub const CONFIG_FILE: &str = "config.toml";
/// The folder of checkpoints in a run directory.
pub const CHECKPOINTS: &str = "checkpoints";
/// The folder of sample grids in a run directory.
pub(super) const SAMPLES: &str = "samples";
const LOGS: &str = "logs";
/// The log of a run directory, in JSON lines.
pub const LOG_FILE: &str = "logs/log.jsonl";
/// Locked by the training that writes to a run directory.
pub(super) const LOCK_FILE: &str = ".lock";

/// How often a lock that is taken is tried again, and how long after: whoever only looks whether a
/// training is running has it for an instant.
const LOCK_RETRIES: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A run directory that this process alone writes to.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held, not read: the lock goes with it.
    _lock: File,
    /// Why there is no lock, where the file system offers none.
    unlocked: Option<String>,
}

impl RunDir {
    /// Creates the directory and its folders where they do not exist, and locks it.
    ///
    /// # Errors
    /// When the file system refuses, or another training has the directory.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        for folder in [CHECKPOINTS, SAMPLES, LOGS] {
            let folder = path.join(folder);
            std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        }
        for file in [LOCK_FILE, LOG_FILE, CONFIG_FILE] {
            check_regular_or_none(path.join(file))?;
        }
        let lock_path = path.join(LOCK_FILE);
        let refused = |error| Error::io("lock", &lock_path, error);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(refused)?;
        let mut locked = lock.try_lock();
        for _ in 0..LOCK_RETRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            locked = lock.try_lock();
        }
        let unlocked = match locked {
            Ok(()) => {
                for folder in [CHECKPOINTS, SAMPLES, LOGS, ""] {
                    remove_leftovers(path.join(folder))?;
                }
                None
            }
            Err(TryLockError::WouldBlock) => return Err(taken(&path)),
            Err(TryLockError::Error(error)) => Some(error.to_string()),
        };
        Ok(RunDir { path, _lock: lock, unlocked })
    }

    /// Why the directory is not locked, in the words of the system, where its file system offers no
    /// locks. Then nothing keeps another training from writing to it too.
    pub fn unlocked(&self) -> Option<&str> {
        self.unlocked.as_deref()
    }

    /// A file at `path` that a run has left, if there is one. Logs and `config.toml` alone make no
    /// run: they are all that is left of one that ended before its first checkpoint.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn file_of_a_run(path: &Path) -> Result<Option<PathBuf>> {
        for folder in [CHECKPOINTS, SAMPLES] {
            let folder = path.join(folder);
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("read", folder, error)),
            };
            for entry in entries {
                let path = entry.map_err(|error| Error::io("read", &folder, error))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with('.') {
                    return Ok(Some(path));
                }
            }
        }
        let model = path.join(RUN_MODEL);
        Ok(model.exists().then_some(model))
    }

    /// Checks, without writing anything, that no training writes to the directory `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open) when another training has it.
    pub fn check_free(path: &Path) -> Result<()> {
        match is_locked(&path.join(LOCK_FILE)) {
            Some(true) => Err(taken(path)),
            _ => Ok(()),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model to sample from.
    pub fn model(&self) -> PathBuf {
        self.path.join(RUN_MODEL)
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// The sample grid of step `n_steps`.
    pub fn sample(&self, n_steps: u64) -> PathBuf {
        self.path.join(SAMPLES).join(format!("step-{n_steps:08}.png"))
    }

    /// The folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join(LOGS)
    }

    /// The newest checkpoint that is whole. Damaged ones that are newer get another name, so that
    /// they are neither gone on from nor counted among those to be kept.
    ///
    /// # Errors
    /// When there is none, or the file system refuses.
    pub fn newest_checkpoint(&self) -> Result<Newest> {
        let newest = checkpoint::newest_whole(&self.checkpoints())?;
        for (path, _) in &newest.damaged {
            let aside = path.with_extension("damaged");
            std::fs::rename(path, aside).map_err(|error| Error::io("rename", path, error))?;
        }
        Ok(newest)
    }

    /// Writes the configuration, unless the file says the same already: it may hold comments.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, config: &TrainConfig) -> Result<()> {
        if TrainConfig::read(&self.path.join(CONFIG_FILE)).is_ok_and(|written| written == *config) {
            return Ok(());
        }
        let toml = config.to_toml();
        atomic_write(self.path.join(CONFIG_FILE), |file| file.write_all(toml.as_bytes()))
    }

    /// Appends one line to the log.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn log(&self, line: &serde_json::Value) -> Result<()> {
        let path = self.path.join(LOG_FILE);
        let append = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        append().map_err(|error| Error::io("write", &path, error))
    }

    /// Removes all checkpoints but the newest `n` and that of `best_step`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn retain_checkpoints(&self, n: usize, best_step: Option<u64>) -> Result<()> {
        let paths = checkpoint::list(&self.checkpoints())?;
        let best = best_step.map(|step| checkpoint::path(&self.checkpoints(), step));
        let older = &paths[..paths.len().saturating_sub(n)];
        for path in older.iter().filter(|&path| best.as_ref() != Some(path)) {
            std::fs::remove_file(path).map_err(|error| Error::io("remove", path, error))?;
        }
        Ok(())
    }
}

fn taken(path: &Path) -> Error {
    Error::malformed(path, "another training is writing to this folder")
        .with_hint("wait for it, stop it, or give another --out")
}
