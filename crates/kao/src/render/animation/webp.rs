//! Animated WebP: lossless pictures of the `image-webp` crate in a container of our own.
//!
//! The crate writes single pictures only. The container is that of the WebP specification: RIFF
//! chunks `VP8X` (canvas and features), `ANIM` (loops), one `ANMF` for each picture, and `XMP `.

use super::{Animation, Frames};
use image_webp::{ColorType, WebPEncoder};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Features of `VP8X`.
const ANIMATION: u8 = 0x02;
const XMP: u8 = 0x04;
/// A flag of `ANMF`: the picture replaces what is under it.
const DO_NOT_BLEND: u8 = 0x02;
/// Where the texts are, within the XMP packet.
const ATTRIBUTES: &str = "rdf:about=\"\" xmlns:kao=\"urn:kao\"";

pub(super) fn write(
    mut file: impl Write,
    animation: &Animation<'_>,
    [width, height]: [usize; 2],
    frame: &mut Frames<'_>,
) -> io::Result<()> {
    // Both checked: WebP can express them.
    let [canvas_width, canvas_height] = [width, height].map(|side| three_bytes(side as u32 - 1));
    let mut chunks = Vec::new();
    let features = if animation.texts.is_empty() { ANIMATION } else { ANIMATION | XMP };
    let header = [&[features, 0, 0, 0][..], &canvas_width, &canvas_height].concat();
    add_chunk(&mut chunks, b"VP8X", &header)?;
    // A background of no colour, and loops without an end.
    add_chunk(&mut chunks, b"ANIM", &[0; 6])?;
    for index in 0..animation.n_frames {
        let mut alone = Vec::new();
        let picture = frame(index)?;
        WebPEncoder::new(&mut alone)
            .encode(picture.rgb(), width as u32, height as u32, ColorType::Rgb8)
            .map_err(io::Error::other)?;
        // The picture's own chunk follows the twelve bytes of the crate's container.
        let own = alone.get(12..).ok_or_else(|| io::Error::other("no picture was encoded"))?;
        let duration = three_bytes(animation.milliseconds(index));
        let place = [[0; 3], [0; 3], canvas_width, canvas_height, duration].concat();
        let content = [&place, &[DO_NOT_BLEND][..], own].concat();
        add_chunk(&mut chunks, b"ANMF", &content)?;
    }
    if !animation.texts.is_empty() {
        add_chunk(&mut chunks, b"XMP ", packet(animation.texts).as_bytes())?;
    }
    file.write_all(b"RIFF")?;
    file.write_all(&length(chunks.len() + 4)?)?;
    file.write_all(b"WEBP")?;
    file.write_all(&chunks)
}

/// A chunk: its name, the length of its content, the content, and a byte where that is odd.
fn add_chunk(chunks: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) -> io::Result<()> {
    chunks.extend_from_slice(name);
    chunks.extend_from_slice(&length(content.len())?);
    chunks.extend_from_slice(content);
    if content.len() % 2 == 1 {
        chunks.push(0);
    }
    Ok(())
}

fn length(n_bytes: usize) -> io::Result<[u8; 4]> {
    let too_long = |_| io::Error::other("more than the 4 GiB that WebP can hold");
    Ok(u32::try_from(n_bytes).map_err(too_long)?.to_le_bytes())
}

fn three_bytes(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}

/// The texts as attributes of an XMP packet.
fn packet(texts: &[(String, String)]) -> String {
    let attribute = |(key, text): &(String, String)| format!(" kao:{key}=\"{}\"", escaped(text));
    let attributes: String = texts.iter().map(attribute).collect();
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
         xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
         {ATTRIBUTES}{attributes}/></rdf:RDF></x:xmpmeta>"
    )
}

/// Characters that may not stand in an attribute, and what stands for them.
const ESCAPES: [(char, &str); 4] = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")];

fn escaped(text: &str) -> String {
    let escape = |c: char| match ESCAPES.iter().find(|(plain, _)| *plain == c) {
        Some((_, escaped)) => (*escaped).to_owned(),
        None if c.is_control() => " ".to_owned(),
        None => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn unescaped(text: &str) -> String {
    // `&` last: what it stands for is no escape.
    ESCAPES
        .iter()
        .rev()
        .fold(text.to_owned(), |text, (plain, escaped)| text.replace(escaped, &plain.to_string()))
}

/// The texts of the XMP packet, as Kao writes it; none where `bytes` is no WebP.
pub(super) fn texts(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    if !bytes.starts_with(b"RIFF") || bytes.get(8..12) != Some(b"WEBP") {
        return None;
    }
    let mut at = 12;
    let mut texts = BTreeMap::new();
    while let Some(header) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes(*header.last_chunk()?) as usize;
        let content = bytes.get(at + 8..(at + 8).checked_add(length)?)?;
        if header.starts_with(b"XMP ") {
            let packet = String::from_utf8_lossy(content);
            let attributes = packet.split_once(ATTRIBUTES).map_or("", |(_, rest)| rest);
            // Values have no quotes within.
            let mut parts = attributes.split('"');
            while let (Some(name), Some(text)) = (parts.next(), parts.next()) {
                if let Some(key) =
                    name.trim().strip_prefix("kao:").and_then(|n| n.strip_suffix('='))
                {
                    texts.insert(key.to_owned(), unescaped(text));
                }
            }
        }
        at += 8 + length + length % 2;
    }
    Some(texts)
}
