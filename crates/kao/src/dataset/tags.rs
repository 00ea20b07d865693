//! The tags of pictures, from the files in which people keep them.
//!
//! | where | what |
//! |---|---|
//! | `metadata.jsonl` in any folder | one JSON object a line: `file_name`, and columns (Hugging Face's `imagefolder`) |
//! | `picture.txt` or `picture.caption` beside a picture | tags separated by commas |
//! | `dataset.json` in the folder | `{"labels": [["picture.png", 3], …]}`, as EDM has it |
//! | names of sub-folders | classes, where that is asked for |
//! | `picture.txt`, `.caption`, `.json` or `.cls` beside a picture in an archive | tags, columns as in `metadata.jsonl`, or a class (WebDataset) |
//!
//! All of them are read, and a picture has the tags of each. A list of tags that cannot be read ends
//! the work, since training without it would be silently another training; a text beside one
//! picture that cannot be read is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::archives::{self, Beside};
use super::kinds::{EDM_FILE, TEXT_EXTENSIONS};
use super::report::counted;
use super::scan::archives_of;
use crate::error::{Error, Result, shortened};
use crate::files::{open_regular, read_regular};
use crate::vocabulary::{MAX_TAG_BYTES, TAG_LIST, canonical, tag_line};

/// The longest line of a list, text beside a picture, and list as a whole, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;
const MAX_TEXT_BYTES: u64 = 1 << 20;
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The most tags of one picture.
const MAX_TAGS: usize = 1000;

/// Columns whose whole numbers are classes. Of other columns numbers say something else, such as
/// the width of the picture.
const CLASS_COLUMNS: [&str; 4] = ["label", "labels", "class", "category"];

/// What besides files of tags says of pictures what they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classes {
    /// The first sub-folder of a picture.
    Folders,
}

/// The tags of the pictures of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// By the name of the picture below the folder; each picture's in ascending order.
    of: BTreeMap<String, Vec<String>>,
    warnings: Vec<String>,
}

impl Tags {
    /// Reads the tags of the pictures `names` (below `dir`, parts joined by `/`), wherever they are.
    /// `classes` may say more.
    ///
    /// # Errors
    /// When a list cannot be read, or a line of it says no picture or holds something else than
    /// tags.
    pub fn read<'a>(
        dir: &Path,
        names: impl IntoIterator<Item = &'a str>,
        classes: Option<Classes>,
    ) -> Result<Self> {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut reader = Reader { dir, names, found: BTreeMap::new(), warnings: Vec::new() };
        let archives = archives_of(dir)?;
        let is_plain = archives.is_empty();
        reader.read_lists()?;
        reader.read_labels()?;
        match is_plain {
            true => reader.read_texts(),
            false => reader.read_archives(&archives)?,
        }
        if classes == Some(Classes::Folders) {
            reader.read_folders(&archives);
        }
        let mut cut = 0;
        let of = reader.found.into_iter().map(|(name, mut tags)| {
            cut += usize::from(tags.len() > MAX_TAGS);
            while tags.len() > MAX_TAGS {
                tags.pop_last();
            }
            (name.to_owned(), tags.into_iter().collect())
        });
        let of = of.collect();
        let mut warnings = reader.warnings;
        if cut > 0 {
            let what = counted(cut, "picture");
            warnings.push(format!("of {what} only the first {MAX_TAGS} tags are taken"));
        }
        Ok(Tags { of, warnings })
    }

    /// The tags of the picture `name`.
    pub fn of(&self, name: &str) -> &[String] {
        self.of.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many pictures have tags.
    pub fn n_tagged(&self) -> usize {
        self.of.len()
    }

    /// What was passed over, for the user to read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Gives the picture `name` the tags `more` too.
    pub fn add(&mut self, name: &str, more: &[String]) {
        if more.is_empty() {
            return;
        }
        let tags = self.of.entry(name.to_owned()).or_default();
        let all: BTreeSet<String> = tags.drain(..).chain(more.iter().cloned()).collect();
        tags.extend(all);
    }

    /// The tags by another name of their picture: those for which `rename` has none are left out,
    /// and those that get the same name are merged.
    #[must_use]
    pub fn renamed<'a>(&self, rename: impl Fn(&str) -> Option<&'a str>) -> Self {
        let mut renamed = Tags { of: BTreeMap::new(), warnings: self.warnings.clone() };
        for (name, tags) in &self.of {
            if let Some(name) = rename(name) {
                renamed.add(name, tags);
            }
        }
        renamed
    }

    /// The tags as the lines of a [`TAG_LIST`].
    pub fn to_jsonl(&self) -> String {
        let line = |(name, tags): (&String, &Vec<String>)| format!("{}\n", tag_line(name, tags));
        self.of.iter().map(line).collect()
    }
}

