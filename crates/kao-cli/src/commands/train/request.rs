//! The arguments of `kao train` as the configuration of a run.

use super::Arguments;
use crate::output::{note, one_line};
use kao::dataset::{Folder, SplitConfig, usual_side};
use kao::memory;
use kao::model::ModelConfig;
use kao::quantities::counted;
use kao::render::Layout;
use kao::requests::preset_named as preset;
use kao::train::{Preset, SAMPLE_COLUMNS, TrainConfig};
use kao::unet::UNetConfig;
use kao::vocabulary::Vocabulary;
use kao::{Error, Result, render};
use serde::de::{DeserializeOwned, IntoDeserializer};

impl Arguments {
    /// The configuration that a new run starts from, before the flags.
    pub(super) fn base(&self) -> Result<TrainConfig> {
        match (&self.preset, &self.config, &self.from) {
            (_, Some(path), _) => TrainConfig::read(path),
            (Some(name), None, _) => Ok(preset(name)?.config()),
            (None, None, None) => {
                let side = self.data.as_deref().map(usual_side).transpose()?.flatten();
                Ok(side.map_or(Preset::Small64, Preset::for_side).config())
            }
            (None, None, Some(path)) => Ok(TrainConfig::of_model(ModelConfig::of(path)?)),
        }
    }

    /// The configuration that a resumed run of `config` starts from, before the flags. The command
    /// that began the run may be repeated: a preset must be the one that the run has, and a file is
    /// read again.
    pub(super) fn base_of_resumed(&self, config: &TrainConfig) -> Result<TrainConfig> {
        let mut base = config.clone();
        if let Some(path) = &self.config {
            base = TrainConfig::read(path)?;
            base.initial_model = config.initial_model.clone();
            (base.model.n_tags, base.tags) = (config.model.n_tags, config.tags.clone());
            if base.data.as_os_str().is_empty() {
                base.data = config.data.clone();
            }
        }
        if let Some(name) = &self.preset {
            base.model = UNetConfig {
                dropout: config.model.dropout,
                n_tags: config.model.n_tags,
                ..preset(name)?.config().model
            };
        }
        match (&self.from, &config.initial_model) {
            (Some(given), Some(began)) if given == began => Ok(base),
            (None, _) => Ok(base),
            (Some(given), began) => {
                let began = match began {
                    Some(path) => format!("`{}`", path.display()),
                    None => "random weights".to_owned(),
                };
                let problem = format!("the run to resume began with {began}");
                Err(Error::invalid(format!("--from `{}`", given.display()), problem)
                    .with_hint("omit --from, or start another run in a new folder"))
            }
        }
    }

    /// Notes which preset was chosen, where the user named none.
    fn say_preset(&self, config: &TrainConfig) {
        let is_chosen =
            !self.resume && self.preset.is_none() && self.config.is_none() && self.from.is_none();
        // The tags are those of the pictures.
        let model = UNetConfig { n_tags: 0, ..config.model.clone() };
        if let Some(preset) = Preset::of_architecture(&model).filter(|_| is_chosen) {
            note(format!("preset {}, chosen by the size of the pictures", preset.name()));
        }
    }

