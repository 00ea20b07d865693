//! PNG files, with words about where they come from.
//!
//! The words are PNG's own text chunks (key and text), which picture programs show and keep.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::Path;

use super::picture::Picture;
use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::files::open_regular;

/// What a key may be long, says PNG.
const MAX_KEY_BYTES: usize = 79;

/// The largest picture that is read back.
const MAX_PIXEL_BYTES: usize = 512 << 20;

/// Checks that `path` names a PNG file, before the work that ends in it.
///
/// # Errors
/// When the name does not end in `.png`, in upper or lower case.
pub fn check_png_path(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return Ok(());
    }
    let problem = "pictures are written as PNG, expected a name that ends in .png";
    Err(Error::invalid(format!("`{}`", path.display()), problem))
}

/// Writes `picture` to `path` atomically, with `texts` (keys and texts: `Software`, `model`,
/// `sampler`, `seed` …) before its pixels. The same input gives the same bytes.
///
/// # Errors
/// When `path` does not end in `.png`, a key is not 1 to 79 printable ASCII characters, or the
/// file cannot be written.
pub fn write_png(
    path: impl AsRef<Path>,
    picture: &Picture,
    texts: &[(impl AsRef<str>, impl AsRef<str>)],
) -> Result<()> {
    let path = path.as_ref();
    check_png_path(path)?;
    check_keys(texts)?;
    atomic_write(path, |file| encode(file, picture, texts))
}

/// The bytes of the file that [`write_png`] writes.
///
/// # Errors
/// When a key is not 1 to 79 printable ASCII characters.
pub fn png_bytes(
    picture: &Picture,
    texts: &[(impl AsRef<str>, impl AsRef<str>)],
) -> Result<Vec<u8>> {
    check_keys(texts)?;
    let mut bytes = Vec::new();
    encode(&mut bytes, picture, texts).map_err(|error| Error::invalid("picture", error))?;
    Ok(bytes)
}

fn encode(
    into: &mut impl io::Write,
    picture: &Picture,
    texts: &[(impl AsRef<str>, impl AsRef<str>)],
) -> io::Result<()> {
    // A `Picture` is never beyond what PNG can express.
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    let mut encoder = png::Encoder::new(into, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    add_texts(&mut encoder, texts)?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.rgb())?;
    writer.finish()?;
    Ok(())
}

/// Checks that keys are 1 to 79 printable ASCII characters.
pub(super) fn check_keys(texts: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<()> {
    for (key, _) in texts {
        let key = key.as_ref();
        let is_printable = key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !(1..=MAX_KEY_BYTES).contains(&key.len()) || !is_printable || key != key.trim() {
            return Err(Error::invalid(
                format!("PNG text key `{}`", key.escape_default()),
                "expected 1 to 79 printable ASCII characters without spaces around them",
            ));
        }
    }
    Ok(())
}

/// Adds keys and texts to what stands before the pixels.
pub(super) fn add_texts<W: io::Write>(
    encoder: &mut png::Encoder<'_, W>,
    texts: &[(impl AsRef<str>, impl AsRef<str>)],
) -> io::Result<()> {
    for (key, text) in texts {
        // The chunks end a text at a zero byte.
        let (key, text) = (key.as_ref().to_owned(), text.as_ref().replace('\0', " "));
        if text.is_ascii() {
            encoder.add_text_chunk(key, text)?;
        } else {
            encoder.add_itxt_chunk(key, text)?;
        }
    }
    Ok(())
}

/// The texts of a PNG file by key, as far as they stand before its pixels.
///
/// # Errors
/// When the file cannot be read or is no PNG.
pub fn read_png_text(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>> {
    let path = path.as_ref();
    let file = open_regular(path)?;
    let reader = png::Decoder::new(BufReader::new(file)).read_info();
    let reader = reader.map_err(|error| match error {
        png::DecodingError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            Error::io("read", path, source)
        }
        other => Error::malformed(path, format!("not a sound PNG: {other}")),
    })?;
    let info = reader.info();
    let mut texts = BTreeMap::new();
    for chunk in &info.uncompressed_latin1_text {
        texts.insert(chunk.keyword.clone(), chunk.text.clone());
    }
    for chunk in &info.utf8_text {
        // Unpacks no more than two megabytes; one that is larger, or broken, is left out.
        let mut chunk = chunk.clone();
        if chunk.decompress_text().is_ok()
            && let Ok(text) = chunk.get_text()
        {
            texts.insert(chunk.keyword, text);
        }
    }
    Ok(texts)
}

/// The pixels of a PNG file; grey and palettes become RGB, and transparency is dropped.
///
/// # Errors
/// When the file cannot be read, is no PNG, or is larger than the decoder's limits.
pub fn read_png(path: impl AsRef<Path>) -> Result<Picture> {
    let path = path.as_ref();
    let file = open_regular(path)?;
    let unsound = |error| Error::malformed(path, format!("not a sound PNG: {error}"));
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(unsound)?;
    let n_bytes = reader.output_buffer_size().filter(|&n_bytes| n_bytes <= MAX_PIXEL_BYTES);
    let n_bytes = n_bytes.ok_or_else(|| unsound(png::DecodingError::LimitsExceeded))?;
    let mut bytes = vec![0; n_bytes];
    let frame = reader.next_frame(&mut bytes).map_err(unsound)?;
    bytes.truncate(frame.buffer_size());
    let rgb = match frame.color_type.samples() {
        3 => bytes,
        n => {
            let colour =
                |pixel: &[u8]| if n == 4 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] };
            bytes.chunks_exact(n).flat_map(colour).collect()
        }
    };
    Picture::from_rgb(frame.width as usize, frame.height as usize, rgb)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn small() -> Picture {
        Picture::from_rgb(2, 2, vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7]).unwrap()
    }

    #[test]
    fn pixels_and_texts_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.PNG");
        let texts = [("Software", "Kao"), ("eta", "0.5"), ("model", "顔.safetensors")];
        write_png(&path, &small(), &texts).unwrap();
        assert_eq!(read_png(&path).unwrap(), small());
        let expected = texts.map(|(key, text)| (key.to_owned(), text.to_owned()));
        assert_eq!(read_png_text(&path).unwrap(), BTreeMap::from(expected));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(png_bytes(&small(), &texts).unwrap(), bytes);
        write_png(&path, &small(), &texts).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn other_names_and_impossible_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jpg", "png", "a", ".png"] {
            let path = folder.path().join(name);
            let error = write_png(&path, &small(), &[("a", "b")]).unwrap_err().to_string();
            assert!(error.contains("ends in .png"), "{error}");
        }
        for key in ["", " a", "é", "a\n", &"a".repeat(80)] {
            assert!(write_png(folder.path().join("a.png"), &small(), &[(key, "b")]).is_err());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_png(&path, &small(), &[("Software", "Kao"), ("model", "顔")]).unwrap();
        std::fs::read(path).unwrap()
    });

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn damaged_files_are_survived(changes in prop::collection::vec((0..200usize, any::<u8>()), 0..5), cut in 0..200usize) {
            let mut bytes = WHOLE.clone();
            for (at, byte) in changes {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            bytes.truncate(cut);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let _ = read_png(file.path());
            let _ = read_png_text(file.path());
        }
    }
}
