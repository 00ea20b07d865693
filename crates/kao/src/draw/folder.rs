//! A folder full of portraits.
//!
//! A folder holds the faces of one seed at one size. Each file says in a text of its own which face
//! it is, so that a run knows what is there already, and never mixes its faces with others.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::{Face, check_size, face, tags};
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::files::{open_regular, read_to_string_regular};
use crate::locks::FolderLock;
use crate::shard::{Shard, range_of};
use crate::vocabulary::{TAG_LIST, tag_line};

/// The key of the PNG text that says which picture a file holds.
const TEXT_KEY: &str = "Source";

const TEMPORARY_PREFIX: &str = ".face-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// What [`write_folder`] draws, and where to.
#[derive(Clone, Debug)]
pub struct FolderConfig {
    /// How many portraits: indices 0 to `count` − 1.
    pub count: u64,
    /// The folder, created if need be.
    pub out_dir: PathBuf,
    /// Side of the pictures in pixels, see [`face`].
    pub size: u32,
    /// The seed of the whole set.
    pub seed: u64,
    /// Of these portraits only those of a shard.
    pub shard: Option<Shard>,
}

impl FolderConfig {
    /// The indices to draw.
    fn range(&self) -> Range<u64> {
        // A folder of more faces than an address has bytes cannot be.
        let range = range_of(self.shard, usize::try_from(self.count).unwrap_or(usize::MAX));
        range.start as u64..range.end as u64
    }

    /// How the names of this run's temporary files begin: those of other shards may be in use.
    fn temporary_prefix(&self) -> String {
        match self.shard {
            None => TEMPORARY_PREFIX.to_owned(),
            Some(shard) => format!("{TEMPORARY_PREFIX}{}-of-{}-", shard.index(), shard.count()),
        }
    }
}

/// What [`write_folder`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Pictures drawn.
    pub drawn: u64,
    /// How many of these took the place of files that were broken or drawn by another version.
    pub replaced: u64,
    /// Pictures that were there from an earlier run.
    pub kept: u64,
}

/// The file name of picture `index`: `face-000123.png`.
pub fn file_name(index: u64) -> String {
    format!("face-{index:06}.png")
}

/// Draws `config.count` portraits into a folder, in parallel on rayon's threads.
///
/// Every file is written under a temporary name and renamed, so that a file with a picture's name
/// is whole; last come the tags of all of them ([`TAG_LIST`]). Each picture says in a text of its
/// own which one it is: run again, after an interruption or for a larger count, only what is
/// missing, broken or of another version of Kao is drawn.
///
/// Shards may be drawn into one folder at the same time, or into folders that are put together
/// afterwards. Tags are a function of seed and index, so each shard writes those of all `count`
/// faces: whichever comes last, the bytes are those of the whole.
///
/// `control` gets a report after every picture, drawn now or found, from several threads. When it
/// stops the work, what was drawn stays.
///
/// # Errors
/// When the count is 0 or the size out of range; when the folder holds faces of another seed or
/// size, or other files with such names; when another run writes to it; when the file system
/// refuses, or when `control` stops the work.
pub fn write_folder(config: &FolderConfig, control: &dyn Control) -> Result<Written> {
    if config.count == 0 {
        return Err(Error::out_of_range("count", 0, "at least 1"));
    }
    check_size(config.size)?;
    let dir = &config.out_dir;
    fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    let _lock = match config.shard {
        None => FolderLock::take(dir, "another `kao draw`")?,
        Some(_) => FolderLock::share(dir, "another `kao draw`")?,
    };
    let there = look(config)?;
    let (done, drawn, replaced) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let range = config.range();
    let n_asked = range.end - range.start;
    range.into_par_iter().try_for_each(|index| {
        if !there.sound.contains(&index) {
            write_one(&dir.join(file_name(index)), config, index)?;
            drawn.fetch_add(1, Ordering::Relaxed);
            if there.unsound.contains(&index) {
                replaced.fetch_add(1, Ordering::Relaxed);
            }
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        control.check(&Report::progress("drawing", done, Some(n_asked), "faces"))
    })?;
    write_metadata(config, &there)?;
    let drawn = drawn.into_inner();
    Ok(Written { drawn, replaced: replaced.into_inner(), kept: n_asked - drawn })
}

/// The tags of the faces of `config`, and of those behind them that an earlier run has drawn.
fn write_metadata(config: &FolderConfig, there: &There) -> Result<()> {
    let line = |index| format!("{}\n", metadata_line(config.seed, index));
    // Their seed and index were looked at, whichever version drew them.
    let behind: BTreeSet<u64> = [&there.sound, &there.unsound]
        .into_iter()
        .flat_map(|found| found.range(config.count..).copied())
        .collect();
    let indices: Vec<u64> = (0..config.count).chain(behind).collect();
    let lines: Vec<String> = indices.into_par_iter().map(line).collect();
    write_file(&config.out_dir.join(TAG_LIST), config, lines.concat().as_bytes())
}

/// What is written into picture `index`. The version is in it because another may draw otherwise.
fn source_text(config: &FolderConfig, index: u64) -> String {
    format!("kao draw {}, seed {}, index {index}", env!("CARGO_PKG_VERSION"), config.seed)
}

/// The indices of the faces in a folder.
#[derive(Debug, Default)]
struct There {
    /// As they are asked for.
    sound: BTreeSet<u64>,
    /// Broken, or drawn by another version of Kao.
    unsound: BTreeSet<u64>,
}

/// Looks at the faces in the folder, removes what a killed run left half-written, and refuses
/// faces that do not belong to those asked for.
fn look(config: &FolderConfig) -> Result<There> {
    let dir = &config.out_dir;
    let unreadable = |source| Error::io("read", dir, source);
    let (range, temporary_prefix) = (config.range(), config.temporary_prefix());
    let mut named = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&temporary_prefix) && name.ends_with(TEMPORARY_SUFFIX) {
            let path = dir.join(&*name);
            fs::remove_file(&path).map_err(|source| Error::io("remove", path, source))?;
        }
        let digits = name.strip_prefix("face-").and_then(|rest| rest.strip_suffix(".png"));
        let index = digits.and_then(|digits| digits.parse().ok());
        // Faces of other shards are theirs to look at.
        let is_ours = |index: &u64| range.contains(index) || *index >= config.count;
        named.extend(index.filter(is_ours).filter(|&index| file_name(index) == name));
    }
    named.sort_unstable();
    // The first that does not belong is named, whichever thread finds one first.
    let judged: Vec<Result<bool>> =
        named.par_iter().map(|&index| is_sound(config, index)).collect();
    let judged = judged.into_iter().collect::<Result<Vec<bool>>>()?;
    check_metadata(&dir.join(TAG_LIST), config.seed)?;
    let mut there = There::default();
    for (index, is_sound) in named.into_iter().zip(judged) {
        if is_sound { &mut there.sound } else { &mut there.unsound }.insert(index);
    }
    Ok(there)
}

