//! What a training run is made from: presets, a TOML file, flags over them.

use super::path_text;
use crate::denoiser::Prediction;
use crate::error::{Error, Result};
use crate::files::read_to_string_regular;
use crate::model::ModelConfig;
use crate::schedule::{ScheduleConfig, ScheduleKind};
use crate::unet::{Activation, UNetConfig};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of a configuration file. Real ones have some hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything a run depends on, but for where it is written. Stored as `config.toml` in the run
/// directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The folder of pictures.
    #[serde(with = "path_text")]
    pub data: PathBuf,
    /// Steps of the optimizer in the whole run.
    pub steps: u64,
    /// Pictures per step.
    pub batch_size: usize,
    /// Pictures per pass through the network: memory grows with it, the result does not change but
    /// for rounding.
    pub micro_batch_size: usize,
    /// Keep only what goes into a block and comes out of it, and compute the rest again for the
    /// gradients: less memory, a third more time, the same bytes.
    pub gradient_checkpointing: bool,
    /// A model whose weights the run begins with, in place of random ones.
    #[serde(with = "path_text::optional", skip_serializing_if = "Option::is_none")]
    pub initial_model: Option<PathBuf>,
    /// The update rule.
    pub optimizer: Optimizer,
    /// What `adamw` takes off the weights per step, as a share, times the learning rate.
    pub weight_decay: f64,
    /// Learning rate at its highest.
    pub learning_rate: f64,
    /// Steps over which the learning rate grows from 0.
    pub warmup_steps: u64,
    /// How the learning rate falls from then on.
    pub learning_rate_decay: Decay,
    /// What the learning rate falls to at the last step.
    pub final_learning_rate: f64,
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub max_gradient_norm: f64,
    /// Half-life of the averaged weights, in pictures seen.
    pub ema_halflife_images: f64,
    /// Mirror pictures at random.
    pub horizontal_flip: bool,
    /// Seed of everything: initial weights, order, noise, dropout.
    pub seed: u64,
    /// Steps between lines in the log.
    pub log_every: u64,
    /// Steps between validations, sample grids and checkpoints.
    pub save_every: u64,
    /// Checkpoints kept, the newest; the one with the lowest validation loss stays besides.
    pub keep_checkpoints: usize,
    /// Validation pictures used, at most.
    pub validation_images: usize,
    /// Images in a sample grid; 0 makes none.
    pub sample_count: usize,
    /// Steps of a sample grid.
    pub sample_steps: usize,
    /// What the network predicts.
    pub prediction: Prediction,
    /// How timesteps are drawn.
    pub timestep_sampling: TimestepSampling,
    /// γ of the min-SNR weights (Hang et al. 2023); 0 weighs all timesteps alike.
    pub min_snr_gamma: f64,
    /// The architecture.
    pub model: UNetConfig,
    /// The noise levels.
    pub schedule: ScheduleConfig,
}

impl Default for TrainConfig {
    /// The `anime64` preset.
    fn default() -> Self {
        Preset::Anime64.config()
    }
}

/// How weights follow from gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam (Kingma & Ba 2015).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    Adamw,
}

/// How the learning rate falls after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// By half a cosine.
    Cosine,
    /// By the same amount each step.
    Linear,
}

/// How the timesteps of a step's pictures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestepSampling {
    /// Each by itself, uniformly.
    Uniform,
    /// Each from its own equal share of the schedule: the gradient varies less.
    Stratified,
    /// Noise levels as often as the squared cosine has them, whatever the schedule (a logistic
    /// density of the log SNR; Kingma & Gao 2023), each from its own equal share of them. A
    /// schedule made for walks of few steps visits much noise often, where there is little to learn.
    Cosine,
}

