//! How two configurations differ, and what may change within a run.

use super::TrainConfig;
use crate::error::{Error, Result};
use crate::train::Optimizer;
use crate::unet::UNetConfig;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

impl TrainConfig {
    /// The entries that differ from those of `other`: name, value here, value in `other`.
    pub fn differences(&self, other: &TrainConfig) -> Vec<(String, String, String)> {
        let [here, there] = [self, other].map(TrainConfig::entries);
        let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let value = |entries: &BTreeMap<String, String>, name: &String| {
            entries.get(name).cloned().unwrap_or_else(|| "none".to_owned())
        };
        names
            .into_iter()
            .filter(|&name| here.get(name) != there.get(name))
            .map(|name| (name.clone(), value(&here, name), value(&there, name)))
            .collect()
    }

    /// All entries as text, under names such as `model.ch`.
    pub(crate) fn entries(&self) -> BTreeMap<String, String> {
        entries_of(self)
    }

    /// Checks that a run of `other` can be resumed with this configuration.
    ///
    /// # Errors
    /// When an entry differs that cannot change within a run; the first one is named.
    pub fn check_continues(&self, other: &TrainConfig) -> Result<()> {
        // The architecture and the task. Dropout is neither.
        let fixed = |config: &TrainConfig| {
            toml::Table::from_iter([
                ("model".to_owned(), table(&UNetConfig { dropout: 0.0, ..config.model.clone() })),
                ("schedule".to_owned(), table(&config.schedule)),
                ("prediction".to_owned(), table(&config.prediction)),
                ("tags".to_owned(), table(&config.tags)),
                // As a text: TOML has no unsigned 64-bit integers.
                ("seed".to_owned(), toml::Value::String(config.seed.to_string())),
            ])
        };
        let difference = first_difference("", &fixed(self), &fixed(other));
        // Muon keeps no second moments, and Adam without them takes steps far too large.
        let is_after_muon = other.optimizer == Optimizer::Muon && self.optimizer != Optimizer::Muon;
        let difference = difference.or_else(|| {
            let name = |config: &TrainConfig| words(Some(&table(&config.optimizer)));
            is_after_muon.then(|| ("optimizer".to_owned(), name(self), name(other)))
        });
        let Some((name, here, there)) = difference else { return Ok(()) };
        Err(Error::invalid(name, format!("{here} given; the run to resume has {there}"))
            .with_hint("this cannot change within a run: start a new run in another folder"))
    }
}

/// All entries as text, under names such as `model.ch`.
fn entries_of(config: &TrainConfig) -> BTreeMap<String, String> {
    fn add(to: &mut BTreeMap<String, String>, name: &str, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(entries) => {
                for (key, value) in entries {
                    let dot = if name.is_empty() { "" } else { "." };
                    add(to, &format!("{name}{dot}{key}"), value);
                }
            }
            value => {
                to.insert(name.to_owned(), value.to_string());
            }
        }
    }
    let mut all = BTreeMap::new();
    let json = serde_json::to_value(config).expect("a configuration is plain data");
    add(&mut all, "", &json);
    all
}

fn table(entry: &impl Serialize) -> toml::Value {
    toml::Value::try_from(entry).expect("a configuration is plain data")
}

fn words(value: Option<&toml::Value>) -> String {
    match value {
        Some(toml::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "none".to_owned(),
    }
}

/// The first entry in which two tables differ: its name, and both values.
fn first_difference(
    path: &str,
    here: &toml::Table,
    there: &toml::Table,
) -> Option<(String, String, String)> {
    let keys = here.keys().chain(there.keys().filter(|key| !here.contains_key(*key)));
    for key in keys {
        let name = format!("{path}{key}");
        match (here.get(key), there.get(key)) {
            (Some(toml::Value::Table(here)), Some(toml::Value::Table(there))) => {
                if let Some(found) = first_difference(&format!("{name}."), here, there) {
                    return Some(found);
                }
            }
            (a, b) if a != b => return Some((name, words(a), words(b))),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::Prediction;
    use crate::schedule::ScheduleConfig;
    use crate::train::Preset;

    #[test]
    fn differences_have_a_name_and_both_values() {
        let one = Preset::Tiny.config();
        let model = UNetConfig { ch: 64, ..one.model.clone() };
        let other = TrainConfig {
            model,
            batch_size: 4,
            initial_model: Some("a".into()),
            seed: u64::MAX,
            ..one.clone()
        };
        assert_eq!(one.differences(&one), []);
        let found = other.differences(&one);
        let found: Vec<String> =
            found.iter().map(|(name, here, there)| format!("{name} {here} {there}")).collect();
        let seed = format!("seed {} 999", u64::MAX);
        let expected = ["batch_size 4 32", "initial_model \"a\" none", "model.ch 64 32", &seed];
        assert_eq!(found, expected);
        // The largest numbers survive a file.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, other.to_toml()).unwrap();
        assert_eq!(TrainConfig::read(&path).unwrap(), other);
    }

    #[test]
    fn what_cannot_change_within_a_run_is_named() {
        let run = Preset::Tiny.config();
        let same = TrainConfig { steps: 7, learning_rate: 1.0, ..run.clone() };
        assert!(same.check_continues(&run).is_ok());
        let dropout = UNetConfig { dropout: 0.3, ..run.model.clone() };
        assert!(TrainConfig { model: dropout, ..run.clone() }.check_continues(&run).is_ok());
        let wider = UNetConfig { ch: 64, ..run.model.clone() };
        let schedule = ScheduleConfig { beta_end: 0.5, ..run.schedule.clone() };
        let cases = [
            (
                TrainConfig { model: wider, ..run.clone() },
                "model.ch: 64 given; the run to resume has 32",
            ),
            (TrainConfig { schedule, ..run.clone() }, "schedule.beta_end: 0.5 given"),
            (TrainConfig { prediction: Prediction::X0, ..run.clone() }, "prediction: x0 given"),
            (TrainConfig { seed: u64::MAX, ..run.clone() }, "seed: 18446744073709551615 given"),
        ];
        for (config, expected) in cases {
            let message = config.check_continues(&run).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        // What Muon leaves is no state of Adam; the other way round it is.
        let muon = TrainConfig { optimizer: Optimizer::Muon, ..run.clone() };
        let message = run.check_continues(&muon).unwrap_err().to_string();
        assert_eq!(message, "optimizer: adam given; the run to resume has muon");
        assert!(muon.check_continues(&run).is_ok());
        let adamw = TrainConfig { optimizer: Optimizer::Adamw, ..run.clone() };
        assert!(adamw.check_continues(&run).is_ok() && muon.check_continues(&muon).is_ok());
    }
}
