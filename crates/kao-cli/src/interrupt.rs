//! Ctrl-C: the first asks for a clean stop, the second leaves at once.

use crate::output::note;
use kao::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Starts listening. Without a handler (it failed to install) Ctrl-C simply ends the program.
pub fn listen() {
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        note("\nstopping … press Ctrl-C again to leave at once");
    });
}

/// Whether a stop was asked for.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// An error when a stop was asked for, to be passed through by long work.
pub fn check() -> Result<()> {
    if asked() { Err(Error::interrupted()) } else { Ok(()) }
}
