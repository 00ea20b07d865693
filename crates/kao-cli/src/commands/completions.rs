//! `kao completions`

use crate::output::result;
use clap::{Args, Command};
use clap_complete::{Shell, generate};
use kao::{Error, Result};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao completions bash > kao.bash         then `source kao.bash`, or put it where bash looks:
  kao completions bash > ~/.local/share/bash-completion/completions/kao
  kao completions zsh > _kao              in a folder of $fpath
  kao completions fish > ~/.config/fish/completions/kao.fish")]
pub struct Arguments {
    /// Shell
    shell: Shell,
}

pub fn run(arguments: &Arguments, mut program: Command) -> Result<()> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut program, "kao", &mut script);
    let script = String::from_utf8(script);
    let script = script.map_err(|error| Error::malformed("completions", error))?;
    result(script.trim_end())
}
