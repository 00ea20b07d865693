//! A bound on the memory that all threads together decode in.
//!
//! Most pictures take a few megabytes, and as many are decoded at a time as there are threads. A
//! large one waits until there is room for it.

use std::sync::{Condvar, Mutex, PoisonError};

/// Memory for pictures that are being decoded and scaled, over all threads.
pub(super) const BUDGET_BYTES: u64 = 1 << 30;

static FREE_BYTES: Mutex<u64> = Mutex::new(BUDGET_BYTES);
static GIVEN_BACK: Condvar = Condvar::new();

/// Memory that somebody decodes in, until this is dropped.
///
/// Whoever holds one must not wait for another, nor for another thread: that might wait for this.
#[derive(Debug)]
pub(super) struct Reservation {
    bytes: u64,
}

impl Reservation {
    /// Waits until `bytes` are free, or the whole budget where more are asked for.
    pub fn wait_for(bytes: u64) -> Self {
        let bytes = bytes.min(BUDGET_BYTES);
        // A number is never half-written, so a panic elsewhere cannot have broken it.
        let mut free = FREE_BYTES.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = GIVEN_BACK.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Reservation { bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *FREE_BYTES.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        GIVEN_BACK.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn no_more_is_out_than_there_is() {
        let (out, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 1..=8u64 {
                let (out, most) = (&out, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        let bytes = (thread * 97 + round * 31) % 7 * (BUDGET_BYTES / 5);
                        let held = Reservation::wait_for(bytes);
                        let now = out.fetch_add(held.bytes, Ordering::SeqCst) + held.bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        out.fetch_sub(held.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=BUDGET_BYTES).contains(&most.into_inner()));
    }
}
