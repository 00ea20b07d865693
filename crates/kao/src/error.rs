//! The one error type of the library.
//!
//! Every error names what it is about (a path, a tensor, an option), what was found and what was
//! expected, in one line, and may carry a hint: a second line that says what to do. The library
//! returns errors and never prints them; user input never panics.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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
    /// A value (an option, a configuration entry, an argument) cannot be used.
    #[error("{what}: {problem}")]
    Invalid {
        /// The option or entry, as the user would name it.
        what: String,
        /// What was found and what was expected.
        problem: String,
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
        ErrorKind::Malformed { path, problem: problem.to_string() }.into()
    }

    /// The value of `what` (an option, an entry, an argument) cannot be used.
    pub fn invalid(what: impl Into<String>, problem: impl fmt::Display) -> Self {
        ErrorKind::Invalid { what: what.into(), problem: problem.to_string() }.into()
    }

    /// Stopped on request.
    pub fn interrupted() -> Self {
        ErrorKind::Interrupted.into()
    }

    /// The same error with a hint: one line that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with what it is about renamed, where it is about a value: a program says
    /// `--batch-size` for what the library calls `batch size`. `rename` answers `None` to leave a
    /// name as it is.
    #[must_use]
    pub fn renamed(mut self, rename: impl FnOnce(&str) -> Option<String>) -> Self {
        if let ErrorKind::Invalid { what, .. } = &mut self.0.kind
            && let Some(name) = rename(what)
        {
            *what = name;
        }
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
        self.0.kind.fmt(f)
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
    fn only_values_are_renamed() {
        let rename = |what: &str| Some(format!("--{what}"));
        let error = Error::invalid("eta", "7 found").with_hint("less").renamed(rename);
        assert_eq!((error.to_string().as_str(), error.hint()), ("--eta: 7 found", Some("less")));
        assert_eq!(Error::interrupted().renamed(rename).to_string(), "interrupted");
    }
}
