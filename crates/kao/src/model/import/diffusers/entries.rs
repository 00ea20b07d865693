//! The entries of a JSON file, each of which is honoured or refused.

use crate::error::{Error, Result, shortened};
use crate::model::import::settings::whole;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The entries of a file.
pub struct Entries<'a> {
    file: PathBuf,
    entries: &'a Map<String, Value>,
}

impl<'a> Entries<'a> {
    pub fn new(file: PathBuf, entries: &'a Map<String, Value>) -> Self {
        Entries { file, entries }
    }

    /// The value of an entry that is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.entries.get(name).filter(|value| !value.is_null())
    }

    /// Whether an entry is there and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(Value::is_null)
    }

    /// An error about an entry: its name, its value and why it cannot be.
    pub fn refused(&self, name: &str, why: &str) -> Error {
        let value = match self.entries.get(name) {
            Some(value) => shortened(&value.to_string(), 80).into_owned(),
            None => "not given".to_owned(),
        };
        Error::malformed(&self.file, format!("`{}` is {value}: {why}", shortened(name, 60)))
    }

    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T> {
        Err(self.refused(name, &format!("expected {expected}")))
    }

    /// Refuses entries that are not among `known`, unless they are null, false or begin with `_`.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        let says_something = |value: &Value| !value.is_null() && *value != Value::Bool(false);
        let unknown = self.entries.iter().find(|(name, value)| {
            !name.starts_with('_') && !known.contains(&name.as_str()) && says_something(value)
        });
        match unknown {
            Some((name, _)) => Err(self.refused(name, "Kao does not know this entry")),
            None => Ok(()),
        }
    }

    /// Refuses an entry that is neither null nor one of `allowed`.
    pub fn only(&self, name: &str, allowed: &[Value], why: &str) -> Result<()> {
        match self.get(name) {
            Some(value) if !allowed.iter().any(|allowed| is_same(allowed, value)) => {
                Err(self.refused(name, why))
            }
            _ => Ok(()),
        }
    }

    pub fn whole(&self, name: &str) -> Result<Option<usize>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match whole(value) {
                Some(number) => Ok(Some(number)),
                None => self.wrong(name, "a whole number"),
            },
        }
    }

    pub fn wholes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let numbers = value.as_array().map(|items| items.iter().map(whole).collect());
        match numbers {
            Some(Some(numbers)) => Ok(Some(numbers)),
            _ => self.wrong(name, "whole numbers"),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => self.wrong(name, "a number"),
            },
        }
    }

    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let numbers = value.as_array().map(|items| items.iter().map(Value::as_f64).collect());
        match numbers {
            Some(Some(numbers)) => Ok(Some(numbers)),
            _ => self.wrong(name, "numbers"),
        }
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => self.wrong(name, "true or false"),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.wrong(name, "a text"),
        }
    }

    pub fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let texts = value.as_array().map(|items| items.iter().map(Value::as_str).collect());
        match texts {
            Some(Some(texts)) => Ok(Some(texts)),
            _ => self.wrong(name, "texts"),
        }
    }
}

/// Whether two values are the same, 1 and 1.0 included.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}
