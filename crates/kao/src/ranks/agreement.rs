//! Whether the ranks of a group begin with the same.
//!
//! Ranks that differ in their program, their pictures, their settings or the way their processors
//! round would train weights that nobody could make again, or wait for each other for ever. So they
//! compare facts before they begin: names and values, the same names at every rank.

use super::collectives::gather;
use super::{Group, host_name};
use crate::error::{Error, Result, shortened};
use std::collections::BTreeMap;

/// The most characters of a value that are shown.
const MAX_SHOWN: usize = 80;

/// What a rank begins with, by name, in words that can be shown.
pub type Facts = BTreeMap<String, String>;

/// A fact in which ranks differ from rank 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name of the fact.
    pub name: String,
    /// What it is at rank 0.
    pub first: String,
    /// What else it is, and at which ranks.
    pub others: Vec<(Vec<usize>, String)>,
}

/// Where `facts` are not the same at every rank: the same list at each.
///
/// # Errors
/// When a rank is gone.
pub fn differences(group: &dyn Group, facts: &Facts) -> Result<Vec<Difference>> {
    let own = serde_json::to_vec(facts).expect("texts can be written");
    let all: Vec<Facts> = gather(group, &own)?
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).unwrap_or_default())
        .collect();
    let mut names: Vec<&String> = all.iter().flat_map(Facts::keys).collect();
    names.sort_unstable();
    names.dedup();
    let value = |facts: &Facts, name: &String| {
        facts.get(name).cloned().unwrap_or_else(|| "unknown".to_owned())
    };
    let differences = names.into_iter().filter_map(|name| {
        let first = value(&all[0], name);
        let mut others: Vec<(Vec<usize>, String)> = Vec::new();
        for (rank, facts) in all.iter().enumerate().skip(1) {
            let found = value(facts, name);
            if found == first {
                continue;
            }
            match others.iter_mut().find(|(_, known)| *known == found) {
                Some((ranks, _)) => ranks.push(rank),
                None => others.push((vec![rank], found)),
            }
        }
        (!others.is_empty()).then(|| Difference { name: name.clone(), first, others })
    });
    Ok(differences.collect())
}

/// The machine of each rank.
///
/// # Errors
/// When a rank is gone.
pub fn hosts(group: &dyn Group) -> Result<Vec<String>> {
    let all = gather(group, host_name().as_bytes())?;
    Ok(all.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Refuses to begin where `facts` differ between ranks. `tell` gets a line for each difference, so
/// that none is lost in a message of bounded length; `hosts` are the machines of the ranks.
///
/// # Errors
/// When they differ, at every rank; or when a rank is gone.
pub fn check(
    group: &dyn Group,
    hosts: &[String],
    facts: &Facts,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let differences = differences(group, facts)?;
    let lines: Vec<String> = differences.iter().map(|at| in_words(at, hosts)).collect();
    match lines.as_slice() {
        [] => Ok(()),
        [one] => Err(refused(one)),
        [first, rest @ ..] => {
            lines.iter().for_each(|line| tell(line));
            let more = if rest.len() == 1 { "difference" } else { "differences" };
            Err(refused(&format!("{first}; and {} more {more}, see above", rest.len())))
        }
    }
}

fn refused(difference: &str) -> Error {
    Error::invalid("ranks", format!("they do not agree: {difference}"))
        .with_hint("start the same program with the same arguments and pictures on every machine")
}

/// `program is kao 0.2 at rank 3 on b, kao 0.1 at rank 0 on a`
fn in_words(difference: &Difference, hosts: &[String]) -> String {
    let Difference { name, first, others } = difference;
    let host = |rank: usize| hosts.get(rank).map_or("?", String::as_str);
    let others: Vec<String> = others
        .iter()
        .map(|(ranks, value)| {
            format!("{} at {}", shortened(value, MAX_SHOWN), ranks_in_words(ranks, &host))
        })
        .collect();
    let first = shortened(first, MAX_SHOWN);
    format!("{name} is {}, {first} at rank 0 on {}", others.join(", "), host(0))
}

fn ranks_in_words<'a>(ranks: &[usize], host: &dyn Fn(usize) -> &'a str) -> String {
    const SHOWN: usize = 4;
    let named: Vec<String> =
        ranks.iter().take(SHOWN).map(|&rank| format!("{rank} on {}", host(rank))).collect();
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    match ranks.len() {
        n if n > SHOWN => format!("{word} {} and {} more", named.join(", "), n - SHOWN),
        _ => format!("{word} {}", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads::together;
    use std::sync::Mutex;

    fn facts(entries: &[(&str, &str)]) -> Facts {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn ranks_that_agree_begin() {
        let found = together(3, |group| {
            let hosts = hosts(group).unwrap();
            check(group, &hosts, &facts(&[("program", "kao 1")]), &|_| ())
        });
        assert!(found.iter().all(Result::is_ok));
    }

    #[test]
    fn each_difference_is_named_with_its_ranks() {
        let told = Mutex::new(Vec::new());
        let errors = together(4, |group| {
            let hosts: Vec<String> = ["a", "a", "b", "c"].map(str::to_owned).into();
            let own = match group.rank() {
                0 => facts(&[("program", "kao 1"), ("instructions", "avx512"), ("steps", "9")]),
                1 => facts(&[("program", "kao 1"), ("instructions", "avx512"), ("steps", "9")]),
                2 => facts(&[("program", "kao 2"), ("instructions", "avx2"), ("steps", "9")]),
                _ => facts(&[("program", "kao 3"), ("instructions", "avx2"), ("steps", "9")]),
            };
            let tell = |line: &str| {
                if group.is_first() {
                    told.lock().unwrap().push(line.to_owned());
                }
            };
            check(group, &hosts, &own, &tell).unwrap_err().to_string()
        });
        assert_eq!(
            told.into_inner().unwrap(),
            [
                "instructions is avx2 at ranks 2 on b, 3 on c, avx512 at rank 0 on a",
                "program is kao 2 at rank 2 on b, kao 3 at rank 3 on c, kao 1 at rank 0 on a",
            ]
        );
        assert_eq!(
            errors[3],
            "ranks: they do not agree: instructions is avx2 at ranks 2 on b, 3 on c, avx512 at \
             rank 0 on a; and 1 more difference, see above"
        );
        assert!(errors.iter().all(|error| *error == errors[0]));
    }

    #[test]
    fn a_fact_that_one_rank_lacks_is_a_difference() {
        let errors = together(2, |group| {
            let own = if group.is_first() { facts(&[]) } else { facts(&[("seed", "1")]) };
            check(group, &["a".to_owned(), "b".to_owned()], &own, &|_| ()).unwrap_err().to_string()
        });
        assert!(errors[0].contains("seed is 1 at rank 1 on b, unknown at rank 0"), "{errors:?}");
    }
}
