//! Where results go, looked at before the work that makes them.

use crate::error::{Error, ErrorKind, Result};
use crate::files::resolved;
use crate::model::RUN_MODEL;
use crate::train::{CHECKPOINTS, CONFIG_FILE, RunDir};
use std::path::{Path, PathBuf};

/// A field and the file that it names, where it is given.
pub(super) type Named<'a> = (&'a str, Option<&'a Path>);

/// Refuses to write a file that another field names to be read or written, also where that names
/// the run directory that the file belongs to.
pub(super) fn check_distinct(inputs: &[Named<'_>], outputs: &[Named<'_>]) -> Result<()> {
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (index, (field, path)) in inputs.iter().chain(outputs).enumerate() {
        let Some(path) = path.map(resolved) else { continue };
        if index >= inputs.len()
            && let Some((other, _)) = seen.iter().find(|(_, other)| {
                *other == path
                    || path == other.join(RUN_MODEL)
                    || path.starts_with(other.join(CHECKPOINTS))
            })
        {
            let (field, other) = ((*field).to_owned(), (*other).to_owned());
            return Err(ErrorKind::SameFile { field, other }.into());
        }
        seen.push((field, path));
    }
    Ok(())
}

/// Refuses to write the model of a run, which `kao train` does.
pub(super) fn check_no_model_of_a_run(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    if path.file_name() != Some(RUN_MODEL.as_ref()) || !is_run(folder)? {
        return Ok(());
    }
    let error = Error::malformed(path, "this is the model of a run, which only training writes");
    Err(error.with_hint("give another name"))
}

/// Refuses to write other things into the directory of a run.
pub(super) fn check_no_run(folder: &Path) -> Result<()> {
    match is_run(folder)? {
        true => Err(Error::malformed(folder, "this is the directory of a training run")
            .with_hint("give another folder")),
        false => Ok(()),
    }
}

fn is_run(folder: &Path) -> Result<bool> {
    Ok(folder.join(CONFIG_FILE).is_file() && RunDir::file_of_a_run(folder)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_for_two_fields_is_refused() {
        let [a, also_a, b] = ["no/a.png", "./no/a.png", "no/b.png"].map(Path::new);
        let inputs = [("model.path", Some(b)), ("noise", Some(b))];
        assert!(check_distinct(&inputs, &[("out", Some(a)), ("strip", None)]).is_ok());
        assert!(check_distinct(&inputs, &[("out", Some(b))]).is_err());
        // A run directory stands for its model.
        let inputs = [("guide", Some(Path::new("no/run")))];
        for name in ["no/run/model.safetensors", "no/run/checkpoints/step-00000001.safetensors"] {
            let output = ("save_tensors", Some(Path::new(name)));
            assert!(check_distinct(&inputs, &[output]).is_err(), "{name}");
        }
        assert!(check_distinct(&inputs, &[("out", Some(Path::new("no/run/grid.png")))]).is_ok());
        let error = check_distinct(&[], &[("out", Some(a)), ("strip", Some(also_a))]).unwrap_err();
        assert_eq!(error.to_string(), "strip: names the file of out; expected another");
    }
}
