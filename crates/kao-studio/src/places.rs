//! The models, runs and pictures that the command line gave, by name.
//!
//! A request never says a path. It says a name, and the name is looked for among those that there
//! are: what is not listed does not exist, whatever characters it is made of.

use crate::http::problem::Problem;
use kao::dataset::REPORT_FILE;
use kao::model::{BUILT_IN, RUN_MODEL};
use kao::requests::ModelSource;
use kao::train::{CHECKPOINTS, CONFIG_FILE};
use kao::{Error, Result};
use std::path::{Path, PathBuf};

/// How the models of runs are told from others.
const OF_RUN: &str = "run:";

/// The most folders that are listed.
const MAX_LISTED: usize = 1000;

/// What the command line gave.
#[derive(Clone, Debug, Default)]
pub struct Places {
    models: Vec<(String, PathBuf)>,
    runs: Option<PathBuf>,
    data: Option<PathBuf>,
}

impl Places {
    /// Checks that folders are folders and that names are good and different.
    pub fn new(
        models: Vec<(String, PathBuf)>,
        runs: Option<PathBuf>,
        data: Option<PathBuf>,
    ) -> Result<Self> {
        for (index, (name, path)) in models.iter().enumerate() {
            if !is_name(name) {
                let problem = format!("the name `{name}`; expected letters, digits, `.`, `-`, `_`");
                return Err(Error::invalid("model", problem));
            }
            if name == BUILT_IN || models[..index].iter().any(|(other, _)| other == name) {
                let problem = format!("the name `{name}` is taken; expected another");
                return Err(
                    Error::invalid("model", problem).with_hint("name a model with NAME=PATH")
                );
            }
            kao::model::check(path)?;
        }
        if let Some(runs) = &runs {
            std::fs::create_dir_all(runs).map_err(|error| Error::io("create", runs, error))?;
        }
        if let Some(data) = &data {
            std::fs::read_dir(data).map_err(|error| Error::io("read", data, error))?;
        }
        Ok(Places { models, runs, data })
    }

    /// All models: the built-in one, those that were given, those of the runs.
    pub fn models(&self) -> Vec<(String, ModelSource)> {
        let built_in = (BUILT_IN.to_owned(), ModelSource::default());
        let given = self.models.iter().map(|(name, path)| (name.clone(), ModelSource::at(path)));
        let runs = self.runs().into_iter().filter(|(_, path)| path.join(RUN_MODEL).is_file());
        let of_runs = runs.map(|(name, path)| (format!("{OF_RUN}{name}"), ModelSource::at(path)));
        given.chain([built_in]).chain(of_runs).collect()
    }

    /// The model of this name; the first one where none is named.
    pub fn model(&self, name: Option<&str>) -> Result<(String, ModelSource), Problem> {
        let mut models = self.models().into_iter();
        let Some(name) = name else { return models.next().ok_or_else(|| unknown("model", "")) };
        models.find(|(known, _)| known == name).ok_or_else(|| unknown("model", name))
    }

    pub fn has_runs(&self) -> bool {
        self.runs.is_some()
    }

    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// The run directories: those in the folder of runs, and that folder itself where it is one.
    pub fn runs(&self) -> Vec<(String, PathBuf)> {
        let Some(runs) = &self.runs else { return Vec::new() };
        let mut found: Vec<(String, PathBuf)> =
            folders_in(runs).into_iter().filter(|(_, path)| is_run(path)).collect();
        if is_run(runs) {
            found.extend(own_name(runs).map(|name| (name, runs.clone())));
        }
        found
    }

    pub fn run(&self, name: &str) -> Result<PathBuf, Problem> {
        let found = self.runs().into_iter().find(|(known, _)| known == name);
        found.map(|(_, path)| path).ok_or_else(|| Problem::not_found("run"))
    }

