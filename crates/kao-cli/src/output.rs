//! What the program says: results on standard output, words on standard error.
//!
//! Unlike `println!`, nothing here panics when a stream is closed or full.

use kao::{Error, Result};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);
static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on, standard error gets nothing but warnings and errors.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// From now on nothing is said but what [`complain`] says: another process speaks for this one.
#[cfg(feature = "mpi")]
pub fn be_silent() {
    be_quiet();
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether the user asked for no words but warnings and errors.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A line of results on standard output. Where nobody reads any more (`kao info x | head -1`), it
/// goes nowhere.
pub fn result(line: impl Display) -> Result<()> {
    if SILENT.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output", error))
        }
        _ => Ok(()),
    }
}

/// A line on standard error, for people. Where it cannot be written, nobody misses it; with
/// `--quiet` only warnings are.
pub fn note(line: impl Display) {
    let line = line.to_string();
    let is_shown = !is_quiet() || line.starts_with("warning: ");
    if is_shown && !SILENT.load(Ordering::Relaxed) {
        complain(line);
    }
}

/// A line on standard error that `--quiet` does not hold back: what failed, and what to do.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether the work that ends in `out` fills a folder, and so keeps what is done when it is stopped.
pub fn names_folder(out: &Path) -> bool {
    out.is_dir() || out.as_os_str().to_string_lossy().ends_with(std::path::is_separator)
}

/// `text` in one line, and without what a terminal would take for commands: names in files from
/// strangers may hold anything.
pub fn one_line(text: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(one_line("a\n\u{1b}[2J顔"), "a\\n\\u{1b}[2J顔");
    }
}
