//! Stop signals: Ctrl-C (SIGINT), SIGTERM, SIGHUP and SIGUSR1 (which clusters send some time before
//! a job must end, and `mpirun` hands on) ask for a clean stop.
//!
//! Work asks between its steps whether it was told to stop. While there is something to save (see
//! [`Saving`]), nothing but a second Ctrl-C, [`REPEAT`] after the first, cuts that short: launchers
//! send the same signal several times within milliseconds, and the end of a terminal or of a
//! cluster's job comes once and must not lose a run. Where nothing is to be saved, the program ends
//! within [`GRACE`] whatever it waits for.
//!
//! A signal that was ignored when the program began stays ignored. So `nohup` protects from the end
//! of a terminal, and a job that a script started with `&` from the Ctrl-C meant for another.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);
static N_SAVING: AtomicUsize = AtomicUsize::new(0);

static LAST_WORD: AtomicBool = AtomicBool::new(false);

/// The exit code of interrupted work.
pub const EXIT_CODE: u8 = 130;

/// While one of these exists, work is under way that is saved when it is told to stop.
pub struct Saving(());

impl Saving {
    /// From now on there is something to save.
    pub fn begin() -> Self {
        N_SAVING.fetch_add(1, Ordering::SeqCst);
        Saving(())
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        N_SAVING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether there is something to save.
pub fn is_saving() -> bool {
    N_SAVING.load(Ordering::SeqCst) > 0
}

/// Whether a stop was asked for.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Whether the caller is to say how interrupted work ended: true once.
pub fn takes_last_word() -> bool {
    !LAST_WORD.swap(true, Ordering::SeqCst)
}

#[cfg(unix)]
pub use unix::listen;

/// Starts listening. Without a handler (it failed to install) Ctrl-C simply ends the program.
#[cfg(not(unix))]
pub fn listen() {
    use signal_hook::consts::SIGINT;
    let asked = std::sync::Arc::new(AtomicBool::new(false));
    // The second one ends the program.
    let _ =
        signal_hook::flag::register_conditional_shutdown(SIGINT, EXIT_CODE.into(), asked.clone());
    if signal_hook::flag::register(SIGINT, asked.clone()).is_err() {
        return;
    }
    std::thread::spawn(move || {
        while !asked.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        ASKED.store(true, Ordering::SeqCst);
        crate::output::note("\nstopping … press Ctrl-C again to leave at once");
    });
}

#[cfg(unix)]
mod unix {
    use super::{ASKED, EXIT_CODE, N_SAVING, takes_last_word};
    use crate::output::note;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::iterator::Signals;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    /// A Ctrl-C that comes sooner after another is taken for the same.
    const REPEAT: Duration = Duration::from_secs(1);

    /// How long work that has nothing to save may go on after it was told to stop: between its
    /// steps it cleans up behind itself.
    const GRACE: Duration = Duration::from_millis(500);

    /// Sent to whoever writes more to a file than `ulimit -f` allows. The number is the same on all
    /// systems but those on MIPS.
    const SIGXFSZ: i32 = 25;

    /// Starts listening. Signals whose handler cannot be installed do what they always do.
    pub fn listen() {
        let ignored = Ignored::now();
        // Its default is to end the program in the middle of a write. Handled, that write fails,
        // which is told like any other failure.
        if !ignored.contains(SIGXFSZ) && !cfg!(any(target_arch = "mips", target_arch = "mips64")) {
            let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
        }
        let all = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
        let heeded = all.into_iter().filter(|&s| !ignored.contains(s));
        let Ok(mut signals) = Signals::new(heeded) else { return };
        std::thread::spawn(move || {
            let mut first_at = None;
            for signal in signals.forever() {
                let first_at = *first_at.get_or_insert_with(Instant::now);
                heed(signal, first_at);
            }
        });
    }

    /// One signal; `first_at` is when the first came.
    fn heed(signal: i32, first_at: Instant) {
        let is_first = !ASKED.swap(true, Ordering::SeqCst);
        let is_saving = super::is_saving();
        if is_first {
            match (is_saving, signal) {
                (false, _) => end_after_grace(),
                (true, SIGINT) => note("\nstopping … press Ctrl-C again to leave at once"),
                (true, _) => note("\nstopping …"),
            }
        } else if signal == SIGINT && first_at.elapsed() > REPEAT {
            std::process::exit(EXIT_CODE.into());
        }
    }

    /// Ends the program where it does not end by itself.
    fn end_after_grace() {
        std::thread::spawn(|| {
            std::thread::sleep(GRACE);
            // Work that has something to save may have begun in between; it asks before its first
            // step whether to stop.
            if N_SAVING.load(Ordering::SeqCst) == 0 && takes_last_word() {
                note("error: interrupted");
                std::process::exit(EXIT_CODE.into());
            }
        });
    }

    /// The signals that whoever started the program wants it to ignore.
    struct Ignored(u64);

    impl Ignored {
        /// Of this process, which has not changed any itself yet. Only Linux tells without unsafe
        /// code; elsewhere none is known.
        fn now() -> Self {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            Ignored::from_status(&status)
        }

        fn from_status(status: &str) -> Self {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            Ignored(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
        }

        fn contains(&self, signal: i32) -> bool {
            // Signals are counted from 1.
            self.0 >> (signal - 1) & 1 == 1
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn ignored_signals_are_read_from_the_status_of_a_process() {
            let ignored = Ignored::from_status("SigBlk:\t0000\nSigIgn:\t0000000000001003\n");
            let found = [SIGHUP, SIGINT, SIGTERM, 13].map(|signal| ignored.contains(signal));
            assert_eq!(found, [true, true, false, true]);
            assert!(!Ignored::from_status("").contains(SIGHUP));
        }
    }
}
