//! `kao man`

use crate::output::result;
use clap::Command;
use clap_mangen::Man;
use kao::{Error, Result};
use std::io::{self, Write};

/// Writes a part of a page.
type Part = fn(&Man, &mut dyn Write) -> io::Result<()>;

/// Prints one page: the program, then every command with its flags and examples.
pub fn run(mut program: Command) -> Result<()> {
    program.build();
    let mut page = Vec::new();
    let commands: Vec<Command> =
        program.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect();
    let failed = |error| Error::io("write", "the manual page", error);
    let man = Man::new(program);
    let head: [Part; 5] = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    head.iter().try_for_each(|part| part(&man, &mut page)).map_err(failed)?;
    for command in commands {
        let name = format!("kao {}", command.get_name()).to_uppercase();
        page.extend_from_slice(format!(".SH \"{name}\"\n").as_bytes());
        let man = Man::new(command);
        let parts: [Part; 4] = [
            Man::render_description_section,
            Man::render_synopsis_section,
            Man::render_options_section,
            Man::render_extra_section,
        ];
        let mut section = Vec::new();
        parts.iter().try_for_each(|part| part(&man, &mut section)).map_err(failed)?;
        // Sections of a command are parts of its own.
        let section = String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ");
        page.extend_from_slice(section.as_bytes());
    }
    result(String::from_utf8_lossy(&page).trim_end())
}
