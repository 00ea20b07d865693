//! Fetching over a network.

use super::download::{self, Transport};
use super::{Hub, Repository};
use crate::control::Control;
use crate::error::{Error, Result};
use std::path::PathBuf;

impl Hub {
    /// Fetches what a model has of a repository, as it is now, through `transport`: the folder with
    /// it. What is there already is not fetched again, and what was broken off is gone on with.
    ///
    /// # Errors
    /// When the server does not answer or has no such model, a file is not as it was declared, or
    /// `control` stops the work.
    pub fn fetch_through(
        &self,
        transport: &dyn Transport,
        repository: &Repository,
        control: &dyn Control,
    ) -> Result<PathBuf> {
        download::fetch(self, transport, repository, control)
    }

    /// As [`fetch_through`](Self::fetch_through), over the network.
    ///
    /// # Errors
    /// As [`fetch_through`](Self::fetch_through), and when this build has no client of HTTP, or the
    /// network is not to be used.
    #[cfg_attr(not(feature = "hub"), expect(unused_variables))]
    pub fn fetch(&self, repository: &Repository, control: &dyn Control) -> Result<PathBuf> {
        if self.offline {
            let problem = format!("HF_HUB_OFFLINE is set, and {repository} has not been fetched");
            return Err(Error::invalid("model.path", problem));
        }
        #[cfg(feature = "hub")]
        return self.fetch_through(&super::http::Client::new(), repository, control);
        #[cfg(not(feature = "hub"))]
        {
            let problem = format!("{repository} is on a hub; this build of Kao has no network");
            Err(Error::invalid("model.path", problem).with_hint(
                "build it with `cargo build --release --features hub`, or fetch it with the hub's \
                 own tools, whose folder Kao reads",
            ))
        }
    }
}