struct Reader<'a> {
    dir: &'a Path,
    names: BTreeSet<&'a str>,
    found: BTreeMap<&'a str, BTreeSet<String>>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Takes the tags that `text` separates by commas. Whether one was too long.
    fn take(&mut self, name: &'a str, text: &str) -> bool {
        let mut is_long = false;
        for part in text.split([',', '\n']) {
            match canonical(part) {
                Some(tag) => {
                    self.found.entry(name).or_default().insert(tag);
                }
                None => is_long |= part.len() > MAX_TAG_BYTES,
            }
        }
        is_long
    }

    /// Takes the tags of several texts. Whether any was too long.
    fn take_all(&mut self, name: &'a str, texts: &[String]) -> bool {
        // All of them are taken, so no shortcut.
        texts.iter().fold(false, |is_long, text| self.take(name, text) | is_long)
    }

    fn warn_of_long(&mut self, n_long: usize, first: &str) {
        if n_long > 0 {
            self.warnings.push(format!(
                "{} with a tag of more than {MAX_TAG_BYTES} bytes, which is passed over: `{}` first",
                counted(n_long, "picture"),
                shortened(first, 80)
            ));
        }
    }

    /// The folders that hold pictures or folders of pictures, as prefixes of names.
    fn folders(&self) -> BTreeSet<&'a str> {
        let ends = self
            .names
            .iter()
            .flat_map(|name| name.match_indices('/').map(|(end, _)| &name[..=end]));
        ends.chain([""]).collect()
    }

    fn read_lists(&mut self) -> Result<()> {
        for folder in self.folders() {
            let path = self.dir.join(folder).join(TAG_LIST);
            if path.try_exists().unwrap_or(false) {
                self.read_list(&path, folder)?;
            }
        }
        Ok(())
    }

    fn read_list(&mut self, path: &Path, folder: &str) -> Result<()> {
        let file = open_regular(path)?;
        let len = file.metadata().map_err(|source| Error::io("read", path, source))?.len();
        if len > MAX_LIST_BYTES {
            let problem = format!("{len} bytes; expected at most {MAX_LIST_BYTES}");
            return Err(Error::malformed(path, problem));
        }
        let mut reader = BufReader::new(file);
        let (mut n_unknown, mut n_long, mut first_long) = (0, 0, String::new());
        let mut passed_over: BTreeSet<String> = BTreeSet::new();
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
            if read.map_err(|source| Error::io("read", path, source))? == 0 {
                break;
            }
            let wrong = |problem: String| {
                Error::malformed(path, format!("line {number}: {}", shortened(&problem, 200)))
            };
            if bytes.len() as u64 == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
                return Err(wrong(format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            let line = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
            if line.is_empty() {
                continue;
            }
            let columns: serde_json::Map<String, Value> =
                serde_json::from_slice(line).map_err(|error| {
                    // The parser counts lines within this one.
                    let words = error.to_string();
                    let problem = words.split(" at line ").next().unwrap_or_default();
                    wrong(format!("not a JSON object: {problem}"))
                })?;
            let Some(Value::String(file_name)) = columns.get("file_name") else {
                return Err(wrong("no text `file_name`, the name of a picture".to_owned()));
            };
            let name = format!("{folder}{}", file_name.trim_start_matches("./"));
            let Some(&name) = self.names.get(name.as_str()) else {
                n_unknown += 1;
                continue;
            };
            for (column, value) in &columns {
                if column == "file_name" {
                    continue;
                }
                match texts(column, value) {
                    Ok(texts) => {
                        if self.take_all(name, &texts) {
                            n_long += 1;
                            if n_long == 1 {
                                first_long = name.to_owned();
                            }
                        }
                    }
                    Err(NoTags) => {
                        passed_over.insert(shortened(column, 40).into_owned());
                    }
                }
            }
        }
        self.warn_of_long(n_long, &first_long);
        let shown = path.display();
        if n_unknown > 0 {
            let lines = counted(n_unknown, "line");
            self.warnings.push(format!("{lines} of `{shown}` are of no picture that is there"));
        }
        if !passed_over.is_empty() {
            let columns: Vec<String> =
                passed_over.iter().take(5).map(|column| format!("`{column}`")).collect();
            self.warnings.push(format!(
                "{} of `{shown}` hold no tags and are passed over: {}",
                counted(passed_over.len(), "column"),
                columns.join(", ")
            ));
        }
        Ok(())
    }

    fn read_labels(&mut self) -> Result<()> {
        #[derive(Deserialize)]
        struct Labels {
            labels: Option<Vec<(String, u64)>>,
        }
        let path = self.dir.join(EDM_FILE);
        if !path.try_exists().unwrap_or(false) {
            return Ok(());
        }
        let content = read_regular(&path, MAX_LIST_BYTES)?;
        let Labels { labels } = serde_json::from_slice(&content).map_err(|error| {
            let expected = "expected {\"labels\": [[\"picture.png\", 3], …]}";
            let problem = format!("{}; {expected}", shortened(&error.to_string(), 200));
            Error::malformed(&path, problem)
        })?;
        let mut n_unknown = 0;
        for (name, class) in labels.unwrap_or_default() {
            match self.names.get(name.as_str()) {
                Some(&name) => {
                    self.take(name, &class_tag(class));
                }
                None => n_unknown += 1,
            }
        }
        if n_unknown > 0 {
            let lines = counted(n_unknown, "label");
            let shown = path.display();
            self.warnings.push(format!("{lines} of `{shown}` are of no picture that is there"));
        }
        Ok(())
    }

    fn read_texts(&mut self) {
        let mut unread: Vec<(&str, String)> = Vec::new();
        let (mut n_long, mut first_long) = (0, "");
        for name in self.names.clone() {
            for extension in TEXT_EXTENSIONS {
                let path = self.dir.join(name).with_extension(extension);
                if path.symlink_metadata().is_err() {
                    continue;
                }
                let text = read_regular(&path, MAX_TEXT_BYTES)
                    .map_err(|error| error.to_string())
                    .and_then(|bytes| text_of(&bytes));
                match text {
                    Ok(text) if self.take(name, &text) => {
                        n_long += 1;
                        first_long = if n_long == 1 { name } else { first_long };
                    }
                    Ok(_) => {}
                    Err(reason) => unread.push((name, reason)),
                }
            }
        }
        self.warn_of_long(n_long, first_long);
        if let Some((name, reason)) = unread.first() {
            self.warn_of_unread(unread.len(), name, reason);
        }
    }

    fn warn_of_unread(&mut self, n_unread: usize, first: &str, reason: &str) {
        self.warnings.push(format!(
            "the tags beside {} cannot be read; of `{}`: {}",
            counted(n_unread, "picture"),
            shortened(first, 80),
            shortened(reason, 200)
        ));
    }

    /// Reads what lies beside pictures in archives.
    fn read_archives(&mut self, found: &[(String, PathBuf)]) -> Result<()> {
        let (mut n_long, mut first_long) = (0, "");
        let mut unread: Option<(usize, String, String)> = None;
        for (archive, path) in found {
            archives::texts(path, MAX_TEXT_BYTES, &mut |beside| {
                let Beside { picture, extension, content } = beside;
                let Some(&name) = self.names.get(format!("{archive}/{picture}").as_str()) else {
                    return Ok(());
                };
                let texts = content.and_then(|content| texts_of_archive(extension, &content));
                match texts {
                    Ok(texts) => {
                        if self.take_all(name, &texts) {
                            n_long += 1;
                            first_long = if n_long == 1 { name } else { first_long };
                        }
                    }
                    Err(reason) => {
                        unread.get_or_insert_with(|| (0, name.to_owned(), reason)).0 += 1;
                    }
                }
                Ok(())
            })?;
        }
        self.warn_of_long(n_long, first_long);
        if let Some((n_unread, name, reason)) = unread {
            self.warn_of_unread(n_unread, &name, &reason);
        }
        Ok(())
    }

    fn read_folders(&mut self, archives: &[(String, PathBuf)]) {
        let (mut n_long, mut first_long) = (0, "");
        let archives: BTreeSet<&str> = archives.iter().map(|(name, _)| name.as_str()).collect();
        for name in self.names.clone() {
            // Within an archive, its own name is none of a folder.
            let ends = name.match_indices('/').map(|(end, _)| end);
            let inside = ends.rev().find(|&end| archives.contains(&name[..end]));
            let name_inside = inside.map_or(name, |end| &name[end + 1..]);
            if let Some((folder, _)) = name_inside.split_once('/')
                && self.take(name, &folder.replace(',', " "))
            {
                n_long += 1;
                first_long = if n_long == 1 { name } else { first_long };
            }
        }
        self.warn_of_long(n_long, first_long);
    }
}

