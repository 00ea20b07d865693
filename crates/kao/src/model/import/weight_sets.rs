//! Which tensors of a file are the network's.
//!
//! Training programs wrap a network, and every wrapper adds to the names of its tensors: Lightning
//! the attribute that holds it (`unet.`), `DistributedDataParallel` `module.`, `torch.compile`
//! `_orig_mod.`, DeepSpeed `_forward_module.`, in any order. And a file may hold a network twice:
//! the weights themselves, and their moving average under a name such as `ema_unet.`. So nothing
//! is assumed of names but how they end: a prefix with which all expected names are there is a set
//! of weights. This module reads no file and knows no architecture; it compares lists of names.

use crate::error::shortened;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Which weights of a file that holds two sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointWeights {
    /// Their moving average.
    #[default]
    Average,
    /// The weights themselves.
    Raw,
}

/// What wrappers put between the names of modules, before any of them.
const WRAPPERS: [&str; 5] = [
    "_orig_mod",
    "module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// Prefixes that are tried, and names that they are looked for with.
const MAX_PREFIXES: usize = 64;
const N_ANCHORS: usize = 5;

/// The choice of a network's tensors among those of a file.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The name of each tensor of the network, by its name in the file.
    names: HashMap<String, String>,
    /// Tensors of other sets.
    others: HashSet<String>,
    /// Whether every expected name was found.
    pub is_complete: bool,
    /// Whether the chosen weights are an average, where the file holds both.
    pub chosen: Option<CheckpointWeights>,
    /// Which set was chosen, where there are several: to be told whenever they are used.
    pub choice: Option<String>,
    /// What was taken off the names.
    pub notes: Vec<String>,
}

impl Selection {
    /// Whether any tensor is chosen.
    pub fn is_any(&self) -> bool {
        !self.names.is_empty()
    }

    /// The network's name for the tensor that the file calls `name`, where it is one of the chosen
    /// ones.
    pub fn name(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(String::as_str)
    }

    /// What to call the tensor `name` of the file in a list of all: as the network does, or as the
    /// file does where the network has none of it; nothing for tensors of other sets of weights.
    pub fn listed_name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.name(name).or_else(|| (!self.others.contains(name)).then_some(name))
    }
}

/// A prefix, and how names follow it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Prefix {
    text: String,
    /// As in `ema.downblocks0block12weight`: some averages are kept as buffers, whose names may
    /// have no dots.
    without_dots: bool,
}

impl Prefix {
    fn name(&self, name: &str) -> String {
        let name = if self.without_dots { Cow::Owned(name.replace('.', "")) } else { name.into() };
        format!("{}{name}", self.text)
    }

    /// Whether weights under this prefix are an average, as far as its words tell.
    fn is_average(&self) -> bool {
        const WORDS: [&str; 9] =
            ["ema", "emas", "average", "averaged", "averaging", "avg", "swa", "shadow", "polyak"];
        // Of an average that keeps both, this is the other.
        if self.text.split('.').any(|part| part == "online_model") {
            return false;
        }
        let text = self.text.to_lowercase();
        let mut words = text.split(|c: char| !c.is_alphabetic());
        words.any(|word| WORDS.contains(&word) || word.starts_with("ema"))
    }
}

/// Chooses among the tensors `found` in a file those that a network of the names `expected` has.
/// `optional` are names that a network has but a file need not.
pub fn select(
    expected: &[&str],
    optional: &[&str],
    found: &[&str],
    which: CheckpointWeights,
) -> Selection {
    let plain = Listing::new(found.iter().map(|name| Cow::Borrowed(*name)).collect());
    let plain = plain.sets(expected);
    let has_all = |sets: &[Set]| sets.first().is_some_and(|set| set.n_found == expected.len());
    if has_all(&plain) {
        return choose(plain, expected, optional, found, found, which);
    }
    // Wrappers within the network, such as those of single blocks.
    let unwrapped: Vec<_> = found.iter().map(|name| without_wrappers(name)).collect();
    let list = Listing::new(unwrapped.clone());
    if list.is_unambiguous() {
        let sets = list.sets(expected);
        if has_all(&sets) {
            let unwrapped: Vec<_> = unwrapped.iter().map(Cow::as_ref).collect();
            return choose(sets, expected, optional, &unwrapped, found, which);
        }
    }
    choose(plain, expected, optional, found, found, which)
}

