//! A training run: steps, and every so many of them a validation, a sample grid and a checkpoint.

use super::checkpoint::{Checkpoint, Position};
use super::config::TrainConfig;
use super::divergence::{advised, diverged, problem_of};
use super::facts;
use super::history::{StepReport, ValidationReport};
use super::output::{RunOutput, describe};
use super::pictures::RunPictures;
use super::reports::TRAINING;
use super::reports::Watch;
use super::run_dir::RunDir;
use super::sample_grid;
use super::start::{Start, check_pictures};
use super::step::{StepResult, TrainState, TrainStep};
use super::team::{StepPictures, Team};
use super::validation::{Validation, ValidationLoss};
use crate::control::{Control, Report};
use crate::dataset::Folder;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::model::Model;
use crate::quantities::counted;
use crate::ranks::{Alone, Group, agreement};
use crate::schedule::NoiseSchedule;
use crate::unet::UNet;
use std::sync::Arc;
use std::time::Instant;

/// A training run that is about to begin or to be resumed.
///
/// Only the configuration is needed. Without other settings a run trains on the folder
/// [`TrainConfig::data`] on the CPU, and writes nothing: the result is the trained model.
///
/// ```no_run
/// use kao::control::Unattended;
/// use kao::train::{Preset, Training};
/// # fn main() -> kao::Result<()> {
/// # let images = kao::Images::zeros([100, 3, 32, 32]);
/// let trained = Training::new(Preset::Tiny.config()).images(images).run(&Unattended)?;
/// trained.model.save("model.safetensors", kao::formats::StoreAs::F32)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is trained before `run`"]
pub struct Training<'a> {
    config: TrainConfig,
    pictures: Pictures,
    run_dir: Option<&'a RunDir>,
    checkpoint: Option<Checkpoint>,
    device: Device,
    group: &'a dyn Group,
}

/// Where the pictures of a run come from.
#[derive(Debug)]
enum Pictures {
    /// From the folder that the configuration names.
    Data,
    Folder(Arc<Folder>),
    Images(Images),
}

/// The result of a run.
#[derive(Debug)]
pub struct Trained {
    /// The averaged weights after the last step. (The model in the run directory is the one with the
    /// lowest validation loss.)
    pub model: Model,
    /// Steps done.
    pub n_steps: u64,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// Whether the run was stopped before its last step and the validation after it.
    pub stopped_early: bool,
}

impl<'a> Training<'a> {
    /// A run of `config`.
    pub fn new(config: TrainConfig) -> Self {
        let (pictures, device, group) = (Pictures::Data, Device::Cpu, &Alone);
        Training { config, pictures, run_dir: None, checkpoint: None, device, group }
    }

    /// Trains on images in memory, `[N, C, H, W]` in [-1, 1], of the shape of the model. They are
    /// rounded to 8 bits per value, as pictures in files have.
    pub fn images(mut self, images: Images) -> Self {
        self.pictures = Pictures::Images(images);
        self
    }

    /// Trains on a folder of pictures that was loaded before, at the shape of the model.
    pub fn folder(mut self, folder: Arc<Folder>) -> Self {
        self.pictures = Pictures::Folder(folder);
        self
    }

    /// Writes checkpoints, the model, sample grids and logs to this directory.
    pub fn run_dir(mut self, run_dir: &'a RunDir) -> Self {
        self.run_dir = Some(run_dir);
        self
    }

