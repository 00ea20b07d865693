//! Models from a hub: a server that keeps repositories of models, as Hugging Face's does.
//!
//! A model is named `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`. What was fetched lies in the same
//! folder, in the same order, as the hub's own tools keep it, so that either finds what the other has
//! fetched; their environment variables say where that is, what the server is called, and which token
//! opens it. What is there is used without the network.
//!
//! A server may be hostile: names of files are chosen among those that a model has, sizes are declared
//! and kept to, redirections are few and lose the token, and what is said to have a checksum must
//! have it. Nothing is seen under its name before it is whole.

mod cache;
mod download;
mod fetch;
#[cfg(feature = "hub")]
mod http;
#[cfg(test)]
mod tests;

pub use cache::Hub;
pub use download::{Request, Response, Transport};

use crate::error::{Error, Result, shortened};
use std::fmt;
use std::path::Path;

/// What stands before the name of a repository.
const PREFIX: &str = "hf:";

/// The revision where none is given.
const MAIN: &str = "main";

/// The names of weights of diffusers in one file, and after each that of the list of several, in the
/// order in which they are looked for.
pub const WEIGHTS: [[&str; 2]; 4] = [
    ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"],
    ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.bin.index.json"],
    [
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ],
    ["diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.bin.index.fp16.json"],
];

/// A repository of a hub, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    owner: String,
    name: String,
    revision: String,
}

impl Repository {
    /// The repository that a user names where a path is asked for; `None` where it is a path.
    ///
    /// # Errors
    /// When it begins like one and is none.
    pub fn of(path: &Path) -> Option<Result<Self>> {
        let text = path.to_str()?.strip_prefix(PREFIX)?;
        Some(Repository::parse(text))
    }

    fn parse(text: &str) -> Result<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let parts = id.split_once('/').filter(|(owner, name)| is_name(owner) && is_name(name));
        let is_revision = revision.split('/').all(is_name) && revision.len() <= 200;
        match parts {
            Some((owner, name)) if is_revision => Ok(Repository {
                owner: owner.to_owned(),
                name: name.to_owned(),
                revision: revision.to_owned(),
            }),
            _ => {
                let text = shortened(text, 80);
                let problem = format!("`hf:{text}` is no repository");
                Err(Error::invalid("model.path", problem)
                    .with_hint("write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION"))
            }
        }
    }

    fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.owner, self.name)?;
        match self.revision == MAIN {
            true => Ok(()),
            false => write!(f, "@{}", self.revision),
        }
    }
}

/// Whether a text can be a part of a repository's name or of a revision, and of a path and an address
/// as it is.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&text.len())
        && text.chars().all(is_plain)
        && !text.starts_with(['.', '-'])
        && !text.contains("..")
        && !text.contains("--")
}
