//! What became of each file: for the user to read, and for later runs to know which files are
//! Kao's own.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::fit::Fit;

/// The name under which the report of [`prepare`](super::prepare()) lies in the output folder.
pub const REPORT_FILE: &str = "prepare.json";

/// How many skipped files the text form of a report names.
const N_NAMED: usize = 10;

/// A file that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Below the scanned folder, parts joined by `/`.
    pub path: String,
    /// Why, in a few words.
    pub reason: String,
}

/// A picture whose pixels are those of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// Below the raw folder, parts joined by `/`.
    pub path: String,
    /// The first picture, in the order of paths, that has the same pixels.
    pub of: String,
}

/// What [`prepare`](super::prepare()) did. Its text form is one line of counts, then one line for
/// each skipped file, at most ten of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareReport {
    /// Whether the run came to its end. In the saved file this is false while a run is under way
    /// and after one that was interrupted.
    pub complete: bool,
    /// The raw folder, as it was given.
    pub raw_dir: String,
    /// Side of the written pictures in pixels.
    pub size: u32,
    /// How pictures that are not square were made so.
    pub fit: Fit,
    /// Whether duplicates were written too.
    pub keep_duplicates: bool,
    /// Pictures with a side below this many pixels were skipped.
    pub min_side: u32,
    /// How many pictures, or files that claim to be, were found. Each of them was written,
    /// dropped or skipped.
    pub n_read: usize,
    /// How many files that are no pictures lie among them.
    pub n_ignored: usize,
    /// How many pictures were written.
    pub n_written: usize,
    /// How many of these were smaller than [`size`](Self::size) on a side, and so were enlarged.
    #[serde(default)]
    pub n_enlarged: usize,
    /// How many of the written pictures have tags.
    #[serde(default)]
    pub n_tagged: usize,
    /// Tags of fewer pictures are called rare.
    #[serde(default)]
    pub min_tag_count: u64,
    /// Each tag with the number of written pictures that have it.
    #[serde(default)]
    pub tags: BTreeMap<String, u64>,
    /// Tags that were passed over, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Pictures whose pixels are those of another, in the order of paths.
    pub duplicates: Vec<Duplicate>,
    /// Pictures that could not be used, in the order of paths.
    pub skipped: Vec<Skipped>,
    /// The tar archives that the pictures are in, where they are in any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<String>,
    /// Checksums (CRC-32C) of the list of tags that was written, and while a run is under way of the one
    /// before it: a list of another checksum is not Kao's to replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_lists: Option<Vec<u32>>,
    /// Each written file with its source, both below their folders.
    pub files: BTreeMap<String, String>,
}

impl fmt::Display for PrepareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read", grouped(self.n_read))?;
        if !self.duplicates.is_empty() {
            let fate = if self.keep_duplicates { "kept" } else { "dropped" };
            write!(f, ", {} {fate}", counted(self.duplicates.len(), "duplicate"))?;
        }
        if !self.skipped.is_empty() {
            write!(f, ", {} skipped", grouped(self.skipped.len()))?;
        }
        write!(f, ", {} written", grouped(self.n_written))?;
        if self.n_enlarged > 0 {
            write!(f, ", {} of them enlarged", grouped(self.n_enlarged))?;
        }
        if self.n_ignored > 0 {
            write!(f, " ({} ignored)", counted(self.n_ignored, "other file"))?;
        }
        if self.n_tagged > 0 {
            write!(
                f,
                "\n{} with tags, {}",
                counted(self.n_tagged, "picture"),
                counted(self.tags.len(), "tag")
            )?;
            let mut by_count: Vec<(&String, &u64)> = self.tags.iter().collect();
            by_count.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let first: Vec<String> =
                by_count.iter().take(5).map(|(tag, count)| format!("{tag} {count}")).collect();
            write!(f, ": {}", first.join(", "))?;
            if by_count.len() > first.len() {
                write!(f, ", …")?;
            }
            let rare: Vec<&str> = by_count
                .iter()
                .rev()
                .filter(|(_, count)| **count < self.min_tag_count)
                .map(|(tag, _)| tag.as_str())
                .collect();
            if let [first, ..] = rare[..] {
                let least = self.min_tag_count;
                let tags = counted(rare.len(), "tag");
                write!(f, "\nrare: {tags} of fewer than {least} pictures, such as `{first}`")?;
            }
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        for Skipped { path, reason } in self.skipped.iter().take(N_NAMED) {
            write!(f, "\nskipped `{path}`: {reason}")?;
        }
        if self.skipped.len() > N_NAMED {
            let more = grouped(self.skipped.len() - N_NAMED);
            write!(f, "\nskipped {more} more, all listed in {REPORT_FILE}")?;
        }
        Ok(())
    }
}

/// `1 duplicate`, `5,600 duplicates`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A count with a comma between thousands.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> PrepareReport {
        PrepareReport {
            complete: true,
            raw_dir: "raw".into(),
            size: 64,
            fit: Fit::Crop,
            keep_duplicates: false,
            min_side: 16,
            n_read: 5600,
            n_ignored: 0,
            n_written: 5000,
            n_enlarged: 0,
            n_tagged: 0,
            min_tag_count: 10,
            tags: BTreeMap::new(),
            warnings: vec![],
            duplicates: vec![Duplicate { path: "b.jpg".into(), of: "a.jpg".into() }; 600],
            skipped: vec![],
            shards: vec![],
            tag_lists: None,
            files: BTreeMap::new(),
        }
    }

    #[test]
    fn the_text_is_one_line_of_counts() {
        assert_eq!(report().to_string(), "5,600 read, 600 duplicates dropped, 5,000 written");
    }

    #[test]
    fn at_most_ten_skipped_files_are_named() {
        let skipped = Skipped { path: "x.jpg".into(), reason: "the file is empty".into() };
        let text = PrepareReport {
            skipped: vec![skipped; 1234],
            duplicates: vec![Duplicate { path: "b.jpg".into(), of: "a.jpg".into() }],
            keep_duplicates: true,
            n_ignored: 2,
            ..report()
        }
        .to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "5,600 read, 1 duplicate kept, 1,234 skipped, 5,000 written (2 other files ignored)"
        );
        assert_eq!(lines[1], "skipped `x.jpg`: the file is empty");
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[11], "skipped 1,224 more, all listed in prepare.json");
    }

    #[test]
    fn enlarged_pictures_are_counted() {
        let text = PrepareReport { n_enlarged: 1200, n_ignored: 1, ..report() }.to_string();
        assert_eq!(
            text,
            "5,600 read, 600 duplicates dropped, 5,000 written, 1,200 of them enlarged \
             (1 other file ignored)"
        );
    }

    #[test]
    fn tags_are_counted_and_rare_ones_named() {
        let tags = [("smile", 3100), ("hat", 40), ("monocle", 2)];
        let tags = tags.map(|(tag, count)| (tag.to_owned(), count)).into();
        let text = PrepareReport { n_tagged: 4321, tags, duplicates: vec![], ..report() };
        assert_eq!(
            text.to_string(),
            "5,600 read, 5,000 written\n4,321 pictures with tags, 3 tags: smile 3100, hat 40, \
             monocle 2\nrare: 1 tag of fewer than 10 pictures, such as `monocle`"
        );
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (count, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (63632, "63,632"), (1234567, "1,234,567")]
        {
            assert_eq!(grouped(count), text);
        }
    }
}