    /// Resumes the run that this checkpoint holds.
    pub fn resume(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// Trains on this device.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// Trains on the ranks of this group together, each of which makes this call with the same
    /// configuration and the same pictures. The bytes are those of one rank. Rank 0 alone has a run
    /// directory and a checkpoint to resume; a rank that is told to stop stops all of them.
    pub fn group(mut self, group: &'a dyn Group) -> Self {
        self.group = group;
        self
    }

    /// Trains to the last step, or until `control` stops the run; then the run saves and ends. What
    /// it reports is listed in [`reports`](super::reports).
    ///
    /// # Errors
    /// When the configuration is impossible or contradicts the checkpoint, the pictures cannot be
    /// read or are not those of the checkpoint, a file cannot be written, or training diverges.
    pub fn run(self, control: &dyn Control) -> Result<Trained> {
        self.config.validate()?;
        let mut run = self.begin(control)?;
        if !run.is_validated {
            run.validate()?;
            run.save()?;
        }
        while run.n_steps() < run.config.steps && !run.is_stopped() {
            run.step()?;
            let (is_due, is_stopped) = (run.validation_is_due(), run.is_stopped());
            run.is_validated = !is_due;
            if is_due && !is_stopped {
                run.validate()?;
            }
            if is_due || is_stopped {
                run.save()?;
            }
        }
        run.end()
    }

    fn begin<'c>(self, control: &'c dyn Control) -> Result<Run<'c>>
    where
        'a: 'c,
    {
        let Training { config, pictures, run_dir, checkpoint, device, group } = self;
        let schedule = NoiseSchedule::new(&config.schedule)?;
        let folder = match pictures {
            Pictures::Data => {
                let shape = config.model.image_size;
                Arc::new(Folder::load(&config.data, shape, control)?)
            }
            Pictures::Folder(folder) => folder,
            Pictures::Images(images) => Arc::new(Folder::from_images(&images)?),
        };
        let pictures = RunPictures::new(folder, &config)?;
        let validation = pictures.validation.as_ref().map(|images| {
            Validation::new(
                &schedule,
                config.prediction,
                images,
                &pictures.validation_tags,
                config.seed,
            )
        });
        let team = Team::new(group, &config)?;
        if !team.is_one() {
            let facts = facts::of_run(&config, &pictures.fingerprint);
            agreement::check(group, team.hosts(), &facts, &|line| {
                let _ = control.report(&Report::message(TRAINING, line));
            })?;
        }
        let Start { state, position, other_schedule } =
            team.start(&config, || match checkpoint {
                None => Start::new(&config),
                Some(checkpoint) => Start::resumed(checkpoint, &config),
            })?;
        let n_steps_before = position.as_ref().map(|position| position.n_steps);
        let output = run_dir.map(|run_dir| RunOutput::new(run_dir, &config, n_steps_before));
        if let Some(position) = &position {
            check_pictures(&config, position, &pictures.fingerprint)?;
        }
        // A loss of other pictures is no measure for those to come.
        let best = position
            .as_ref()
            .filter(|position| position.config.validation_images == config.validation_images)
            .and_then(|position| position.best_step.zip(position.best_validation_loss));
        let run = Run {
            schedule,
            validation: validation.transpose()?,
            state,
            n_images: position.as_ref().map_or(0, |position| position.n_images),
            is_validated: position.as_ref().is_none_or(|position| position.validated),
            has_checkpoint: position.is_some(),
            best_step: best.map(|(step, _)| step),
            best_validation_loss: best.map(|(_, loss)| loss),
            output,
            watch: Watch::new(control, config.steps),
            pictures,
            config,
            device,
            team,
        };
        let n_parameters = run.config.model.parameter_count();
        run.watch.started(run.n_steps(), n_parameters, run.pictures.n_pictures);
        if let Some(schedule) = other_schedule {
            run.watch.warning(&format!(
                "the model that the run begins with has another noise schedule ({schedule}) than \
                 the run ({}): it takes some hundred steps to adapt",
                run.config.schedule
            ));
        }
        if let n_idle @ 1.. = run.team.n_idle() {
            run.watch.warning(&format!(
                "{} of the {} ranks have nothing to do: a step has {}",
                n_idle,
                group.size(),
                counted(run.config.n_micro_batches() as u64, "micro-batch")
            ));
        }
        if let [_, 0, n_test] = run.pictures.n_pictures {
            let consequence = match n_test {
                0 => "all are trained on, and there is no validation loss",
                _ => "there is no validation loss",
            };
            run.watch.warning(&format!("too few pictures for a validation set: {consequence}"));
        }
        Ok(run)
    }
}

/// A run under way.
struct Run<'a> {
    config: TrainConfig,
    device: Device,
    schedule: NoiseSchedule,
    pictures: RunPictures,
    validation: Option<Validation>,
    state: TrainState,
    n_images: u64,
    /// Whether the validation and the sample grid that are due at this step are done.
    is_validated: bool,
    best_validation_loss: Option<f64>,
    best_step: Option<u64>,
    /// Whether this run was resumed or has saved.
    has_checkpoint: bool,
    output: Option<RunOutput<'a>>,
    watch: Watch<'a>,
    team: Team<'a>,
}

