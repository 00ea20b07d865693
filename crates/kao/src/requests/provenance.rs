//! How a result came to be, for whoever finds it later.

use super::Request;
use serde::Serialize;
use std::path::Path;

/// How a result came to be. It depends on nothing but the request and what that names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Keys and texts, as they are written into pictures.
    pub texts: Vec<(String, String)>,
}

impl Provenance {
    /// Begins with the program and its version.
    pub(super) fn new() -> Self {
        let software = concat!("kao ", env!("CARGO_PKG_VERSION"));
        Provenance::default().with("Software", software)
    }

    pub(super) fn with(mut self, key: &str, text: impl ToString) -> Self {
        self.texts.push((key.to_owned(), text.to_string()));
        self
    }

    /// The command line of `request`, where it can be said.
    pub(super) fn with_command<R: Request>(self, request: &R) -> Self {
        match request.command_line() {
            Ok(line) => self.with("command", line),
            // A path that is not Unicode.
            Err(_) => self,
        }
    }

    pub(super) fn with_path(self, key: &str, path: &Path) -> Self {
        self.with(key, path.display())
    }

    pub(super) fn with_all(mut self, texts: Vec<(String, String)>) -> Self {
        self.texts.extend(texts);
        self
    }
}
