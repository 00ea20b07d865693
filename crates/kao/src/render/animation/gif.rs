//! GIF. Each picture has a palette of its own, of the 256 colours that come nearest to its own.

use super::{Animation, Frames};
use gif::{AnyExtension, Encoder, Extension, Frame, Repeat};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// How thoroughly colours are chosen, 1 (most) to 30.
const SPEED: i32 = 5;

pub(super) fn write(
    file: impl Write,
    animation: &Animation<'_>,
    [width, height]: [usize; 2],
    frame: &mut Frames<'_>,
) -> io::Result<()> {
    // Both checked: GIF can express them.
    let [width, height] = [width, height].map(|side| side as u16);
    let mut encoder = Encoder::new(file, width, height, &[]).map_err(io::Error::other)?;
    encoder.set_repeat(Repeat::Infinite).map_err(io::Error::other)?;
    let line = |(key, text): &(String, String)| format!("{key}: {}\n", one_line(text));
    let comment: String = animation.texts.iter().map(line).collect();
    if !comment.is_empty() {
        let kind = AnyExtension::from(Extension::Comment);
        encoder.write_raw_extension(kind, &[comment.as_bytes()]).map_err(io::Error::other)?;
    }
    for index in 0..animation.n_frames {
        let picture = frame(index)?;
        let mut frame = Frame::from_rgb_speed(width, height, picture.rgb(), SPEED);
        // In hundredths of a second.
        frame.delay = (animation.milliseconds(index) / 10) as u16;
        encoder.write_frame(&frame).map_err(io::Error::other)?;
    }
    encoder.into_inner().map_err(io::Error::other)?.flush()
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\0'], " ")
}

/// The lines of the comment before the first picture; none where `bytes` is no GIF.
pub(super) fn texts(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    const EXTENSION: u8 = 0x21;
    const PICTURE: u8 = 0x2c;
    const TRAILER: u8 = 0x3b;
    let mut at = 13;
    if !bytes.starts_with(b"GIF8") {
        return None;
    }
    let flags = *bytes.get(10)?;
    if flags & 0x80 != 0 {
        at += 3 << ((flags & 7) + 1);
    }
    let mut comment = Vec::new();
    while *bytes.get(at)? == EXTENSION {
        let kind = *bytes.get(at + 1)?;
        at += 2;
        loop {
            let length = usize::from(*bytes.get(at)?);
            let block = bytes.get(at + 1..at + 1 + length)?;
            if kind == Extension::Comment as u8 {
                comment.extend_from_slice(block);
            }
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
    if !matches!(*bytes.get(at)?, PICTURE | TRAILER) {
        return None;
    }
    let comment = String::from_utf8_lossy(&comment);
    let pairs = comment.lines().filter_map(|line| line.split_once(": "));
    Some(pairs.map(|(key, text)| (key.to_owned(), text.to_owned())).collect())
}
