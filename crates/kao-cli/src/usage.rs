//! Wrong usage told the way every other failure is: one `error:` line, a `hint:` line, the flag
//! named as it is typed.

use crate::interrupt;
use crate::output::{complain, one_line};
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use kao::error::shortened;
use kao::named::meant;
use kao::{Error, ErrorKind};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The command that runs, with its flags.
static COMMAND: OnceLock<clap::Command> = OnceLock::new();

/// Remembers which command runs, so that what the library says of fields is told with its flags.
pub fn remember(command: clap::Command) {
    // Set once, by `main`.
    let _ = COMMAND.set(command);
}

/// `words`, with the flags of the command that runs in the place of the library's fields, which are
/// in backticks.
pub fn with_flags(words: &str) -> String {
    flags_in(words, COMMAND.get())
}

fn flags_in(words: &str, command: Option<&clap::Command>) -> String {
    let Some(command) = command else { return words.to_owned() };
    let (mut told, mut rest) = (String::new(), words);
    while let Some((before, quoted)) = rest.split_once('`')
        && let Some((field, after)) = quoted.split_once('`')
    {
        let flag = flag(field, command).unwrap_or_else(|| format!("`{field}`"));
        told += before;
        told += &flag;
        rest = after;
    }
    told + rest
}

/// Tells what the argument parser has to say, which may be the help that was asked for.
pub fn tell_parser(error: &clap::Error) -> ExitCode {
    use ClapErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing is lost where nobody reads.
            let _ = error.print();
        }
        _ => {
            let (problem, hint) = plain(&error.render().to_string());
            let hint = similar(error).unwrap_or(hint);
            complain(format!("error: {}", shown(&problem)));
            complain(format!("hint: {}", shown(&hint)));
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Tells what failed, and the exit code for it.
pub fn tell(error: &Error) -> ExitCode {
    complain(format!("error: {}", in_one_line(error)));
    if let Some(hint) = error.hint() {
        complain(format!("hint: {}", shown(&with_flags(hint))));
    }
    ExitCode::from(exit_code(error))
}

/// The exit code for what failed.
pub fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Invalid { .. } | ErrorKind::SameFile { .. } => 2,
        ErrorKind::Interrupted => interrupt::EXIT_CODE,
        _ => 1,
    }
}

/// What failed, in the words of [`tell`].
pub fn in_one_line(error: &Error) -> String {
    shown(&in_flags(error, COMMAND.get()))
}

/// What failed, with the flags of `command` in the place of the library's fields.
fn in_flags(error: &Error, command: Option<&clap::Command>) -> String {
    let name = |field: &str| {
        command.and_then(|command| flag(field, command)).unwrap_or_else(|| field.to_owned())
    };
    match error.kind() {
        ErrorKind::Invalid { field, value, problem } => {
            let problem = flags_in(problem, command);
            match value {
                Some(value) => format!("{} {value}: {problem}", name(field)),
                None => format!("{}: {problem}", name(field)),
            }
        }
        ErrorKind::SameFile { field, other } => {
            format!("{}: names the file of {}; expected another", name(field), name(other))
        }
        _ => error.to_string(),
    }
}

/// A message in one line that a person can read, whatever was typed or is in a file.
fn shown(message: &str) -> String {
    const MAX_CHARS: usize = 460;
    shortened(&one_line(message), MAX_CHARS).into_owned()
}

/// The flag of `command` that stands for a field: `--batch-size` for `batch_size`, `--eta` for
/// `sampler.eta`.
fn flag(field: &str, command: &clap::Command) -> Option<String> {
    let flag = kao::requests::flag(field);
    let long = flag.strip_prefix("--")?;
    let is_it = |argument: &&clap::Arg| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(long) || aliases.contains(&long)
    };
    let argument = command.get_arguments().find(is_it)?;
    Some(format!("--{}", argument.get_long()?))
}

