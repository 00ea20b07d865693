//! The training loop.

use super::adam::OptimizerState;
use super::checkpoint::{self, Checkpoint, Position};
use super::config::TrainConfig;
use super::events::EventFile;
use super::history::{Look, StepReport};
use super::objective::{LossGradients, NoisyBatch, StepPart, loss_gradients};
use super::run_dir::RunDir;
use super::validation::{Validation, ValidationLoss};
use crate::control::Report;
use crate::dataset::{Folder, Loader, LoaderConfig, SplitConfig};
use crate::denoiser::{Conditions, Denoiser};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::StoreAs;
use crate::images::Images;
use crate::model::{Model, ModelConfig};
use crate::noise::{Purpose, SeededNoise, Stream};
use crate::render::{self, Layout};
use crate::sampler::{DpmPlusPlus, Generation, Sampler, Start};
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use crate::timesteps::{End, Spacing, sequence};
use crate::unet::{GradientConfig, UNet, UNetConfig};
use kao_kernels::AdamStep;
use rayon::prelude::*;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Noise of the sample grids: the same in every grid of every run.
const SAMPLE_SEED: u64 = 999;

/// Sampler of the sample grids.
const SAMPLE_METHOD: Sampler = Sampler::DpmPlusPlus(DpmPlusPlus { eta: 0.0 });

/// A loss that no training comes back from: who predicts nothing at all has one of about 1.
const EXPLODED_LOSS: f64 = 100.0;

/// Columns of the sample grids.
pub const SAMPLE_COLUMNS: usize = 8;

/// What happens in a run, for whoever watches it.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run is ready to begin, or to go on.
    Started {
        /// Steps done before.
        n_steps: u64,
        /// Steps in all.
        total_steps: u64,
        /// Parameters, as PyTorch counts them.
        n_parameters: usize,
        /// Pictures in the training, validation and test sets.
        n_pictures: [usize; 3],
        /// The schedule of the model that the run begins with, where the run has another: its
        /// network has to learn anew which timestep means how much noise.
        other_schedule: Option<ScheduleConfig>,
    },
    /// A step was made.
    Step(StepReport),
    /// The averaged weights were compared with the validation pictures.
    Validated {
        /// Steps done.
        n_steps: u64,
        /// The loss.
        loss: f64,
        /// The loss of the weights themselves, not averaged.
        raw_loss: f64,
        /// Whether it is the lowest so far.
        is_best: bool,
    },
    /// A model or a sample grid was written.
    Wrote(PathBuf),
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        n_steps: u64,
        /// Its file.
        path: PathBuf,
    },
    /// Validation or a sample grid goes on. `Break` leaves it for when the run is resumed.
    Looking,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps done.
    pub n_steps: u64,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// Whether it was stopped before its last step.
    pub stopped_early: bool,
}

/// Trains as `config` says into `run_dir`, on the pictures of `folder` (of the model's shape).
///
/// With `resume`, goes on from that checkpoint. `observer` is told of every event; when it answers
/// `Break` to a step, or while the run looks at how far it is, the run saves and ends.
///
/// # Errors
/// When the configuration is impossible or contradicts the checkpoint, the pictures are not those
/// of the checkpoint, a file cannot be written, or the loss is no longer finite.
pub fn train(
    config: &TrainConfig,
    run_dir: &RunDir,
    folder: Arc<Folder>,
    resume: Option<Checkpoint>,
    device: &Device,
    observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Outcome> {
    config.validate()?;
    let mut run = Run::new(config, run_dir, folder, resume, device)?;
    // Whether anybody wants to stop is asked after steps; here there is nothing to save yet.
    let _ = observer(Event::Started {
        n_steps: run.n_steps,
        total_steps: config.steps,
        n_parameters: config.model.parameter_count(),
        n_pictures: run.n_pictures,
        other_schedule: run.other_schedule,
    });
    let mut stopped_early = false;
    if !run.looked {
        run.look(observer)?;
        run.save(observer)?;
        stopped_early = !run.looked;
    }
    while run.n_steps < config.steps && !stopped_early {
        let report = run.step()?;
        let is_last = run.n_steps == config.steps;
        let stops = observer(Event::Step(report)).is_break();
        let looks = run.n_steps.is_multiple_of(config.save_every) || is_last;
        run.looked = !looks;
        if looks && !stops {
            run.look(observer)?;
        }
        if looks || stops {
            run.save(observer)?;
        }
        stopped_early = stops || !run.looked;
    }
    let best_validation_loss = run.best_validation_loss;
    Ok(Outcome { n_steps: run.n_steps, best_validation_loss, stopped_early })
}

/// A run under way.
struct Run<'a> {
    config: &'a TrainConfig,
    run_dir: &'a RunDir,
    device: Device,
    schedule: NoiseSchedule,
    loader: Loader,
    validation: Option<Validation>,
    unet: UNet,
    optimizer: OptimizerState,
    n_steps: u64,
    n_images: u64,
    n_pictures: [usize; 3],
    other_schedule: Option<ScheduleConfig>,
    best_validation_loss: Option<f64>,
    best_step: Option<u64>,
    events: EventFile,
    data_fingerprint: String,
    /// Whether what is due at this step besides training is done.
    looked: bool,
    last_checkpoint: Option<PathBuf>,
    /// Sums since the last line of the log: losses, steps, seconds.
    since_log: (f64, u64, f64),
}

