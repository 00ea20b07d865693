//! Where the tensors of a PyTorch file are: in which of its dictionaries, under which names.
//!
//! `torch.save` takes anything, so files differ: a state dictionary by itself; a Lightning
//! checkpoint, which has one under `state_dict`; the state of somebody's training program, with one
//! under `model` and another of averaged weights under `ema`; or a whole module. All of them end
//! here as a list of names and tensors. Where there are several dictionaries, the names of each
//! start with where it lies in the file: `model.` and `ema.`.

use std::collections::HashSet;

use super::pickle::{Id, Node, Pickle};
use super::tensor::tensor;
use crate::formats::contents::{Format, SETTINGS};
use crate::formats::limits::{MAX_NAME_BYTES, MAX_TENSORS, shown};

/// How deep dictionaries of tensors are looked for, and modules within modules.
const MAX_DICTIONARY_DEPTH: usize = 3;
const MAX_MODULE_DEPTH: usize = 64;

/// Dictionaries of tensors that are told apart.
const MAX_DICTIONARIES: usize = 64;

/// What is wrong with a pickle that [is exhausted](Pickle::is_exhausted).
pub const TOO_MUCH_SHARED: &str = "its pickle refers to the same values too often to be read";

/// Names that a message lists.
const N_NAMED: usize = 8;

/// The tensors of a file.
pub struct Found {
    pub format: Format,
    /// Names and tensors, in the order of the file.
    pub tensors: Vec<(String, Id)>,
    /// What a reader may want to know.
    pub notes: Vec<String>,
}

/// Finds the tensors of `pickle`, where it has any.
///
/// # Errors
/// What is wrong with them, in words.
pub fn find(pickle: &Pickle) -> Result<Option<Found>, String> {
    let root = pickle.root();
    let mut names = Names { pickle, tensors: Vec::new(), skipped: None };
    let mut notes = Vec::new();
    let format = if is_module(pickle, root) {
        names.add_module(root, "")?;
        Format::Module
    } else if has_tensors(pickle, root) {
        names.add_dictionary(root, "")?;
        Format::StateDict
    } else {
        let mut dictionaries = Vec::new();
        look_into(pickle, root, "", 0, &mut dictionaries);
        let list: Vec<_> = dictionaries.iter().map(|(path, _)| quoted(path)).collect();
        match &list[..] {
            [] => return Ok(None),
            [only] if only != "`state_dict`" => {
                notes.push(format!("the tensors are those of its entry {only}"));
            }
            [_] => {}
            _ => notes.push(format!("its entries {} hold tensors", listed(&list))),
        }
        for (path, id) in &dictionaries {
            let prefix = if list.len() > 1 { format!("{path}.") } else { String::new() };
            match is_module(pickle, *id) {
                true => names.add_module(*id, &prefix)?,
                false => names.add_dictionary(*id, &prefix)?,
            }
        }
        match pickle.get(root, "state_dict") {
            Some(_) => Format::Lightning,
            None => Format::TrainingState,
        }
    };
    match names.skipped {
        Some((first, 1)) => notes.push(format!("{first} is no tensor and was left out")),
        Some((first, n)) => {
            notes.push(format!("{first} and {} more are no tensors and were left out", n - 1));
        }
        None => {}
    }
    Ok(Some(Found { format, tensors: names.tensors, notes }))
}

/// Collects the dictionaries of tensors within `id`, with where they lie.
fn look_into(pickle: &Pickle, id: Id, path: &str, depth: usize, found: &mut Vec<(String, Id)>) {
    let mut seen = HashSet::new();
    for &(key, value) in pickle.pairs(id).unwrap_or_default() {
        let is_looked_into = |key: &&str| {
            key.len() <= MAX_NAME_BYTES / 4 && !SETTINGS.contains(key) && !is_optimizer(key)
        };
        let Some(key) = pickle.text(key).filter(is_looked_into) else { continue };
        // What is there twice, under one name or several, is looked into once.
        if found.len() >= MAX_DICTIONARIES || !seen.insert(value) {
            continue;
        }
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if has_tensors(pickle, value) || is_module(pickle, value) {
            found.push((path, value));
        } else if depth + 1 < MAX_DICTIONARY_DEPTH {
            look_into(pickle, value, &path, depth + 1, found);
        }
    }
}

/// Whether an entry of that name is the state of an optimizer, which has tensors of its own for
/// every weight.
fn is_optimizer(key: &str) -> bool {
    key == "opt" || key.starts_with("optim") || key.ends_with("optimizer")
}

/// Whether `id` is a dictionary of tensors. Single numbers as tensors, such as the best loss so
/// far, make none.
fn has_tensors(pickle: &Pickle, id: Id) -> bool {
    let is_array = |&(key, value): &(Id, Id)| {
        pickle.text(key).is_some()
            && match tensor(pickle, value) {
                Some(Ok(spec)) => !spec.shape.is_empty(),
                Some(Err(_)) => true,
                None => false,
            }
    };
    pickle.pairs(id).unwrap_or_default().iter().any(is_array)
}

