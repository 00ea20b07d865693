//! A run that is resumed.

use super::{Arguments, checkpoints, load, open, plan, refuse_own_samples, train};
use crate::output::{note, one_line, result};
use kao::device::Device;
use kao::model::RUN_MODEL;
use kao::quantities::counted;
use kao::train::checkpoint::{self, Newest, Position};
use kao::train::{CHECKPOINTS, CONFIG_FILE, RunDir, TrainConfig, check_pictures};
use kao::{Error, ErrorKind, Result};
use std::path::Path;

/// Resumes a run from its newest checkpoint.
pub(super) fn resume(arguments: &Arguments, device: &Device) -> Result<()> {
    let out = &arguments.out;
    if checkpoints(out)?.is_empty() {
        let hint = match RunDir::file_of_a_run(out)? {
            None => "omit --resume to start a run there".to_owned(),
            Some(_) => {
                let out = out.display();
                format!("its checkpoints are gone; start a new run from its model: --from {out}")
            }
        };
        return Err(
            Error::malformed(out, "no run with a checkpoint to resume from").with_hint(hint)
        );
    }
    // Locked before anything is read, so that no other training changes it meanwhile.
    let run_dir = match arguments.dry_run {
        true => RunDir::check_free(out).map(|()| None)?,
        false => Some(open(out)?),
    };
    let (newest, verb) = match &run_dir {
        Some(run_dir) => (run_dir.newest_checkpoint()?, "set aside"),
        None => (checkpoint::newest_undamaged(&out.join(CHECKPOINTS))?, "it would be set aside"),
    };
    let Newest { checkpoint, path, damaged } = newest;
    for (path, error) in &damaged {
        let aside = checkpoint::set_aside_path(path);
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        note(one_line(&format!("warning: {error}; {verb} as `{name}`")));
    }
    if !damaged.is_empty() {
        note(one_line(&format!("resuming from `{}`", path.display())));
    }
    let position = &checkpoint.position;
    let mut config = arguments.over(arguments.base_of_resumed(&edited(out, position)?)?)?;
    config.check_continues(&position.config)?;
    let refuse_fewer = |config: &TrainConfig| match config.steps < position.n_steps {
        true => {
            let n_steps = position.n_steps;
            let allowed = format!("at least {n_steps}, the number of steps done");
            Err(Error::out_of_range("steps", config.steps, allowed))
        }
        false => Ok(()),
    };
    if arguments.epochs.is_none() {
        refuse_fewer(&config)?;
        if config.steps == position.n_steps && position.validated {
            note(format!("all {} were done before", counted(config.steps, "step")));
            note("hint: give a larger number of --steps to train longer");
            return result(out.join(RUN_MODEL).display());
        }
    }
    refuse_own_samples(&config.data, out)?;
    let folder = load(&config).map_err(|error| match error.kind() {
        ErrorKind::Io { .. } if arguments.data.is_none() => {
            error.with_hint("give --data where the pictures of the run are now")
        }
        _ => error,
    })?;
    arguments.fit(&mut config, &folder)?;
    refuse_fewer(&config)?;
    check_pictures(&config, position, &folder.fingerprint()).map_err(|error| {
        error.with_hint(format!(
            "put them back as they were, or train on them from this run's model on: \
             kao train --data {} --from {} --out NEW_RUN",
            config.data.display(),
            out.display()
        ))
    })?;
    let Some(run_dir) = run_dir else {
        return plan::print(&config, &folder, position.n_steps, device);
    };
    run_dir.write_config(&config)?;
    train(&config, &run_dir, folder, Some(checkpoint), device)
}

/// The configuration to resume with: that of `config.toml`, which may have been edited since the
/// checkpoint was written. Changes are listed; those that are impossible within a run are refused.
fn edited(out: &Path, position: &Position) -> Result<TrainConfig> {
    let path = out.join(CONFIG_FILE);
    if !path.exists() {
        return Ok(position.config.clone());
    }
    let hint = "correct it, or remove it to resume with the configuration of the checkpoint";
    let config = TrainConfig::read(&path).map_err(|error| error.with_hint(hint))?;
    config
        .check_continues(&position.config)
        .map_err(|error| Error::malformed(&path, error).with_hint(hint))?;
    for (name, now, before) in config.differences(&position.config) {
        note(one_line(&format!("{CONFIG_FILE}: {name} is now {now}, before it was {before}")));
    }
    Ok(config)
}