/// Named configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The original's: 64×64, 25.4 million parameters, batch 128.
    Anime64,
    /// 64×64, 3.4 million parameters on patches of 2×2 pixels: hours on a laptop. That of the
    /// built-in model.
    Small64,
    /// 32×32, 1.1 million parameters: minutes on a laptop.
    Tiny,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 3] = [Preset::Anime64, Preset::Small64, Preset::Tiny];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Anime64 => "anime64",
            Preset::Small64 => "small64",
            Preset::Tiny => "tiny",
        }
    }

    /// The preset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The preset for pictures whose shorter side has so many pixels: the largest that does not
    /// enlarge them and that a laptop trains in an evening. `anime64` has to be asked for.
    pub fn for_side(side: usize) -> Self {
        match side {
            0..64 => Preset::Tiny,
            _ => Preset::Small64,
        }
    }

    /// What it stands for.
    pub fn config(self) -> TrainConfig {
        let anime64 = TrainConfig {
            data: PathBuf::new(),
            // 500 epochs of the original's 63,632 pictures.
            steps: 236_000,
            batch_size: 128,
            micro_batch_size: 16,
            gradient_checkpointing: false,
            initial_model: None,
            optimizer: Optimizer::Adam,
            weight_decay: 0.0,
            learning_rate: 1e-4,
            warmup_steps: 0,
            learning_rate_decay: Decay::Constant,
            final_learning_rate: 0.0,
            max_gradient_norm: 0.0,
            ema_halflife_images: 500_000.0,
            horizontal_flip: true,
            seed: 999,
            log_every: 10,
            save_every: 1000,
            keep_checkpoints: 2,
            validation_images: 512,
            sample_count: 64,
            sample_steps: 20,
            prediction: Prediction::Epsilon,
            timestep_sampling: TimestepSampling::Uniform,
            min_snr_gamma: 0.0,
            model: UNetConfig::default(),
            schedule: ScheduleConfig::default(),
        };
        let karras = ScheduleConfig { kind: ScheduleKind::Karras, ..ScheduleConfig::default() };
        match self {
            Preset::Anime64 => anime64,
            Preset::Small64 => TrainConfig {
                steps: 12_000,
                batch_size: 32,
                micro_batch_size: 32,
                learning_rate: 6e-4,
                warmup_steps: 200,
                learning_rate_decay: Decay::Cosine,
                final_learning_rate: 2e-5,
                max_gradient_norm: 1.0,
                ema_halflife_images: 30_000.0,
                save_every: 250,
                validation_images: 256,
                prediction: Prediction::V,
                timestep_sampling: TimestepSampling::Cosine,
                schedule: karras,
                model: UNetConfig {
                    patch_size: 2,
                    ch: 64,
                    ch_mult: vec![1, 1, 2],
                    attn: vec![1, 2],
                    num_res_blocks: 2,
                    dropout: 0.0,
                    activation: Activation::Silu,
                    norm_groups: 8,
                    ..UNetConfig::default()
                },
                ..anime64
            },
            Preset::Tiny => TrainConfig {
                steps: 3000,
                batch_size: 32,
                micro_batch_size: 32,
                learning_rate: 5e-4,
                warmup_steps: 100,
                max_gradient_norm: 1.0,
                ema_halflife_images: 20_000.0,
                save_every: 250,
                validation_images: 128,
                // v, and noise levels as the cosine has them, keep the first steps of a walk
                // well-conditioned: faces appear after some thousand pictures, where ε and the
                // linear schedule need many times that.
                prediction: Prediction::V,
                timestep_sampling: TimestepSampling::Cosine,
                schedule: karras,
                model: UNetConfig {
                    image_size: [3, 32, 32],
                    ch: 32,
                    ch_mult: vec![1, 2, 2],
                    attn: vec![2],
                    num_res_blocks: 1,
                    dropout: 0.0,
                    activation: Activation::Hardswish,
                    norm_groups: 8,
                    ..UNetConfig::default()
                },
                ..anime64
            },
        }
    }
}

impl TrainConfig {
    /// Reads a TOML file; what it does not say is as in the `anime64` preset.
    ///
    /// # Errors
    /// When the file cannot be read, or holds an unknown or impossible entry.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_to_string_regular(path, MAX_FILE_BYTES)?;
        let config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let message = error.message().replace('\n', " ");
            // Types are Rust's in these messages; users of a TOML file know none of them.
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

    /// The model that this run trains.
    pub fn model_config(&self) -> ModelConfig {
        ModelConfig::new(self.model.clone(), self.schedule, self.prediction)
    }

