//! A run that begins.

use super::{Arguments, load, open, plan, refuse_own_samples, train};
use crate::output::note;
use kao::device::Device;
use kao::files::check_folder;
use kao::schedule::NoiseSchedule;
use kao::train::{Occupied, RunDir, TrainConfig, check_initial_model};
use kao::{Error, Result};
use std::path::Path;

/// Starts a new run. Its directory is created only when nothing is left that could be refused.
pub(super) fn start(arguments: &Arguments, device: &Device) -> Result<()> {
    let mut config = arguments.over(arguments.base()?)?;
    check_folder(&arguments.out)?;
    refuse_occupied(&arguments.out, None)?;
    refuse_own_samples(&config.data, &arguments.out)?;
    warn_of_schedule(&config)?;
    let folder = load(&config, !arguments.no_tags)?;
    arguments.take_tags(&mut config, &folder)?;
    arguments.fit(&mut config, &folder)?;
    check_initial_model(&config)?;
    if arguments.dry_run {
        // A dry run fails where the run would fail, and writes nothing.
        RunDir::check_free(&arguments.out)?;
        refuse_occupied(&arguments.out, Some(&config))?;
        return plan::print(&config, &folder, 0, device);
    }
    let run_dir = open(&arguments.out)?;
    // Checked again under the lock: another training may have run there meanwhile.
    refuse_occupied(&arguments.out, Some(&config))?;
    run_dir.write_config(&config)?;
    train(&config, &run_dir, folder, None, device)
}

/// Refuses a directory that holds something that a new run would overwrite or mix with.
fn refuse_occupied(out: &Path, config: Option<&TrainConfig>) -> Result<()> {
    let Some(occupied) = RunDir::occupied(out, config)? else { return Ok(()) };
    Err(match occupied {
        Occupied::Run => Error::malformed(out, "this run directory holds a run already")
            .with_hint("resume it with --resume, or give another --out"),
        Occupied::Files(file) => {
            let problem = format!("holds files of another run, such as `{}`", file.display());
            Error::malformed(out, problem).with_hint("give another --out, or move them away")
        }
        Occupied::Config(path) => {
            let hint = format!("begin that run with --config {}, or move it away", path.display());
            Error::malformed(&path, "a configuration other than this run's").with_hint(hint)
        }
        Occupied::Log(path) => Error::malformed(&path, "the log of another run")
            .with_hint("give another --out, or move it away"),
    })
}

/// Warns of a noise schedule with which samples are poor however well the network is trained.
fn warn_of_schedule(config: &TrainConfig) -> Result<()> {
    if let Some(warning) = NoiseSchedule::new(&config.schedule)?.leftover_warning() {
        note(format!("warning: {warning}"));
    }
    Ok(())
}
