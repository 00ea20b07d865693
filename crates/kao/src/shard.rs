//! A part of a task that splits by itself: shard K of N, as `K/N`, counted from 0.
//!
//! Whatever a task makes is a list in a fixed order, and a shard is one of N stretches of it, equal
//! up to one. So N processes that know nothing of each other make the whole, and one that failed is
//! simply started again. This module knows neither tasks nor schedulers.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The most shards that a task splits into: the tasks of the largest job arrays.
const MAX_COUNT: u32 = 1_000_000;

/// Shard `index` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Shard `index`, from 0, of `count`.
    ///
    /// # Errors
    /// When there is no such shard.
    pub fn new(index: u32, count: u32) -> Result<Self> {
        let text = format!("{index}/{count}");
        if !(1..=MAX_COUNT).contains(&count) {
            let allowed = format!("of 1 to {MAX_COUNT} shards");
            return Err(Error::out_of_range("shard", text, allowed));
        }
        if index >= count {
            let last = count - 1;
            let allowed = format!("between 0/{count} and {last}/{count}: shards count from 0");
            return Err(Error::out_of_range("shard", text, allowed));
        }
        Ok(Shard { index, count })
    }

    /// Which of the shards, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many shards there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// All shards of so many.
    pub fn all(count: u32) -> impl Iterator<Item = Shard> {
        (0..count).map(move |index| Shard { index, count })
    }

    /// The part of `n` things in a fixed order that is this shard's; empty where there are fewer
    /// things than shards.
    pub fn range(self, n: usize) -> Range<usize> {
        let end = |shard: u32| (n as u128 * u128::from(shard) / u128::from(self.count)) as usize;
        end(self.index)..end(self.index + 1)
    }
}

/// The part of `n` things that is the shard's; all of them without one.
pub fn range_of(shard: Option<Shard>, n: usize) -> Range<usize> {
    shard.map_or(0..n, |shard| shard.range(n))
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        let Some((index, count)) = numbers else {
            let allowed = "two numbers as in 0/5, the first of five shards";
            return Err(Error::out_of_range("shard", text, allowed));
        };
        Shard::new(index, count)
    }
}

impl TryFrom<String> for Shard {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shards_are_told_as_they_are_read() {
        let shard: Shard = "3/5".parse().unwrap();
        assert_eq!((shard.index(), shard.count(), shard.to_string().as_str()), (3, 5, "3/5"));
        assert_eq!(serde_json::to_string(&shard).unwrap(), "\"3/5\"");
        assert_eq!(serde_json::from_str::<Shard>("\"3/5\"").unwrap(), shard);
        for (text, words) in [
            ("5/5", "shard 5/5: must be between 0/5 and 4/5"),
            ("0/0", "shard 0/0: must be of 1 to"),
            ("1", "shard 1: must be two numbers"),
            ("-1/3", "shard -1/3: must be two numbers"),
            ("0/1000001", "shard 0/1000001: must be of 1 to"),
            ("a/b/c", "shard a/b/c: must be two numbers"),
        ] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
            assert!(serde_json::from_value::<Shard>(text.into()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_shards_are_the_whole_in_order(n in 0_usize..10_000, count in 1_u32..100) {
            let parts: Vec<usize> = Shard::all(count).flat_map(|shard| shard.range(n)).collect();
            prop_assert_eq!(parts, Vec::from_iter(0..n));
            let lengths: Vec<usize> = Shard::all(count).map(|shard| shard.range(n).len()).collect();
            let (least, most) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
