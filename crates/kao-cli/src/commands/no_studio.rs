//! `kao studio` in a build without its pages.

use clap::Args;
use kao::{Error, Result};
use std::ffi::OsString;

#[derive(Args)]
pub struct Arguments {
    /// Whatever is typed behind it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<OsString>,
}

pub fn run(_: &Arguments) -> Result<()> {
    Err(Error::invalid("studio", "this build has no pages")
        .with_hint("build it with `cargo build --release --features studio`"))
}