fn without_wrappers(name: &str) -> Cow<'_, str> {
    if !name.split('.').any(|part| WRAPPERS.contains(&part)) {
        return Cow::Borrowed(name);
    }
    let parts: Vec<_> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    Cow::Owned(parts.join("."))
}

/// A set of weights: expected names under one prefix.
#[derive(Clone, Debug)]
struct Set {
    prefix: Prefix,
    n_found: usize,
}

/// The names of a file.
struct Listing<'a> {
    names: Vec<Cow<'a, str>>,
    all: HashSet<String>,
}

impl<'a> Listing<'a> {
    fn new(names: Vec<Cow<'a, str>>) -> Self {
        let all = names.iter().map(|name| name.clone().into_owned()).collect();
        Listing { names, all }
    }

    fn is_unambiguous(&self) -> bool {
        self.names.len() == self.all.len()
    }

    /// The prefixes under which there are expected names: all those with the most, in the order of
    /// the file.
    fn sets(&self, expected: &[&str]) -> Vec<Set> {
        let mut prefixes = Vec::new();
        // The first name need not be there, so some others are tried too.
        let step = expected.len().div_ceil(N_ANCHORS).max(1);
        for anchor in expected.iter().step_by(step) {
            let dotless = anchor.replace('.', "");
            for name in &self.names {
                let dotted = name.strip_suffix(anchor);
                let dotted = dotted.filter(|text| text.is_empty() || text.ends_with('.'));
                let (text, without_dots) = match (dotted, name.strip_suffix(dotless.as_str())) {
                    (Some(text), _) => (text, false),
                    // Only averages are kept in this way.
                    (None, Some(text)) if !text.is_empty() => (text, true),
                    _ => continue,
                };
                let prefix = Prefix { text: text.to_owned(), without_dots };
                if prefixes.len() < MAX_PREFIXES && !prefixes.contains(&prefix) {
                    prefixes.push(prefix);
                }
            }
        }
        let mut sets: Vec<_> =
            prefixes.into_iter().map(|prefix| self.set(prefix, expected)).collect();
        let most = sets.iter().map(|set| set.n_found).max().unwrap_or(0);
        sets.retain(|set| set.n_found == most);
        sets
    }

    fn set(&self, prefix: Prefix, expected: &[&str]) -> Set {
        let is_there = |name: &&&str| self.all.contains(&prefix.name(name));
        let n_found = expected.iter().filter(is_there).count();
        Set { prefix, n_found }
    }
}

