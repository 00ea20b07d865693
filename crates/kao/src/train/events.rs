//! TensorBoard event files.
//!
//! A file is a sequence of TFRecords: length, CRC of the length, data, CRC of the data. The data of a
//! record is a protocol buffer, an `Event`. Kao needs ten of its fields and encodes them by hand,
//! since a protocol buffer compiler would take longer to build than these lines to write. Nothing is
//! read here: a run's own log and its checkpoints hold its past.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of event files begin. TensorBoard reads any file whose name contains `tfevents`.
const NAME_START: &str = "events.out.tfevents.";

/// The event file of one training process.
///
/// The file is created with the first event. A record is one write, so a crash can truncate only the
/// last record, which TensorBoard ignores.
#[derive(Debug)]
pub struct EventFile {
    folder: PathBuf,
    first_step: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// Bytes of whole records.
    n_bytes: u64,
}

impl EventFile {
    /// Events from `first_step` on, in a new file of `folder`, which must exist by the time of the
    /// first event. A new run gives 0, a resumed run the first step that is still to come. TensorBoard
    /// then drops what other files in the folder hold for that step and all later ones: those steps
    /// were undone by a crash or by resuming from an older checkpoint.
    pub fn new(folder: impl Into<PathBuf>, first_step: u64) -> Self {
        EventFile { folder: folder.into(), first_step, open: None }
    }

    /// The file, once it has been created.
    pub fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| open.path.as_path())
    }

    /// Logs the value of one curve at `step`. TensorBoard keeps single precision.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<()> {
        self.scalars(step, &[(tag, value)])
    }

    /// Logs the values of several curves (tag and value) at `step`, in one record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut scalar = Message::default();
            scalar.bytes(value::TAG, tag.as_bytes());
            scalar.float(value::SIMPLE_VALUE, *value as f32);
            summary.message(summary::VALUE, &scalar);
        }
        self.append(step, |event| event.message(event::SUMMARY, &summary))
    }

    /// Logs a picture at `step`: `png` is the content of a PNG file.
    ///
    /// # Errors
    /// When `png` does not begin with a PNG header, or the file cannot be written.
    pub fn image(&mut self, step: u64, tag: &str, png: &[u8]) -> Result<()> {
        let [width, height] = png_size(png).ok_or_else(|| {
            Error::invalid(format!("image `{tag}`"), "not the content of a PNG file")
        })?;
        let mut picture = Message::default();
        picture.number(image::HEIGHT, u64::from(height));
        picture.number(image::WIDTH, u64::from(width));
        picture.number(image::COLOURS, 3);
        picture.bytes(image::ENCODED, png);
        let mut tagged = Message::default();
        tagged.bytes(value::TAG, tag.as_bytes());
        tagged.message(value::IMAGE, &picture);
        let mut summary = Message::default();
        summary.message(summary::VALUE, &tagged);
        self.append(step, |event| event.message(event::SUMMARY, &summary))
    }

    /// Makes sure that what was written survives a power cut.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn flush(&mut self) -> Result<()> {
        match &self.open {
            Some(open) => {
                open.file.sync_data().map_err(|error| Error::io("write", &open.path, error))
            }
            None => Ok(()),
        }
    }

    /// Appends an event with the current time at `step`; `fill` adds its content.
    fn append(&mut self, step: u64, fill: impl FnOnce(&mut Message)) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let mut open = Open::create(&self.folder)?;
                let mut version = event_now(0);
                version.bytes(event::FILE_VERSION, b"brain.Event:2");
                open.append(&version)?;
                // In the first file of a run too: one of TensorBoard's readers ignores the first
                // start that it finds.
                let mut log = Message::default();
                log.number(session_log::STATUS, session_log::START);
                let mut start = event_now(self.first_step);
                start.message(event::SESSION_LOG, &log);
                open.append(&start)?;
                self.open.insert(open)
            }
        };
        let mut event = event_now(step);
        fill(&mut event);
        open.append(&event)
    }
}