impl Run<'_> {
    /// Whether the run is to stop now: at several ranks, once all have agreed.
    fn is_stopped(&self) -> bool {
        if self.team.is_one() { self.watch.is_stopped() } else { self.team.is_stopped() }
    }

    fn n_steps(&self) -> u64 {
        self.state.optimizer.n_steps
    }

    /// Makes a training step on the next pictures.
    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let batch_size = self.config.batch_size;
        let pictures =
            StepPictures { loader: &self.pictures.loader, first_image: self.n_images, batch_size };
        let step = TrainStep {
            schedule: &self.schedule,
            device: &self.device,
            config: self.config.step_config(self.n_steps(), self.n_images),
        };
        let learning_rate = step.config.update.learning_rate;
        let n_steps = self.n_steps();
        let wants_stop = || self.watch.wants_stop(n_steps);
        let found = self.team.gradients(&step, &self.state.unet, pictures, wants_stop)?;
        let made = step.update(&mut self.state, &found);
        let StepResult { loss, gradient_norm } = made.map_err(|error| self.advised(error))?;
        self.n_images += batch_size as u64;
        let seconds = started.elapsed().as_secs_f64();
        let report = StepReport {
            step: self.n_steps(),
            images: self.n_images,
            loss,
            gradient_norm,
            learning_rate,
            images_per_second: batch_size as f64 / seconds,
        };
        if let Some(output) = &mut self.output {
            output.log.step(&report, seconds, || self.team.take_report())?;
        }
        self.watch.stepped(&report);
        Ok(())
    }

    fn validation_is_due(&self) -> bool {
        let n_steps = self.n_steps();
        n_steps.is_multiple_of(self.config.save_every) || n_steps == self.config.steps
    }

    /// Validates, keeps the model when it is the best so far, and makes a sample grid. When the run is
    /// stopped meanwhile, all of that remains to be done.
    fn validate(&mut self) -> Result<()> {
        // Training steps and validations need blocks of memory of different sizes.
        kao_kernels::release_freed_memory();
        match self.validate_to_the_end() {
            Ok(()) => self.is_validated = true,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// As [`validate`](Self::validate), with an error when the run is stopped meanwhile.
    fn validate_to_the_end(&mut self) -> Result<()> {
        // One model after the other, since each is prepared for the kernels, which takes memory.
        let raw_loss = match self.validation.is_some() {
            true => {
                let raw = self.model_of(self.state.unet.values().to_vec())?;
                self.loss_of(&raw)?
            }
            false => None,
        };
        let mut averaged = self.model_of(self.state.optimizer.ema.clone())?;
        let losses = self.loss_of(&averaged)?.zip(raw_loss);
        // Before anything is logged, called the best or written over a good model.
        let of_losses = losses.as_ref().map(|(loss, raw)| [loss, raw]);
        if let Some(problem) = problem_of(&self.state, &averaged, of_losses)? {
            return Err(self.diverged(&problem));
        }
        let grid = match self.config.sample_count {
            0 => None,
            _ => Some(self.sample_grid(&averaged)?),
        };
        if !self.has_checkpoint {
            // A run that leaves a model also leaves a checkpoint, so that a model without any is
            // known to be of another run.
            self.save()?;
        }
        let is_best = match losses {
            None => true,
            Some((loss, raw_loss)) => self.record(loss, &raw_loss)?,
        };
        let n_steps = self.n_steps();
        if let Some(output) = self.output.as_ref().filter(|_| is_best) {
            self.describe(&mut averaged);
            self.watch.wrote_model(n_steps, &output.write_model(&averaged)?);
        }
        if let Some(images) = grid {
            let output = self.output.as_mut();
            let file = output.map(|output| output.write_grid(&images, &self.config, n_steps));
            self.watch.sampled(n_steps, &images, file.transpose()?.as_deref());
        }
        Ok(())
    }

    /// The validation loss of `model`, where there are pictures to validate with.
    fn loss_of(&mut self, model: &Model) -> Result<Option<ValidationLoss>> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let (network, together) = (&model.network, self.config.micro_batch_size);
        let errors = self.team.shared(validation.len(), |images| {
            let errors = validation.errors(network, images, together, &self.watch)?;
            Ok(errors.iter().flat_map(|error| error.to_le_bytes()).collect())
        })?;
        let (errors, _) = errors.as_chunks();
        let errors: Vec<f64> = errors.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Ok(Some(validation.mean(&errors)))
    }

    /// Logs and reports the result of a validation; `true` when the loss is the lowest so far.
    fn record(&mut self, loss: ValidationLoss, raw_loss: &ValidationLoss) -> Result<bool> {
        let is_best = self.best_validation_loss.is_none_or(|best| loss.mean < best);
        if is_best {
            (self.best_validation_loss, self.best_step) = (Some(loss.mean), Some(self.n_steps()));
        }
        let report = ValidationReport {
            step: self.n_steps(),
            validation_loss: loss.mean,
            validation_by_t: loss.by_t,
            raw_validation_loss: Some(raw_loss.mean),
        };
        if let Some(output) = &mut self.output {
            output.log.validation(&report)?;
        }
        self.watch.validated(&report, is_best);
        Ok(is_best)
    }

    fn sample_grid(&mut self, model: &Model) -> Result<Images> {
        let n_images = self.config.sample_count;
        let sampled = self.team.shared(n_images, |images| {
            let images = sample_grid::sample(
                model,
                &self.config,
                &self.schedule,
                &self.pictures.validation_tags,
                images,
                &self.watch,
            )?;
            Ok(images.data().iter().flat_map(|value| value.to_le_bytes()).collect())
        });
        let values = sampled.map_err(|error| match error.kind() {
            ErrorKind::NotFinite { problem } => {
                self.diverged(&format!("in a sample grid, {problem}"))
            }
            _ => error,
        })?;
        let (values, _) = values.as_chunks();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let [c, h, w] = self.config.model.image_size;
        Images::from_vec([n_images, c, h, w], values)
    }

    /// Writes a checkpoint, where the run has a directory. A failure to do so is that of all ranks.
    fn save(&mut self) -> Result<()> {
        let saved = self.save_here();
        self.team.follow(saved)?;
        self.has_checkpoint = true;
        Ok(())
    }

    fn save_here(&mut self) -> Result<()> {
        let position = self.position();
        let Some(output) = &mut self.output else { return Ok(()) };
        let path = output.save(&position, &self.state).map_err(|error| match error.kind() {
            ErrorKind::Diverged { problem } => self.diverged(problem),
            _ => error,
        })?;
        if let Some(output) = self.output.as_ref().filter(|output| !output.has_model()) {
            // A run that is stopped before its first validation leaves something to sample from.
            output.write_model(&self.averaged_model()?)?;
        }
        self.watch.saved(self.n_steps(), &path);
        kao_kernels::release_freed_memory();
        Ok(())
    }

    fn end(self) -> Result<Trained> {
        // Rank 0 may still be saving, and launchers end everybody when the first one ends.
        self.team.wait_for_all()?;
        let n_steps = self.n_steps();
        let stopped_early = n_steps < self.config.steps || !self.is_validated;
        let model = self.averaged_model()?;
        let best_validation_loss = self.best_validation_loss;
        Ok(Trained { model, n_steps, best_validation_loss, stopped_early })
    }

    fn position(&self) -> Position {
        Position {
            config: self.config.clone(),
            n_steps: self.n_steps(),
            n_images: self.n_images,
            validated: self.is_validated,
            best_validation_loss: self.best_validation_loss,
            best_step: self.best_step,
            data_fingerprint: self.pictures.fingerprint.clone(),
        }
    }

    fn averaged_model(&self) -> Result<Model> {
        let mut model = self.model_of(self.state.optimizer.ema.clone())?;
        self.describe(&mut model);
        Ok(model)
    }

    /// A model with these values of the parameters.
    fn model_of(&self, values: Vec<Vec<f32>>) -> Result<Model> {
        let unet = UNet::from_values(&self.config.model, values)?;
        Model::new(self.config.model_config(), unet, &self.device)
    }

    fn describe(&self, model: &mut Model) {
        describe(&mut model.config, &self.position(), self.pictures.n_pictures[0]);
    }

    fn diverged(&self, problem: &str) -> Error {
        self.advised(diverged(self.n_steps(), problem))
    }

    fn advised(&self, error: Error) -> Error {
        let last_checkpoint = self.output.as_ref().and_then(RunOutput::last_checkpoint);
        advised(error, &self.config, last_checkpoint)
    }
}
