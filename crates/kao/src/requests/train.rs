//! A run of training: one that begins, or one that goes on.

use super::{Compute, Estimate, Request, preset_named};
use crate::control::{Control, Report};
use crate::dataset::{Folder, Tags, usual_side};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::{check_folder, resolved};
use crate::model::{ModelConfig, model_file};
use crate::quantities::counted;
use crate::requests::{MeasureConfig, measure};
use crate::schedule::NoiseSchedule;
use crate::train::checkpoint::{self, Checkpoint};
use crate::train::{
    CHECKPOINTS, Occupied, Preset, RunDir, RunEstimate, TrainConfig, Training, check_initial_model,
    check_pictures, check_steps, fingerprint,
};
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Trains a model on a folder of pictures, in a run directory.
///
/// What is not given is that of the preset, of the model to begin with, or of the run that goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// The folder of pictures; a run that goes on knows its own.
    pub data: Option<PathBuf>,
    /// The run directory.
    pub out: PathBuf,
    /// Go on from the newest checkpoint of the run directory.
    pub resume: bool,
    /// The named configuration; by default that which fits the pictures.
    pub preset: Option<String>,
    /// A model whose weights the run begins with.
    pub from: Option<PathBuf>,
    /// Training steps in all.
    pub steps: Option<u64>,
    /// Pictures per step.
    pub batch_size: Option<usize>,
    /// The highest learning rate.
    pub learning_rate: Option<f64>,
    /// Steps between validations, sample grids and checkpoints.
    pub save_every: Option<u64>,
    /// Steps between lines of the log.
    pub log_every: Option<u64>,
    /// Images in a sample grid.
    pub sample_count: Option<usize>,
    /// Random seed.
    pub seed: Option<u64>,
    /// Train without the tags of the pictures.
    pub no_tags: bool,
    /// Leave out tags that fewer training pictures have.
    pub min_tag_count: u64,
    /// Do not mirror pictures at random.
    pub no_flip: bool,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            data: None,
            out: PathBuf::new(),
            resume: false,
            preset: None,
            from: None,
            steps: None,
            batch_size: None,
            learning_rate: None,
            save_every: None,
            log_every: None,
            sample_count: None,
            seed: None,
            no_tags: false,
            min_tag_count: 10,
            no_flip: false,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Train`].
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOutcome {
    /// Steps done.
    pub n_steps: u64,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// Whether the run was stopped before its last step; it is saved and can go on.
    pub stopped_early: bool,
    /// The model to sample from.
    pub model: PathBuf,
}

/// What a run would take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainPlan {
    /// The preset of its architecture, where it is that of one.
    pub preset: Option<&'static str>,
    /// The configuration.
    pub config: TrainConfig,
    /// Pictures, steps, memory, disk.
    pub estimate: RunEstimate,
    /// Pictures per second here, measured in a few steps.
    pub images_per_second: f64,
    /// Seconds of the whole run.
    pub seconds: f64,
}

/// A run that is ready to begin or to go on.
struct Ready {
    config: TrainConfig,
    folder: Arc<Folder>,
    checkpoint: Option<Checkpoint>,
}

impl Request for Train {
    const COMMAND: &'static str = "train";
    type Outcome = TrainOutcome;

    fn validate(&self) -> Result<()> {
        if self.out.as_os_str().is_empty() {
            return Err(Error::invalid("out", "none given; expected a run directory"));
        }
        if self.resume {
            for (field, is_given) in
                [("preset", self.preset.is_some()), ("from", self.from.is_some())]
            {
                if is_given {
                    return Err(Error::invalid(field, "does not apply to a run that goes on"));
                }
            }
            return self.compute.validate();
        }
        if self.data.is_none() {
            return Err(Error::invalid("data", "none given; expected a folder of pictures"));
        }
        self.over(self.base_without_pictures()?)?;
        self.compute.validate()
    }

    /// Memory of a run on a thousand pictures; how long it takes, [`plan`](Self::plan) measures.
    fn estimate(&self) -> Result<Estimate> {
        const SOME_PICTURES: usize = 1000;
        let config = match self.resume {
            true => TrainConfig::read(&self.out.join(crate::train::CONFIG_FILE))?,
            false => self.over(self.base_without_pictures()?)?,
        };
        let memory_bytes = config.estimated_bytes(SOME_PICTURES);
        Ok(Estimate { memory_bytes, ..Estimate::default() })
    }

    fn run(&self, control: &dyn Control) -> Result<TrainOutcome> {
        self.validate()?;
        self.compute.run(|device| match self.resume {
            true => {
                if checkpoint::list(&self.out.join(CHECKPOINTS))?.is_empty() {
                    let problem = "no run with a checkpoint to resume from";
                    return Err(Error::malformed(&self.out, problem));
                }
                // Locked before anything is read, so that no other training changes it meanwhile.
                let run_dir = RunDir::open(&self.out)?;
                let newest = run_dir.newest_checkpoint()?;
                for (path, error) in &newest.damaged {
                    let aside = checkpoint::set_aside_path(path);
                    let message = format!("warning: {error}; set aside as `{}`", aside.display());
                    control.check(&Report::message("reading", &message))?;
                }
                let ready = self.going_on(newest.checkpoint, control)?;
                train(ready, &run_dir, device, control)
            }
            false => {
                let ready = self.beginning(control)?;
                let run_dir = RunDir::open(&self.out)?;
                // Checked again under the lock: another training may have run there meanwhile.
                refuse_occupied(&self.out, Some(&ready.config))?;
                train(ready, &run_dir, device, control)
            }
        })
    }
}

impl Train {
    /// What the run would take here: reads the pictures, and measures a few steps.
    ///
    /// # Errors
    /// As [`run`](Request::run), which writes nothing here.
    pub fn plan(&self, control: &dyn Control) -> Result<TrainPlan> {
        self.validate()?;
        self.compute.run(|device| {
            let (ready, n_steps) = match self.resume {
                true => {
                    let folder = self.out.join(CHECKPOINTS);
                    let newest = checkpoint::newest_undamaged(&folder)?.checkpoint;
                    let n_steps = newest.position.n_steps;
                    (self.going_on(newest, control)?, n_steps)
                }
                false => (self.beginning(control)?, 0),
            };
            let config = ready.config;
            let estimate = config.estimate(&ready.folder, n_steps)?;
            let measuring = MeasureConfig {
                batch_size: config.micro_batch_size,
                n_rounds: 3,
                n_warmup: 1,
                training: true,
                by_kernel: false,
            };
            let measured = measure(&config.model_config(), measuring, device, control)?;
            let images_per_second =
                measured.training.map_or(0.0, |training| training.images_per_second);
            let seconds = config.estimated_seconds(n_steps, images_per_second);
            let model = crate::unet::UNetConfig { n_tags: 0, ..config.model.clone() };
            let preset = Preset::of_architecture(&model).map(Preset::name);
            Ok(TrainPlan { preset, config, estimate, images_per_second, seconds })
        })
    }

    /// The configuration that a new run starts from, as far as it can be told without pictures.
    fn base_without_pictures(&self) -> Result<TrainConfig> {
        match (&self.preset, &self.from) {
            (Some(name), _) => Ok(preset_named(name)?.config()),
            (None, Some(path)) => Ok(TrainConfig::of_model(ModelConfig::of(path)?)),
            (None, None) => Ok(Preset::Small64.config()),
        }
    }

    fn base(&self) -> Result<TrainConfig> {
        if self.preset.is_some() || self.from.is_some() {
            return self.base_without_pictures();
        }
        let side = self.data.as_deref().map(usual_side).transpose()?.flatten();
        Ok(side.map_or(Preset::Small64, Preset::for_side).config())
    }

    /// `config` with what is given, checked as far as can be without the pictures.
    fn over(&self, mut config: TrainConfig) -> Result<TrainConfig> {
        fn set<T: Clone>(entry: &mut T, given: &Option<T>) {
            if let Some(value) = given {
                *entry = value.clone();
            }
        }
        set(&mut config.data, &self.data);
        set(&mut config.steps, &self.steps);
        set(&mut config.batch_size, &self.batch_size);
        if let Some(learning_rate) = self.learning_rate {
            config.set_learning_rate(learning_rate);
        }
        set(&mut config.save_every, &self.save_every);
        set(&mut config.log_every, &self.log_every);
        set(&mut config.sample_count, &self.sample_count);
        set(&mut config.seed, &self.seed);
        if self.from.is_some() {
            config.initial_model = self.from.clone();
        }
        config.horizontal_flip &= !self.no_flip;
        if config.batch_size > 0 {
            config.micro_batch_size = config.micro_batch_size.min(config.batch_size);
        }
        config.validate()?;
        let (unet, together) = (&config.model, config.micro_batch_size);
        let needed =
            unet.training_bytes(config.batch_size, together, config.gradient_checkpointing);
        crate::memory::check("batch_size", "such a training step", needed)?;
        Ok(config)
    }

    /// A new run, with nothing left that could be refused; nothing is written yet.
    fn beginning(&self, control: &dyn Control) -> Result<Ready> {
        let mut config = self.over(self.base()?)?;
        check_folder(&self.out)?;
        refuse_occupied(&self.out, None)?;
        refuse_own_samples(&config.data, &self.out)?;
        if let Some(path) = &config.initial_model {
            model_file(path)?;
        }
        if let Some(warning) = NoiseSchedule::new(config.schedule)?.leftover_warning() {
            control.check(&Report::message("reading", &format!("warning: {warning}")))?;
        }
        let folder = load(&config, !self.no_tags, control)?;
        if self.no_tags {
            (config.model.n_tags, config.tags) = (0, Vocabulary::default());
        } else if folder.tags().n_tagged() > 0 {
            config.take_tags(&folder, self.min_tag_count)?;
        }
        check_initial_model(&config)?;
        Ok(Ready { config, folder: Arc::new(folder), checkpoint: None })
    }

    /// The run of a checkpoint, checked to be the one that goes on.
    fn going_on(&self, checkpoint: Checkpoint, control: &dyn Control) -> Result<Ready> {
        let position = &checkpoint.position;
        let config = self.over(RunDir::config_to_resume(&self.out, position)?)?;
        config.check_continues(&position.config)?;
        check_steps(&config, position)?;
        refuse_own_samples(&config.data, &self.out)?;
        let folder = load(&config, !config.tags.is_empty(), control)?;
        check_pictures(&config, position, &fingerprint(&folder, &config))?;
        Ok(Ready { config, folder: Arc::new(folder), checkpoint: Some(checkpoint) })
    }
}

fn train(
    ready: Ready,
    run_dir: &RunDir,
    device: &Device,
    control: &dyn Control,
) -> Result<TrainOutcome> {
    let Ready { config, folder, checkpoint } = ready;
    if let Some(reason) = run_dir.unlocked() {
        let message = format!(
            "warning: `{}` cannot be locked ({reason}): start no second training there",
            run_dir.path().display()
        );
        control.check(&Report::message("training", &message))?;
    }
    run_dir.write_config(&config)?;
    let mut training = Training::new(config).folder(folder).run_dir(run_dir).device(device);
    if let Some(checkpoint) = checkpoint {
        training = training.resume(checkpoint);
    }
    let trained = training.run(control)?;
    Ok(TrainOutcome {
        n_steps: trained.n_steps,
        best_validation_loss: trained.best_validation_loss,
        stopped_early: trained.stopped_early,
        model: run_dir.model(),
    })
}

/// Loads the pictures that `config` names, and their tags where they are wanted.
fn load(config: &TrainConfig, wants_tags: bool, control: &dyn Control) -> Result<Folder> {
    let mut folder = Folder::load(&config.data, config.model.image_size, control)?;
    let mut warnings = Vec::new();
    if wants_tags {
        let names = folder.pictures().iter().map(|picture| picture.name.as_str());
        let tags = Tags::read(&config.data, names, config.classes)?;
        warnings.extend(tags.warnings().iter().cloned());
        folder = folder.with_tags(tags);
    }
    if let Some(first) = folder.skipped().first() {
        let n = counted(folder.skipped().len() as u64, "picture");
        warnings.push(format!("{n} skipped, such as `{}`: {}", first.path, first.reason));
    }
    if folder.n_enlarged() > 0 {
        let n = counted(folder.len() as u64, "picture");
        warnings
            .push(format!("{} of {n} enlarged: the model learns their blur", folder.n_enlarged()));
    }
    for warning in warnings {
        control.check(&Report::message("reading", &format!("warning: {warning}")))?;
    }
    Ok(folder)
}

/// Refuses to train on what the run itself writes.
fn refuse_own_samples(data: &Path, out: &Path) -> Result<()> {
    let [pictures, run] = [data, out].map(resolved);
    match pictures == run || pictures.starts_with(run.join("samples")) {
        true => Err(Error::malformed(data, "the folder of pictures is the run's own")),
        false => Ok(()),
    }
}

/// Refuses a directory that holds something that a new run would overwrite or mix with.
fn refuse_occupied(out: &Path, config: Option<&TrainConfig>) -> Result<()> {
    let Some(occupied) = RunDir::occupied(out, config)? else { return Ok(()) };
    let (path, problem) = match occupied {
        Occupied::Run => (out.to_path_buf(), "this run directory holds a run already"),
        Occupied::Files(file) => (file, "a file of another run"),
        Occupied::Config(path) => (path, "a configuration other than this run's"),
        Occupied::Log(path) => (path, "the log of another run"),
    };
    Err(Error::malformed(path, problem).with_hint("choose another run directory"))
}