impl Open {
    /// Creates a file in `folder` whose name sorts after those of all others there. TensorBoard reads
    /// them in this order, and it holds when two processes start in the same second or the clock is
    /// set back.
    fn create(folder: &Path) -> Result<Self> {
        let refused = |error| Error::io("read", folder, error);
        let mut seconds = seconds_now() as u64;
        for entry in std::fs::read_dir(folder).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name();
            let name = name.to_string_lossy();
            let begun = name.strip_prefix(NAME_START).and_then(|rest| rest.split('.').next());
            // Names with more than ten digits would not sort by number; Kao writes none.
            if let Some(begun) = begun.and_then(|digits| digits.parse::<u32>().ok()) {
                seconds = seconds.max(u64::from(begun) + 1);
            }
        }
        let path = folder.join(format!("{NAME_START}{seconds:010}.kao.{}", std::process::id()));
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.map_err(|error| Error::io("create", &path, error))?;
        Ok(Open { path, file, n_bytes: 0 })
    }

    fn append(&mut self, event: &Message) -> Result<()> {
        let record = record(&event.0);
        if let Err(error) = self.file.write_all(&record) {
            // Part of the record may have been written, and readers would stop there. It is cut off
            // where the file system allows it.
            let _ = self.file.set_len(self.n_bytes);
            return Err(Error::io("write", &self.path, error));
        }
        self.n_bytes += record.len() as u64;
        Ok(())
    }
}

/// The fields of `tensorboard/compat/proto/event.proto` and `summary.proto` that are used.
mod event {
    pub const WALL_TIME: u32 = 1;
    pub const STEP: u32 = 2;
    pub const FILE_VERSION: u32 = 3;
    pub const SUMMARY: u32 = 5;
    pub const SESSION_LOG: u32 = 7;
}
mod session_log {
    pub const STATUS: u32 = 1;
    /// A value of `STATUS`.
    pub const START: u64 = 1;
}
mod summary {
    pub const VALUE: u32 = 1;
}
mod value {
    pub const TAG: u32 = 1;
    pub const SIMPLE_VALUE: u32 = 2;
    pub const IMAGE: u32 = 4;
}
mod image {
    pub const HEIGHT: u32 = 1;
    pub const WIDTH: u32 = 2;
    /// 3 is RGB.
    pub const COLOURS: u32 = 3;
    pub const ENCODED: u32 = 4;
}

/// A protocol buffer being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn number(&mut self, field: u32, number: u64) {
        self.key(field, 0);
        self.varint(number);
    }

    fn double(&mut self, field: u32, number: f64) {
        self.key(field, 1);
        self.0.extend(number.to_le_bytes());
    }

    fn float(&mut self, field: u32, number: f32) {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u32, message: &Message) {
        self.bytes(field, &message.0);
    }
}

fn event_now(step: u64) -> Message {
    let mut event = Message::default();
    event.double(event::WALL_TIME, seconds_now());
    event.number(event::STEP, step);
    event
}

/// Seconds since 1970; 0 where the clock stands before that.
fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// `data` as a record of TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// TFRecord stores checksums rotated and shifted, since the CRC of what holds its own CRC is weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Width and height from the head of a PNG file.
fn png_size(png: &[u8]) -> Option<[u32; 2]> {
    let head = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let side = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some([side(0)?, side(4)?])
}

