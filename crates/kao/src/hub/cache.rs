//! Where what was fetched lies.
//!
//! `models--OWNER--NAME/` holds `refs/REVISION`, a file with the name of a commit; `snapshots/COMMIT/`
//! with the files of that commit, each a link; and `blobs/` with what the links lead to, named by the
//! server's checksum.

use super::Repository;
use crate::error::{Error, Result};
use crate::files::read_to_string_regular;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A hub and the folder that keeps what comes from it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The address of the server, without a slash at its end.
    pub endpoint: String,
    /// The folder.
    pub cache: PathBuf,
    /// What opens repositories that are not public.
    pub token: Option<String>,
    /// Whether the network is not to be used.
    pub offline: bool,
}

/// The most characters of a token.
const MAX_TOKEN_BYTES: u64 = 4096;

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`, `HF_TOKEN` or the file of
    /// a login, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// When there is no folder to keep files in.
    pub fn from_environment() -> Result<Self> {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| given(name).and_then(|value| value.into_string().ok());
        let folder = |name: &str| given(name).map(PathBuf::from);
        let home = folder("HF_HOME").or_else(|| {
            let cache = folder("XDG_CACHE_HOME")
                .or_else(|| folder("HOME").map(|home| home.join(".cache")))
                .or_else(|| folder("USERPROFILE").map(|home| home.join(".cache")))?;
            Some(cache.join("huggingface"))
        });
        let cache =
            folder("HF_HUB_CACHE")
                .or_else(|| home.as_ref().map(|home| home.join("hub")))
                .ok_or_else(|| Error::invalid("HF_HOME", "not set, and there is no home folder"))?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let token_file = folder("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        let from_file = || {
            let text = read_to_string_regular(token_file?, MAX_TOKEN_BYTES).ok()?;
            Some(text.trim().to_owned())
        };
        let token = text("HF_TOKEN").or_else(from_file);
        Ok(Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            // What does not fit a line of a header is no token.
            token: token
                .filter(|token| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic())),
            offline: given("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value)),
        })
    }

    /// The folder of a repository.
    pub(super) fn repository(&self, repository: &Repository) -> PathBuf {
        self.cache.join(format!("models--{}--{}", repository.owner, repository.name))
    }

    /// Where a repository's files are, if it was fetched.
    pub fn cached(&self, repository: &Repository) -> Option<PathBuf> {
        let folder = self.repository(repository);
        let reference = folder.join("refs").join(&repository.revision);
        let commit = match read_to_string_regular(reference, 100) {
            Ok(commit) => commit.trim().to_owned(),
            // A commit is its own name.
            Err(_) => repository.revision.clone(),
        };
        let snapshot = folder.join("snapshots").join(&commit);
        (is_commit(&commit) && snapshot.is_dir()).then_some(snapshot)
    }

    /// Where a repository's files are.
    ///
    /// # Errors
    /// When it was not fetched; the hint says how.
    pub fn needed(&self, repository: &Repository) -> Result<PathBuf> {
        self.cached(repository).ok_or_else(|| {
            let problem = format!("{repository} has not been fetched");
            Error::invalid("model.path", problem).with_hint(format!("`kao fetch {repository}`"))
        })
    }
}

fn is_on(value: &OsString) -> bool {
    let value = value.to_string_lossy().to_uppercase();
    matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// Whether a text can be the name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether `path` is there as a file.
pub(super) fn is_there(path: &Path) -> bool {
    path.is_file()
}