    /// Where a new run of this name goes.
    pub fn new_run(&self, name: &str) -> Result<PathBuf, Problem> {
        let Some(runs) = &self.runs else {
            return Err(Problem::forbidden("no folder of runs was given")
                .with_hint("start with: kao studio --runs DIR"));
        };
        if !is_name(name) {
            let expected = "must be letters, digits, `.`, `-`, `_`, at most 64, not a dot first";
            return Err(Problem::invalid("name", expected));
        }
        let path = runs.join(name);
        match path.symlink_metadata() {
            Err(_) => Ok(path),
            Ok(_) => Err(Problem::invalid("name", "there is a run or a file of this name already")),
        }
    }

    /// The folders of pictures: those in the folder of data, and that folder itself where pictures
    /// lie in it.
    pub fn data(&self) -> Vec<(String, PathBuf)> {
        let Some(data) = &self.data else { return Vec::new() };
        let mut found: Vec<(String, PathBuf)> =
            folders_in(data).into_iter().filter(|(_, path)| !is_run(path)).collect();
        if data.join(REPORT_FILE).is_file() || holds_files(data) {
            found.extend(own_name(data).map(|name| (name, data.clone())));
        }
        found
    }

    pub fn data_folder(&self, name: &str) -> Result<PathBuf, Problem> {
        let found = self.data().into_iter().find(|(known, _)| known == name);
        found.map(|(_, path)| path).ok_or_else(|| unknown("data", name))
    }
}

/// Whether `name` can be that of a file anywhere, and of nothing but a file in its folder.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_plain)
}

fn unknown(field: &str, name: &str) -> Problem {
    let name = kao::error::shortened(name, 80);
    Problem::invalid(field, format!("`{name}` is not among those that the server was started with"))
}

/// The folders in a folder, by their names. Links that lead elsewhere are left out.
fn folders_in(folder: &Path) -> Vec<(String, PathBuf)> {
    let (Ok(entries), Ok(root)) = (std::fs::read_dir(folder), folder.canonicalize()) else {
        return Vec::new();
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let path = entry.path();
            let is_within = path.canonicalize().is_ok_and(|real| real.starts_with(&root));
            (path.is_dir() && is_within && !name.starts_with('.')).then_some((name, path))
        })
        .take(MAX_LISTED)
        .collect();
    found.sort();
    found
}

fn own_name(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    Some(real.file_name()?.to_str()?.to_owned())
}

fn is_run(path: &Path) -> bool {
    [RUN_MODEL, CONFIG_FILE, CHECKPOINTS].iter().any(|name| path.join(name).exists())
}

fn holds_files(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.take(MAX_LISTED).any(|entry| entry.path().is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_exists() {
        let folder = tempfile::tempdir().unwrap();
        let [runs, outside] = ["runs", "outside"].map(|name| folder.path().join(name));
        for path in [runs.join("one/checkpoints"), outside.join("checkpoints")] {
            std::fs::create_dir_all(path).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, runs.join("link")).unwrap();
        let places = Places::new(Vec::new(), Some(runs.clone()), None).unwrap();
        assert_eq!(places.run("one").unwrap(), runs.join("one"));
        let absolute = outside.display().to_string();
        for name in ["link", "..", ".", "", "../outside", "one/../one", "one/", &absolute, "one\0"]
        {
            assert!(places.run(name).is_err(), "{name}");
            assert!(places.data_folder(name).is_err(), "{name}");
            assert!(places.model(Some(name)).is_err(), "{name}");
            assert!(places.new_run(name).is_err(), "{name}");
        }
        assert!(places.new_run("one").is_err());
        assert!(places.new_run("two").is_ok());
    }

    #[test]
    fn names_of_models_are_good_and_different() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| (name.to_owned(), folder.path().to_path_buf());
        for name in ["built-in", "", "a/b", "..", &"a".repeat(65)] {
            assert!(Places::new(vec![of(name)], None, None).is_err(), "{name}");
        }
    }
}
