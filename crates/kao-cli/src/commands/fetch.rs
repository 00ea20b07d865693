//! `kao fetch`

use crate::output::result;
use crate::progress::Terminal;
use clap::Args;
use kao::Result;
use kao::requests::{Fetch, Request};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao fetch hf:google/ddpm-cifar10-32
  kao sample --model hf:google/ddpm-cifar10-32      fetches it too, the first time

What is fetched lies where the hub's own tools keep it, and is used without the network. HF_HOME or
HF_HUB_CACHE say where that is, HF_ENDPOINT which server it is, HF_TOKEN opens what is not public.")]
pub struct Arguments {
    /// Repository: hf:OWNER/NAME or hf:OWNER/NAME@REVISION
    repository: String,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Fetch {
        Fetch { repository: self.repository.clone() }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let terminal = Terminal::default();
    let fetched = arguments.request().run(&terminal)?;
    terminal.clear();
    result(fetched.folder.display())
}