    /// Checks that the run is possible.
    ///
    /// # Errors
    /// Names the entry, what was found and what was expected.
    pub fn validate(&self) -> Result<()> {
        self.model_config().validate()?;
        let at_least_one = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            ("log_every", self.log_every),
            ("save_every", self.save_every),
            ("keep_checkpoints", self.keep_checkpoints as u64),
            ("sample_steps", self.sample_steps as u64),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(Error::out_of_range(*name, 0, "at least 1"));
        }
        if self.sample_steps > self.schedule.n_timesteps {
            return Err(Error::out_of_range(
                "sample_steps",
                self.sample_steps,
                format!("at most {}, the number of timesteps", self.schedule.n_timesteps),
            ));
        }
        let positive = [
            ("learning_rate", self.learning_rate),
            ("ema_halflife_images", self.ema_halflife_images),
        ];
        for (name, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::out_of_range(name, value, "above 0"));
            }
        }
        let at_least_zero = [
            ("max_gradient_norm", self.max_gradient_norm),
            ("min_snr_gamma", self.min_snr_gamma),
            ("weight_decay", self.weight_decay),
            ("final_learning_rate", self.final_learning_rate),
        ];
        for (name, value) in at_least_zero {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::out_of_range(name, value, "at least 0"));
            }
        }
        // The optimizer computes in single precision.
        for (name, value) in [positive[0], at_least_zero[2]] {
            let (least, most) = (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
            if value != 0.0 && !(least..=most).contains(&value) {
                let problem = format!("{value:e} found; expected {least:.0e} to {most:.0e}");
                return Err(Error::invalid(name, problem));
            }
        }
        let decayed = self.weight_decay * self.learning_rate;
        if decayed > 1.0 {
            let problem = format!(
                "{:e} found; times the learning rate that takes {decayed:e} times the weights off \
                 per step, expected at most all",
                self.weight_decay
            );
            return Err(Error::invalid("weight_decay", problem));
        }
        if self.weight_decay > 0.0 && self.optimizer == Optimizer::Adam {
            let problem = format!("{} found with the optimizer adam", self.weight_decay);
            return Err(Error::invalid("weight_decay", problem)
                .with_hint("the optimizer adamw decays weights"));
        }
        if self.final_learning_rate > self.learning_rate {
            let (end, start) = (self.final_learning_rate, self.learning_rate);
            let allowed = format!("at most the learning rate, {start}");
            return Err(Error::out_of_range("final_learning_rate", end, allowed));
        }
        Ok(())
    }

    /// Learning rate of the step after `n_steps` steps.
    pub fn learning_rate_at(&self, n_steps: u64) -> f64 {
        if n_steps < self.warmup_steps {
            // In floating point, where adding one to the largest number of steps does no harm.
            return self.learning_rate
                * ((n_steps as f64 + 1.0) / (self.warmup_steps as f64 + 1.0));
        }
        let falling_steps = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let fallen = ((n_steps - self.warmup_steps) as f64 / falling_steps).min(1.0);
        let left = match self.learning_rate_decay {
            Decay::Constant => return self.learning_rate,
            Decay::Linear => 1.0 - fallen,
            Decay::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * fallen)),
        };
        self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * left
    }

    /// How much of the averaged weights stays in a step that follows `n_images` pictures. Early on
    /// the half-life is a twentieth of what was seen, so that the average soon forgets the random
    /// start (the schedule of Karras et al. 2022, "EDM").
    pub fn ema_decay_at(&self, n_images: u64) -> f64 {
        const RAMP: f64 = 0.05;
        let halflife = self.ema_halflife_images.min(RAMP * n_images as f64);
        if halflife <= 0.0 { 0.0 } else { 0.5f64.powf(self.batch_size as f64 / halflife) }
    }

    /// The entries that differ from those of `other`: name, value here, value there.
    pub fn differences(&self, other: &TrainConfig) -> Vec<(String, String, String)> {
        let [here, there] = [self, other].map(entries);
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

    /// What of `other`, a run to be continued, this configuration contradicts.
    ///
    /// # Errors
    /// Names the first entry that cannot change within a run.
    pub fn check_continues(&self, other: &TrainConfig) -> Result<()> {
        // What the weights are, and what they learn. Dropout is neither.
        let fixed = |config: &TrainConfig| {
            toml::Table::from_iter([
                ("model".to_owned(), table(&UNetConfig { dropout: 0.0, ..config.model.clone() })),
                ("schedule".to_owned(), table(&config.schedule)),
                ("prediction".to_owned(), table(&config.prediction)),
                // As a text: TOML has no unsigned numbers.
                ("seed".to_owned(), toml::Value::String(config.seed.to_string())),
            ])
        };
        let Some((name, here, there)) = first_difference("", &fixed(self), &fixed(other)) else {
            return Ok(());
        };
        Err(Error::invalid(name, format!("{here} given; the run to resume has {there}"))
            .with_hint("this cannot change within a run: start another one in a new folder"))
    }
}

