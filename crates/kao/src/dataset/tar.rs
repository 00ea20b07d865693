//! Tar archives: which files they hold and where, and how they are written.
//!
//! An archive is read for its headers alone; what a file in it holds is read later, from its place.
//! Archives come from strangers: sizes are held against the length of the archive, names are never
//! used as paths on disk, and links and devices are passed over with a reason. An archive that ends
//! early or whose headers are damaged is refused as a whole, since nobody knows what is missing.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use crate::error::{Error, Result, shortened};
use crate::files::open_regular;

const BLOCK: usize = 512;

/// The longest name that is read, in bytes, and the longest extended header.
const MAX_NAME_BYTES: u64 = 4096;
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Where a header of GNU says that the list of a sparse file's parts goes on in another block, and where
/// such a block says it.
const SPARSE_CONTINUES: usize = 482;
const SPARSE_MAP_CONTINUES: usize = 504;

/// What an archive holds, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file, with the place of its content in the archive. Its name has no `..` and no empty
    /// part, and begins with no `/`.
    File {
        /// Parts joined by `/`.
        name: String,
        /// Where its content begins.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// Something that is not read.
    PassedOver {
        /// As it stands in the archive, shortened.
        name: String,
        /// Why, in a few words.
        reason: String,
    },
}

/// Calls `each` with every entry of the archive at `path` that is no folder, in order.
///
/// # Errors
/// When the archive cannot be read, is cut short or damaged, or when `each` fails.
pub(super) fn read(path: &Path, each: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
    let file = open_regular(path)?;
    let len = file.metadata().map_err(|source| Error::io("read", path, source))?.len();
    let mut reader = Reader { path, file: BufReader::with_capacity(1 << 17, file), at: 0, len };
    // What extended headers say of the next entry.
    let (mut long_name, mut long_len) = (None, None);
    loop {
        let mut header = [0; BLOCK];
        if reader.at == len && reader.at > 0 {
            return Err(reader.damaged("it ends without the mark of its end: it is cut short"));
        }
        reader.fill(&mut header)?;
        if is_zero(&header) {
            return reader.check_end();
        }
        let header = Header(&header);
        if !header.is_sound() {
            reader.at -= BLOCK as u64;
            if reader.at > 0 {
                return Err(reader.damaged("a header is damaged"));
            }
            // The first bytes of what gzip, Zstandard, xz and bzip2 write.
            let marks: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];
            return Err(match marks.iter().any(|mark| header.0.starts_with(mark)) {
                true => Error::malformed(path, "a compressed archive; expected a plain one")
                    .with_hint("decompress it: pictures are compressed already"),
                false => reader.damaged("no tar archive: the first header is damaged"),
            });
        }
        let declared = header.len().ok_or_else(|| reader.damaged("a size is no number"))?;
        let kind = header.kind();
        let len = match kind {
            b'L' | b'K' | b'x' | b'g' => declared,
            _ => long_len.take().unwrap_or(declared),
        };
        if kind == b'S' {
            reader.skip_sparse_map(header.0[SPARSE_CONTINUES])?;
        }
        let offset = reader.at;
        let end =
            len.checked_next_multiple_of(BLOCK as u64).and_then(|len| len.checked_add(offset));
        let Some(end) =
            end.filter(|_| offset.checked_add(len).is_some_and(|end| end <= reader.len))
        else {
            let problem = format!("a file of {len} bytes does not fit in it: it is cut short");
            return Err(reader.damaged(&problem));
        };
        match kind {
            b'L' => {
                let name = reader.extension(len, MAX_NAME_BYTES)?;
                long_name = Some(until_zero(&name).to_vec());
            }
            b'x' => {
                let records = reader.extension(len, MAX_EXTENSION_BYTES)?;
                for (key, value) in pax_records(&records) {
                    match key {
                        b"path" => long_name = Some(value.to_vec()),
                        b"size" => {
                            let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                            let size = size.ok_or_else(|| reader.damaged("a size is no number"))?;
                            long_len = Some(size);
                        }
                        _ => {}
                    }
                }
            }
            // The target of a link, and what holds for all entries.
            b'K' | b'g' => {}
            kind => {
                let name = long_name.take().unwrap_or_else(|| header.name());
                if let Some(entry) = entry(kind, &name, offset, len) {
                    each(entry)?;
                }
            }
        }
        reader.skip_to(end.min(reader.len))?;
    }
}

