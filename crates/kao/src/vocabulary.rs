//! The tags that a model knows, and how people may write them.
//!
//! A tag is a short text such as `blue hair`. This module knows neither pictures nor networks: it
//! gives tags numbers, and finds the one that was meant.

use crate::error::{Error, Result, shortened};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The name of a list of tags: one line of JSON for each picture, as Hugging Face's `imagefolder`
/// has it.
pub const TAG_LIST: &str = "metadata.jsonl";

/// What a [`TAG_LIST`] says of one picture: its `file_name` and its `tags`.
pub fn tag_line(file_name: &str, tags: &[impl Serialize]) -> serde_json::Value {
    serde_json::json!({ "file_name": file_name, "tags": tags })
}

/// The longest tag, in bytes. What is longer is a sentence.
pub const MAX_TAG_BYTES: usize = 200;

/// Tags that are proposed in place of an unknown one.
const N_PROPOSALS: usize = 3;

/// The least likeness, 0 to 1, at which a tag is proposed.
const PROPOSED_FROM: f64 = 0.6;

/// A tag, and how many pictures have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagCount {
    /// As [`canonical`] writes it.
    pub tag: String,
    /// The pictures that the model was trained on and that have it.
    pub count: u64,
}

/// The tags of a model, numbered from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<TagCount>", into = "Vec<TagCount>")]
pub struct Vocabulary {
    tags: Vec<TagCount>,
    numbers: HashMap<String, usize>,
}

impl Vocabulary {
    /// The vocabulary of `tags`, in this order.
    ///
    /// # Errors
    /// When a tag is empty, too long, not as [`canonical`] writes it, or there twice.
    pub fn new(tags: Vec<TagCount>) -> Result<Self> {
        let mut numbers = HashMap::with_capacity(tags.len());
        for (number, TagCount { tag, .. }) in tags.iter().enumerate() {
            let shown = shortened(tag, 40);
            if canonical(tag).as_deref() != Some(tag) {
                return Err(Error::invalid("tags", format!("`{shown}` is not written as a tag")));
            }
            if numbers.insert(tag.clone(), number).is_some() {
                return Err(Error::invalid("tags", format!("`{shown}` is there twice")));
            }
        }
        Ok(Vocabulary { tags, numbers })
    }

    /// The tags that at least `min_count` of the pictures have, each given by its tags; the most
    /// frequent first, then by name. Second, how many rarer tags were left out.
    pub fn of_pictures<'a>(
        pictures: impl IntoIterator<Item = &'a [String]>,
        min_count: u64,
    ) -> (Self, usize) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for tag in pictures.into_iter().flatten() {
            *counts.entry(tag).or_default() += 1;
        }
        let n_all = counts.len();
        let mut tags: Vec<TagCount> = counts
            .into_iter()
            .filter(|(_, count)| *count >= min_count)
            .map(|(tag, count)| TagCount { tag: tag.to_owned(), count })
            .collect();
        // Stable, so tags of one count stay in the order of their names.
        tags.sort_by_key(|tag| std::cmp::Reverse(tag.count));
        let n_rare = n_all - tags.len();
        let numbers = tags.iter().enumerate().map(|(k, tag)| (tag.tag.clone(), k)).collect();
        (Vocabulary { tags, numbers }, n_rare)
    }

    /// The tags, by number.
    pub fn tags(&self) -> &[TagCount] {
        &self.tags
    }

    /// How many tags there are.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether the model knows no tags.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The number of a tag as [`canonical`] writes it.
    pub fn number(&self, tag: &str) -> Option<usize> {
        self.numbers.get(tag).copied()
    }

    /// The numbers of the tags that `text` asks for, separated by commas: ascending, each once.
    ///
    /// # Errors
    /// When the model does not know one of them; the nearest that it knows are proposed. `field`
    /// is what the text was given for.
    pub fn find(&self, field: &str, text: &str) -> Result<Vec<usize>> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let Some(tag) = canonical(part) else {
                if part.trim().is_empty() {
                    continue;
                }
                return Err(self.unknown(field, part.trim()));
            };
            numbers.push(self.number(&tag).ok_or_else(|| self.unknown(field, &tag))?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn unknown(&self, field: &str, tag: &str) -> Error {
        let shown = shortened(tag, 40);
        if self.is_empty() {
            return Error::invalid(field, format!("`{shown}`: the model knows no tags"));
        }
        let error = Error::invalid(field, format!("the model does not know `{shown}`"));
        let proposals = self.nearest(tag);
        match proposals.is_empty() {
            true => error.with_hint(format!(
                "it knows {} tags; `kao info MODEL.safetensors` lists them",
                self.len()
            )),
            false => {
                let quoted: Vec<String> =
                    proposals.iter().map(|tag| format!("`{}`", shortened(tag, 40))).collect();
                error.with_hint(format!("did you mean {}?", quoted.join(" or ")))
            }
        }
    }

    /// The tags that are most like `tag`, at most three, the most alike first. Tags that share a
    /// word with it count as alike too.
    fn nearest(&self, tag: &str) -> Vec<&str> {
        if tag.len() > MAX_TAG_BYTES {
            return Vec::new();
        }
        let words: Vec<&str> = tag.split(' ').filter(|word| word.len() > 2).collect();
        let mut found: Vec<(f64, &str)> =
            self.tags
                .iter()
                .filter_map(|TagCount { tag: known, .. }| {
                    let shares = known.split(' ').any(|word| words.contains(&word));
                    let likeness = strsim::normalized_damerau_levenshtein(known, tag)
                        .max(if shares { PROPOSED_FROM } else { 0.0 });
                    (likeness >= PROPOSED_FROM).then_some((likeness, known.as_str()))
                })
                .collect();
        // Stable: of equally likely ones the most frequent comes first.
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().take(N_PROPOSALS).map(|(_, tag)| tag).collect()
    }
}

