//! What the program says: results on standard output, words on standard error.
//!
//! Unlike `println!`, nothing here panics when a stream is closed or full.

use kao::{Error, Result};
use std::fmt::Display;
use std::io::{self, Write};

/// A line of results on standard output. Where nobody reads any more (`kao info x | head -1`), it
/// goes nowhere.
pub fn result(line: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output", error))
        }
        _ => Ok(()),
    }
}

/// A line on standard error, for people. Where it cannot be written, nobody misses it.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
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

/// `text`, short enough to be read: of a long one the beginning and the end.
pub fn bounded(text: &str) -> String {
    // With what stands before it, a line stays below 500 bytes for ASCII.
    const BEGINNING: usize = 320;
    const END: usize = 140;
    if text.len() <= BEGINNING + END {
        return text.to_owned();
    }
    let (beginning, end) =
        (text.floor_char_boundary(BEGINNING), text.ceil_char_boundary(text.len() - END));
    format!("{} … {}", &text[..beginning], &text[end..])
}

/// `1 picture`, `2 pictures`.
pub fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(one_line("a\n\u{1b}[2J顔"), "a\\n\\u{1b}[2J顔");
    }

    #[test]
    fn long_texts_are_cut_in_the_middle() {
        assert_eq!(bounded("short"), "short");
        let cut = bounded(&("a".to_owned() + &"顔".repeat(1000) + "z"));
        assert!(cut.len() < 480 && cut.starts_with("a顔") && cut.ends_with("顔z"), "{cut}");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([counted(1, "step"), counted(0, "step")], ["1 step", "0 steps"]);
    }
}