/// The entry that a header stands for; none of a folder.
fn entry(kind: u8, name: &[u8], offset: u64, len: u64) -> Option<Entry> {
    let name_shown = || shortened(&String::from_utf8_lossy(name), 80).into_owned();
    let passed_over =
        |reason: &str| Some(Entry::PassedOver { name: name_shown(), reason: reason.to_owned() });
    match kind {
        0 | b'0' | b'7' => {}
        b'5' => return None,
        b'1' | b'2' => return passed_over("a link within an archive, which is not followed"),
        b'S' => return passed_over("a sparse file within an archive, which is not read"),
        _ => return passed_over("not a regular file within an archive"),
    }
    if name.last() == Some(&b'/') {
        return None;
    }
    match sound_name(name) {
        Ok(name) => Some(Entry::File { name, offset, len }),
        Err(reason) => passed_over(reason),
    }
}

/// A name as it can be shown and put together with others, or why it cannot.
fn sound_name(name: &[u8]) -> Result<String, &'static str> {
    if name.len() as u64 > MAX_NAME_BYTES {
        return Err("its name is too long");
    }
    let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err("its name has a control character or a backslash in it");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match parts[..] {
        [] => Err("it has no name"),
        _ if name.starts_with('/') || parts.contains(&"..") => {
            Err("its name leads out of the archive")
        }
        _ => Ok(parts.join("/")),
    }
}

struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    at: u64,
    len: u64,
}

