//! Which picture format a file is of, by its content alone.

/// A format that Kao reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Bmp,
    Tiff,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Gif => "GIF",
            Format::WebP => "WebP",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
        }
    }
}

/// What a file's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recognized {
    /// A picture that Kao reads.
    Read(Format),
    /// A picture of this format, which Kao does not read.
    Other(&'static str),
    /// Nothing that is known.
    Nothing,
}

/// Formats that Kao reads, by how they begin.
const READ: [(&[u8], Format); 8] = [
    (b"\xFF\xD8\xFF", Format::Jpeg),
    (b"\x89PNG\r\n\x1A\n", Format::Png),
    (b"GIF87a", Format::Gif),
    (b"GIF89a", Format::Gif),
    (b"II*\0", Format::Tiff),
    (b"MM\0*", Format::Tiff),
    (b"II+\0", Format::Tiff),
    (b"MM\0+", Format::Tiff),
];

/// Formats that Kao does not read, by how they begin: with bytes that nothing else begins with.
const OTHERS: [(&[u8], &str); 20] = [
    (b"\xFF\x0A", "JPEG XL"),
    (b"\0\0\0\x0CJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0CjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
    (b"II\xBC\x01", "JPEG XR"),
    (b"8BPS", "PSD"),
    (b"gimp xcf", "XCF"),
    (b"\0\0\x01\0", "ICO"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"farbfeld", "farbfeld"),
    (b"BPG\xFB", "BPG"),
    (b"FLIF", "FLIF"),
    (b"\x59\xA6\x6A\x95", "Sun raster"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"IIRO", "camera raw (ORF)"),
];

/// What the content of a whole file is.
pub(super) fn recognize(content: &[u8]) -> Recognized {
    match recognize_start(content) {
        Recognized::Nothing => {}
        found => return found,
    }
    // These begin with little, or with what text may begin with.
    if content.starts_with(b"BM") {
        return Recognized::Read(Format::Bmp);
    }
    let name = match content {
        [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => "PNM",
        [0x01, 0xDA, 0 | 1, 1 | 2, 0, 1..=3, ..] => "SGI",
        [0x0A, 0 | 2..=5, 0 | 1, 1 | 2 | 4 | 8, ..] => "PCX",
        _ if content.ends_with(b"TRUEVISION-XFILE.\0") || begins_as_tga(content) => "TGA",
        _ if begins_as_svg(content) => "SVG",
        _ => return Recognized::Nothing,
    };
    Recognized::Other(name)
}

/// What the first 16 bytes of a file say for certain. No text begins so.
pub(super) fn recognize_start(start: &[u8]) -> Recognized {
    if let Some((_, format)) = READ.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Recognized::Read(*format);
    }
    if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
        return Recognized::Read(Format::WebP);
    }
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Recognized::Other(name);
    }
    // The ISO base media file format, which films use too, tells by its brand.
    if start.get(4..8) == Some(b"ftyp") {
        let name = match start.get(8..12).and_then(|brand| brand.first_chunk::<4>()) {
            Some(b"avif" | b"avis") => "AVIF",
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs") => {
                "HEIC"
            }
            Some(b"mif1" | b"mif2" | b"msf1") => "HEIF",
            Some(b"crx ") => "camera raw (CR3)",
            _ => return Recognized::Nothing,
        };
        return Recognized::Other(name);
    }
    Recognized::Nothing
}

/// Whether the header is a plausible one of TGA, which has no mark of its own.
fn begins_as_tga(content: &[u8]) -> bool {
    let &[_, map, kind, _, _, _, _, map_bits, _, _, _, _, w0, w1, h0, h1, n_bits, flags, ..] =
        content
    else {
        return false;
    };
    let has_pixels = [w0, w1] != [0, 0] && [h0, h1] != [0, 0];
    let fits = match (map, kind) {
        (1, 1 | 9) => matches!(map_bits, 15 | 16 | 24 | 32) && n_bits == 8,
        (0, 2 | 10) => map_bits == 0 && matches!(n_bits, 15 | 16 | 24 | 32),
        (0, 3 | 11) => map_bits == 0 && matches!(n_bits, 8 | 16),
        _ => false,
    };
    has_pixels && fits && flags & 0xC0 == 0
}

/// Whether the text begins with the element of an SVG drawing, behind what XML may put before it.
fn begins_as_svg(content: &[u8]) -> bool {
    let start = &content[..content.len().min(1024)];
    let text = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
    text.starts_with(b"<svg")
        || text.starts_with(b"<?xml") && text.windows(4).any(|four| four == b"<svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_content() {
        let ftyp = |brand: &[u8]| [b"\0\0\0\x18ftyp", brand, b"\0\0\0\0"].concat();
        let tga = |header: [u8; 18]| [&header[..], &[7; 30]].concat();
        let rgb = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 64, 0, 24, 0x20];
        for (content, name) in [
            (ftyp(b"heic"), "HEIC"),
            (ftyp(b"mif1"), "HEIF"),
            (ftyp(b"avif"), "AVIF"),
            (ftyp(b"crx "), "camera raw (CR3)"),
            (b"\xFF\x0A\0\0".to_vec(), "JPEG XL"),
            (b"\0\0\0\x0CJXL \r\n\x87\n\0\0".to_vec(), "JPEG XL"),
            (b"\0\0\0\x0CjP  \r\n\x87\n\0\0".to_vec(), "JPEG 2000"),
            (b"\xFF\x4F\xFF\x51\0\x2F".to_vec(), "JPEG 2000"),
            (b"8BPS\0\x01".to_vec(), "PSD"),
            (tga(rgb), "TGA"),
            ([&[9; 40][..], b"TRUEVISION-XFILE.\0"].concat(), "TGA"),
            (b"P6\n2 2\n255\n".to_vec(), "PNM"),
            (b"<?xml version='1.0'?>\n<!-- x --><svg width='9'/>".to_vec(), "SVG"),
            (b"  <svg xmlns='x'>".to_vec(), "SVG"),
        ] {
            assert_eq!(recognize(&content), Recognized::Other(name));
        }
    }

    #[test]
    fn what_is_no_picture_is_not_taken_for_one() {
        for content in [
            &b""[..],
            b"\0",
            b"hello",
            b"<html><svg></svg></html>",
            b"Page 1 of 3",
            b"\0\0\0\x18ftypisom\0\0\0\0",
            b"RIFF\0\0\0\0WAVEfmt ",
            b"%PDF-1.4",
            b"PK\x03\x04",
            b"\x7FELF",
            &[0; 64],
        ] {
            assert_eq!(recognize(content), Recognized::Nothing, "{content:?}");
        }
        // Text may begin as a bitmap does; only a name makes it one.
        assert_eq!(recognize_start(b"BMI is a number"), Recognized::Nothing);
    }

    #[test]
    fn no_two_formats_begin_alike() {
        let others = OTHERS.iter().map(|&(magic, _)| magic);
        let magics: Vec<&[u8]> = READ.iter().map(|&(magic, _)| magic).chain(others).collect();
        for (index, magic) in magics.iter().enumerate() {
            for other in &magics[index + 1..] {
                assert!(!magic.starts_with(other) && !other.starts_with(magic), "{magic:?}");
            }
        }
    }
}