/// Chooses one of `sets`. `names` are those of the file as the sets have them, `in_file` as the
/// file does.
fn choose(
    sets: Vec<Set>,
    expected: &[&str],
    optional: &[&str],
    names: &[&str],
    in_file: &[&str],
    which: CheckpointWeights,
) -> Selection {
    let mut selection = Selection::default();
    let (averages, raw): (Vec<Set>, Vec<Set>) = {
        // Where the weights themselves are said to be elsewhere, the others are their average.
        let is_current = |set: &Set| set.prefix.text.starts_with("current_model_state.");
        let has_current = sets.iter().any(is_current);
        sets.into_iter().partition(|set| match has_current {
            true => !is_current(set),
            false => set.prefix.is_average(),
        })
    };
    let has_both = !averages.is_empty() && !raw.is_empty();
    let of_kind = match which {
        CheckpointWeights::Raw => raw.iter().chain(&averages),
        CheckpointWeights::Average => averages.iter().chain(&raw),
    };
    let Some(chosen) = of_kind.clone().next() else { return selection };
    selection.is_complete = chosen.n_found == expected.len();
    if has_both {
        selection.chosen = Some(which);
    }
    let others: Vec<_> = of_kind.skip(1).collect();

    // Names under the chosen prefix, where they are not under a longer one of another set.
    let is_of = |set: &Set, name: &str| name.starts_with(&set.prefix.text);
    let is_longer = |other: &Set| other.prefix.text.len() > chosen.prefix.text.len();
    let dotless: HashMap<String, &str> = match chosen.prefix.without_dots {
        true => {
            let all = expected.iter().chain(optional);
            all.map(|name| (chosen.prefix.name(name), *name)).collect()
        }
        false => HashMap::new(),
    };
    for (&name, &in_file) in names.iter().zip(in_file) {
        let is_elsewhere = others.iter().any(|set| is_of(set, name) && is_longer(set));
        let own = match chosen.prefix.without_dots {
            true => dotless.get(name).copied(),
            false => name.strip_prefix(&chosen.prefix.text).filter(|_| !is_elsewhere),
        };
        if let Some(own) = own {
            selection.names.insert(in_file.to_owned(), own.to_owned());
        } else if others.iter().any(|set| is_of(set, name)) {
            selection.others.insert(in_file.to_owned());
        }
    }
    selection.choice = choice(chosen, &others, has_both, which);
    if !chosen.prefix.text.is_empty() {
        let prefix = shown(chosen);
        selection.notes.push(format!("the prefix {prefix} was taken off the names"));
    }
    let n_inside = names.iter().zip(in_file).filter(|(name, in_file)| name != in_file).count();
    if n_inside > 0 {
        let note = format!("names of wrappers were taken out of {n_inside} tensors' names");
        selection.notes.push(note);
    }
    selection
}

/// What to say of a choice among several sets.
fn choice(
    chosen: &Set,
    others: &[&Set],
    has_both: bool,
    which: CheckpointWeights,
) -> Option<String> {
    if others.is_empty() {
        return None;
    }
    let list: Vec<_> = others.iter().take(4).map(|set| shown(set)).collect();
    let more = if others.len() > list.len() { ", …" } else { "" };
    let (prefix, others) = (shown(chosen), format!("{}{more}", list.join(", ")));
    Some(match (has_both, which) {
        (true, CheckpointWeights::Average) => format!(
            "the averaged weights ({prefix}) are used; `raw_weights` chooses the weights \
             themselves ({others})"
        ),
        (true, CheckpointWeights::Raw) => {
            format!("the weights themselves ({prefix}) are used, not their average ({others})")
        }
        (false, _) => format!("the weights {prefix} are used; there are others: {others}"),
    })
}

