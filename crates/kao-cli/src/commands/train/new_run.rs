//! A run that begins.

use super::{Arguments, checkpoints, load, open, plan, refuse_own_samples, train};
use crate::destination;
use crate::output::note;
use kao::device::Device;
use kao::schedule::NoiseSchedule;
use kao::train::{CONFIG_FILE, LOG_FILE, RunDir, TrainConfig, check_initial_model};
use kao::{Error, Result};
use std::path::Path;

/// Starts a new run. Its directory is created only when nothing is left that could be refused.
pub(super) fn start(arguments: &Arguments, device: &Device) -> Result<()> {
    let mut config = arguments.over(arguments.base()?)?;
    destination::folder(&arguments.out)?;
    refuse_a_run_at(&arguments.out)?;
    refuse_own_samples(&config.data, &arguments.out)?;
    warn_of_schedule(&config)?;
    let folder = load(&config, !arguments.no_tags)?;
    arguments.take_tags(&mut config, &folder)?;
    arguments.fit(&mut config, &folder)?;
    check_initial_model(&config)?;
    if arguments.dry_run {
        // A dry run fails where the run would fail, and writes nothing.
        RunDir::check_free(&arguments.out)?;
        refuse_another_config(&arguments.out, &config)?;
        return plan::print(&config, &folder, 0, device);
    }
    let run_dir = open(&arguments.out)?;
    // Checked again under the lock: another training may have run there meanwhile.
    refuse_a_run_at(&arguments.out)?;
    refuse_another_config(&arguments.out, &config)?;
    run_dir.write_config(&config)?;
    train(&config, &run_dir, folder, None, device)
}

fn refuse_a_run_at(path: &Path) -> Result<()> {
    let Some(file) = RunDir::file_of_a_run(path)? else { return Ok(()) };
    if !checkpoints(path)?.is_empty() {
        return Err(Error::malformed(path, "this run directory holds a run already")
            .with_hint("resume it with --resume, or give another --out"));
    }
    let problem = format!("holds files of another run, such as `{}`", file.display());
    Err(Error::malformed(path, problem).with_hint("give another --out, or move them away"))
}

/// Refuses to overwrite a configuration that somebody wrote, and to append to the log of another run
/// that ended before its first checkpoint. The same run may begin again.
fn refuse_another_config(out: &Path, config: &TrainConfig) -> Result<()> {
    let (path, log) = (out.join(CONFIG_FILE), out.join(LOG_FILE));
    let is_this_runs = || TrainConfig::read(&path).is_ok_and(|written| written == *config);
    if !(path.exists() || log.exists()) || is_this_runs() {
        return Ok(());
    }
    if !path.exists() {
        return Err(Error::malformed(&log, "the log of another run")
            .with_hint("give another --out, or move it away"));
    }
    let hint = format!("begin that run with --config {}, or move it away", path.display());
    Err(Error::malformed(&path, "a configuration other than this run's").with_hint(hint))
}

/// Warns of a noise schedule with which samples are poor however well the network is trained.
fn warn_of_schedule(config: &TrainConfig) -> Result<()> {
    if let Some(warning) = NoiseSchedule::new(config.schedule)?.leftover_warning() {
        note(format!("warning: {warning}"));
    }
    Ok(())
}
