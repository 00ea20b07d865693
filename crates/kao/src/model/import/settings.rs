//! The settings of a training program, wherever in its tables an entry is.
//!
//! Programs differ: an entry may lie at the top or in a table such as `cfg.model`, and numbers may be
//! written as floats. This module finds entries by their names and reads their values; what they
//! mean is for the importers to know. Errors name the entry with the tables that lead to it.

use crate::error::shortened;
use serde_json::{Map, Value};

/// Tables within tables that are looked at, and how deep.
const MAX_TABLES: usize = 256;
const MAX_DEPTH: usize = 5;

/// Entries that a message lists.
const N_LISTED: usize = 12;

/// An object among the settings, with the names that lead to it.
pub struct Table<'a> {
    path: Vec<&'a str>,
    entries: &'a Map<String, Value>,
}

impl<'a> Table<'a> {
    /// Whether the table is about noise, so that `schedule` in it is not that of a learning rate.
    pub fn is_about_noise(&self) -> bool {
        self.path.iter().any(|name| {
            let name = name.to_lowercase();
            ["diffusion", "noise", "beta", "ddpm", "ddim"].iter().any(|word| name.contains(word))
        })
    }

    /// Whether the table is a noise schedule, so that `type` in it is the schedule's.
    pub fn is_noise_schedule(&self) -> bool {
        self.path.last().is_some_and(|name| {
            let name = name.to_lowercase();
            name.contains("beta") || name == "noise_schedule"
        })
    }

    /// The entry of one of `names`, in lower case; those without a value do not count.
    pub fn entry(&self, names: &[&str]) -> Option<(&'a str, &'a Value)> {
        let is_given = |value: &Value| !value.is_null() && !value.is_object();
        names.iter().find_map(|name| {
            let mut entries = self.entries.iter();
            let (key, value) =
                entries.find(|(key, value)| key.eq_ignore_ascii_case(name) && is_given(value))?;
            Some((key.as_str(), value))
        })
    }
}

/// The settings of a file: all objects in them, the outer ones first.
pub struct Tables<'a> {
    tables: Vec<Table<'a>>,
    /// The table of the network: the one with `ch_mult`.
    network: usize,
}

impl<'a> Tables<'a> {
    /// All tables in these settings, given by name.
    pub fn of(settings: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut tables: Vec<Table<'a>> = Vec::new();
        for (name, value) in settings {
            if let Value::Object(entries) = value {
                tables.push(Table { path: vec![name], entries });
            }
        }
        let mut next = 0;
        while let Some(Table { path, entries }) = tables.get(next) {
            next += 1;
            if path.len() >= MAX_DEPTH {
                continue;
            }
            let path = path.clone();
            for (name, value) in *entries {
                if let Value::Object(entries) = value
                    && tables.len() < MAX_TABLES
                {
                    let path = path.iter().copied().chain([name.as_str()]).collect();
                    tables.push(Table { path, entries });
                }
            }
        }
        let has = |names: &[&str]| {
            tables.iter().position(|table| names.iter().all(|name| table.entry(&[name]).is_some()))
        };
        let network = has(&["ch", "ch_mult"]).or_else(|| has(&["ch_mult"])).unwrap_or(0);
        Tables { tables, network }
    }