fn shown(set: &Set) -> String {
    match set.prefix.text.as_str() {
        "" => "without a prefix".to_owned(),
        text => format!("`{}`", shortened(text, 80)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [&str; 4] = ["head.weight", "head.bias", "blocks.0.norm.weight", "tail.weight"];
    const TABLE: &str = "time.table";

    fn under(prefixes: &[&str]) -> Vec<String> {
        let names = |prefix: &&str| EXPECTED.map(|name| format!("{prefix}{name}"));
        prefixes.iter().flat_map(names).collect()
    }

    fn chosen(found: &[String], which: CheckpointWeights) -> (Vec<(String, String)>, Selection) {
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        let selection = select(&EXPECTED, &[TABLE], &found, which);
        let names = found
            .iter()
            .filter_map(|name| Some((selection.name(name)?.to_owned(), (*name).to_owned())));
        (names.collect(), selection)
    }

    /// Checks that the network's names are chosen under `prefix`.
    fn is_chosen(found: &[String], which: CheckpointWeights, prefix: &str) -> Selection {
        let (names, selection) = chosen(found, which);
        let expected: Vec<_> =
            EXPECTED.iter().map(|name| ((*name).to_owned(), format!("{prefix}{name}"))).collect();
        assert_eq!(names, expected, "{found:?}");
        assert!(selection.is_complete, "{found:?}");
        selection
    }

    #[test]
    fn any_common_prefix_is_taken_off() {
        for prefix in [
            "unet.",
            "module.",
            "_orig_mod.",
            "unet._orig_mod.",
            "_forward_module.unet.",
            "unet.module.",
            "model.",
            "state_dict.diffusion.net.",
            "head.",
        ] {
            let mut found = under(&[prefix]);
            found.push("loss.weight".to_owned());
            let selection = is_chosen(&found, CheckpointWeights::Average, prefix);
            assert_eq!(selection.notes, [format!("the prefix `{prefix}` was taken off the names")]);
            assert_eq!(selection.listed_name("loss.weight"), Some("loss.weight"));
        }
        let selection = is_chosen(&under(&[""]), CheckpointWeights::Average, "");
        assert_eq!(selection.notes, [""; 0]);
    }

    #[test]
    fn wrappers_of_single_blocks_are_taken_out() {
        let found = ["unet.head.weight", "unet.head.bias", "unet.blocks.0._orig_mod.norm.weight"];
        let mut found: Vec<String> = found.map(str::to_owned).into();
        found.push("unet.module.tail.weight".to_owned());
        let (names, selection) = chosen(&found, CheckpointWeights::Average);
        assert_eq!(names.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), EXPECTED);
        assert!(selection.is_complete);
        assert!(selection.notes[1].contains("out of 2 tensors' names"), "{:?}", selection.notes);
    }

    #[test]
    fn averages_are_taken_unless_the_weights_themselves_are_asked_for() {
        use CheckpointWeights::{Average, Raw};
        for (raw, average) in [
            ("unet.", "ema_unet."),
            ("unet.", "unet_ema."),
            ("unet.", "ema."),
            ("", "ema."),
            ("model.", "model_ema."),
            ("model.", "ema.module."),
            ("state_dict.", "state_dict_ema."),
            ("unet.", "averaged_model.module."),
            ("current_model_state.unet.", "state_dict.unet."),
            ("ema.online_model.", "ema.ema_model."),
            ("schema.", "EMA.schema."),
        ] {
            for found in [under(&[raw, average]), under(&[average, raw])] {
                let selection = is_chosen(&found, Average, average);
                assert_eq!(selection.chosen, Some(Average));
                assert_eq!(selection.listed_name(&format!("{raw}head.weight")), None);
                assert!(selection.choice.unwrap().contains("`raw_weights`"));
                assert_eq!(is_chosen(&found, Raw, raw).chosen, Some(Raw));
            }
        }
    }

    #[test]
    fn one_set_is_taken_whatever_is_asked_for() {
        for which in [CheckpointWeights::Average, CheckpointWeights::Raw] {
            for prefix in ["ema.", "unet."] {
                let selection = is_chosen(&under(&[prefix]), which, prefix);
                assert_eq!((selection.chosen, selection.choice), (None, None));
            }
        }
        let found = under(&["student.", "teacher."]);
        let selection = is_chosen(&found, CheckpointWeights::Average, "student.");
        let choice = selection.choice.unwrap();
        assert_eq!(choice, "the weights `student.` are used; there are others: `teacher.`");
    }

    #[test]
    fn averages_without_dots_are_found() {
        let mut found = under(&["model.net."]);
        found.extend(EXPECTED.map(|name| format!("ema.net{}", name.replace('.', ""))));
        found.push("ema.decay".to_owned());
        let (names, selection) = chosen(&found, CheckpointWeights::Average);
        assert_eq!(names.len(), EXPECTED.len());
        assert_eq!(names[2], (EXPECTED[2].to_owned(), "ema.netblocks0normweight".to_owned()));
        assert!(selection.is_complete && selection.chosen == Some(CheckpointWeights::Average));
        is_chosen(&found, CheckpointWeights::Raw, "model.net.");
    }

    #[test]
    fn what_is_nearest_is_taken_where_nothing_fits() {
        let mut found = under(&["unet."]);
        found.remove(0);
        found.extend(under(&["other."]).into_iter().take(2));
        let (names, selection) = chosen(&found, CheckpointWeights::Average);
        assert_eq!(names.len(), 3);
        assert!(!selection.is_complete);
        let (names, selection) = chosen(&["a".to_owned()], CheckpointWeights::Average);
        assert!(names.is_empty() && !selection.is_complete);
        assert_eq!(selection.listed_name("a"), Some("a"));
    }
}