impl TryFrom<Vec<TagCount>> for Vocabulary {
    type Error = Error;

    fn try_from(tags: Vec<TagCount>) -> Result<Self> {
        Vocabulary::new(tags)
    }
}

impl From<Vocabulary> for Vec<TagCount> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.tags
    }
}

/// A tag as Kao writes it: lower case, words separated by single spaces, underscores being spaces
/// in tags that have letters. None where nothing is left, or more than [`MAX_TAG_BYTES`].
pub fn canonical(text: &str) -> Option<String> {
    let has_letters = text.chars().any(char::is_alphabetic);
    let is_space =
        |c: char| c.is_whitespace() || c.is_control() || c == ',' || (has_letters && c == '_');
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(is_space).filter(|word| !word.is_empty()).collect();
    let tag = words.join(" ");
    (!tag.is_empty() && tag.len() <= MAX_TAG_BYTES).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vocabulary() -> Vocabulary {
        let pictures: Vec<Vec<String>> = [
            vec!["blue hair", "smile"],
            vec!["blue hair", "glasses"],
            vec!["green hair", "smile"],
            vec!["blue hair", "rare"],
        ]
        .into_iter()
        .map(|tags| tags.into_iter().map(str::to_owned).collect())
        .collect();
        let (vocabulary, n_rare) = Vocabulary::of_pictures(pictures.iter().map(Vec::as_slice), 1);
        assert_eq!(n_rare, 0);
        let (frequent, n_rare) = Vocabulary::of_pictures(pictures.iter().map(Vec::as_slice), 2);
        assert_eq!((frequent.len(), n_rare), (2, 3));
        vocabulary
    }

    #[test]
    fn the_most_frequent_come_first() {
        let vocabulary = vocabulary();
        let names: Vec<&str> = vocabulary.tags().iter().map(|tag| tag.tag.as_str()).collect();
        assert_eq!(names, ["blue hair", "smile", "glasses", "green hair", "rare"]);
    }

    #[test]
    fn tags_are_found_however_they_are_written() {
        let vocabulary = vocabulary();
        let find = |text| vocabulary.find("tags", text).unwrap();
        assert_eq!(find("smile, Blue_Hair"), [0, 1]);
        assert_eq!(find("  blue   hair ,,blue hair"), [0]);
        assert!(find("").is_empty());
    }

    #[test]
    fn unknown_tags_bring_the_nearest() {
        let vocabulary = vocabulary();
        let hint = |text| {
            let error = vocabulary.find("tags", text).unwrap_err();
            assert!(error.to_string().contains("the model does not know"), "{error}");
            error.hint().unwrap().to_owned()
        };
        assert_eq!(hint("glases"), "did you mean `glasses`?");
        assert!(hint("red hair").contains("`green hair`"));
        assert_eq!(hint("zzz"), "it knows 5 tags; `kao info MODEL.safetensors` lists them");
        let error = Vocabulary::default().find("tags", "smile").unwrap_err();
        assert!(error.to_string().contains("the model knows no tags"));
        let long = "x".repeat(10_000_000);
        assert!(vocabulary.find("tags", &long).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn vocabularies_of_files_are_checked() {
        let read = |text: &str| serde_json::from_str::<Vocabulary>(text);
        let good = r#"[{"tag":"blue hair","count":3}]"#;
        assert_eq!(serde_json::to_string(&read(good).unwrap()).unwrap(), good);
        for bad in [
            r#"[{"tag":"","count":3}]"#,
            r#"[{"tag":"Blue","count":3}]"#,
            r#"[{"tag":"a,b","count":3}]"#,
            r#"[{"tag":"a","count":3},{"tag":"a","count":1}]"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn writing_a_tag_twice_changes_nothing(text in ".{0,60}") {
            if let Some(tag) = canonical(&text) {
                prop_assert_eq!(canonical(&tag), Some(tag));
            }
        }
    }
}
