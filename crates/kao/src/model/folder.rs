//! Folders of diffusers: the files that a model consists of there.
//!
//! A pipeline keeps `model_index.json`, `unet/` with `config.json` and the weights, and
//! `scheduler/scheduler_config.json`; older ones, and a network saved by itself, have the same files
//! side by side. Large models have their weights in several files, and a list of them. This module
//! finds and reads those files, and names nothing outside of the folder. What their entries mean is
//! for the importer of diffusers to know.

use super::metadata::FOLDER;
use crate::error::{Error, Result, shortened};
use crate::files::read_to_string_regular;
use crate::formats::{self, Contents, Format, Metadata, NamedTensors, WeightsFile};
use crate::hub::WEIGHTS;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of a JSON file. That of a large model's list of tensors has some hundred thousand.
const MAX_JSON_BYTES: u64 = 8 << 20;

/// The most files of weights. Real ones are some dozen.
const MAX_WEIGHTS_FILES: usize = 256;

/// The configuration of a network.
const CONFIG: &str = "config.json";
const PIPELINE: &str = "model_index.json";
const SCHEDULER: &str = "scheduler_config.json";

/// A folder of diffusers, whose configuration has been read.
#[derive(Debug)]
pub struct DiffusersFolder {
    path: PathBuf,
    metadata: Metadata,
    notes: Vec<String>,
    /// The files of weights, each with the tensors that are to be taken from it; all where the list
    /// does not say.
    weights: Vec<(PathBuf, Option<BTreeSet<String>>)>,
}

/// Whether `path` is a folder that can be one of diffusers.
pub fn is_one(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    path.is_dir() && (has(PIPELINE) || has(CONFIG) || path.join("unet").join(CONFIG).is_file())
}

/// Whether `path` is a folder of diffusers without all the files of a model, as one that was fetched in part.
pub fn lacks_files(path: &Path) -> bool {
    let in_folder = path.join("unet");
    let network = if in_folder.join(CONFIG).is_file() { in_folder } else { path.to_path_buf() };
    let lacks = || match weights(&network) {
        Ok(files) => files.iter().any(|(file, _)| !file.is_file()),
        // A list that cannot be read is told of when it is read.
        Err(_) => !WEIGHTS.iter().any(|[_, list]| network.join(list).is_file()),
    };
    !network.join(CONFIG).is_file() || lacks()
}

impl DiffusersFolder {
    /// Reads the configuration of the folder at `path`, and finds its weights.
    ///
    /// # Errors
    /// When a file is missing, is no JSON, or leads out of the folder.
    pub fn open(path: &Path) -> Result<Self> {
        let pipeline = optional_json(&path.join(PIPELINE))?;
        let in_folder = path.join("unet");
        let network = if in_folder.join(CONFIG).is_file() { in_folder } else { path.to_path_buf() };
        let config = network.join(CONFIG);
        let unet = optional_json(&config)?.ok_or_else(|| {
            Error::malformed(path, "no `unet/config.json` and no `config.json` in the folder")
        })?;
        let places = [path.join("scheduler").join(SCHEDULER), path.join(SCHEDULER)];
        let mut scheduler = None;
        for place in &places {
            if scheduler.is_none() {
                scheduler = optional_json(place)?.map(|json| (place.clone(), json));
            }
        }
        let notes = match &scheduler {
            Some(_) => Vec::new(),
            None => vec![
                "the folder has no scheduler_config.json: the schedule of DDPM is assumed, linear \
                 from 1e-4 to 0.02 over 1000 timesteps, predicting the noise"
                    .to_owned(),
            ],
        };
        let shown = |file: &Path| {
            file.strip_prefix(path).unwrap_or(file).to_string_lossy().replace('\\', "/")
        };
        let (scheduler_file, scheduler) = match scheduler {
            Some((file, json)) => (json!(shown(&file)), Value::Object(json)),
            None => (Value::Null, Value::Null),
        };
        let entries = json!({
            "pipeline": pipeline,
            "unet_file": shown(&config),
            "unet": unet,
            "scheduler_file": scheduler_file,
            "scheduler": scheduler,
        });
        let metadata = Metadata::from_iter([(FOLDER.to_owned(), entries)]);
        let weights = weights(&network)?;
        Ok(DiffusersFolder { path: path.to_path_buf(), metadata, notes, weights })
    }

    /// What is in the folder, without the values of its tensors.
    ///
    /// # Errors
    /// When a file of weights cannot be read, or is not what it seems.
    pub fn contents(self) -> Result<Contents> {
        let (mut file_bytes, mut tensors) = (0u64, Vec::new());
        for (file, wanted) in &self.weights {
            let contents = formats::peek(file)?;
            file_bytes = file_bytes.saturating_add(contents.file_bytes);
            let names = contents.tensors.iter().map(|tensor| tensor.name.as_str());
            check_listed(file, wanted.as_ref(), names)?;
            let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
            tensors.extend(contents.tensors.into_iter().filter(|tensor| is_wanted(&tensor.name)));
        }
        let DiffusersFolder { metadata, notes, .. } = self;
        Ok(Contents { format: Format::Diffusers, file_bytes, tensors, metadata, notes })
    }

