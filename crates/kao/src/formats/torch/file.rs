//! PyTorch's files: Lightning checkpoints, state dictionaries, states of training programs.
//!
//! The pickle in the archive says which tensors there are; their values are in storages, entries of
//! the archive beside it.

use std::collections::{HashMap, HashSet};

use super::archive::Archive;
use super::pickle::{self, Id, Node, Pickle};
use super::settings::Settings;
use super::state_dicts::{self, TOO_MUCH_SHARED};
use super::tensor::{TensorSpec, tensor};
use crate::error::Result;
use crate::formats::contents::{Contents, Format, Metadata, SETTINGS, WeightsFile};
use crate::formats::limits::{FREE_ARCHIVE_BYTES, MAX_NAME_BYTES, MAX_PICKLE_BYTES, shown};
use crate::formats::source::Source;
use crate::formats::tensor::{HostTensor, TensorInfo};

/// Tensors among the settings whose values are read, and the largest storage and the most values of
/// one.
const MAX_SETTINGS_TENSORS: usize = 64;
const MAX_SETTINGS_STORAGE_BYTES: u64 = 64 << 10;
const MAX_SETTINGS_VALUES: usize = 64;

/// Plain values at the top of a file that are told.
const MAX_PLAIN_ENTRIES: usize = 64;

/// An open file whose pickle was read.
pub struct TorchFile {
    archive: Archive,
    format: Format,
    tensors: Vec<(String, TensorSpec)>,
    metadata: Metadata,
    notes: Vec<String>,
}

impl TorchFile {
    /// Reads the pickle, and checks the sizes in it against the archive's entries.
    pub fn open(source: Source) -> Result<Self> {
        let mut archive = Archive::open(source)?;
        let bytes = archive.read_entry("data.pkl", MAX_PICKLE_BYTES)?;
        let pickle = pickle::parse(&bytes)
            .map_err(|problem| archive.malformed(format!("its pickle: {problem}")))?;
        drop(bytes);

        let found = state_dicts::find(&pickle).map_err(|problem| archive.malformed(problem))?;
        let Some(found) = found else {
            return Err(archive.malformed(state_dicts::without_tensors(&pickle)).with_hint(
                "save the tensors by themselves, with torch.save(model.state_dict(), …)",
            ));
        };
        let mut tensors = Vec::with_capacity(found.tensors.len());
        let mut names = HashSet::with_capacity(found.tensors.len());
        for (name, id) in &found.tensors {
            let wrong =
                |problem| Err(archive.malformed(format!("tensor `{}`{problem}", shown(name))));
            if !names.insert(name.as_str()) {
                return wrong(" is there twice".to_owned());
            }
            match tensor(&pickle, *id) {
                Some(Ok(spec)) => tensors.push((name.clone(), spec)),
                Some(Err(problem)) => return wrong(format!(": {problem}")),
                None => {}
            }
        }
        check_storages(&mut archive, &tensors)?;
        let metadata = match found.format {
            Format::Lightning | Format::TrainingState => settings(&pickle, &mut archive),
            _ => Metadata::new(),
        };
        if pickle.is_exhausted() {
            return Err(archive.malformed(TOO_MUCH_SHARED));
        }
        Ok(TorchFile { archive, format: found.format, tensors, metadata, notes: found.notes })
    }

    pub fn contents(self) -> Contents {
        let info = |(name, TensorSpec { dtype, shape, .. })| TensorInfo { name, shape, dtype };
        Contents {
            format: self.format,
            file_bytes: self.archive.file_bytes,
            tensors: self.tensors.into_iter().map(info).collect(),
            metadata: self.metadata,
            notes: self.notes,
        }
    }