/// The dictionary of attributes of a module that was saved as an object.
fn module_state(pickle: &Pickle, id: Id) -> Option<Id> {
    let Node::Object(object) = pickle.node(id) else { return None };
    let state = object.state?;
    pickle.get(state, "_parameters").and(pickle.get(state, "_modules")).map(|_| state)
}

fn is_module(pickle: &Pickle, id: Id) -> bool {
    module_state(pickle, id).is_some()
}

/// What a pickle without tensors holds instead, in words.
pub fn without_tensors(pickle: &Pickle) -> String {
    let root = pickle.root();
    if pickle.is_exhausted() {
        return TOO_MUCH_SHARED.to_owned();
    }
    if let Node::Object(object) = pickle.node(root)
        && object.pairs.is_empty()
    {
        let (module, name) = pickle.global(object.class).unwrap_or(("an", "unknown class"));
        let class = format!("{module}.{name}");
        return format!("it holds an object `{}`, not a state dictionary", shown(&class));
    }
    let mut keys: Vec<String> = Vec::new();
    for &(key, _) in pickle.pairs(root).unwrap_or_default().iter().take(1000) {
        let Some(key) = pickle.text(key).map(quoted) else { continue };
        if keys.len() <= N_NAMED && !keys.contains(&key) {
            keys.push(key);
        }
    }
    match keys.is_empty() {
        true => "it holds no dictionary with tensors".to_owned(),
        false => format!("it holds no dictionary with tensors; its entries are {}", listed(&keys)),
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", shown(name))
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > N_NAMED { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(N_NAMED)].join(", "))
}

/// Collects names and tensors.
struct Names<'a> {
    pickle: &'a Pickle,
    tensors: Vec<(String, Id)>,
    /// The first entry that is no tensor, and how many there are.
    skipped: Option<(String, usize)>,
}

impl Names<'_> {
    /// Adds the tensor `id` as `prefix` and `name`, which are checked before they are copied.
    fn add(&mut self, prefix: &str, name: &str, id: Id) -> Result<(), String> {
        let n_bytes = prefix.len().saturating_add(name.len());
        if n_bytes > MAX_NAME_BYTES {
            return Err(format!(
                "the tensor `{}` has a name of {n_bytes} bytes; at most {MAX_NAME_BYTES} are read",
                shown(name)
            ));
        }
        if self.tensors.len() >= MAX_TENSORS {
            return Err(format!("more than {MAX_TENSORS} tensors"));
        }
        self.tensors.push((format!("{prefix}{name}"), id));
        Ok(())
    }

    fn skip(&mut self, prefix: &str, name: &str) {
        let skipped = self.skipped.get_or_insert_with(|| {
            let name = format!("{}{}", shown(prefix), shown(name));
            (quoted(&name), 0)
        });
        skipped.1 += 1;
    }

    fn add_dictionary(&mut self, id: Id, prefix: &str) -> Result<(), String> {
        let pickle = self.pickle;
        for &(key, value) in pickle.pairs(id).unwrap_or_default() {
            let Some(name) = pickle.text(key) else {
                return Err("its state dictionary has a name that is no text".to_owned());
            };
            match tensor(pickle, value) {
                Some(_) => self.add(prefix, name, value)?,
                None => self.skip(prefix, name),
            }
        }
        Ok(())
    }

    /// Adds the tensors of a module as its `state_dict()` would name them: its parameters, its
    /// buffers, then those of the modules within it.
    fn add_module(&mut self, id: Id, prefix: &str) -> Result<(), String> {
        let pickle = self.pickle;
        let mut waiting = vec![(prefix.to_owned(), id, 0)];
        while let Some((prefix, id, depth)) = waiting.pop() {
            let Some(state) = module_state(pickle, id) else { continue };
            let members = |key: &str| {
                let members = pickle.get(state, key).and_then(|id| pickle.pairs(id));
                members.unwrap_or_default()
            };
            for &(key, value) in members("_parameters").iter().chain(members("_buffers")) {
                if let Some(name) = pickle.text(key)
                    && tensor(pickle, value).is_some()
                {
                    self.add(&prefix, name, value)?;
                }
            }
            if depth == MAX_MODULE_DEPTH {
                return Err(format!("modules within modules, more than {MAX_MODULE_DEPTH} deep"));
            }
            // Last in, first out.
            for &(key, value) in members("_modules").iter().rev() {
                if let Some(name) = pickle.text(key)
                    && prefix.len() + name.len() < MAX_NAME_BYTES
                {
                    if waiting.len() >= MAX_TENSORS {
                        return Err(format!("more than {MAX_TENSORS} modules"));
                    }
                    waiting.push((format!("{prefix}{name}."), value, depth + 1));
                }
            }
        }
        Ok(())
    }
}