impl<'a> Run<'a> {
    fn new(
        config: &'a TrainConfig,
        run_dir: &'a RunDir,
        folder: Arc<Folder>,
        resume: Option<Checkpoint>,
        device: &Device,
    ) -> Result<Self> {
        let schedule = NoiseSchedule::new(config.schedule)?;
        let split = folder.split(&SplitConfig::default())?;
        let n_pictures = [split.train.len(), split.validation.len(), split.test.len()];
        let data_fingerprint = folder.fingerprint();

        // Spread over the set, so that fewer pictures than there are still stand for it.
        let every = split.validation.len().div_ceil(config.validation_images.max(1)).max(1);
        let chosen: Vec<usize> = split.validation.into_iter().step_by(every).collect();
        let validation = match chosen.is_empty() || config.validation_images == 0 {
            true => None,
            false => {
                let images = folder.images(&chosen)?;
                Some(Validation::new(&schedule, config.prediction, &images, config.seed)?)
            }
        };
        let order = LoaderConfig { seed: config.seed, horizontal_flip: config.horizontal_flip };
        let loader = Loader::new(folder, split.train, order)?;

        let first_step =
            resume.as_ref().map_or(0, |checkpoint| checkpoint.position.n_steps.saturating_add(1));
        let mut other_schedule = None;
        let (unet, optimizer, position) = match resume {
            None => {
                let unet = match &config.initial_model {
                    Some(path) => {
                        let (values, found) = initial_values(path, config)?;
                        other_schedule = (!found.agrees_with(&config.schedule)).then_some(found);
                        UNet::from_values(&config.model, values)?
                    }
                    None => UNet::init(&config.model, config.seed)?,
                };
                let optimizer = OptimizerState::new(&unet);
                (unet, optimizer, None)
            }
            Some(Checkpoint { position, weights, optimizer }) => {
                config.check_continues(&position.config)?;
                check_pictures(config, &position, &data_fingerprint, run_dir.path())?;
                let unet = UNet::from_values(&config.model, weights)?;
                (unet, optimizer, Some(position))
            }
        };
        Ok(Run {
            config,
            run_dir,
            device: device.clone(),
            schedule,
            loader,
            validation,
            unet,
            optimizer,
            n_steps: position.as_ref().map_or(0, |position| position.n_steps),
            n_images: position.as_ref().map_or(0, |position| position.n_images),
            n_pictures,
            other_schedule,
            looked: position.as_ref().is_none_or(|position| position.looked),
            best_step: position.as_ref().and_then(|position| position.best_step),
            events: EventFile::new(run_dir.logs(), first_step),
            best_validation_loss: position.and_then(|position| position.best_validation_loss),
            data_fingerprint,
            last_checkpoint: first_step
                .checked_sub(1)
                .map(|n_steps| checkpoint::path(&run_dir.checkpoints(), n_steps)),
            since_log: (0.0, 0, 0.0),
        })
    }