    pub fn read(mut self) -> Result<WeightsFile> {
        // An expanded view has more values than its storage, and many views may share one.
        let allowed =
            (FREE_ARCHIVE_BYTES / 4).saturating_add(self.archive.file_bytes.saturating_mul(2));
        let mut n_values = 0u64;
        let mut views_of: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut storages = Vec::new();
        for (index, (name, spec)) in self.tensors.iter().enumerate() {
            n_values = n_values.saturating_add(spec.n_values() as u64);
            if n_values > allowed {
                return Err(self.archive.malformed(format!(
                    "tensor `{}` of shape {:?} brings the tensors to {n_values} values, more than \
                     a file of {} bytes may have ({allowed})",
                    shown(name),
                    spec.shape,
                    self.archive.file_bytes
                )));
            }
            let views = views_of.entry(&spec.storage).or_default();
            if views.is_empty() {
                storages.push(spec.storage.as_str());
            }
            views.push(index);
        }

        // Each storage is read once, for all of its views.
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.tensors.len()];
        for storage in storages {
            let bytes = self.archive.read_entry(&format!("data/{storage}"), u64::MAX)?;
            for &index in &views_of[storage] {
                let (name, spec) = &self.tensors[index];
                let n_bytes = spec.n_needed() * spec.dtype.size();
                if bytes.len() < n_bytes {
                    return Err(self.archive.malformed(format!(
                        "tensor `{}`: its storage `{}` holds {} bytes, expected {n_bytes}",
                        shown(name),
                        shown(storage),
                        bytes.len()
                    )));
                }
                values[index] = spec.gather(&bytes);
            }
        }
        let tensors =
            self.tensors.into_iter().zip(values).map(|((name, spec), data)| {
                (name, HostTensor::stored(spec.shape, data, spec.dtype))
            });
        Ok(WeightsFile {
            format: self.format,
            tensors: tensors.collect(),
            metadata: self.metadata,
            notes: self.notes,
        })
    }
}

/// Checks that every tensor's storage is in the archive and large enough.
fn check_storages(archive: &mut Archive, tensors: &[(String, TensorSpec)]) -> Result<()> {
    let mut sizes: HashMap<&str, Option<u64>> = HashMap::new();
    for (name, spec) in tensors {
        let (name, storage) = (shown(name), shown(&spec.storage));
        let expected = spec.n_needed() as u128 * spec.dtype.size() as u128;
        let n_bytes = match sizes.get(spec.storage.as_str()) {
            Some(&n_bytes) => n_bytes,
            None => {
                let n_bytes = archive.entry_bytes(&format!("data/{}", spec.storage))?;
                sizes.insert(&spec.storage, n_bytes);
                n_bytes
            }
        };
        match n_bytes {
            None => {
                return Err(archive.malformed(format!(
                    "tensor `{name}`: its storage `data/{storage}` is not in the archive"
                )));
            }
            Some(n_bytes) if u128::from(n_bytes) < expected => {
                return Err(archive.malformed(format!(
                    "tensor `{name}` of shape {:?}: its storage `{storage}` holds {n_bytes} bytes, \
                     expected {expected}",
                    spec.shape
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The settings and counters at the top of a file: its plain entries, and [`SETTINGS`].
fn settings(pickle: &Pickle, archive: &mut Archive) -> Metadata {
    // The last value of a key counts. Only short keys are looked at, and no value is turned into
    // JSON before it is known that none follows.
    let mut entries: Vec<(&str, Id)> = Vec::new();
    let mut n_plain = 0;
    for &(key, value) in pickle.pairs(pickle.root()).unwrap_or_default() {
        let Some(key) = pickle.text(key).filter(|key| key.len() <= MAX_NAME_BYTES) else {
            continue;
        };
        if let Some(entry) = entries.iter_mut().find(|(other, _)| *other == key) {
            entry.1 = value;
            continue;
        }
        let is_plain = matches!(
            pickle.node(value),
            Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Str(_)
        );
        if SETTINGS.contains(&key) || (is_plain && n_plain < MAX_PLAIN_ENTRIES) {
            n_plain += usize::from(is_plain);
            entries.push((key, value));
        }
    }
    let mut n_left = MAX_SETTINGS_TENSORS;
    let mut values_of = |spec: &TensorSpec| {
        if spec.n_values() > MAX_SETTINGS_VALUES || n_left == 0 {
            return None;
        }
        n_left -= 1;
        let name = format!("data/{}", spec.storage);
        let bytes = archive.read_entry(&name, MAX_SETTINGS_STORAGE_BYTES).ok()?;
        (bytes.len() >= spec.n_needed() * spec.dtype.size()).then(|| spec.gather(&bytes))
    };
    let mut settings = Settings::new(pickle, &mut values_of);
    entries.into_iter().map(|(key, value)| (key.to_owned(), settings.json(value))).collect()
}
