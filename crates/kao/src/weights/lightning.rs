//! PyTorch's zip archives: Lightning checkpoints, and state dictionaries saved by themselves.
//!
//! The archive has one folder, whose name varies, with the pickle `data.pkl` and one entry per
//! storage under `data/`. Entries are mostly stored as they are, but may be compressed, so what
//! they unpack to is limited in proportion to the file.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};
use std::path::PathBuf;

use zip::ZipArchive;
use zip::result::ZipError;

use super::file::{Content, Contents, Format, Metadata, Source, WeightsFile};
use super::pickle::{Id, Node, Pickle, to_json};
use super::tensor::{HostTensor, TensorInfo};
use super::torch_tensor::{TensorSpec, tensor};
use crate::error::{Error, Result};

/// The pickle holds names and settings; the values are elsewhere. A large one is a few megabytes.
const MAX_PICKLE_BYTES: u64 = 32 << 20;
/// What a small file may always unpack to. Beyond it, four times its own size.
const FREE_BYTES: u64 = 64 << 20;
/// The prefix under which the original training program keeps its network.
const NETWORK_PREFIX: &str = "unet.";

/// An open checkpoint whose pickle was read.
pub(super) struct Checkpoint {
    archive: Archive,
    format: Format,
    tensors: Vec<(String, TensorSpec)>,
    metadata: Metadata,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Reads the pickle, and checks the sizes in it against the archive's entries.
    pub fn open(source: Source) -> Result<Self> {
        let mut archive = Archive::open(source)?;
        let bytes = archive.read_entry("data.pkl", MAX_PICKLE_BYTES)?;
        let pickle = Pickle::parse(&bytes)
            .map_err(|problem| archive.malformed(format!("its pickle: {problem}")))?;
        drop(bytes);

        let mut notes = Vec::new();
        let (format, state_dict) = find_state_dict(&pickle, &mut notes).map_err(|problem| {
            archive.malformed(problem).with_hint(
                "Kao reads a `state_dict`: save one with torch.save(model.state_dict(), …)",
            )
        })?;
        let metadata = match format {
            Format::Lightning => plain_entries(&pickle, pickle.root()),
            _ => Metadata::new(),
        };
        let mut tensors = archive.tensors(&pickle, state_dict, &mut notes)?;
        archive.check_storages(&tensors)?;
        strip_prefix(&mut tensors, &mut notes).map_err(|problem| archive.malformed(problem))?;
        Ok(Checkpoint { archive, format, tensors, metadata, notes })
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
        let allowed = (FREE_BYTES / 4).saturating_add(self.archive.file_bytes.saturating_mul(2));
        let mut n_values = 0u64;
        let mut views_of: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut storages = Vec::new();
        for (index, (name, spec)) in self.tensors.iter().enumerate() {
            n_values = n_values.saturating_add(spec.n_values() as u64);
            if n_values > allowed {
                return Err(self.archive.malformed(format!(
                    "tensor `{name}` of shape {:?} brings the tensors to {n_values} values, more \
                     than a file of {} bytes may have ({allowed})",
                    spec.shape, self.archive.file_bytes
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
                        "tensor `{name}`: its storage `{storage}` holds {} bytes, expected {n_bytes}",
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

/// The dictionary of tensors, wherever it lies.
fn find_state_dict(pickle: &Pickle, notes: &mut Vec<String>) -> Result<(Format, Id), String> {
    let root = pickle.root();
    if let Some(state_dict) = pickle.get(root, "state_dict") {
        return Ok((Format::Lightning, state_dict));
    }
    if let Node::Object(object) = pickle.node(root)
        && object.pairs.is_empty()
    {
        let (module, name) = pickle.global(object.class).unwrap_or(("an", "unknown class"));
        return Err(format!("it holds an object `{module}.{name}`, not a state dictionary"));
    }
    let Some(pairs) = pickle.pairs(root) else {
        return Err("it holds no dictionary with tensors".to_owned());
    };
    if has_tensors(pickle, root) {
        return Ok((Format::StateDict, root));
    }
    let inner: Vec<_> = pairs.iter().filter(|(_, value)| has_tensors(pickle, *value)).collect();
    let names: Vec<_> =
        inner.iter().map(|(key, _)| format!("`{}`", pickle.text(*key).unwrap_or("?"))).collect();
    match inner[..] {
        [] => Err("it holds no dictionary with tensors".to_owned()),
        [&(_, state_dict)] => {
            notes.push(format!("the tensors are those of its entry {}", names[0]));
            Ok((Format::Lightning, state_dict))
        }
        _ => Err(format!(
            "it has no `state_dict`, and tensors in {} entries: {}",
            names.len(),
            names[..names.len().min(5)].join(", ")
        )),
    }
}

fn has_tensors(pickle: &Pickle, id: Id) -> bool {
    let pairs = pickle.pairs(id).unwrap_or_default();
    pairs.iter().any(|&(_, value)| tensor(pickle, value).is_some())
}

/// The settings and counters of the dictionary `root`: its plain entries.
fn plain_entries(pickle: &Pickle, root: Id) -> Metadata {
    let mut metadata = Metadata::new();
    for &(key, value) in pickle.pairs(root).unwrap_or_default() {
        let Some(key) = pickle.text(key) else { continue };
        let is_plain = matches!(
            pickle.node(value),
            Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Str(_)
        );
        if key == "hyper_parameters" || (is_plain && metadata.len() < 64) {
            metadata.insert(key.to_owned(), to_json(pickle, value));
        }
    }
    metadata
}

/// Takes the network's prefix off the names that have it.
fn strip_prefix(
    tensors: &mut [(String, TensorSpec)],
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let n_under = tensors.iter().filter(|(name, _)| name.starts_with(NETWORK_PREFIX)).count();
    if n_under > 0 {
        notes.push(match tensors.len() - n_under {
            0 => format!("the prefix `{NETWORK_PREFIX}` was taken off every name"),
            n => format!("the prefix `{NETWORK_PREFIX}` was taken off all names but {n}"),
        });
        for (name, _) in tensors.iter_mut() {
            if let Some(rest) = name.strip_prefix(NETWORK_PREFIX) {
                *name = rest.to_owned();
            }
        }
    } else if let Some((first, _)) = tensors.first()
        && let Some((prefix, _)) = first.split_once('.')
        && tensors.len() > 1
        && tensors.iter().all(|(name, _)| name.split_once('.').is_some_and(|(p, _)| p == prefix))
    {
        notes.push(format!("every name starts with `{prefix}.`"));
    }
    let mut names = HashSet::new();
    match tensors.iter().find(|(name, _)| !names.insert(name.as_str())) {
        Some((name, _)) => Err(format!("tensor `{name}` is there twice")),
        None => Ok(()),
    }
}

/// A zip archive of PyTorch's layout.
struct Archive {
    path: PathBuf,
    file_bytes: u64,
    zip: ZipArchive<BufReader<Content>>,
    /// The folder that everything is in, with its slash.
    folder: String,
    /// Bytes that may still be unpacked.
    bytes_left: u64,
}

impl Archive {
    fn open(source: Source) -> Result<Self> {
        let Source { path, file, len } = source;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| match error {
            ZipError::Io(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
                Error::io("read", &path, source)
            }
            other => Error::malformed(
                &path,
                format!("{len} bytes of a zip archive without its end ({other})"),
            )
            .with_hint("the file seems truncated or damaged: fetch it again"),
        })?;
        let folder = zip.file_names().find_map(|name| name.strip_suffix("data.pkl"));
        let folder = folder.filter(|f| f.ends_with('/') && f.matches('/').count() == 1);
        let Some(folder) = folder.map(str::to_owned) else {
            return Err(Error::malformed(&path, "a zip archive without PyTorch's data.pkl")
                .with_hint("this is no checkpoint"));
        };
        let bytes_left = FREE_BYTES.saturating_add(len.saturating_mul(4));
        let mut archive = Archive { path, file_bytes: len, zip, folder, bytes_left };
        if archive.entry_bytes("constants.pkl")?.is_some() {
            return Err(archive
                .malformed("this is a TorchScript program, not a checkpoint")
                .with_hint("save the state dictionary of its model with torch.save"));
        }
        if archive.entry_bytes("byteorder")?.is_some()
            && archive.read_entry("byteorder", 16)? != b"little"
        {
            return Err(archive
                .malformed("its values are big-endian, which is not supported")
                .with_hint("save it again on a little-endian machine"));
        }
        Ok(archive)
    }

    fn malformed(&self, problem: impl std::fmt::Display) -> Error {
        Error::malformed(&self.path, problem)
    }

    /// The declared size of an entry, where there is one.
    fn entry_bytes(&mut self, name: &str) -> Result<Option<u64>> {
        let full_name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&full_name) else { return Ok(None) };
        let n_bytes = self.zip.by_index_raw(index).map(|entry| entry.size());
        n_bytes.map(Some).map_err(|e| self.malformed(format!("`{full_name}` is damaged: {e}")))
    }

    /// Unpacks an entry of at most `limit` bytes.
    fn read_entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (path, full_name) = (&self.path, format!("{}{name}", self.folder));
        let malformed = |problem| Err(Error::malformed(path, format!("`{full_name}` {problem}")));
        let mut entry = match self.zip.by_name(&full_name) {
            Ok(entry) => entry,
            Err(ZipError::Io(source)) => return Err(Error::io("read", path, source)),
            Err(error) => return malformed(format!("cannot be unpacked: {error}")),
        };
        let n_bytes = entry.size();
        let allowed = limit.min(self.bytes_left);
        if n_bytes > allowed {
            return malformed(format!(
                "unpacks to {n_bytes} bytes, more than may be in a file of {} bytes ({allowed})",
                self.file_bytes
            ));
        }
        // Beyond the size of the file, memory is taken only as the bytes come.
        let mut bytes = Vec::with_capacity(n_bytes.min(self.file_bytes) as usize);
        match entry.by_ref().take(n_bytes + 1).read_to_end(&mut bytes) {
            Ok(n_read) if n_read as u64 == n_bytes => {}
            Ok(_) => return malformed(format!("does not have the {n_bytes} bytes it declares")),
            Err(error) => return malformed(format!("cannot be unpacked: {error}")),
        }
        self.bytes_left -= n_bytes;
        Ok(bytes)
    }

    /// The tensors of a state dictionary, in order.
    fn tensors(
        &self,
        pickle: &Pickle,
        state_dict: Id,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(String, TensorSpec)>> {
        let Some(pairs) = pickle.pairs(state_dict) else {
            return match pickle.node(state_dict) {
                Node::Dict(_) => Ok(Vec::new()),
                _ => Err(self.malformed("its `state_dict` is no dictionary")),
            };
        };
        let mut tensors = Vec::with_capacity(pairs.len());
        let mut skipped = Vec::new();
        for &(key, value) in pairs {
            let Some(name) = pickle.text(key) else {
                return Err(self.malformed("its `state_dict` has a name that is no text"));
            };
            match tensor(pickle, value) {
                Some(Ok(spec)) => tensors.push((name.to_owned(), spec)),
                Some(Err(problem)) => {
                    return Err(self.malformed(format!("tensor `{name}`: {problem}")));
                }
                None => skipped.push(name),
            }
        }
        if let [first, rest @ ..] = skipped.as_slice() {
            notes.push(match rest.len() {
                0 => format!("`{first}` is no tensor and was left out"),
                n => format!("`{first}` and {n} more are no tensors and were left out"),
            });
        }
        Ok(tensors)
    }

    /// Checks that every tensor's storage is in the archive and large enough.
    fn check_storages(&mut self, tensors: &[(String, TensorSpec)]) -> Result<()> {
        for (name, spec) in tensors {
            let storage = &spec.storage;
            let expected = spec.n_needed() as u128 * spec.dtype.size() as u128;
            match self.entry_bytes(&format!("data/{storage}"))? {
                None => {
                    return Err(self.malformed(format!(
                        "tensor `{name}`: its storage `data/{storage}` is not in the archive"
                    )));
                }
                Some(n_bytes) if u128::from(n_bytes) < expected => {
                    return Err(self.malformed(format!(
                        "tensor `{name}` of shape {:?}: its storage `{storage}` holds {n_bytes} \
                         bytes, expected {expected}",
                        spec.shape
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
