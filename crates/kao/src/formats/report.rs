//! What a file holds beside what somebody expects, by name.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::tensor::NamedTensors;
use crate::error::{Error, Result};

/// The comparison of expected tensors with those of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Expected, and there in the right shape.
    pub loaded: Vec<String>,
    /// Expected, but not there.
    pub missing: Vec<Missing>,
    /// There, but not expected.
    pub unused: Vec<String>,
    /// Expected, and there in another shape.
    pub wrong_shape: Vec<WrongShape>,
}

/// A tensor that was expected but is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The expected name.
    pub name: String,
    /// The expected shape.
    pub shape: Vec<usize>,
    /// An unexpected tensor of the file whose name is nearly this one.
    pub nearest: Option<String>,
}

/// A tensor that is there in another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongShape {
    /// The name.
    pub name: String,
    /// The shape that was expected.
    pub expected: Vec<usize>,
    /// The shape it has.
    pub found: Vec<usize>,
}

/// Names that a one-line error lists before it only counts.
const N_NAMED: usize = 3;
/// Missing names that a near name is looked for, and names that are looked at for each: a
/// stranger's file may have a million.
const N_SUGGESTIONS: usize = 64;
const N_CANDIDATES: usize = 4096;

impl LoadReport {
    /// Compares the `expected` names and shapes with the tensors `found`.
    pub fn compare<'a>(
        expected: impl IntoIterator<Item = (&'a str, &'a [usize])>,
        found: &NamedTensors,
    ) -> Self {
        let found = found.iter().map(|(name, tensor)| (name, tensor.shape()));
        Self::compare_shapes(expected, found)
    }

    /// Compares the `expected` names and shapes with those `found`: what [`peek`](super::peek)
    /// saw, for example.
    pub fn compare_shapes<'a, 'b>(
        expected: impl IntoIterator<Item = (&'a str, &'a [usize])>,
        found: impl IntoIterator<Item = (&'b str, &'b [usize])>,
    ) -> Self {
        let found: Vec<_> = found.into_iter().collect();
        let mut unmatched: HashMap<&str, &[usize]> = found.iter().copied().collect();
        let mut report = LoadReport::default();
        for (name, shape) in expected {
            match unmatched.remove(name) {
                Some(found) if found == shape => report.loaded.push(name.to_owned()),
                Some(found) => report.wrong_shape.push(WrongShape {
                    name: name.to_owned(),
                    expected: shape.to_vec(),
                    found: found.to_vec(),
                }),
                None => report.missing.push(Missing {
                    name: name.to_owned(),
                    shape: shape.to_vec(),
                    nearest: None,
                }),
            }
        }
        let unused =
            found.iter().map(|&(name, _)| name).filter(|name| unmatched.contains_key(name));
        report.unused = unused.map(str::to_owned).collect();
        for missing in report.missing.iter_mut().take(N_SUGGESTIONS) {
            missing.nearest = nearest(&missing.name, &report.unused);
        }
        report
    }

    /// Whether every expected tensor is there in the right shape. Unused ones do not count.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.wrong_shape.is_empty()
    }

    /// The report itself when it [is complete](Self::is_complete).
    ///
    /// # Errors
    /// Otherwise one line about `path` that names the first tensors that do not fit, with their
    /// shapes, and says how many more there are.
    pub fn into_result(self, path: impl AsRef<Path>) -> Result<Self> {
        if self.is_complete() {
            return Ok(self);
        }
        let n_wrong = self.missing.len() + self.wrong_shape.len();
        let n_expected = self.loaded.len() + n_wrong;
        let wrong_shape = self.wrong_shape.iter().map(|wrong| {
            format!("`{}` has shape {:?}, expected {:?}", wrong.name, wrong.found, wrong.expected)
        });
        let missing = self.missing.iter().map(|m| format!("`{}` {:?} is missing", m.name, m.shape));
        let mut list: Vec<_> = wrong_shape.chain(missing).take(N_NAMED).collect();
        if n_wrong > list.len() {
            list.push(format!("and {} more", n_wrong - list.len()));
        }
        let mut error = Error::malformed(
            path,
            format!("{n_wrong} of {n_expected} tensors do not fit: {}", list.join("; ")),
        );
        if let Some(hint) = self.hint() {
            error = error.with_hint(hint);
        }
        Err(error)
    }

    /// What may be the matter, where it can be guessed.
    fn hint(&self) -> Option<String> {
        if let Some(prefix) = self.common_prefix() {
            return Some(format!("the names in the file start with `{prefix}`"));
        }
        let near = self.missing.iter().find_map(|m| Some((&m.name, m.nearest.as_ref()?)));
        if let Some((name, nearest)) = near {
            return Some(format!("the file has `{nearest}`: is that `{name}`?"));
        }
        if self.loaded.is_empty() && self.wrong_shape.is_empty() {
            return Some("no name fits: the file holds another kind of model".to_owned());
        }
        if !self.wrong_shape.is_empty() {
            return Some("the file holds a model of another configuration".to_owned());
        }
        None
    }

    /// A prefix that all unexpected names share and that turns the first missing name into one
    /// of them.
    fn common_prefix(&self) -> Option<&str> {
        let missing = self.missing.first()?;
        let ends = |name: &&String| name.ends_with(&missing.name);
        let name = self.unused.iter().take(N_CANDIDATES).find(ends)?;
        let prefix = name.strip_suffix(&missing.name)?;
        self.unused.iter().all(|name| name.starts_with(prefix)).then_some(prefix)
    }
}