/// What a text beside a picture in an archive says; each may be several tags.
fn texts_of_archive(extension: &str, content: &[u8]) -> Result<Vec<String>, String> {
    let text = text_of(content)?;
    match extension {
        "cls" => match text.trim().parse() {
            Ok(class) => Ok(vec![class_tag(class)]),
            // Some write the name of the class.
            Err(_) => Ok(vec![text.replace(',', " ")]),
        },
        "json" => {
            let columns: serde_json::Map<String, Value> = serde_json::from_str(&text)
                .map_err(|error| format!("not a JSON object: {error}"))?;
            // Columns that hold something else, such as an address, say no tags.
            let columns = columns.iter().filter(|(column, _)| *column != "file_name");
            let texts = columns.filter_map(|(column, value)| texts(column, value).ok());
            Ok(texts.flatten().collect())
        }
        _ => Ok(vec![text]),
    }
}

/// A column that says no tags.
struct NoTags;

/// The texts of a column, each of which may be several tags.
fn texts(column: &str, value: &Value) -> Result<Vec<String>, NoTags> {
    let is_class = CLASS_COLUMNS.contains(&column.to_lowercase().as_str());
    match value {
        Value::Null | Value::Bool(false) => Ok(Vec::new()),
        Value::Bool(true) => Ok(vec![column.to_owned()]),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Number(number) if is_class => {
            number.as_u64().map(|class| vec![class_tag(class)]).ok_or(NoTags)
        }
        Value::Array(items) => {
            let item = |item: &Value| match item {
                Value::String(text) => Ok(text.replace(',', " ")),
                Value::Number(_) if is_class => item.as_u64().map(class_tag).ok_or(NoTags),
                _ => Err(NoTags),
            };
            items.iter().map(item).collect()
        }
        Value::Number(_) | Value::Object(_) => Err(NoTags),
    }
}

/// The tag of a class that has a number and no name.
fn class_tag(class: u64) -> String {
    format!("class {class}")
}

/// The text of a file in UTF-8, or in UTF-16 with its mark.
fn text_of(bytes: &[u8]) -> Result<String, String> {
    let units = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> =
            bytes[2..].chunks_exact(2).map(|pair| from([pair[0], pair[1]])).collect();
        String::from_utf16(&units).map_err(|_| "broken UTF-16".to_owned())
    };
    match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(bytes).map_err(|error| {
                format!("byte {} is not UTF-8; save the file as UTF-8", error.valid_up_to())
            });
            text.map(str::to_owned)
        }
    }
}