#[cfg(test)]
mod tests {
    //! Read back with nothing of the above: a reader of protocol buffers' wire format that knows no
    //! field in advance, checksums of `crc`. `bench/tensorboard_check.py` asks TensorBoard itself.

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Event {
        wall_time: f64,
        step: i64,
        file_version: Option<String>,
        summary: Option<Summary>,
        session_log: Option<SessionLog>,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct SessionLog {
        status: u64,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Summary {
        value: Vec<Value>,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Value {
        tag: String,
        simple_value: Option<f32>,
        image: Option<Image>,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Image {
        height: u64,
        width: u64,
        colorspace: u64,
        encoded_image_string: Vec<u8>,
    }

    impl Event {
        fn decode(bytes: &[u8]) -> Self {
            let message = Message::read(bytes);
            message.has_only(&[1, 2, 3, 5, 7]);
            Event {
                wall_time: message.one(1).map_or(0.0, |at| f64::from_le_bytes(fixed(at))),
                step: message.number(2) as i64,
                file_version: message.text(3),
                summary: message.one(5).map(|bytes| Summary {
                    value: Message::read(bytes).all(1).map(Value::decode).collect(),
                }),
                session_log: message
                    .one(7)
                    .map(|bytes| SessionLog { status: Message::read(bytes).number(1) }),
            }
        }
    }

    impl Value {
        fn decode(bytes: &[u8]) -> Self {
            let message = Message::read(bytes);
            message.has_only(&[1, 2, 4]);
            Value {
                tag: message.text(1).unwrap_or_default(),
                simple_value: message.one(2).map(|at| f32::from_le_bytes(fixed(at))),
                image: message.one(4).map(|bytes| {
                    let message = Message::read(bytes);
                    message.has_only(&[1, 2, 3, 4]);
                    Image {
                        height: message.number(1),
                        width: message.number(2),
                        colorspace: message.number(3),
                        encoded_image_string: message.one(4).unwrap_or_default().to_vec(),
                    }
                }),
            }
        }
    }

    /// The fields of a message in order: number, and the bytes of its value.
    struct Message<'a>(Vec<(u64, &'a [u8])>);

    impl<'a> Message<'a> {
        fn read(mut bytes: &'a [u8]) -> Self {
            let mut fields = Vec::new();
            while !bytes.is_empty() {
                let (key, after_key) = varint(bytes);
                // Wire types: 0 a varint, 1 and 5 fixed lengths, 2 a length before the value.
                let (length, from) = match key & 7 {
                    0 => (after_key.len() - varint(after_key).1.len(), after_key),
                    1 => (8, after_key),
                    2 => {
                        let (length, value) = varint(after_key);
                        (length as usize, value)
                    }
                    5 => (4, after_key),
                    other => panic!("wire type {other}"),
                };
                let (value, rest) = from.split_at(length);
                fields.push((key >> 3, value));
                bytes = rest;
            }
            Message(fields)
        }

        fn has_only(&self, known: &[u64]) {
            assert!(self.0.iter().all(|(number, _)| known.contains(number)), "an unknown field");
        }

        fn all(&self, number: u64) -> impl Iterator<Item = &'a [u8]> {
            self.0.iter().filter(move |field| field.0 == number).map(|field| field.1)
        }

        fn one(&self, number: u64) -> Option<&'a [u8]> {
            let mut all = self.all(number);
            let first = all.next();
            assert!(all.next().is_none(), "field {number} twice");
            first
        }

        fn number(&self, number: u64) -> u64 {
            self.one(number).map_or(0, |value| varint(value).0)
        }

        fn text(&self, number: u64) -> Option<String> {
            self.one(number).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        }
    }

    /// Seven bits a byte, the lowest first, the eighth bit set on all but the last; and the rest.
    fn varint(bytes: &[u8]) -> (u64, &[u8]) {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let bits = bytes[..length].iter().enumerate();
        let value = bits.fold(0, |value, (i, byte)| value | u64::from(byte & 0x7f) << (7 * i));
        (value, &bytes[length..])
    }

    fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap()
    }

    /// All whole records of a file, their checksums checked, and the bytes after them.
    fn read_back(mut bytes: &[u8]) -> (Vec<Event>, usize) {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
        let unmasked = |stored: &[u8]| {
            let stored = u32::from_le_bytes(stored.try_into().unwrap());
            let rotated = stored.wrapping_sub(0xa282_ead8);
            rotated.rotate_left(15)
        };
        let mut events = Vec::new();
        while bytes.len() >= 12 {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(crc.checksum(&bytes[..8]), unmasked(&bytes[8..12]));
            let Some(data) = bytes[12..].get(..length) else { break };
            let Some(stored) = bytes[12 + length..].get(..4) else { break };
            assert_eq!(crc.checksum(data), unmasked(stored));
            events.push(Event::decode(data));
            bytes = &bytes[16 + length..];
        }
        (events, bytes.len())
    }

    fn events(path: &Path) -> Vec<Event> {
        let (events, n_left) = read_back(&std::fs::read(path).unwrap());
        assert_eq!(n_left, 0);
        events
    }

    #[test]
    fn nothing_is_made_before_the_first_event() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::new(folder.path(), 0);
        file.flush().unwrap();
        assert_eq!((file.path(), std::fs::read_dir(folder.path()).unwrap().count()), (None, 0));
        let gone = folder.path().join("gone");
        let error = EventFile::new(&gone, 0).scalar(1, "loss", 0.5).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot read `{}`: No such", gone.display())),
            "{error}"
        );
    }

    #[test]
    fn a_file_begins_with_its_version_and_where_the_run_starts() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::new(folder.path(), 251);
        file.scalars(260, &[("loss/training", 0.25), ("images per second", 12.5)]).unwrap();
        file.flush().unwrap();
        let [version, start, scalars] = &events(file.path().unwrap())[..] else { panic!() };
        assert_eq!(version.file_version.as_deref(), Some("brain.Event:2"));
        let start_log = start.session_log.clone().unwrap();
        assert_eq!((start.step, start_log.status, &start.summary), (251, 1, &None));
        assert_eq!((scalars.step, &scalars.session_log), (260, &None));
        let values = &scalars.summary.as_ref().unwrap().value;
        let values: Vec<_> =
            values.iter().map(|value| (value.tag.as_str(), value.simple_value)).collect();
        assert_eq!(values, [("loss/training", Some(0.25)), ("images per second", Some(12.5))]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - scalars.wall_time).abs() < 3600.0);
    }

    #[test]
    fn files_sort_in_the_order_in_which_they_were_begun() {
        let folder = tempfile::tempdir().unwrap();
        // A clock that was ahead, and a name of somebody else's.
        std::fs::write(folder.path().join("events.out.tfevents.3000000000.host.1"), "").unwrap();
        std::fs::write(folder.path().join("events.out.tfevents.99999999999.host.1"), "").unwrap();
        let paths: Vec<PathBuf> = (0..3)
            .map(|step| {
                let mut file = EventFile::new(folder.path(), step);
                file.scalar(step, "loss", 1.0).unwrap();
                file.path().unwrap().to_owned()
            })
            .collect();
        let end = std::process::id();
        let names = ["3000000001", "3000000002", "3000000003"]
            .map(|n| folder.path().join(format!("events.out.tfevents.{n}.kao.{end}")));
        assert_eq!(paths, names);
    }

    #[test]
    fn a_picture_comes_back_with_its_size() {
        let mut png = Vec::new();
        png::Encoder::new(&mut png, 3, 2)
            .write_header()
            .unwrap()
            .write_image_data(&[7; 6])
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::new(folder.path(), 0);
        let error = file.image(5, "samples", &png[..20]).unwrap_err().to_string();
        assert_eq!(error, "image `samples`: not the content of a PNG file");
        assert!(file.image(5, "samples", b"GIF89a").is_err());
        file.image(5, "samples", &png).unwrap();
        let event = events(file.path().unwrap()).pop().unwrap();
        let value = event.summary.unwrap().value.pop().unwrap();
        let image = value.image.unwrap();
        assert_eq!((event.step, value.tag.as_str(), value.simple_value), (5, "samples", None));
        assert_eq!((image.width, image.height, image.colorspace), (3, 2, 3));
        assert_eq!(image.encoded_image_string, png);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_error_of_a_full_disk_names_the_file() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let open = Open { path: "/dev/full".into(), file, n_bytes: 0 };
        let mut file = EventFile { folder: "/dev".into(), first_step: 0, open: Some(open) };
        let error = file.scalar(0, "loss", 0.0).unwrap_err().to_string();
        assert_eq!(error, "cannot write `/dev/full`: No space left on device (os error 28)");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn whatever_was_written_comes_back(
            first_step in 0..=i64::MAX as u64,
            logged in prop::collection::vec(
                (
                    0..=i64::MAX as u64,
                    prop::collection::vec((any::<String>(), any::<f32>()), 0..4),
                ),
                1..6,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut file = EventFile::new(folder.path(), first_step);
            for (step, values) in &logged {
                let values: Vec<(&str, f64)> =
                    values.iter().map(|(tag, value)| (tag.as_str(), f64::from(*value))).collect();
                file.scalars(*step, &values).unwrap();
            }
            let bytes = std::fs::read(file.path().unwrap()).unwrap();
            let (events, n_left) = read_back(&bytes);
            prop_assert_eq!(n_left, 0);
            prop_assert_eq!(events[1].step as u64, first_step);
            prop_assert_eq!(events.len(), logged.len() + 2);
            for (event, (step, values)) in events[2..].iter().zip(&logged) {
                prop_assert_eq!(event.step as u64, *step);
                let found = &event.summary.as_ref().unwrap().value;
                prop_assert_eq!(found.len(), values.len());
                for (found, (tag, value)) in found.iter().zip(values) {
                    prop_assert_eq!(&found.tag, tag);
                    let found = found.simple_value.unwrap();
                    prop_assert!(found == *value || found.is_nan() && value.is_nan());
                }
            }
            // Cut anywhere, the records before the cut are whole.
            let (whole, _) = read_back(&bytes[..cut.index(bytes.len())]);
            prop_assert!(whole.len() < events.len());
            // As words, where a NaN is itself.
            let words = |event: &Event| format!("{event:?}");
            prop_assert!(whole.iter().map(words).eq(events.iter().map(words).take(whole.len())));
        }
    }
}