    /// Whether there are no settings.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The entry of one of `names`: in the network's table, else in one around it, else in any
    /// other where all that have it agree.
    pub fn entry(&self, names: &[&str]) -> Result<Option<Entry<'a>>, String> {
        let network = &self.tables[self.network];
        let mut around = self.tables.iter().rev().filter(|t| network.path.starts_with(&t.path));
        if let Some(entry) = around.find_map(|table| Entry::of(table, names)) {
            return Ok(Some(entry));
        }
        agreed(self.tables.iter().filter_map(|table| Entry::of(table, names)))
    }

    /// The entry of one of `names` in the tables for which `is_one` holds, which must agree.
    pub fn entry_where(
        &self,
        is_one: impl Fn(&Table<'a>) -> bool,
        names: &[&str],
    ) -> Result<Option<Entry<'a>>, String> {
        let tables = self.tables.iter().filter(|table| is_one(table));
        agreed(tables.filter_map(|table| Entry::of(table, names)))
    }

    /// As [`entry`](Self::entry), of one that must be there.
    pub fn needed(&self, names: &[&str]) -> Result<Entry<'a>, String> {
        self.entry(names)?.ok_or_else(|| {
            let table = &self.tables[self.network];
            let keys: Vec<_> = table.entries.keys().take(N_LISTED).collect();
            let keys: Vec<_> = keys.iter().map(|key| format!("`{}`", shortened(key, 24))).collect();
            let more = if table.entries.len() > keys.len() { ", …" } else { "" };
            let found = match keys.is_empty() {
                true => "nothing".to_owned(),
                false => keys.join(", "),
            };
            let place = shortened(&table.path.join("."), 60).into_owned();
            format!("no `{}` in its settings; `{place}` has {found}{more}", names[0])
        })
    }
}

/// The first of `entries`, whose values must be the same.
fn agreed<'a>(mut entries: impl Iterator<Item = Entry<'a>>) -> Result<Option<Entry<'a>>, String> {
    let Some(first) = entries.next() else { return Ok(None) };
    match entries.find(|other| other.value != first.value) {
        Some(other) => Err(format!(
            "its settings disagree: {} is {}, {} is {}",
            first.name(),
            shown(first.value),
            other.name(),
            shown(other.value)
        )),
        None => Ok(Some(first)),
    }
}

/// A value among the settings, with where it is.
pub struct Entry<'a> {
    place: String,
    pub key: &'a str,
    pub value: &'a Value,
}

impl<'a> Entry<'a> {
    pub fn of(table: &Table<'a>, names: &[&str]) -> Option<Self> {
        let (key, value) = table.entry(names)?;
        Some(Entry { place: table.path.join("."), key, value })
    }

    pub fn name(&self) -> String {
        format!("`{}`", shortened(&format!("{}.{}", self.place, self.key), 80))
    }

    pub fn refused(&self, why: &str) -> String {
        format!("{} is {}: {why}", self.name(), shown(self.value))
    }

    pub fn expected(&self, what: &str) -> String {
        format!("{} is {}; expected {what}", self.name(), shown(self.value))
    }

    pub fn number(&self) -> Result<f64, String> {
        self.value.as_f64().ok_or_else(|| self.expected("a number"))
    }

    pub fn whole(&self) -> Result<usize, String> {
        whole(self.value).ok_or_else(|| self.expected("a whole number"))
    }

    /// Whole numbers; a single one is a list of one.
    pub fn wholes(&self) -> Result<Vec<usize>, String> {
        let numbers = match self.value {
            Value::Array(items) => items.iter().map(whole).collect(),
            single => whole(single).map(|number| vec![number]),
        };
        numbers.ok_or_else(|| self.expected("whole numbers"))
    }

    /// A text in lower case, letters and digits only; of a class its last name, and of a member of
    /// an enumeration its value.
    pub fn word(&self) -> Option<String> {
        let text = self.value.as_str()?;
        let text = text.rsplit(": ").next().unwrap_or(text);
        let text = text.trim_matches(['<', '>']).rsplit('.').next().unwrap_or(text);
        Some(text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase())
    }
}

/// A whole number, which may be written as 1000.0.
pub(super) fn whole(value: &Value) -> Option<usize> {
    const LARGEST_EXACT: f64 = (1u64 << 53) as f64;
    if let Some(number) = value.as_u64() {
        return usize::try_from(number).ok();
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    (0.0..=LARGEST_EXACT).contains(&number).then_some(number as usize)
}

fn shown(value: &Value) -> String {
    shortened(&value.to_string(), 60).into_owned()
}