impl fmt::Display for LoadReport {
    /// A line of counts, then a line for everything that does not fit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} loaded, {} missing, {} unused, {} of wrong shape",
            self.loaded.len(),
            self.missing.len(),
            self.unused.len(),
            self.wrong_shape.len()
        )?;
        for WrongShape { name, expected, found } in &self.wrong_shape {
            write!(f, "\nwrong shape: {name} {found:?}, expected {expected:?}")?;
        }
        for Missing { name, shape, nearest } in &self.missing {
            write!(f, "\nmissing: {name} {shape:?}")?;
            if let Some(nearest) = nearest {
                write!(f, " (the file has {nearest})")?;
            }
        }
        for name in &self.unused {
            write!(f, "\nunused: {name}")?;
        }
        Ok(())
    }
}

/// The candidate that is fewest edits away from `name`, where that is few enough for a slip.
fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    let most = (name.len() / 5).clamp(1, 3);
    let near = candidates.iter().take(N_CANDIDATES).filter_map(|candidate| {
        let edits = edit_distance(name, candidate, most)?;
        Some((edits, candidate))
    });
    near.min_by_key(|&(edits, _)| edits).map(|(_, candidate)| candidate.clone())
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`, where
/// there are at most `most`.
fn edit_distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut before_last = vec![usize::MAX; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        if row.iter().all(|&edits| edits > most) {
            return None;
        }
        before_last = std::mem::replace(&mut last, row);
    }
    Some(last[b.len()]).filter(|&edits| edits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &[(&str, &[usize])], found: &[(&str, &[usize])]) -> LoadReport {
        LoadReport::compare_shapes(expected.iter().copied(), found.iter().copied())
    }

    #[test]
    fn a_misspelt_name_is_suggested() {
        let report = compare(
            &[("head.weight", &[2]), ("tail.2.bias", &[3])],
            &[("head.wieght", &[2]), ("tail.2.bias", &[3]), ("other", &[1])],
        );
        assert_eq!(report.loaded, ["tail.2.bias"]);
        assert_eq!(report.missing[0].nearest.as_deref(), Some("head.wieght"));
        assert_eq!(report.unused, ["head.wieght", "other"]);
        assert!(report.to_string().contains("missing: head.weight [2] (the file has head.wieght)"));
        let error = report.into_result("m.safetensors").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`m.safetensors`: 1 of 2 tensors do not fit: `head.weight` [2] is missing"
        );
        assert_eq!(error.hint(), Some("the file has `head.wieght`: is that `head.weight`?"));
    }

    #[test]
    fn shapes_are_named_and_the_rest_is_counted() {
        let (small, large): (&[usize], &[usize]) = (&[32, 3], &[64, 3]);
        let names = ["a", "b", "c", "d", "e"];
        let report = compare(&names.map(|name| (name, large)), &names.map(|name| (name, small)));
        let error = report.into_result("x").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("5 of 5 tensors"), "{text}");
        assert!(text.contains("`a` has shape [32, 3], expected [64, 3]"), "{text}");
        assert!(text.ends_with("and 2 more"), "{text}");
        assert!(error.hint().unwrap().contains("another configuration"));
    }

    #[test]
    fn a_prefix_is_told() {
        let report = compare(
            &[("head.weight", &[2]), ("tail.bias", &[3])],
            &[("model.head.weight", &[2]), ("model.tail.bias", &[3])],
        );
        let error = report.into_result("x").unwrap_err();
        assert_eq!(error.hint(), Some("the names in the file start with `model.`"));
    }

    #[test]
    fn unused_tensors_are_no_error() {
        let report = compare(&[("a", &[1])], &[("a", &[1]), ("b", &[1])]);
        assert_eq!(report.into_result("x").unwrap().unused, ["b"]);
    }

    #[test]
    fn distances_are_those_of_optimal_alignment() {
        assert_eq!(edit_distance("weight", "wieght", 3), Some(1));
        assert_eq!(edit_distance("weight", "weights", 3), Some(1));
        assert_eq!(edit_distance("kitten", "sitting", 3), Some(3));
        assert_eq!(edit_distance("kitten", "sitting", 2), None);
        assert_eq!(edit_distance("", "ab", 2), Some(2));
    }
}