    /// All tensors.
    ///
    /// # Errors
    /// As [`contents`](Self::contents).
    pub fn read(self) -> Result<WeightsFile> {
        let mut tensors = NamedTensors::new();
        for (file, wanted) in &self.weights {
            let read = formats::read(file)?.tensors;
            check_listed(file, wanted.as_ref(), read.names())?;
            let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
            for (name, tensor) in read.into_iter().filter(|(name, _)| is_wanted(name)) {
                tensors.insert(name, tensor);
            }
        }
        let DiffusersFolder { metadata, notes, .. } = self;
        Ok(WeightsFile { format: Format::Diffusers, tensors, metadata, notes })
    }

    /// Looks by their first bytes whether the files of weights can be some.
    ///
    /// # Errors
    /// When one cannot be read, or is something else.
    pub fn check(&self) -> Result<()> {
        self.weights.iter().try_for_each(|(file, _)| formats::check(file))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configurations.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Checks that a file has the tensors that the list says it has.
fn check_listed<'a>(
    file: &Path,
    wanted: Option<&BTreeSet<String>>,
    found: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let found: BTreeSet<&str> = found.collect();
    match wanted.iter().find(|name| !found.contains(name.as_str())) {
        Some(name) => {
            let name = shortened(name, 80);
            let problem = format!("tensor `{name}` is missing, which the list says is in it");
            Err(Error::malformed(file, problem))
        }
        None => Ok(()),
    }
}

/// The files of weights in `folder`.
fn weights(folder: &Path) -> Result<Vec<(PathBuf, Option<BTreeSet<String>>)>> {
    for [single, list] in WEIGHTS {
        let file = folder.join(single);
        if file.is_file() {
            return Ok(vec![(file, None)]);
        }
        let list = folder.join(list);
        if list.is_file() {
            return listed_weights(folder, &list);
        }
    }
    let problem = format!("no weights in the folder; expected `{}`", WEIGHTS[0][0]);
    Err(Error::malformed(folder, problem))
}

fn listed_weights(folder: &Path, list: &Path) -> Result<Vec<(PathBuf, Option<BTreeSet<String>>)>> {
    let wrong = |problem: String| Error::malformed(list, problem);
    let entries = json_object(list)?;
    let Some(Value::Object(places)) = entries.get("weight_map") else {
        return Err(wrong("no `weight_map`; expected a file for each tensor".to_owned()));
    };
    let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in places {
        let file = file.as_str().unwrap_or_default();
        if !is_plain_name(file) {
            let (tensor, file) = (shortened(tensor, 60), shortened(file, 60));
            let problem =
                format!("`{tensor}` is said to be in `{file}`; expected a file beside it");
            return Err(wrong(problem));
        }
        files.entry(file).or_default().insert(tensor.clone());
        if files.len() > MAX_WEIGHTS_FILES {
            return Err(wrong(format!("more than {MAX_WEIGHTS_FILES} files of weights")));
        }
    }
    let files = files.into_iter().map(|(file, tensors)| (folder.join(file), Some(tensors)));
    Ok(files.collect())
}

/// Whether a name means a file in the folder that it stands in.
fn is_plain_name(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !name.is_empty() && !name.starts_with('.') && name.len() <= 255 && !name.contains(is_odd)
}

/// The JSON object in `path`; `None` where there is no such file.
fn optional_json(path: &Path) -> Result<Option<Map<String, Value>>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => json_object(path).map(Some),
    }
}

fn json_object(path: &Path) -> Result<Map<String, Value>> {
    let text = read_to_string_regular(path, MAX_JSON_BYTES)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(entries)) => Ok(entries),
        Ok(_) => Err(Error::malformed(path, "no JSON object")),
        Err(error) => Err(Error::malformed(path, format!("no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_fetched_in_part_lacks_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("unet")).unwrap();
        let lacks_with = |name: &str, content: &str| {
            std::fs::write(path.join(name), content).unwrap();
            lacks_files(path)
        };
        assert!(lacks_with("model_index.json", "{}"));
        assert!(lacks_with("unet/config.json", "{}"));
        let [[single, list], ..] = WEIGHTS;
        let parts = r#"{"weight_map": {"a": "part-1.bin", "b": "part-2.bin"}}"#;
        assert!(lacks_with(&format!("unet/{list}"), parts));
        assert!(lacks_with("unet/part-1.bin", ""));
        assert!(!lacks_with("unet/part-2.bin", ""));
        std::fs::remove_file(path.join("unet/part-2.bin")).unwrap();
        assert!(lacks_files(path));
        assert!(!lacks_with(&format!("unet/{single}"), ""));
    }
}