    fn step(&mut self) -> Result<StepReport> {
        let started = Instant::now();
        let config = self.config;
        let images = self.loader.batch(self.n_images, config.batch_size)?.images;
        let (loss, gradients) = self.gradients(&images)?;
        let gradient_norm = norm(&gradients);
        if !(loss < EXPLODED_LOSS && gradient_norm.is_finite()) {
            let n_steps = self.n_steps.saturating_add(1);
            let problem = format!("step {n_steps} has loss {loss}, gradient norm {gradient_norm}");
            return Err(self.diverged(problem));
        }

        let learning_rate = config.learning_rate_at(self.n_steps);
        self.n_images += config.batch_size as u64;
        let ema_decay = config.ema_decay_at(self.n_images) as f32;
        let gradient_scale = match config.max_gradient_norm {
            0.0 => 1.0,
            most => (most / gradient_norm).min(1.0) as f32,
        };
        let settings = AdamStep {
            lr: learning_rate as f32,
            weight_decay: config.weight_decay as f32,
            gradient_scale,
            ..AdamStep::default()
        };
        self.optimizer.step(&mut self.unet, &gradients, settings, ema_decay);
        self.n_steps += 1;

        let seconds = started.elapsed().as_secs_f64();
        let report = StepReport {
            step: self.n_steps,
            images: self.n_images,
            loss,
            gradient_norm,
            learning_rate,
            images_per_second: config.batch_size as f64 / seconds,
        };
        self.log(report, seconds)?;
        Ok(report)
    }

    /// The mean loss over `images` and its gradient, gathered from micro-batches.
    fn gradients(&self, images: &Images) -> Result<(f64, Vec<Vec<f32>>)> {
        let config = self.config;
        let mut total_loss = 0.0;
        let mut total: Option<Vec<Vec<f32>>> = None;
        for first in (0..images.len()).step_by(config.micro_batch_size) {
            let n = config.micro_batch_size.min(images.len() - first);
            let number = self.n_images + first as u64;
            let part = StepPart { first_image: number, offset: first };
            let pictures = images.slice(first..first + n);
            let batch = NoisyBatch::drawn(&self.schedule, config, &pictures, part)?;
            // Draw 1 of the first picture's stream: draw 0 is its noise.
            let dropout_seed = Stream::new(config.seed, Purpose::Training, number, 1).bits();
            let share = n as f64 / images.len() as f64;
            let passes = GradientConfig {
                dropout_seed: Some(dropout_seed),
                checkpointing: config.gradient_checkpointing,
            };
            let LossGradients { loss, gradients } =
                loss_gradients(&self.unet, &batch, share, passes, &self.device)?;
            total_loss += loss;
            match &mut total {
                None => total = Some(gradients),
                Some(total) => add(total, &gradients),
            }
        }
        Ok((total_loss, total.unwrap_or_default()))
    }

    fn diverged(&self, problem: String) -> Error {
        let error = Error::from(ErrorKind::Diverged { problem });
        let TrainConfig { learning_rate, max_gradient_norm, .. } = self.config;
        let advice = match *max_gradient_norm {
            norm if norm > 0.0 && norm <= 1.0 => {
                format!("try a learning rate below {learning_rate}")
            }
            _ => format!("try a learning rate below {learning_rate}, or `--max-gradient-norm 1`"),
        };
        match &self.last_checkpoint {
            Some(path) => {
                error.with_hint(format!("the last good state is `{}`; {advice}", path.display()))
            }
            None => error.with_hint(advice),
        }
    }

    fn log(&mut self, report: StepReport, seconds: f64) -> Result<()> {
        let (losses, n, total_seconds) = &mut self.since_log;
        *losses += report.loss;
        *n += 1;
        *total_seconds += seconds;
        if !report.step.is_multiple_of(self.config.log_every) && report.step != self.config.steps {
            return Ok(());
        }
        let n_images = *n * self.config.batch_size as u64;
        let line = StepReport {
            loss: *losses / *n as f64,
            images_per_second: n_images as f64 / *total_seconds,
            ..report
        };
        self.since_log = (0.0, 0, 0.0);
        self.run_dir.log(&json!(line))?;
        let StepReport { step, loss, gradient_norm, learning_rate, images_per_second, .. } = line;
        let values = [
            ("loss/training", loss),
            ("gradient_norm", gradient_norm),
            ("learning_rate", learning_rate),
            ("images_per_second", images_per_second),
        ];
        self.events.scalars(step, &values)
    }