    /// `config` with the flags that were given, checked as far as possible without the pictures.
    pub(super) fn over(&self, mut config: TrainConfig) -> Result<TrainConfig> {
        fn set<T: Clone>(entry: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *entry = value.clone();
            }
        }
        set(&mut config.data, &self.data);
        set(&mut config.steps, &self.steps);
        set(&mut config.batch_size, &self.batch_size);
        set(&mut config.micro_batch_size, &self.micro_batch_size);
        if let Some(learning_rate) = self.learning_rate {
            config.set_learning_rate(learning_rate);
        }
        set(&mut config.warmup_steps, &self.warmup_steps);
        set(&mut config.prediction, &self.prediction);
        set(&mut config.timestep_sampling, &self.timestep_sampling);
        set(&mut config.min_snr_gamma, &self.min_snr_gamma);
        set(&mut config.model.dropout, &self.dropout);
        set(&mut config.optimizer, &self.optimizer);
        set(&mut config.weight_decay, &self.weight_decay);
        set(&mut config.learning_rate_decay, &self.learning_rate_decay);
        set(&mut config.final_learning_rate, &self.final_learning_rate);
        set(&mut config.tag_dropout, &self.tag_dropout);
        config.classes = self.classes.or(config.classes);
        set(&mut config.keep_checkpoints, &self.keep_checkpoints);
        set(&mut config.log_every, &self.log_every);
        set(&mut config.validation_images, &self.validation_images);
        set(&mut config.sample_steps, &self.sample_steps);
        config.gradient_checkpointing |= self.gradient_checkpointing;
        if self.from.is_some() {
            config.initial_model = self.from.clone();
        }
        set(&mut config.max_gradient_norm, &self.max_gradient_norm);
        set(&mut config.ema_halflife_images, &self.ema_halflife);
        set(&mut config.seed, &self.seed);
        set(&mut config.save_every, &self.save_every);
        set(&mut config.sample_count, &self.sample_count);
        config.horizontal_flip &= !self.no_flip;
        if config.batch_size > 0 {
            config.micro_batch_size = config.micro_batch_size.min(config.batch_size);
        }
        if self.epochs == Some(0) {
            return Err(Error::out_of_range("epochs", 0, "at least 1"));
        }
        if config.data.as_os_str().is_empty() {
            return Err(Error::invalid("data", "none given; expected a folder of pictures")
                .with_hint(
                    "`kao draw --count 2000 --out faces` makes one, `kao prepare RAW faces` another",
                ));
        }
        if let Some(p) = self.dropout.filter(|p| !(0.0..1.0).contains(p)) {
            return Err(Error::out_of_range("--dropout", p, "at least 0 and below 1"));
        }
        config.validate()?;
        let (unet, together) = (&config.model, config.micro_batch_size);
        let checkpointing = config.gradient_checkpointing;
        let needed = unet.training_bytes(config.batch_size, together, checkpointing);
        memory::check("batch_size", "such a training step", needed)?;
        if config.sample_count > 0 {
            let needed = unet.image_bytes(config.sample_count);
            memory::check("sample_count", "so many images", needed)?;
            let size = unet.image_size;
            render::check_grid(config.sample_count, size, SAMPLE_COLUMNS, &Layout::default())?;
        }
        Ok(config)
    }

    /// Sets the tags of a new run: those of the pictures, where they have any. The tags of a
    /// configuration file stay, and those of a model to begin with where the pictures have none.
    pub(super) fn take_tags(&self, config: &mut TrainConfig, folder: &Folder) -> Result<()> {
        if self.no_tags {
            (config.model.n_tags, config.tags) = (0, Vocabulary::default());
            return Ok(());
        }
        let is_given = self.config.is_some() && !config.tags.is_empty();
        let n_tagged = folder.tags().n_tagged();
        if is_given || n_tagged == 0 {
            return Ok(());
        }
        let n_rare = config.take_tags(folder, self.min_tag_count)?;
        let of = |n: usize, what| counted(n as u64, what);
        let rare = match n_rare {
            0 => String::new(),
            n => format!(
                "; {} left out, of fewer than {} pictures",
                of(n, "tag"),
                self.min_tag_count
            ),
        };
        if config.tags.is_empty() {
            note(format!("warning: training without tags{rare}; --min-tag-count changes that"));
            return Ok(());
        }
        let first: Vec<&str> =
            config.tags.tags().iter().take(4).map(|tag| tag.tag.as_str()).collect();
        note(one_line(&format!(
            "{} of {}: {}{}{rare}",
            of(config.tags.len(), "tag"),
            of(n_tagged, "picture"),
            first.join(", "),
            if config.tags.len() > first.len() { ", …" } else { "" }
        )));
        Ok(())
    }

    /// Sets what depends on the pictures: the number of steps where epochs are given, and the
    /// micro-batch size where a limit for memory is given.
    pub(super) fn fit(&self, config: &mut TrainConfig, folder: &Folder) -> Result<()> {
        self.say_preset(config);
        if let Some(epochs) = self.epochs {
            config.set_epochs(epochs, folder.split(&SplitConfig::default())?.train.len())?;
        }
        if let Some(limit) = self.memory {
            config.micro_batch_size = config.micro_batch_within(limit, folder.len())?;
        }
        Ok(())
    }
}

/// The value that has this name in configuration files.
pub(super) fn named<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    let named = T::deserialize(name.into_deserializer());
    named.map_err(|error: serde::de::value::Error| {
        let words = error.to_string().replace('`', "");
        // The parser names what was found.
        words.split_once(", ").map_or(words.clone(), |(_, expected)| expected.to_owned())
    })
}
