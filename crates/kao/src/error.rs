//! The one error type of the library.
//!
//! Every error names what it is about (a path, a tensor, an option), what was found and what was
//! expected, in one line, and may carry a hint: a second line that says what to do. The library
//! returns errors and never prints them; user input never panics. A name in a file may be megabytes
//! long, so messages are shortened to what a person can read.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The most characters of a message, and of a hint.
const MAX_MESSAGE_CHARS: usize = 480;

/// The most characters of a path within a message that would otherwise be too long.
const MAX_PATH_CHARS: usize = 160;

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and, where there is one, a hint on what to do about it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    hint: Option<String>,
}

/// The kinds of failure, for programs that want to tell them apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create` …
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file was read, but what it holds is not what it should be.
    #[error("`{}`: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A value (of a request, a configuration, an argument) cannot be used.
    #[error("{field}{}: {problem}", after_a_space(value))]
    Invalid {
        /// The path of the field, such as `steps` or `sampler.eta`. A program says it in words of
        /// its own: a flag, an input on a page.
        field: String,
        /// The value that was given, where the problem does not name it.
        value: Option<String>,
        /// What was found and what was expected.
        problem: String,
    },
    /// A field names a file that is to be written, and that another field names too.
    #[error("{field}: names the file of {other}; expected another")]
    SameFile {
        /// The path of the field.
        field: String,
        /// The path of the other field.
        other: String,
    },
    /// Training went wrong numerically.
    #[error("training diverged: {problem}")]
    Diverged {
        /// At which step, and how it shows.
        problem: String,
    },
    /// Sampling arrived at values that are not finite.
    #[error("sampling failed: {problem}")]
    NotFinite {
        /// Where, and what was found.
        problem: String,
    },
    /// A file is sound, but of a newer version of Kao, which this one does not understand.
    #[error("`{}`: {problem}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What in it is not understood.
        problem: String,
    },
    /// Of several processes that work together, one cannot go on.
    #[error("rank {rank} {problem}")]
    Rank {
        /// Its number.
        rank: usize,
        /// What is wrong with it: `is gone`.
        problem: String,
    },
    /// The work was stopped on request; what was done so far is kept.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The file system refused `action` (a verb, such as `read`) on `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        let source = without_path(source);
        ErrorKind::Io { action, path, source }.into()
    }

    /// The content of `path` is not what it should be.
    pub fn malformed(path: impl AsRef<Path>, problem: impl fmt::Display) -> Self {
        let path = path.as_ref().to_path_buf();
        ErrorKind::Malformed { path, problem: bounded(problem.to_string()) }.into()
    }

    /// The value of `field` cannot be used.
    pub fn invalid(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        let (field, problem) = (bounded(field.into()), bounded(problem.to_string()));
        ErrorKind::Invalid { field, value: None, problem }.into()
    }

    /// The value of `field` is outside what is `allowed`: `count 0: must be at least 1`.
    pub fn out_of_range(
        field: impl Into<String>,
        value: impl fmt::Display,
        allowed: impl fmt::Display,
    ) -> Self {
        let value = bounded(in_few_digits(value.to_string()));
        let (field, value) = (bounded(field.into()), Some(value));
        ErrorKind::Invalid { field, value, problem: bounded(format!("must be {allowed}")) }.into()
    }

    /// The same error about a field within `outer`, where it is about a field: `path` becomes
    /// `model.path`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        if let ErrorKind::Invalid { field, .. } = &mut self.0.kind {
            *field = format!("{outer}.{field}");
        }
        self
    }

    /// `path` is sound, but a newer version of Kao wrote it.
    pub fn newer(path: impl AsRef<Path>, problem: impl fmt::Display) -> Self {
        let path = path.as_ref().to_path_buf();
        ErrorKind::Newer { path, problem: bounded(problem.to_string()) }.into()
    }

    /// Stopped on request.
    pub fn interrupted() -> Self {
        ErrorKind::Interrupted.into()
    }

    /// The same error with a hint: one line that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(bounded(hint.into()));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// One line that says what to do, where there is one.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

fn after_a_space(value: &Option<String>) -> String {
    value.as_ref().map(|value| format!(" {value}")).unwrap_or_default()
}

