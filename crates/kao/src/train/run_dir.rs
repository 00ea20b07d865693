//! The run directory: the files of a run, their names, and the lock.

use super::checkpoint::{self, Newest, Position};
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

/// The configuration of the run.
pub const CONFIG_FILE: &str = "config.toml";
/// The folder of checkpoints in a run directory.
pub const CHECKPOINTS: &str = "checkpoints";
/// The folder of sample grids in a run directory.
pub const SAMPLES: &str = "samples";
const LOGS: &str = "logs";
/// The log of a run, in JSON lines.
pub const LOG_FILE: &str = "logs/log.jsonl";
/// Locked by the process that writes to a run directory.
pub(super) const LOCK_FILE: &str = ".lock";

/// How often a lock that is held is tried again, and after what time: a process that only checks
/// whether training is running holds it for an instant.
const LOCK_RETRIES: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What keeps a directory from becoming that of a new run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// A run that can be resumed.
    Run,
    /// Files of a run without a checkpoint, such as this one.
    Files(PathBuf),
    /// A configuration that is not that of the new run, at this path.
    Config(PathBuf),
    /// The log of a run that ended before its first checkpoint, at this path.
    Log(PathBuf),
}

/// A run directory, locked so that no other process writes to it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Never read: closing it releases the lock.
    _lock: File,
    /// Why it is not locked, where the file system offers no locks.
    unlocked: Option<String>,
}

impl RunDir {
    /// Creates the directory and its folders where they do not exist, locks it, and removes temporary
    /// files of processes that were killed.
    ///
    /// # Errors
    /// When the file system refuses, or another process holds the lock.
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

    /// Why the directory is not locked, in the system's words, where its file system offers no locks.
    /// Then nothing keeps another process from writing to it too.
    pub fn unlocked(&self) -> Option<&str> {
        self.unlocked.as_deref()
    }

    /// A file of a run in the directory `path`, if there is one. Logs and `config.toml` do not count:
    /// a run that ended before its first checkpoint leaves nothing else.
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

    /// What keeps the directory `path` from becoming that of a new run of `config`; `None` where
    /// nothing does. Configuration and log of the same run do not, since it may begin again. Where
    /// `config` is not known yet, only files of runs are looked for.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn occupied(path: &Path, config: Option<&TrainConfig>) -> Result<Option<Occupied>> {
        if let Some(file) = Self::file_of_a_run(path)? {
            return Ok(Some(match checkpoint::list(&path.join(CHECKPOINTS))?.is_empty() {
                false => Occupied::Run,
                true => Occupied::Files(file),
            }));
        }
        let Some(config) = config else { return Ok(None) };
        let (config_path, log) = (path.join(CONFIG_FILE), path.join(LOG_FILE));
        if TrainConfig::read(&config_path).is_ok_and(|written| written == *config) {
            return Ok(None);
        }
        if config_path.exists() {
            return Ok(Some(Occupied::Config(config_path)));
        }
        Ok(log.exists().then_some(Occupied::Log(log)))
    }

    /// The configuration to resume the run in the directory `path` with, whose newest checkpoint is
    /// at `position`: that of `config.toml`, which may have been edited since.
    ///
    /// # Errors
    /// When the file is damaged, or holds a change that is impossible within a run.
    pub fn config_to_resume(path: &Path, position: &Position) -> Result<TrainConfig> {
        const HINT: &str = "correct it, or remove it to resume with the checkpoint's configuration";
        let path = path.join(CONFIG_FILE);
        if !path.exists() {
            return Ok(position.config.clone());
        }
        let config = TrainConfig::read(&path).map_err(|error| error.with_hint(HINT))?;
        let checked = config.check_continues(&position.config);
        checked.map_err(|error| Error::malformed(&path, error).with_hint(HINT))?;
        Ok(config)
    }

    /// Checks, without writing anything, that no process holds the lock of the directory `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open) when one does.
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

    /// The newest undamaged checkpoint. Newer ones that are damaged are renamed, so that they are not
    /// counted among the checkpoints that are kept.
    ///
    /// # Errors
    /// When there is none, or the file system refuses.
    pub fn newest_checkpoint(&self) -> Result<Newest> {
        let newest = checkpoint::newest_undamaged(&self.checkpoints())?;
        for (path, _) in &newest.damaged {
            let aside = checkpoint::set_aside_path(path);
            std::fs::rename(path, aside).map_err(|error| Error::io("rename", path, error))?;
        }
        Ok(newest)
    }

    /// Writes the configuration, unless the file holds the same already: it may have comments.
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

    /// Removes all checkpoints except the newest `n` and that of `best_step`.
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
        .with_hint("wait for it, stop it, or choose another run directory")
}
