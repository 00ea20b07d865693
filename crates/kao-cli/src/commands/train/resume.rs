//! A run that is resumed.

use super::{Arguments, checkpoints, load, open, plan, refuse_own_samples, train};
use crate::output::{note, one_line, result};
use kao::device::Device;
use kao::model::RUN_MODEL;
use kao::quantities::counted;
use kao::train::checkpoint::{self, Newest};
use kao::train::{CHECKPOINTS, CONFIG_FILE, RunDir, check_pictures, check_steps, fingerprint};
use kao::{Error, ErrorKind, Result};

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
    let edited = RunDir::config_to_resume(out, position)?;
    for (name, now, before) in edited.differences(&position.config) {
        note(one_line(&format!("{CONFIG_FILE}: {name} is now {now}, before it was {before}")));
    }
    let mut config = arguments.over(arguments.base_of_resumed(&edited)?)?;
    config.check_continues(&position.config)?;
    if arguments.epochs.is_none() {
        check_steps(&config, position)?;
        if config.steps == position.n_steps && position.validated {
            note(format!("all {} were done before", counted(config.steps, "step")));
            note("hint: give a larger number of --steps to train longer");
            return result(out.join(RUN_MODEL).display());
        }
    }
    refuse_own_samples(&config.data, out)?;
    let folder = load(&config, !config.tags.is_empty()).map_err(|error| match error.kind() {
        ErrorKind::Io { .. } if arguments.data.is_none() => {
            error.with_hint("give --data where the pictures of the run are now")
        }
        _ => error,
    })?;
    arguments.fit(&mut config, &folder)?;
    check_steps(&config, position)?;
    check_pictures(&config, position, &fingerprint(&folder, &config)).map_err(|error| {
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