/// Refuses to replace a file of tags that is not as an earlier run wrote it: somebody's edits would
/// be lost.
fn check_metadata(path: &Path, seed: u64) -> Result<()> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    const MAX_BYTES: u64 = 1 << 30;
    let text = read_to_string_regular(path, MAX_BYTES)?;
    let lines: Vec<&str> = text.lines().collect();
    let is_ours = |line: &&str| {
        let line: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let name = line.as_ref().and_then(|line| line.get("file_name")?.as_str());
        let digits = name.and_then(|name| name.strip_prefix("face-")?.strip_suffix(".png"));
        let index: Option<u64> = digits.and_then(|digits| digits.parse().ok());
        index.is_some_and(|index| line == Some(metadata_line(seed, index)))
    };
    if !lines.is_empty() && lines.par_iter().all(is_ours) {
        return Ok(());
    }
    let problem = "holds other lines than those of the faces drawn here, and would be replaced";
    Err(Error::malformed(path, problem).with_hint("choose a new folder, or move the file away"))
}

/// What is written of the tags of face `index`.
fn metadata_line(seed: u64, index: u64) -> serde_json::Value {
    tag_line(&file_name(index), &tags(seed, index))
}

/// Whether the file of picture `index` is that picture of `config`; an error when it is another's.
fn is_sound(config: &FolderConfig, index: u64) -> Result<bool> {
    let path = config.out_dir.join(file_name(index));
    let file = open_regular(&path)?;
    // Files are not synced, so a power cut may have left any of them empty or torn.
    let Ok(mut reader) = png::Decoder::new(BufReader::new(file)).read_info() else {
        return Ok(false);
    };
    let info = reader.info();
    let refused = |problem: String| {
        Err(Error::malformed(&path, problem)
            .with_hint("choose a new folder, or remove the faces from this one"))
    };
    let mut texts = info.uncompressed_latin1_text.iter().filter(|chunk| chunk.keyword == TEXT_KEY);
    let Some(found) = texts.find_map(|chunk| Drawn::parse(&chunk.text)) else {
        return refused("this picture has the name of a face, but was not drawn as one".into());
    };
    let (width, height) = info.size();
    if (width, height) != (config.size, config.size) {
        let size = config.size;
        return refused(format!(
            "this face has {width}×{height} pixels, where {size}×{size} are asked for"
        ));
    }
    if (found.seed, found.index) != (config.seed, index) {
        return refused(format!(
            "this is face {} of seed {}, where face {index} of seed {} is asked for",
            found.index, found.seed, config.seed
        ));
    }
    let is_of_this_version = found.version == env!("CARGO_PKG_VERSION");
    let is_whole = reader.output_buffer_size().is_some_and(|size| {
        reader.next_frame(&mut vec![0; size]).is_ok() && reader.finish().is_ok()
    });
    Ok(is_whole && is_of_this_version)
}

/// What [`source_text`] says.
#[derive(Debug, PartialEq, Eq)]
struct Drawn<'a> {
    version: &'a str,
    seed: u64,
    index: u64,
}

impl<'a> Drawn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (version, rest) = text.strip_prefix("kao draw ")?.split_once(", seed ")?;
        let (seed, index) = rest.split_once(", index ")?;
        Some(Drawn { version, seed: seed.parse().ok()?, index: index.parse().ok()? })
    }
}

fn write_one(path: &Path, config: &FolderConfig, index: u64) -> Result<()> {
    let bytes = encode(config, index, &face(config.seed, index, config.size)?)
        .map_err(|error| Error::io("write", path, error.into()))?;
    write_file(path, config, &bytes)
}

/// Writes `bytes` under a temporary name in the folder, then renames the file to `path`.
fn write_file(path: &Path, config: &FolderConfig, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::io("write", path, source);
    let mut builder = tempfile::Builder::new();
    let prefix = config.temporary_prefix();
    builder.prefix(&prefix).suffix(TEMPORARY_SUFFIX);
    // Temporary files are private by default; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(&config.out_dir).map_err(failed)?;
    temporary.write_all(bytes).map_err(failed)?;
    // Not synced: thousands of small files would wait for the disk, and any can be drawn again.
    temporary.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// `face` as a PNG file that says what it is.
fn encode(config: &FolderConfig, index: u64, face: &Face) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, face.side(), face.side());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk(TEXT_KEY.to_owned(), source_text(config, index))?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(face.bytes())?;
    writer.finish()?;
    Ok(bytes)
}
