//! A request as the command line that repeats it.
//!
//! Which flags there are is for the program to say. Here is only the rule by which a field becomes
//! one; tests of the program hold its flags to it.

use super::Request;
use crate::error::{Error, Result};
use crate::sampler::Sampler;
use serde_json::Value;
use std::fmt;

/// The flag of a field: `--batch-size` for `batch_size`. Of a field within another, the last name
/// counts (`--eta` for `sampler.eta`), but the `path` or `name` of something is called as that is
/// (`--model` for `model.path`).
pub fn flag(field: &str) -> String {
    let name = match field.rsplit_once('.') {
        Some((outer, "path" | "name")) => outer.rsplit_once('.').map_or(outer, |(_, last)| last),
        Some((_, last)) => last,
        None => field,
    };
    format!("--{}", name.replace('_', "-"))
}

/// A command line of the program `kao`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// The command of a request, with whatever of it is not as by default.
    pub(super) fn of<R: Request>(request: &R) -> Result<Self> {
        let as_json = |request: &R| {
            serde_json::to_value(request).map_err(|error| Error::invalid("request", error))
        };
        let (mut given, default) = (as_json(request)?, as_json(&R::default())?);
        if let Some(sampler) = given.get_mut("sampler") {
            leave_defaults_out(sampler);
        }
        let mut words = vec![R::COMMAND.to_owned()];
        for field in R::POSITIONAL {
            match given.get(*field) {
                Some(Value::Array(several)) => words.extend(several.iter().map(one_of_several)),
                Some(word @ Value::String(_)) => words.push(one_of_several(word)),
                _ => {}
            }
        }
        let mut fields = Vec::new();
        differing("", &given, Some(&default), &mut fields);
        for (field, value) in fields {
            if R::POSITIONAL.contains(&field.as_str()) {
                continue;
            }
            let flag = flag(&field);
            match value {
                Value::Bool(true) => words.push(flag),
                Value::Array(values) => {
                    words.push(flag);
                    words.extend(values.iter().map(one_of_several));
                }
                value => {
                    let value = in_words(value);
                    // It would be taken for a flag otherwise.
                    match value.starts_with('-') {
                        true => words.push(format!("{flag}={value}")),
                        false => words.extend([flag, value]),
                    }
                }
            }
        }
        Ok(CommandLine { words })
    }

    /// The command and its arguments, without the name of the program.
    pub fn arguments(&self) -> &[String] {
        &self.words
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kao")?;
        self.words.iter().try_for_each(|word| write!(f, " {}", quoted(word)))
    }
}

/// Leaves the settings of a sampler out that are as by default.
fn leave_defaults_out(sampler: &mut Value) {
    let Value::Object(entries) = sampler else { return };
    let name = entries.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Ok(default) = Sampler::named(name) {
        let default = default.settings();
        entries.retain(|setting, value| default.get(setting) != Some(value));
    }
}

/// The fields of `given`, by their paths, that are other than in `default` and switch something on.
fn differing<'a>(
    path: &str,
    given: &'a Value,
    default: Option<&Value>,
    fields: &mut Vec<(String, &'a Value)>,
) {
    match given {
        Value::Object(entries) => {
            for (name, value) in entries {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differing(&path, value, default.and_then(|default| default.get(name)), fields);
            }
        }
        Value::Null | Value::Bool(false) => {}
        value if Some(value) == default => {}
        value => fields.push((path.to_owned(), value)),
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value that stands by itself or among others. Only paths can begin as flags do, and would be taken
/// for one.
fn one_of_several(value: &Value) -> String {
    match value {
        Value::String(path) if path.starts_with('-') => format!("./{path}"),
        value => in_words(value),
    }
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+,:@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_flags_by_one_rule() {
        for (field, expected) in [
            ("steps", "--steps"),
            ("batch_size", "--batch-size"),
            ("sampler.eta", "--eta"),
            ("sampler.name", "--sampler"),
            ("model.path", "--model"),
            ("model.raw_weights", "--raw-weights"),
            ("path", "--path"),
        ] {
            assert_eq!(flag(field), expected);
        }
    }

    #[test]
    fn paths_are_not_taken_for_flags() {
        let pictures = vec!["-a.png".into(), "b.png".into()];
        let edit = crate::requests::Edit { pictures, ..Default::default() };
        assert_eq!(edit.command_line().unwrap().to_string(), "kao edit ./-a.png b.png");
        let recover =
            crate::requests::Recover { data: vec!["-faces".into()], ..Default::default() };
        assert_eq!(recover.command_line().unwrap().to_string(), "kao recover --data ./-faces");
    }

    #[test]
    fn words_survive_a_shell() {
        let words = ["dpm++", "a b", "it's", "", "$HOME", "顔.png"].map(quoted);
        assert_eq!(words, ["dpm++", "'a b'", r"'it'\''s'", "''", "'$HOME'", "'顔.png'"]);
    }
}
