//! Whether a JPEG file is whole.
//!
//! The JPEG decoder is lenient: what is missing at the end of a file it paints grey. For training
//! such a picture is broken, so the end marker is looked for here. This knows the marker structure
//! of the format (ITU-T T.81, annex B) and nothing of its pixels.

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Whether the markers of a JPEG file lead to an end-of-image marker behind at least one scan.
///
/// What follows that marker does not matter, and markers inside a segment (the thumbnail of EXIF
/// data) do not count.
pub(super) fn is_complete(content: &[u8]) -> bool {
    let mut rest = match content {
        [0xFF, 0xD8, rest @ ..] => rest,
        _ => return false,
    };
    let mut scans = 0;
    loop {
        // To the next marker: 0xFF, then neither fill (0xFF), nor stuffing (0x00), nor a restart
        // marker, which stand within a scan.
        let Some(start) = rest.windows(2).position(
            |pair| matches!(pair, [0xFF, code] if !matches!(code, 0x00 | 0xD0..=0xD7 | 0xFF)),
        ) else {
            return false;
        };
        let code = rest[start + 1];
        rest = &rest[start + 2..];
        match code {
            END_OF_IMAGE => return scans > 0,
            // TEM stands alone.
            0x01 => continue,
            START_OF_SCAN => scans += 1,
            _ => {}
        }
        let [high, low, ..] = rest else { return false };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(after) = rest.get(length.max(2)..) else { return false };
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let mut content = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut content)
            .encode(&pixels, 32, 32, image::ExtendedColorType::Rgb8)
            .unwrap();
        content
    }

    #[test]
    fn a_whole_file_is_complete_whatever_follows_it() {
        let mut content = jpeg();
        assert!(is_complete(&content));
        content.extend_from_slice(b"trailing bytes");
        assert!(is_complete(&content));
    }

    #[test]
    fn no_beginning_of_a_file_is_complete() {
        let content = jpeg();
        for length in 0..content.len() {
            assert!(!is_complete(&content[..length]), "cut to {length} of {}", content.len());
        }
    }

    #[test]
    fn an_end_marker_inside_a_segment_does_not_count() {
        let mut content = vec![0xFF, 0xD8, 0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xDA, 0xFF, 0xD9];
        assert!(!is_complete(&content));
        content.extend_from_slice(&[0xFF, 0xDA, 0x00, 0x02, 7, 7, 0xFF, 0x00, 0xFF, 0xD0, 7]);
        assert!(!is_complete(&content));
        content.extend_from_slice(&[0xFF, 0xD9]);
        assert!(is_complete(&content));
    }
}
