//! Configurations as TOML files.

use super::TrainConfig;
use crate::error::{Error, Result};
use crate::files::read_to_string_regular;
use std::path::Path;

/// Bytes of a configuration file. Real ones have some hundred, and those with as many tags as a model
/// can have some millions.
const MAX_FILE_BYTES: u64 = 32 << 20;

impl TrainConfig {
    /// Reads a TOML file. Entries that it lacks are those of the `anime64` preset.
    ///
    /// # Errors
    /// When the file cannot be read, or holds an unknown or impossible entry.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_to_string_regular(path, MAX_FILE_BYTES)?;
        let config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let message = error.message().replace('\n', " ");
            // Users of a TOML file do not know the names of Rust's types.
            let message = message
                .replace("expected u64", "expected a whole number")
                .replace("expected usize", "expected a whole number")
                .replace("expected f64", "expected a number")
                .replace("invalid float, expected `nan`", "expected a number, or a text in quotes")
                .replace("expected struct UNetConfig", "expected a table [model]")
                .replace("expected struct ScheduleConfig", "expected a table [schedule]");
            Error::malformed(path, format!("line {line}: {message}"))
        })?;
        config.validate().map_err(|error| Error::malformed(path, error))?;
        Ok(config)
    }

    /// The configuration as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;
    use crate::vocabulary::{TagCount, Vocabulary};
    use std::path::PathBuf;

    #[test]
    fn presets_are_possible_and_survive_toml() {
        for preset in Preset::ALL {
            let config = preset.config();
            config.validate().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            std::fs::write(&path, config.to_toml()).unwrap();
            assert_eq!(TrainConfig::read(&path).unwrap(), config);
            assert_eq!(Preset::from_name(preset.name()), Some(preset));
        }
    }

    #[test]
    fn as_many_tags_as_a_model_can_have_survive_toml() {
        let tag =
            |k: usize| TagCount { tag: format!("a tag of some length {k:06}"), count: k as u64 };
        let tags = Vocabulary::new((0..1 << 16).map(tag).collect()).unwrap();
        let mut config = Preset::Tiny.config();
        (config.model.n_tags, config.tags) = (tags.len(), tags);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()).unwrap();
        assert_eq!(TrainConfig::read(&path).unwrap(), config);
    }

    #[test]
    fn a_prediction_that_says_nothing_is_refused() {
        let mut config = Preset::Tiny.config();
        config.schedule.zero_terminal_snr = true;
        config.prediction = crate::denoiser::Prediction::Epsilon;
        let message = config.validate().unwrap_err().to_string();
        assert!(message.starts_with("prediction: epsilon, with `zero_terminal_snr`"), "{message}");
        config.prediction = crate::denoiser::Prediction::V;
        assert!(config.validate().is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_no_unicode_survive_toml_and_json() {
        use std::os::unix::ffi::OsStrExt;
        let data = PathBuf::from(std::ffi::OsStr::from_bytes(b"/data/\x93\xfa\x96\x7b"));
        let initial_model = Some(data.join("model.safetensors"));
        let config = TrainConfig { data, initial_model, ..Preset::Tiny.config() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()).unwrap();
        assert_eq!(TrainConfig::read(&path).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
    }

    #[test]
    fn an_unknown_entry_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "steps = 3\nlerning_rate = 1e-4\n").unwrap();
        let message = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("lerning_rate"), "{message}");
    }
}
