//! The fields of a request as the configuration of a run.

use super::{MIN_TAG_COUNT, Train};
use crate::control::{Control, Report};
use crate::dataset::{Folder, SplitConfig, usual_side};
use crate::error::{Error, Result};
use crate::memory;
use crate::model::ModelConfig;
use crate::quantities::counted;
use crate::render::{self, Layout};
use crate::requests::preset_named;
use crate::train::reports::TRAINING;
use crate::train::{CHECKPOINTS, Preset, RunDir, SAMPLE_COLUMNS, TrainConfig, checkpoint};
use crate::unet::UNetConfig;
use crate::vocabulary::Vocabulary;

impl Train {
    /// The configuration of the run, as far as it is known without its pictures.
    pub(super) fn configuration(&self) -> Result<TrainConfig> {
        if !self.resume {
            return self.over(self.base()?);
        }
        let position = checkpoint::newest_position(&self.out.join(CHECKPOINTS))?;
        let edited = RunDir::config_to_resume(&self.out, &position)?;
        self.over(self.base_of_resumed(&edited)?)
    }

    /// The configuration that a new run starts from.
    pub(super) fn base(&self) -> Result<TrainConfig> {
        match (&self.preset, &self.config, &self.from) {
            (_, Some(path), _) => TrainConfig::read(path),
            (Some(name), None, _) => Ok(preset_named(name)?.config()),
            (None, None, None) => {
                let side = self.data.as_deref().map(usual_side).transpose()?.flatten();
                Ok(side.map_or(Preset::Small64, Preset::for_side).config())
            }
            (None, None, Some(path)) => Ok(TrainConfig::of_model(ModelConfig::of(path)?)),
        }
    }

    /// The configuration that a resumed run of `config` starts from. The request that began the run
    /// may be repeated: a preset must be the one that the run has, and a file is read again.
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
            let UNetConfig { dropout, n_tags, .. } = config.model;
            let model = UNetConfig { dropout, n_tags, ..preset_named(name)?.config().model };
            if model != config.model {
                let allowed = match Preset::of_architecture(&untagged(&config.model)) {
                    Some(preset) => format!("that of the run to resume, {}", preset.name()),
                    None => "omitted: the run to resume has an architecture of its own".to_owned(),
                };
                return Err(Error::out_of_range("preset", name, allowed)
                    .with_hint("omit `preset`, or start another run in a new folder"));
            }
        }
        if self.no_tags && !config.tags.is_empty() {
            let problem = format!(
                "the run to resume is trained with {}",
                counted(config.tags.len() as u64, "tag")
            );
            return Err(Error::invalid("no_tags", problem)
                .with_hint("omit `no_tags`, or start another run in a new folder"));
        }
        match (&self.from, &config.initial_model) {
            (Some(given), Some(began)) if given == began => Ok(base),
            (None, _) => Ok(base),
            (Some(given), began) => {
                let began = match began {
                    Some(path) => format!("`{}`", path.display()),
                    None => "random weights".to_owned(),
                };
                let problem =
                    format!("`{}`: the run to resume began with {began}", given.display());
                Err(Error::invalid("from", problem)
                    .with_hint("omit `from`, or start another run in a new folder"))
            }
        }
    }

    /// `config` with the entries that are given, checked as far as possible without the pictures.
    pub(super) fn over(&self, mut config: TrainConfig) -> Result<TrainConfig> {
        fn set<T: Clone>(entry: &mut T, given: &Option<T>) {
            if let Some(value) = given {
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
        set(&mut config.loss_focus, &self.loss_focus);
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
        if config.data.as_os_str().is_empty() {
            return Err(Error::invalid("data", "none given; expected a folder of pictures")
                .with_hint("`kao draw` makes one, `kao prepare` another"));
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
    pub(super) fn take_tags(
        &self,
        config: &mut TrainConfig,
        folder: &Folder,
        control: &dyn Control,
    ) -> Result<()> {
        let say = |words: &str| control.check(&Report::message(TRAINING, words));
        if self.no_tags {
            (config.model.n_tags, config.tags) = (0, Vocabulary::default());
            return Ok(());
        }
        let is_given = self.config.is_some() && !config.tags.is_empty();
        let n_tagged = folder.tags().n_tagged();
        if !is_given && n_tagged > 0 {
            let min_count = self.min_tag_count.unwrap_or(MIN_TAG_COUNT);
            let n_rare = config.take_tags(folder, min_count)?;
            let of = |n: usize, what| counted(n as u64, what);
            let rare = match n_rare {
                0 => String::new(),
                n => format!("; {} left out, of fewer than {min_count} pictures", of(n, "tag")),
            };
            if config.tags.is_empty() {
                say(&format!(
                    "warning: training without tags{rare}; `min_tag_count` changes that"
                ))?;
            } else {
                let first: Vec<&str> =
                    config.tags.tags().iter().take(4).map(|tag| tag.tag.as_str()).collect();
                say(&format!(
                    "{} of {}: {}{}{rare}",
                    of(config.tags.len(), "tag"),
                    of(n_tagged, "picture"),
                    first.join(", "),
                    if config.tags.len() > first.len() { ", …" } else { "" }
                ))?;
            }
        }
        if self.tag_dropout.is_some() && config.tags.is_empty() {
            say("warning: `tag_dropout` has no effect, since the run has no tags")?;
        }
        Ok(())
    }

    /// Refuses a number for rare tags that would give a resumed run of `config` other tags.
    pub(super) fn check_tags(&self, config: &TrainConfig, folder: &Folder) -> Result<()> {
        let Some(min_count) = self.min_tag_count else { return Ok(()) };
        let mut asked = config.clone();
        asked.take_tags(folder, min_count)?;
        let names = |config: &TrainConfig| -> Vec<String> {
            config.tags.tags().iter().map(|tag| tag.tag.clone()).collect()
        };
        if names(&asked) == names(config) {
            return Ok(());
        }
        let allowed = format!(
            "omitted, or give the {} of the run to resume; it gives {} or others",
            counted(config.tags.len() as u64, "tag"),
            asked.tags.len()
        );
        Err(Error::out_of_range("min_tag_count", min_count, allowed)
            .with_hint("tags cannot change within a run: start another run in a new folder"))
    }

    /// Sets what depends on the pictures: the number of steps where epochs are given, and the
    /// micro-batch size where a limit for memory is given.
    pub(super) fn fit(&self, config: &mut TrainConfig, folder: &Folder) -> Result<()> {
        if let Some(epochs) = self.epochs {
            config.set_epochs(epochs, folder.split(&SplitConfig::default())?.train.len())?;
        }
        if let Some(limit) = self.memory {
            config.micro_batch_size = config.micro_batch_within(limit, folder.n_in_memory())?;
        }
        Ok(())
    }

    /// The preset that was chosen for the user, where they named none.
    pub(super) fn chosen_preset(&self, config: &TrainConfig) -> Option<Preset> {
        let is_chosen =
            !self.resume && self.preset.is_none() && self.config.is_none() && self.from.is_none();
        Preset::of_architecture(&untagged(&config.model)).filter(|_| is_chosen)
    }
}

/// The architecture apart from its tags, which are those of the pictures.
fn untagged(model: &UNetConfig) -> UNetConfig {
    UNetConfig { n_tags: 0, ..model.clone() }
}
