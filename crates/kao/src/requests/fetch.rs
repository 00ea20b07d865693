//! Fetching a model from a hub.

use super::{Estimate, Request};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::hub::{Hub, Repository};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Brings a model of a hub to this machine, or its newest files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// The repository: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.
    pub repository: String,
}

/// What comes of [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder with the model.
    pub folder: PathBuf,
}

impl Fetch {
    fn repository(&self) -> Result<Repository> {
        Repository::of(Path::new(&self.repository)).unwrap_or_else(|| {
            let problem = "no repository; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION";
            Err(Error::invalid("repository", problem))
        })
    }
}

impl Request for Fetch {
    const COMMAND: &'static str = "fetch";
    const POSITIONAL: &'static [&'static str] = &["repository"];
    type Outcome = Fetched;

    fn validate(&self) -> Result<()> {
        self.repository().map(|_| ())
    }

    fn estimate(&self) -> Result<Estimate> {
        Ok(Estimate::default())
    }

    fn run(&self, control: &dyn Control) -> Result<Fetched> {
        let folder = Hub::from_environment()?.fetch(&self.repository()?, control)?;
        Ok(Fetched { folder })
    }
}
