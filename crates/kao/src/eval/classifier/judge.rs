//! Whether images show what they were asked for.

use super::{Classifier, TagGroup};
use serde::Serialize;

/// How often images show what they were asked for, of one group of tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupAccuracy {
    /// What the tags are about.
    pub group: String,
    /// Images that were asked for one tag of the group.
    pub n_asked: usize,
    /// How many of them show it.
    pub n_right: usize,
    /// Of a group of a single tag: images that were not asked for it.
    pub n_others: usize,
    /// How many of those show it all the same.
    pub n_wrong: usize,
}

impl GroupAccuracy {
    /// The share of the images asked that show it; none where none was asked.
    pub fn accuracy(&self) -> Option<f64> {
        (self.n_asked > 0).then(|| self.n_right as f64 / self.n_asked as f64)
    }
}

impl Classifier {
    /// How often images whose tags have these `probabilities` (`[N, tags]`) show what they were
    /// `asked` for, by group. Of a group of several tags images count that were asked for exactly
    /// one.
    pub fn accuracies<T: AsRef<str>>(
        &self,
        probabilities: &[f32],
        asked: &[Vec<T>],
    ) -> Vec<GroupAccuracy> {
        let rows: Vec<&[f32]> = probabilities.chunks_exact(self.config.tags.len()).collect();
        let of_group = |group: &TagGroup| {
            let mut found = GroupAccuracy {
                group: group.name.clone(),
                n_asked: 0,
                n_right: 0,
                n_others: 0,
                n_wrong: 0,
            };
            for (row, asked) in rows.iter().zip(asked) {
                let mut tags = asked
                    .iter()
                    .map(AsRef::as_ref)
                    .filter(|tag| group.tags.iter().any(|of_group| of_group == tag));
                let counts = |tag: &str| {
                    group.about.is_empty() || group.about.iter().any(|about| about == tag)
                };
                match (tags.next(), tags.next(), group.tags.as_slice()) {
                    (Some(tag), None, _) if counts(tag) => {
                        found.n_asked += 1;
                        found.n_right += usize::from(self.shows(row, tag) == Some(true));
                    }
                    (None, _, [only]) => {
                        found.n_others += 1;
                        found.n_wrong += usize::from(self.shows(row, only) == Some(true));
                    }
                    _ => {}
                }
            }
            found
        };
        self.config.groups.iter().map(of_group).collect()
    }
}