/// Of the possible values, the one that begins with what was given: `dpm` is meant to be `dpm++`,
/// though `ddpm` looks more like it.
fn similar(error: &clap::Error) -> Option<String> {
    let ContextValue::String(given) = error.get(ContextKind::InvalidValue)? else { return None };
    let ContextValue::Strings(possible) = error.get(ContextKind::ValidValue)? else { return None };
    let meant = meant(given, possible.iter().map(String::as_str))?;
    Some(format!("a similar value exists: '{meant}'"))
}

/// The parser's message of several paragraphs as a problem and a hint.
fn plain(message: &str) -> (String, String) {
    // The standard library's words for numbers that are none.
    const WORDS: [(&str, &str); 6] = [
        ("invalid digit found in string", "expected a whole number"),
        ("cannot parse integer from empty string", "expected a whole number"),
        ("number too large to fit in target type", "the number is too large"),
        ("number too small to fit in target type", "the number is too small"),
        ("invalid float literal", "expected a number"),
        ("cannot parse float from empty string", "expected a number"),
    ];
    let joined = |paragraph: &str| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    };
    let mut paragraphs = message.split("\n\n");
    let mut problem = joined(paragraphs.next().unwrap_or_default());
    for (theirs, ours) in WORDS {
        problem = problem.replace(theirs, ours);
    }
    let problem = problem.strip_prefix("error: ").unwrap_or(&problem).to_owned();
    let mut hint = "give --help to see what can be given".to_owned();
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.trim().strip_prefix("tip: ") {
            hint = joined(tip);
        }
        if let Some(usage) = paragraph.trim().strip_prefix("Usage: ") {
            let command: Vec<&str> = usage
                .split_whitespace()
                .take_while(|word| word.starts_with(char::is_lowercase))
                .collect();
            if hint.starts_with("give --help") && !command.is_empty() {
                hint = format!("`{} --help` tells what can be given", command.join(" "));
            }
        }
    }
    (problem, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parsers_paragraphs_become_two_lines() {
        let (problem, hint) = plain(
            "error: the following required arguments were not provided:\n  --out <RUN_DIR>\n\n\
             Usage: kao train --out <RUN_DIR>\n\nFor more information, try '--help'.\n",
        );
        assert_eq!(problem, "the following required arguments were not provided: --out <RUN_DIR>");
        assert_eq!(hint, "`kao train --help` tells what can be given");
        let (problem, hint) = plain(
            "error: unexpected argument '--stes' found\n\n  tip: a similar argument exists: \
             '--steps'\n\nUsage: kao sample [OPTIONS]\n",
        );
        assert_eq!(problem, "unexpected argument '--stes' found");
        assert_eq!(hint, "a similar argument exists: '--steps'");
    }

    #[test]
    fn flags_are_found_by_plain_names() {
        let command = clap::Command::new("x")
            .arg(clap::Arg::new("a").long("batch-size"))
            .arg(clap::Arg::new("b").long("ema-halflife").alias("ema-halflife-images"));
        assert_eq!(flag("batch_size", &command).as_deref(), Some("--batch-size"));
        assert_eq!(flag("ema_halflife_images", &command).as_deref(), Some("--ema-halflife"));
        assert_eq!(flag("sampler.batch_size", &command).as_deref(), Some("--batch-size"));
        assert_eq!(flag("timesteps", &command), None);
    }

    #[test]
    fn errors_are_about_flags() {
        let command = clap::Command::new("x")
            .arg(clap::Arg::new("a").long("strip"))
            .arg(clap::Arg::new("b").long("model"));
        let told = |error: Error| in_flags(&error, Some(&command));
        let invalid = Error::out_of_range("strip", 0, "at least 1");
        assert_eq!(told(invalid), "--strip 0: must be at least 1");
        let (field, other) = ("strip".to_owned(), "model.path".to_owned());
        let same = Error::from(ErrorKind::SameFile { field, other });
        assert_eq!(told(same), "--strip: names the file of --model; expected another");
        assert_eq!(told(Error::invalid("`x.txt`", "no picture")), "`x.txt`: no picture");
        let told = |words| flags_in(words, Some(&command));
        assert_eq!(
            told("omit `strip`, or move `a.png` away"),
            "omit --strip, or move `a.png` away"
        );
        assert_eq!(told("`model` and one ` more"), "--model and one ` more");
    }
}
