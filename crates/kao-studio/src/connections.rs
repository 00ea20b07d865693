//! The connections that are open, and which of them make room when there are too many.

use crate::limits;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;

/// The connections that are open.
#[derive(Debug, Default)]
pub struct Connections {
    last: AtomicU64,
    open: Mutex<BTreeMap<u64, Connection>>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    pub handle: AbortHandle,
    /// Whether a request has come over it.
    pub has_asked: Arc<AtomicBool>,
}

impl Connections {
    /// A number that no connection had before.
    pub fn next_id(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    pub fn n_open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn add(&self, id: u64, connection: Connection) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, connection);
    }

    pub fn remove(&self, id: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Ends the oldest connection over which nothing came yet. False where there is none.
    pub fn make_room(&self) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = open.iter().find(|(_, open)| !open.has_asked.load(Ordering::Relaxed));
        let Some(id) = silent.map(|(&id, _)| id) else { return false };
        if let Some(silent) = open.remove(&id) {
            silent.handle.abort();
        }
        true
    }
}

/// Connections that this process may have, less a few files that it needs besides.
pub fn most_connections() -> usize {
    const FILES_BESIDES: usize = 64;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.and_then(|files| files.split_whitespace().next()?.parse::<usize>().ok());
    soft.unwrap_or(1024).saturating_sub(FILES_BESIDES).clamp(16, limits::MAX_CONNECTIONS)
}