/// All entries in words, under names such as `model.ch`.
fn entries(config: &TrainConfig) -> BTreeMap<String, String> {
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

/// The first entry in which two tables differ: its name, and both values.
fn first_difference(
    path: &str,
    here: &toml::Table,
    there: &toml::Table,
) -> Option<(String, String, String)> {
    let keys = here.keys().chain(there.keys().filter(|key| !here.contains_key(*key)));
    for key in keys {
        let name = format!("{path}{key}");
        let words = |value: Option<&toml::Value>| match value {
            Some(toml::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "none".to_owned(),
        };
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
    fn a_preset_is_chosen_that_does_not_enlarge_and_takes_no_days() {
        let chosen = [16, 32, 63, 64, 500].map(|side| Preset::for_side(side).name());
        assert_eq!(chosen, ["tiny", "tiny", "tiny", "small64", "small64"]);
    }

    #[test]
    fn differences_are_told_by_name_with_both_values() {
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
    fn an_unknown_entry_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "steps = 3\nlerning_rate = 1e-4\n").unwrap();
        let message = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("lerning_rate"), "{message}");
    }

    #[test]
    fn the_learning_rate_warms_up_and_the_average_forgets_its_start() {
        let config = TrainConfig { warmup_steps: 9, learning_rate: 1.0, ..Preset::Tiny.config() };
        let rates: Vec<f64> = (0..12).map(|step| config.learning_rate_at(step)).collect();
        assert!(rates.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!((rates[0], rates[9], rates[11]), (0.1, 1.0, 1.0));
        assert_eq!(config.ema_decay_at(0), 0.0);
        assert!(config.ema_decay_at(1000) < config.ema_decay_at(100_000));
        let settled = config.ema_decay_at(u64::MAX).powf(config.ema_halflife_images / 32.0);
        assert!((settled - 0.5).abs() < 1e-9);
    }

    #[test]
    fn no_number_of_steps_wraps_around() {
        let run = TrainConfig { learning_rate: 1.0, steps: u64::MAX, ..Preset::Tiny.config() };
        for warmup_steps in [u64::MAX - 1, u64::MAX] {
            let config = TrainConfig { warmup_steps, ..run.clone() };
            let [first, last] = [0, u64::MAX].map(|step| config.learning_rate_at(step));
            assert!(first > 0.0 && first < 1e-19, "{first}");
            assert!((last - 1.0).abs() < 1e-12, "{last}");
        }
        let config = TrainConfig {
            batch_size: usize::MAX,
            micro_batch_size: usize::MAX,
            validation_images: usize::MAX,
            ..run
        };
        assert!(config.estimated_bytes(usize::MAX) == u64::MAX);
    }

    #[test]
    fn the_learning_rate_falls_to_its_end() {
        let run = TrainConfig {
            steps: 110,
            warmup_steps: 10,
            learning_rate: 1.0,
            final_learning_rate: 0.1,
            ..Preset::Tiny.config()
        };
        for (decay, halfway) in [(Decay::Linear, 0.55), (Decay::Cosine, 0.55)] {
            let config = TrainConfig { learning_rate_decay: decay, ..run.clone() };
            let rates: Vec<f64> = (0..=120).map(|step| config.learning_rate_at(step)).collect();
            assert_eq!(rates[10], 1.0, "{decay:?}");
            assert!(rates[10..].windows(2).all(|pair| pair[0] >= pair[1]), "{decay:?}");
            assert!((rates[60] - halfway).abs() < 1e-9, "{decay:?}: {}", rates[60]);
            assert!((rates[110] - 0.1).abs() < 1e-12 && rates[120] == rates[110], "{decay:?}");
        }
    }

    #[test]
    fn impossible_recipes_are_named() {
        let run = Preset::Tiny.config();
        let adamw = TrainConfig { optimizer: Optimizer::Adamw, ..run.clone() };
        let cases = [
            (TrainConfig { weight_decay: 0.1, ..run.clone() }, "adamw"),
            (TrainConfig { weight_decay: f64::NAN, ..run.clone() }, "weight_decay"),
            (TrainConfig { weight_decay: 1e308, ..adamw.clone() }, "weight_decay: 1e308 found"),
            (TrainConfig { weight_decay: 1e4, ..adamw }, "expected at most all"),
            (TrainConfig { learning_rate: 1e39, ..run.clone() }, "learning_rate: 1e39 found"),
            (TrainConfig { learning_rate: 1e-300, ..run.clone() }, "learning_rate: 1e-300 found"),
            (TrainConfig { min_snr_gamma: -1.0, ..run.clone() }, "min_snr_gamma"),
            (TrainConfig { final_learning_rate: 1.0, ..run.clone() }, "final_learning_rate"),
        ];
        for (config, expected) in cases {
            let error = config.validate().unwrap_err();
            let message = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_cannot_change_within_a_run_is_named() {
        let run = Preset::Tiny.config();
        let same = TrainConfig { steps: 7, learning_rate: 1.0, ..run.clone() };
        assert!(same.check_continues(&run).is_ok());
        let dropout = UNetConfig { dropout: 0.3, ..run.model.clone() };
        assert!(TrainConfig { model: dropout, ..run.clone() }.check_continues(&run).is_ok());
        let wider = UNetConfig { ch: 64, ..run.model.clone() };
        let schedule = ScheduleConfig { beta_end: 0.5, ..run.schedule };
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
    }
}
