//! How long something takes, and how much memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What one file may take.
pub const MAX_TIME: Duration = Duration::from_secs(10);
pub const MAX_BYTES: u64 = 1 << 30;

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub time: Duration,
    /// The memory at its peak, where the system tells.
    pub bytes: Option<u64>,
}

impl Taken {
    pub fn is_within_bounds(&self) -> bool {
        self.time <= MAX_TIME && self.bytes.is_none_or(|bytes| bytes <= MAX_BYTES)
    }
}

/// Held by whoever measures: memory is that of the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static MEASURING: Mutex<()> = Mutex::new(());
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`, and says what it took.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, Taken) {
    // Forgets the peak of this process's memory so far, as Linux counts it.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    watched(work)
}

/// As [`measured`], in less time: what is taken below an earlier peak counts as that, as long as it is
/// no more than a small part of what may be taken.
pub fn watched<T>(work: impl FnOnce() -> T) -> (T, Taken) {
    let mut before = memory();
    if before.is_some_and(|memory| memory.peak.saturating_sub(memory.now) > MAX_BYTES / 8) {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        before = self::memory();
    }
    let started = Instant::now();
    let result = work();
    let time = started.elapsed();
    let bytes = before.zip(memory()).map(|(before, after)| after.peak.saturating_sub(before.now));
    (result, Taken { time, bytes })
}

/// The memory of this process in bytes, as Linux counts it.
#[derive(Clone, Copy, Debug)]
struct Memory {
    now: u64,
    peak: u64,
}

fn memory() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    let (now, peak) = (bytes("VmRSS:")?, bytes("VmHWM:")?);
    Some(Memory { now, peak: peak.max(now) })
}