    /// Validates, keeps the model to sample from, and draws a grid, unless the observer breaks it
    /// off: then all of it is still to be done.
    fn look(&mut self, observer: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
        // What steps used is not there in the pieces that looking needs; after it, the other way.
        kao_kernels::release_freed_memory();
        let before = (self.best_validation_loss, self.best_step);
        match self.look_through(observer) {
            Ok(()) => self.looked = true,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => {
                (self.best_validation_loss, self.best_step) = before;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// As [`look`](Self::look), with an error when it is broken off.
    fn look_through(&mut self, observer: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
        let config = self.config;
        let goes_on =
            |observer: &mut dyn FnMut(Event) -> ControlFlow<()>| match observer(Event::Looking) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::interrupted()),
            };
        let loss_of = |model: &Model, observer: &mut dyn FnMut(Event) -> ControlFlow<()>| {
            let loss = self.validation.as_ref().map(|validation| {
                let watcher = &mut || goes_on(observer);
                validation.loss(&model.network, config.micro_batch_size, watcher)
            });
            loss.transpose()
        };
        // One model after the other, so that only one is prepared for the kernels at a time.
        let raw_loss = match self.validation.is_some() {
            true => loss_of(&self.model_of(self.unet.values().to_vec())?, observer)?,
            false => None,
        };
        let mut model = self.model_of(self.optimizer.ema.clone())?;
        let averaged_loss = loss_of(&model, observer)?;
        let losses = averaged_loss.zip(raw_loss);
        // Nothing is logged, called best or written over a good model before it is known to be sound.
        self.check_sound(&model, losses.as_ref())?;
        let grid = match config.sample_count {
            0 => None,
            _ => Some(self.sample_grid(&model, &mut || goes_on(observer))?),
        };
        if self.last_checkpoint.is_none() {
            // A look writes a model. A run that leaves one also leaves a checkpoint, so that a model
            // without is known to be of another run.
            self.save(observer)?;
        }
        let mut is_best = true;
        if let Some((averaged, raw)) = losses {
            let (n_steps, loss, raw_loss) = (self.n_steps, averaged.mean, raw.mean);
            is_best = self.best_validation_loss.is_none_or(|best| loss < best);
            if is_best {
                (self.best_validation_loss, self.best_step) = (Some(loss), Some(n_steps));
            }
            self.log_look(Look {
                step: n_steps,
                validation_loss: loss,
                validation_by_t: averaged.by_t,
                raw_validation_loss: Some(raw_loss),
            })?;
            let _ = observer(Event::Validated { n_steps, loss, raw_loss, is_best });
        }
        if is_best {
            let path = self.run_dir.model();
            self.describe(&mut model.config);
            model.save(&path, StoreAs::F32)?;
            let _ = observer(Event::Wrote(path));
        }
        if let Some(grid) = grid {
            let path = self.write_grid(&grid)?;
            let png = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
            self.events.image(self.n_steps, "samples", &png)?;
            let _ = observer(Event::Wrote(path));
        }
        Ok(())
    }

    /// Checks the averaged weights as `model`, the weights themselves, and the losses of both.
    /// Where there are no losses, whether the network computes anything of use is tried once.
    fn check_sound(
        &self,
        model: &Model,
        losses: Option<&(ValidationLoss, ValidationLoss)>,
    ) -> Result<()> {
        let diverged =
            |problem: &str| Err(self.diverged(format!("after step {}, {problem}", self.n_steps)));
        let is_finite = |values: &[Vec<f32>]| {
            values.par_iter().all(|values| values.iter().all(|value| value.is_finite()))
        };
        if !is_finite(self.unet.values()) || !is_finite(&self.optimizer.ema) {
            return diverged("weights are not finite");
        }
        match losses {
            Some((averaged, raw)) => {
                for loss in [averaged.mean, raw.mean] {
                    // Not a number is not below anything.
                    let is_sound = loss < EXPLODED_LOSS;
                    if !is_sound {
                        return diverged(&format!("the validation loss is {loss}"));
                    }
                }
            }
            None => {
                let noise = SeededNoise { seed: SAMPLE_SEED, first_image: 0 };
                let x_t = noise.x_t(1, self.config.model.image_size);
                let predicted = model.network.predict(
                    &x_t,
                    &[self.schedule.n_timesteps() - 1],
                    &Conditions::none(),
                )?;
                if !predicted.data().iter().all(|value| value.is_finite()) {
                    return diverged("what the network predicts is not finite");
                }
            }
        }
        Ok(())
    }

    fn log_look(&mut self, look: Look) -> Result<()> {
        self.run_dir.log(&json!(look))?;
        let raw = look.raw_validation_loss.map(|loss| ("loss/validation_raw".to_owned(), loss));
        let by_t = look.validation_by_t.iter().map(|range| {
            (format!("validation_by_t/{:04}-{:04}", range.from, range.to - 1), range.loss)
        });
        let values: Vec<_> = [("loss/validation".to_owned(), look.validation_loss)]
            .into_iter()
            .chain(raw)
            .chain(by_t)
            .collect();
        let values: Vec<_> = values.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.events.scalars(look.step, &values)
    }

    /// The averaged weights as a model.
    fn averaged(&self) -> Result<Model> {
        let mut model = self.model_of(self.optimizer.ema.clone())?;
        self.describe(&mut model.config);
        Ok(model)
    }

    /// A model of these values of the parameters.
    fn model_of(&self, values: Vec<Vec<f32>>) -> Result<Model> {
        let unet = UNet::from_values(&self.config.model, values)?;
        Model::new(self.config.model_config(), unet, &self.device)
    }

    /// Writes down how the model came to be.
    fn describe(&self, config: &mut ModelConfig) {
        let words = [
            ("steps", json!(self.n_steps)),
            ("images", json!(self.n_images)),
            ("weights", json!("exponential moving average")),
            ("ema_halflife_images", json!(self.config.ema_halflife_images)),
            ("batch_size", json!(self.config.batch_size)),
            ("learning_rate", json!(self.config.learning_rate)),
            ("seed", json!(self.config.seed)),
            ("pictures", json!(self.n_pictures[0])),
            ("data_fingerprint", json!(self.data_fingerprint)),
            ("validation_loss", json!(self.best_validation_loss)),
            ("program", json!(concat!("kao ", env!("CARGO_PKG_VERSION")))),
        ];
        config.training.extend(words.map(|(key, value)| (key.to_owned(), value)));
    }

    /// Images for the grid of this step.
    fn sample_grid(
        &self,
        model: &Model,
        watcher: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Images> {
        let config = self.config;
        let n_timesteps = self.schedule.n_timesteps();
        let steps = sequence(Spacing::Trailing, config.sample_steps, n_timesteps, End::Clean)?;
        let plan = SAMPLE_METHOD.plan(&self.schedule, steps, false)?;
        let start = Start::Seed {
            seed: SAMPLE_SEED,
            count: config.sample_count,
            image_shape: config.model.image_size,
        };
        let generation = Generation {
            denoiser: &model.network,
            plan: &plan,
            start: &start,
            conditions: &Conditions::none(),
            batch_size: config.micro_batch_size,
        };
        let is_stopped = AtomicBool::new(false);
        let images = generation.run(
            &mut |_, _| is_stopped.store(watcher().is_err(), Ordering::Relaxed),
            &|_: &Report<'_>| match is_stopped.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            },
        );
        images.map_err(|error| match error.kind() {
            ErrorKind::NotFinite { problem } => {
                self.diverged(format!("after step {}, in a sample grid, {problem}", self.n_steps))
            }
            _ => error,
        })
    }

    fn write_grid(&self, images: &Images) -> Result<PathBuf> {
        let path = self.run_dir.sample(self.n_steps);
        let picture = render::grid(images, SAMPLE_COLUMNS, &Layout::default())?;
        let (method, n_steps) = (SAMPLE_METHOD.name(), self.config.sample_steps);
        let texts = [
            ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("step", self.n_steps.to_string()),
            ("sampler", format!("{method}, {n_steps} steps, eta 0")),
            ("seed", SAMPLE_SEED.to_string()),
        ];
        render::write_png(&path, &picture, &texts)?;
        Ok(path)
    }

    fn save(&mut self, observer: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
        let position = Position {
            config: self.config.clone(),
            n_steps: self.n_steps,
            n_images: self.n_images,
            looked: self.looked,
            best_validation_loss: self.best_validation_loss,
            best_step: self.best_step,
            data_fingerprint: self.data_fingerprint.clone(),
        };
        let path = checkpoint::path(&self.run_dir.checkpoints(), self.n_steps);
        let written = checkpoint::write(&path, &position, &self.unet, &self.optimizer);
        written.map_err(|error| match error.kind() {
            ErrorKind::Diverged { problem } => {
                self.diverged(format!("after step {}, {problem}", self.n_steps))
            }
            _ => error,
        })?;
        self.run_dir.retain_checkpoints(self.config.keep_checkpoints, self.best_step)?;
        // A run that is stopped before its first look still leaves something to sample from.
        if !self.run_dir.model().exists() {
            self.averaged()?.save(self.run_dir.model(), StoreAs::F32)?;
        }
        self.events.flush()?;
        self.last_checkpoint = Some(path.clone());
        let _ = observer(Event::Saved { n_steps: self.n_steps, path });
        kao_kernels::release_freed_memory();
        Ok(())
    }
}

/// Checks that the pictures of `fingerprint` are those that the run in the directory `run` has
/// been trained on so far, up to `position`.
///
/// # Errors
/// When they are others.
pub fn check_pictures(
    config: &TrainConfig,
    position: &Position,
    fingerprint: &str,
    run: &Path,
) -> Result<()> {
    if position.data_fingerprint == fingerprint {
        return Ok(());
    }
    let (data, run) = (config.data.display(), run.display());
    Err(Error::invalid(
        format!("data `{data}`"),
        "these are not the pictures that the run was trained on so far",
    )
    .with_hint(format!(
        "put the folder back as it was, or train on these pictures from this run's model on: \
         kao train --data {data} --from {run} --out NEW_RUN"
    )))
}

/// Checks that a run of `config` can begin with the model that it names, where it names one.
///
/// # Errors
/// When that model cannot be read, or is not one that a run of `config` could have trained.
pub fn check_initial_model(config: &TrainConfig) -> Result<()> {
    match &config.initial_model {
        Some(path) => initial_values(path, config).map(|_| ()),
        None => Ok(()),
    }
}

/// The weights of the model at `path`, which must be one that a run of `config` could have trained.
fn initial_values(path: &Path, config: &TrainConfig) -> Result<(Vec<Vec<f32>>, ScheduleConfig)> {
    let model = Model::load(path, &Device::Cpu)?;
    let (found, expected) = (&model.config, config.model_config());
    // Dropout is no part of what weights mean.
    let unet = UNetConfig { dropout: expected.unet.dropout, ..found.unet.clone() };
    let found_config = ModelConfig { unet, ..found.clone() };
    for (entry, what) in [("unet", "architecture is another: its "), ("prediction", "")] {
        if let Some((entry, found, expected)) = difference(entry, &found_config, &expected) {
            let problem = format!("its {what}{entry} is {found}; the run has {expected}");
            return Err(Error::malformed(path, problem).with_hint(
                "give neither --preset nor --config: then the run takes them from the model",
            ));
        }
    }
    Ok((model.network.unet().values().to_vec(), found.schedule))
}

/// The first entry in which `entry` of two configurations differs, with both values, all as they
/// are called in files.
fn difference(
    entry: &str,
    one: &ModelConfig,
    other: &ModelConfig,
) -> Option<(String, String, String)> {
    let value = |config| Some(serde_json::to_value(config).ok()?.get(entry)?.clone());
    let (one, other) = (value(one)?, value(other)?);
    let shown = |value: Option<&serde_json::Value>| match value {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        None => "its default".to_owned(),
    };
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => one
            .keys()
            .chain(other.keys())
            .find(|key| one.get(*key) != other.get(*key))
            .map(|key| (key.clone(), shown(one.get(key)), shown(other.get(key)))),
        _ if one == other => None,
        _ => Some((entry.to_owned(), shown(Some(&one)), shown(Some(&other)))),
    }
}

/// The Euclidean norm of all gradients together, summed in an order that no thread changes.
fn norm(gradients: &[Vec<f32>]) -> f64 {
    let sum = |part: &[f32]| part.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
    let sums: Vec<f64> =
        gradients.par_iter().flat_map(|g| g.par_chunks(1 << 14).map(sum)).collect();
    sums.iter().sum::<f64>().sqrt()
}

fn add(total: &mut [Vec<f32>], gradients: &[Vec<f32>]) {
    total.par_iter_mut().zip(gradients).for_each(|(total, gradients)| {
        for (total, gradient) in total.iter_mut().zip(gradients) {
            *total += gradient;
        }
    });
}
