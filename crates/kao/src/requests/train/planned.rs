//! A run that can begin: everything is checked, and the pictures are loaded.

use super::Train;
use crate::control::{Control, Report};
use crate::dataset::{Folder, Tags};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{check_folder, resolved};
use crate::model::{RUN_MODEL, fetch_if_needed};
use crate::quantities::counted;
use crate::ranks::{Alone, Group};
use crate::requests::compute::with_threads;
use crate::requests::{MeasureConfig, Request, measure};
use crate::schedule::NoiseSchedule;
use crate::train::checkpoint::{self, Checkpoint, Newest};
use crate::train::reports::TRAINING;
use crate::train::{
    CHECKPOINTS, CONFIG_FILE, Occupied, RunDir, RunEstimate, SAMPLES, TrainConfig, Training,
    check_initial_model, check_pictures, check_steps, fingerprint,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A run that can begin, or be resumed.
#[derive(Debug)]
pub struct PlannedRun {
    pub(super) config: TrainConfig,
    pub(super) out: PathBuf,
    pub(super) device: Device,
    pub(super) threads: Option<usize>,
    pub(super) n_steps_before: u64,
    /// `None` where all steps are done.
    pub(super) folder: Option<Arc<Folder>>,
    /// `None` for a dry run, and for all ranks of a group but the first.
    pub(super) run_dir: Option<RunDir>,
    pub(super) checkpoint: Option<Checkpoint>,
}

/// What comes of [`Train`].
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedRun {
    /// The model to sample from: the one with the lowest validation loss.
    pub model: PathBuf,
    /// Steps done in all.
    pub n_steps: u64,
    /// Steps done before.
    pub n_steps_before: u64,
    /// Seconds that the steps since took.
    pub seconds: f64,
    /// Whether the run was stopped before its end, and has saved.
    pub stopped_early: bool,
}

/// Plans the run of `request`; with `locks` the run directory is locked.
pub(super) fn plan(request: &Train, locks: bool, control: &dyn Control) -> Result<PlannedRun> {
    let device = request.compute.device.open()?;
    let planned = || match request.resume {
        true => resume(request, device, locks, control),
        false => begin(request, device, locks, control),
    };
    with_threads(request.compute.threads, planned)
}

/// How the speed of a run is measured.
pub(super) fn measuring(config: &TrainConfig) -> MeasureConfig {
    MeasureConfig {
        batch_size: config.micro_batch_size,
        n_rounds: 3,
        n_warmup: 1,
        training: true,
        by_kernel: false,
    }
}

/// A new run. Its directory is created only when nothing is left that could be refused.
fn begin(
    request: &Train,
    device: Device,
    locks: bool,
    control: &dyn Control,
) -> Result<PlannedRun> {
    let out = &request.out;
    if let Some(from) = &request.from {
        fetch_if_needed(from, control)?;
    }
    let mut config = request.over(request.base()?)?;
    check_folder(out)?;
    refuse_occupied(out, None)?;
    refuse_own_samples(&config.data, out)?;
    if let Some(warning) = NoiseSchedule::new(&config.schedule)?.leftover_warning() {
        say(control, &format!("warning: {warning}"))?;
    }
    let folder = load(request, &config, !request.no_tags, control)?;
    request.take_tags(&mut config, &folder, control)?;
    if let Some(preset) = request.chosen_preset(&config) {
        let words = format!("preset {}, chosen by the size of the pictures", preset.name());
        say(control, &words)?;
    }
    request.fit(&mut config, &folder)?;
    config.validate()?;
    check_initial_model(&config)?;
    let run_dir = match locks {
        true => Some(open(out, control)?),
        false => RunDir::check_free(out).map(|()| None)?,
    };
    // Checked again under the lock: another training may have run there meanwhile.
    refuse_occupied(out, Some(&config))?;
    Ok(PlannedRun {
        config,
        out: out.clone(),
        device,
        threads: request.compute.threads,
        n_steps_before: 0,
        folder: Some(folder),
        run_dir,
        checkpoint: None,
    })
}

/// A run that goes on from its newest checkpoint.
fn resume(
    request: &Train,
    device: Device,
    locks: bool,
    control: &dyn Control,
) -> Result<PlannedRun> {
    let out = &request.out;
    if checkpoint::list(&out.join(CHECKPOINTS))?.is_empty() {
        let hint = match RunDir::file_of_a_run(out)? {
            None => "omit `resume` to start a run there".to_owned(),
            Some(_) => format!(
                "its checkpoints are gone; start a new run with its model, `from` {}",
                out.display()
            ),
        };
        return Err(
            Error::malformed(out, "no run with a checkpoint to resume from").with_hint(hint)
        );
    }
    // Locked before anything is read, so that no other training changes it meanwhile.
    let run_dir = match locks {
        true => Some(open(out, control)?),
        false => RunDir::check_free(out).map(|()| None)?,
    };
    let (newest, verb) = match &run_dir {
        Some(run_dir) => (run_dir.newest_checkpoint()?, "set aside"),
        None => (checkpoint::newest_undamaged(&out.join(CHECKPOINTS))?, "it would be set aside"),
    };
    let Newest { checkpoint, path, damaged } = newest;
    for (path, error) in &damaged {
        let aside = checkpoint::set_aside_path(path);
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        say(control, &format!("warning: {error}; {verb} as `{name}`"))?;
    }
    if !damaged.is_empty() {
        say(control, &format!("resuming from `{}`", path.display()))?;
    }
    let position = &checkpoint.position;
    let edited = RunDir::config_to_resume(out, position)?;
    for (name, now, before) in edited.differences(&position.config) {
        say(control, &format!("{CONFIG_FILE}: {name} is now {now}, before it was {before}"))?;
    }
    let mut config = request.over(request.base_of_resumed(&edited)?)?;
    config.check_continues(&position.config)?;
    let mut planned = PlannedRun {
        out: out.clone(),
        device,
        threads: request.compute.threads,
        n_steps_before: position.n_steps,
        folder: None,
        run_dir,
        checkpoint: None,
        config: config.clone(),
    };
    if request.epochs.is_none() {
        check_steps(&config, position)?;
        if config.steps == position.n_steps && position.validated {
            return Ok(planned);
        }
    }
    refuse_own_samples(&config.data, out)?;
    let loaded = load(request, &config, !config.tags.is_empty(), control);
    let folder = loaded.map_err(|error| match error.kind() {
        ErrorKind::Io { .. } if request.data.is_none() => {
            error.with_hint("give `data` where the pictures of the run are now")
        }
        _ => error,
    })?;
    request.check_tags(&config, &folder)?;
    request.fit(&mut config, &folder)?;
    check_steps(&config, position)?;
    check_pictures(&config, position, &fingerprint(&folder, &config)).map_err(|error| {
        let data = Some(config.data.clone());
        let new =
            Train { data, from: Some(out.clone()), out: "NEW_RUN".into(), ..Train::default() };
        let back = "put them back as they were";
        error.with_hint(match new.command_line() {
            Ok(line) => format!("{back}, or train on them from this run's model on: {line}"),
            Err(_) => format!("{back}, or begin a new run with this run's model"),
        })
    })?;
    planned.config = config;
    planned.folder = Some(folder);
    planned.checkpoint = Some(checkpoint);
    Ok(planned)
}

impl PlannedRun {
    /// The configuration of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Steps that were done before.
    pub fn n_steps_before(&self) -> u64 {
        self.n_steps_before
    }

    /// Whether a resumed run has done all its steps before.
    pub fn is_done(&self) -> bool {
        self.folder.is_none()
    }

    /// What the run takes; `None` where all its steps are done.
    ///
    /// # Errors
    /// None in practice: the pictures can be split.
    pub fn estimate(&self) -> Result<Option<RunEstimate>> {
        let folder = self.folder.as_ref();
        folder.map(|folder| self.config.estimate(folder, self.n_steps_before)).transpose()
    }

    /// Pictures per second of training steps of this run here, measured in a few of them.
    ///
    /// # Errors
    /// When the device fails, or `control` stops the work.
    pub fn measured_speed(&self, control: &dyn Control) -> Result<f64> {
        let measuring = measuring(&self.config);
        let measured = measure(&self.config.model_config(), measuring, &self.device, control)?;
        let speed = measured.training.map(|training| training.images_per_second);
        speed.ok_or_else(|| Error::invalid("device", "no training step was measured"))
    }

    /// Trains to the last step, or until `control` stops the run; then the run saves and ends.
    ///
    /// # Errors
    /// When the run was planned as a dry run, a file cannot be written, or training diverges.
    pub fn run(self, control: &dyn Control) -> Result<TrainedRun> {
        self.run_with(&Alone, control)
    }

    /// As [`run`](Self::run), on the ranks that have planned the run together.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when a rank is gone.
    pub fn run_with(self, group: &dyn Group, control: &dyn Control) -> Result<TrainedRun> {
        let PlannedRun {
            config,
            out,
            device,
            threads,
            n_steps_before,
            folder,
            run_dir,
            checkpoint,
        } = self;
        let started = Instant::now();
        let model = out.join(RUN_MODEL);
        let n_steps = n_steps_before;
        let done =
            TrainedRun { model, n_steps, n_steps_before, seconds: 0.0, stopped_early: false };
        let Some(folder) = folder else { return Ok(done) };
        if group.is_first() && run_dir.is_none() {
            return Err(Error::invalid("out", "this is a dry run"));
        }
        if let Some(run_dir) = &run_dir {
            run_dir.write_config(&config)?;
        }
        let mut training = Training::new(config).folder(folder).device(&device).group(group);
        if let Some(run_dir) = &run_dir {
            training = training.run_dir(run_dir);
        }
        if let Some(checkpoint) = checkpoint {
            training = training.resume(checkpoint);
        }
        let trained = with_threads(threads, || training.run(control))?;
        Ok(TrainedRun {
            n_steps: trained.n_steps,
            seconds: started.elapsed().as_secs_f64(),
            stopped_early: trained.stopped_early,
            ..done
        })
    }
}

fn say(control: &dyn Control, words: &str) -> Result<()> {
    control.check(&Report::message(TRAINING, words))
}

/// Opens the run directory at `path`, locked where the file system offers locks.
fn open(path: &Path, control: &dyn Control) -> Result<RunDir> {
    let run_dir = RunDir::open(path)?;
    if let Some(reason) = run_dir.unlocked() {
        let words = format!(
            "warning: `{}` cannot be locked ({reason}): start no second training there",
            path.display()
        );
        say(control, &words)?;
    }
    Ok(run_dir)
}

/// Refuses a directory that holds something that a new run would overwrite or mix with.
fn refuse_occupied(out: &Path, config: Option<&TrainConfig>) -> Result<()> {
    let Some(occupied) = RunDir::occupied(out, config)? else { return Ok(()) };
    Err(match occupied {
        Occupied::Run => Error::malformed(out, "this run directory holds a run already")
            .with_hint("resume it with `resume`, or give another `out`"),
        Occupied::Files(file) => {
            let problem = format!("holds files of another run, such as `{}`", file.display());
            Error::malformed(out, problem).with_hint("give another `out`, or move them away")
        }
        Occupied::Config(path) => {
            let hint = format!("begin that run with `config` {}, or move it away", path.display());
            Error::malformed(&path, "a configuration other than this run's").with_hint(hint)
        }
        Occupied::Log(path) => Error::malformed(&path, "the log of another run")
            .with_hint("give another `out`, or move it away"),
    })
}

/// Refuses to train on what the run itself writes. (A run directory within the folder of pictures
/// is not searched for pictures.)
fn refuse_own_samples(data: &Path, out: &Path) -> Result<()> {
    let [pictures, run] = [data, out].map(resolved);
    let problem = if pictures == run {
        "the run directory is the folder of pictures"
    } else if pictures.starts_with(run.join(SAMPLES)) {
        "the folder of pictures is that of the run's own samples"
    } else {
        return Ok(());
    };
    Err(Error::malformed(data, problem).with_hint("give another `out`"))
}

/// Loads the pictures that `config` names, and their tags where they are wanted.
pub(super) fn load(
    request: &Train,
    config: &TrainConfig,
    wants_tags: bool,
    control: &dyn Control,
) -> Result<Arc<Folder>> {
    let (shape, cache) = (config.model.image_size, request.cache());
    let mut folder = Folder::load_with(&config.data, shape, &cache, control)?;
    if let Some(path) = folder.on_disk() {
        let n = counted(folder.len() as u64, "picture");
        say(control, &format!("{n} on disk, in `{}`", path.display()))?;
    }
    if wants_tags {
        let names = folder.pictures().iter().map(|picture| picture.name.as_str());
        let tags = Tags::read(&config.data, names, config.classes)?;
        for warning in tags.warnings() {
            say(control, &format!("warning: {warning}"))?;
        }
        folder = folder.with_tags(tags);
    }
    if let [first, rest @ ..] = folder.skipped() {
        let more =
            if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
        let words = format!("warning: `{}` skipped: {}{more}", first.path, first.reason);
        say(control, &words)?;
    }
    if folder.n_enlarged() > 0 {
        let [_, height, width] = folder.shape();
        let words = format!(
            "warning: {} of {} enlarged to {width}x{height} pixels: the model learns their blur",
            folder.n_enlarged(),
            counted(folder.len() as u64, "picture")
        );
        say(control, &words)?;
    }
    Ok(Arc::new(folder))
}