/// The operating system's own words, where `tempfile` has added the path of a temporary file that
/// nobody has heard of. It does not give its inner error away, so its text is cut.
fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((words, _)) if error.raw_os_error().is_none() => {
            io::Error::new(error.kind(), words.to_owned())
        }
        _ => error,
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error(Box::new(Inner { kind, hint: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.kind.to_string();
        let message = match &self.0.kind {
            // A long path must not push the problem out.
            ErrorKind::Io { path, .. } | ErrorKind::Malformed { path, .. }
                if is_longer(&whole, MAX_MESSAGE_CHARS) =>
            {
                let path = path.display().to_string();
                whole.replacen(&path, &shortened(&path, MAX_PATH_CHARS), 1)
            }
            _ => whole,
        };
        f.write_str(&shortened(&message, MAX_MESSAGE_CHARS))
    }
}

/// `text` in at most `max_chars` characters: where it is longer, `…` stands for its middle.
///
/// # Panics
/// When `max_chars` is less than 3.
pub fn shortened(text: &str, max_chars: usize) -> Cow<'_, str> {
    assert!(max_chars >= 3, "no room for both ends of a text");
    if !is_longer(text, max_chars) {
        return Cow::Borrowed(text);
    }
    let n_last = max_chars / 3;
    let n_first = max_chars - 1 - n_last;
    let first_end = text.char_indices().nth(n_first).map_or(text.len(), |(at, _)| at);
    let last_start = text.char_indices().nth_back(n_last - 1).map_or(0, |(at, _)| at);
    Cow::Owned(format!("{}…{}", &text[..first_end], &text[last_start..]))
}

fn is_longer(text: &str, max_chars: usize) -> bool {
    // No character is less than a byte, so most texts need not be counted.
    text.len() > max_chars && text.chars().nth(max_chars).is_some()
}

/// A number of many digits in scientific notation: 1e308 has 309 of them.
fn in_few_digits(value: String) -> String {
    const MANY: usize = 24;
    match value.parse::<f64>() {
        Ok(number) if value.len() > MANY => format!("{number:e}"),
        _ => value,
    }
}

fn bounded(text: String) -> String {
    match is_longer(&text, MAX_MESSAGE_CHARS) {
        true => shortened(&text, MAX_MESSAGE_CHARS).into_owned(),
        false => text,
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message already holds the source's words.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_are_not_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let refused = tempfile::NamedTempFile::new_in(&missing).unwrap_err();
        let message = Error::io("write", "a.png", refused).to_string();
        assert_eq!(message, "cannot write `a.png`: No such file or directory (os error 2)");
    }

    #[test]
    fn numbers_of_many_digits_are_told_in_few() {
        let told = |value: f64| Error::out_of_range("eta", value, "at most 1").to_string();
        assert_eq!(told(1e308), "eta 1e308: must be at most 1");
        assert_eq!(told(-5e-324), "eta -5e-324: must be at most 1");
        assert_eq!(told(0.25), "eta 0.25: must be at most 1");
        assert_eq!(told(f64::NAN), "eta NaN: must be at most 1");
        let largest = Error::out_of_range("seed", u64::MAX, "less").to_string();
        assert_eq!(largest, "seed 18446744073709551615: must be less");
    }

    #[test]
    fn messages_are_short_enough_to_be_read() {
        let long = "名".repeat(3_000_000);
        let (start, end) = ("`m.ckpt`: tensor `名名", "名名` is missing");
        let error = Error::malformed("m.ckpt", format!("tensor `{long}` is missing"))
            .with_hint(format!("the file has `{long}`"));
        let message = error.to_string();
        assert!(message.starts_with(start) && message.ends_with(end), "{message}");
        for text in [&message, error.hint().unwrap()] {
            assert!(text.chars().count() <= MAX_MESSAGE_CHARS && text.contains('…'), "{text}");
        }
        // A path is shortened before the problem is.
        let path = format!("{}/m.ckpt", "folder/".repeat(500));
        let message = Error::malformed(path, "this is a pipe").to_string();
        assert!(message.ends_with("/m.ckpt`: this is a pipe"), "{message}");
        assert!(message.chars().count() < 200, "{message}");
        let error = Error::invalid(long.clone(), long);
        assert!(error.to_string().chars().count() <= MAX_MESSAGE_CHARS);
    }

    #[test]
    fn a_short_text_is_left_alone() {
        assert_eq!(shortened("顔顔顔", 3), "顔顔顔");
        assert_eq!(shortened("abcdefghij", 6), "abc…ij");
        assert_eq!(shortened("", 3), "");
    }

    #[test]
    fn a_field_has_the_path_of_what_it_is_in() {
        let error = Error::out_of_range("path", "x", "a file").within("model");
        assert_eq!(error.to_string(), "model.path x: must be a file");
        assert_eq!(Error::interrupted().within("model").to_string(), "interrupted");
    }
}