impl Reader<'_> {
    fn damaged(&self, problem: &str) -> Error {
        let problem = format!("damaged archive, at byte {}: {problem}", self.at);
        Error::malformed(self.path, problem).with_hint("make it anew, or take it away")
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        match self.file.read_exact(into) {
            Ok(()) => self.at += into.len() as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(match self.len {
                    0 => Error::malformed(self.path, "the archive is empty"),
                    _ => self.damaged("it is cut short"),
                });
            }
            Err(source) => return Err(Error::io("read", self.path, source)),
        }
        Ok(())
    }

    /// The content of an extended header.
    fn extension(&mut self, len: u64, limit: u64) -> Result<Vec<u8>> {
        if len > limit {
            return Err(self.damaged(&format!("an extended header of {len} bytes")));
        }
        let mut content = vec![0; len as usize];
        self.fill(&mut content)?;
        Ok(content)
    }

    /// Passes over the blocks in which the list of a sparse file's parts goes on; `continues` says
    /// whether there is a first.
    fn skip_sparse_map(&mut self, mut continues: u8) -> Result<()> {
        let mut block = [0; BLOCK];
        while continues != 0 {
            self.fill(&mut block)?;
            continues = block[SPARSE_MAP_CONTINUES];
        }
        Ok(())
    }

    /// Checks that nothing stands behind the mark of the end.
    fn check_end(&mut self) -> Result<()> {
        let mut block = [0; BLOCK];
        while self.at < self.len {
            let len = (self.len - self.at).min(BLOCK as u64) as usize;
            self.fill(&mut block[..len])?;
            if !is_zero(&block[..len]) {
                self.at -= len as u64;
                let problem = "something stands behind the mark of its end, as where archives were \
                               joined";
                return Err(self.damaged(problem));
            }
        }
        Ok(())
    }

    fn skip_to(&mut self, end: u64) -> Result<()> {
        // Within the file, so the difference fits.
        let ahead = i64::try_from(end - self.at).unwrap_or(i64::MAX);
        self.file.seek_relative(ahead).map_err(|source| Error::io("read", self.path, source))?;
        self.at = end;
        Ok(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The header of an entry, as POSIX (ustar) and GNU write it.
struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    const SUM: std::ops::Range<usize> = 148..156;

    /// Whether the sum over the header is the one that it says.
    fn is_sound(&self) -> bool {
        octal(&self.0[Self::SUM]) == Some(sum_of(self.0))
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn len(&self) -> Option<u64> {
        match self.0[124..136] {
            // Large sizes in binary, as GNU writes them.
            [first, ref rest @ ..] if first & 0x80 != 0 => {
                let (high, low) = rest.split_at(3);
                let is_small = first == 0x80 && high.iter().all(|byte| *byte == 0);
                is_small.then(|| low.iter().fold(0, |len, &byte| len << 8 | u64::from(byte)))
            }
            _ => octal(&self.0[124..136]),
        }
    }

    fn name(&self) -> Vec<u8> {
        let name = until_zero(&self.0[..100]);
        let prefix = until_zero(&self.0[345..500]);
        // The prefix is POSIX's alone: GNU has times there.
        match &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            true => [prefix, b"/", name].concat(),
            false => name.to_vec(),
        }
    }
}

/// The sum of a header's bytes, its own place counted as spaces.
fn sum_of(header: &[u8; BLOCK]) -> u64 {
    let byte = |(at, byte): (usize, &u8)| match Header::SUM.contains(&at) {
        true => u64::from(b' '),
        false => u64::from(*byte),
    };
    header.iter().enumerate().map(byte).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    match digits.is_empty() {
        true => Some(0),
        false => u64::from_str_radix(digits, 8).ok(),
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`, as long as they are whole.
fn pax_records(mut bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut records = Vec::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let len = std::str::from_utf8(&bytes[..space]).ok().and_then(|len| len.parse().ok());
        let record = len.and_then(|len: usize| bytes.get(space + 1..len));
        let Some(record) = record.and_then(|record| record.strip_suffix(b"\n")) else { break };
        if let Some(equals) = record.iter().position(|byte| *byte == b'=') {
            records.push((&record[..equals], &record[equals + 1..]));
        }
        bytes = &bytes[space + 2 + record.len()..];
    }
    records
}

/// Writes an archive of files whose names are short, the same bytes on every machine: without times
/// and owners.
pub(super) struct Writer<W>(pub W);

impl<W: Write> Writer<W> {
    /// Appends a file with a name of at most 100 bytes.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = [0; BLOCK];
        let fields: [(usize, String); 9] = [
            (0, name.to_owned()),
            (100, "0000644\0".to_owned()),
            (108, "0000000\0".to_owned()),
            (116, "0000000\0".to_owned()),
            (124, format!("{:011o}\0", content.len())),
            (136, "00000000000\0".to_owned()),
            (156, "0".to_owned()),
            (257, "ustar\0".to_owned()),
            (263, "00".to_owned()),
        ];
        if name.len() > 100 || content.len() >= 1 << 33 {
            return Err(io::Error::other("a file that does not fit in an archive"));
        }
        for (at, text) in fields {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        let sum = format!("{:06o}\0 ", sum_of(&header));
        header[Header::SUM].copy_from_slice(sum.as_bytes());
        self.0.write_all(&header)?;
        self.0.write_all(content)?;
        let padding = content.len().next_multiple_of(BLOCK) - content.len();
        self.0.write_all(&[0; BLOCK][..padding])
    }

    /// Writes the mark of the end.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 2 * BLOCK])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer(&mut bytes);
        files.iter().for_each(|(name, content)| writer.add(name, content).unwrap());
        writer.finish().unwrap();
        bytes
    }

    fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        read(&path, &mut |entry| {
            found.push(entry);
            Ok(())
        })?;
        Ok(found)
    }

    /// The archive with a header changed, and its sum mended.
    fn changed(mut bytes: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
        change(&mut bytes[..BLOCK]);
        let sum = sum_of(bytes[..BLOCK].try_into().unwrap());
        bytes[Header::SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let files: [(&str, &[u8]); 3] = [("a.png", b"abc"), ("x/b.txt", b""), ("c", &[7; 512])];
        let bytes = archive(&files);
        let found = entries(&bytes).unwrap();
        assert_eq!(found.len(), 3);
        for (entry, (expected, content)) in found.iter().zip(files) {
            let Entry::File { name, offset, len } = entry else { panic!("{entry:?}") };
            assert_eq!(name, expected);
            assert_eq!(&bytes[*offset as usize..][..*len as usize], content);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_passed_over() {
        for name in ["/etc/passwd.png", "../a.png", "x/../../a.png", "a\\b.png", "a\nb.png", "./"] {
            let found = entries(&archive(&[(name, b"x")])).unwrap();
            let is_file = found.iter().any(|entry| matches!(entry, Entry::File { .. }));
            assert!(!is_file, "{name}: {found:?}");
        }
        let found = entries(&archive(&[("./x//a.png", b"x")])).unwrap();
        assert!(matches!(&found[0], Entry::File { name, .. } if name == "x/a.png"), "{found:?}");
    }

    #[test]
    fn what_is_no_tar_archive_is_told() {
        let mut bytes = archive(&[("a.png", b"x")]);
        bytes[7] ^= 1;
        let error = entries(&bytes).unwrap_err().to_string();
        assert!(error.contains("at byte 0: no tar archive: the first header"), "{error}");
        bytes[..2].copy_from_slice(&[0x1f, 0x8b]);
        let error = entries(&bytes).unwrap_err().to_string();
        assert!(error.contains("a compressed archive; expected a plain one"), "{error}");
    }

    #[test]
    fn links_and_devices_are_passed_over() {
        for (kind, words) in
            [(b'2', "link"), (b'1', "link"), (b'3', "not a regular"), (b'S', "sparse")]
        {
            let bytes = changed(archive(&[("a.png", b"x")]), |header| header[156] = kind);
            let found = entries(&bytes).unwrap();
            let [Entry::PassedOver { name, reason }] = &found[..] else { panic!("{found:?}") };
            assert!(name == "a.png" && reason.contains(words), "{reason}");
        }
        let folder = changed(archive(&[("a", b"")]), |header| header[156] = b'5');
        assert_eq!(entries(&folder).unwrap(), []);
    }

    #[test]
    fn long_names_and_sizes_are_read() {
        let long = format!("{}/a.png", "n".repeat(150));
        let record = |key: &str, value: &str| {
            let rest = format!(" {key}={value}\n");
            let mut len = rest.len() + 1;
            while len.to_string().len() + rest.len() != len {
                len += 1;
            }
            format!("{len}{rest}")
        };
        let gnu =
            changed(archive(&[("././@LongLink", long.as_bytes())]), |header| header[156] = b'L');
        let pax = record("path", &long) + &record("size", "3");
        let pax = changed(archive(&[("h", pax.as_bytes())]), |header| header[156] = b'x');
        for extension in [gnu, pax] {
            let end = extension.len() - 2 * BLOCK;
            let bytes = [&extension[..end], &archive(&[("short", b"abc")])].concat();
            let found = entries(&bytes).unwrap();
            let [Entry::File { name, len: 3, .. }] = &found[..] else { panic!("{found:?}") };
            assert_eq!(*name, long);
        }
        let binary = changed(archive(&[("a", b"abc")]), |header| {
            header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        });
        assert!(matches!(entries(&binary).unwrap()[0], Entry::File { len: 3, .. }));
    }

    #[test]
    fn the_list_of_a_sparse_file_is_passed_over() {
        let sparse = changed(archive(&[("sparse.bin", &[7; 600])]), |header| {
            header[156] = b'S';
            header[SPARSE_CONTINUES] = 1;
        });
        let mut more = [[1; BLOCK]; 2];
        more[1][SPARSE_MAP_CONTINUES] = 0;
        let (header, content) = sparse.split_at(BLOCK);
        let content = &content[..2 * BLOCK];
        let rest = archive(&[("a.png", b"abc")]);
        let found = entries(&[header, more.as_flattened(), content, &rest].concat()).unwrap();
        assert!(matches!(&found[..], [Entry::PassedOver { .. }, Entry::File { len: 3, .. }]));
        let error = entries(&[header, &more[0]].concat()).unwrap_err().to_string();
        assert!(error.contains("cut short"), "{error}");
    }

    #[test]
    fn what_stands_behind_the_end_is_not_passed_over() {
        let [one, two] = ["a.png", "b.png"].map(|name| archive(&[(name, b"x")]));
        let error = entries(&[&one[..], &two].concat()).unwrap_err().to_string();
        assert!(error.contains("behind the mark of its end"), "{error}");
        let padded = [&one[..], &[0; 10_000]].concat();
        assert_eq!(entries(&padded).unwrap().len(), 1);
        assert!(entries(&[&padded[..], b"x"].concat()).is_err());
    }

    #[test]
    fn damage_is_told_in_one_line() {
        let whole = archive(&[("a.png", &[1; 700]), ("b.png", b"x")]);
        for (bytes, words) in [
            (vec![], "is empty"),
            (b"GIF89a".to_vec(), "cut short"),
            (vec![b'x'; 2048], "no tar archive"),
            (whole[..BLOCK + 600].to_vec(), "of 700 bytes does not fit"),
            (whole[..3 * BLOCK].to_vec(), "without the mark of its end"),
            (whole[..3 * BLOCK + 100].to_vec(), "cut short"),
            (changed(whole.clone(), |header| header[124] = b'9'), "a size is no number"),
            (changed(whole.clone(), |header| header[124..135].fill(b'7')), "does not fit"),
            (changed(whole, |header| header[124..136].fill(0xff)), "a size is no number"),
        ] {
            let error = entries(&bytes).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{words}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_a_file_outside_of_the_archive(
            at in 0_usize..4096, value in any::<u8>(), cut in 0_usize..4096, sum in any::<bool>(),
        ) {
            let mut bytes = archive(&[("a.png", &[1; 700]), ("b.txt", b"x")]);
            let place = at % bytes.len();
            bytes[place] = value;
            if sum {
                bytes = changed(bytes, |_| ());
            }
            bytes.truncate(bytes.len() - cut % bytes.len());
            for entry in entries(&bytes).unwrap_or_default() {
                if let Entry::File { offset, len, .. } = entry {
                    prop_assert!(offset + len <= bytes.len() as u64);
                }
            }
        }
    }
}
