use super::*;

fn picture(index: usize) -> Picture {
    let rgb = (0..20 * 12 * 3).map(|i| ((i * 7 + index * 40) % 200) as u8).collect();
    Picture::from_rgb(20, 12, rgb).unwrap()
}

fn texts() -> Vec<(String, String)> {
    let command = "kao x --tags \"a & b\" <3 kao:y=\"z";
    let pairs = [("Software", "kao"), ("command", command), ("model", "顔 kao:x")];
    pairs.map(|(key, text)| (key.to_owned(), text.to_owned())).to_vec()
}

fn written(name: &str, n_frames: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let format = AnimationFormat::of(&path).unwrap();
    let texts = texts();
    let animation =
        Animation { format, n_frames, frames_per_second: 10, rest_ms: 500, texts: &texts };
    animation.write(&path, |index| Ok(picture(index))).unwrap();
    (folder, path)
}

/// The pictures of an animation as another decoder reads them, and their delays in milliseconds.
fn decoded<'a>(decoder: impl image::AnimationDecoder<'a>) -> Vec<(Vec<u8>, u32)> {
    let frames = decoder.into_frames().collect_frames().unwrap();
    let of = |frame: image::Frame| {
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let rgb = image::DynamicImage::ImageRgba8(frame.into_buffer()).into_rgb8();
        (rgb.into_raw(), numerator / denominator)
    };
    frames.into_iter().map(of).collect()
}

#[test]
fn other_decoders_read_the_same_pictures() {
    let read = |path: &Path| std::io::Cursor::new(std::fs::read(path).unwrap());
    for n_frames in [1, 4] {
        let expected = |index: usize| if index + 1 == n_frames { 600 } else { 100 };
        let (_folder, path) = written("a.apng", n_frames);
        let apng = image::codecs::png::PngDecoder::new(read(&path)).unwrap().apng().unwrap();
        let (_folder, path) = written("a.webp", n_frames);
        let webp = image::codecs::webp::WebPDecoder::new(read(&path)).unwrap();
        for frames in [decoded(apng), decoded(webp)] {
            assert_eq!(frames.len(), n_frames);
            for (index, (rgb, milliseconds)) in frames.iter().enumerate() {
                assert!(rgb == picture(index).rgb(), "picture {index} of {n_frames}");
                assert_eq!(*milliseconds, expected(index));
            }
        }
        let (_folder, path) = written("a.GIF", n_frames);
        let gif = decoded(image::codecs::gif::GifDecoder::new(read(&path)).unwrap());
        assert_eq!(gif.len(), n_frames);
        for (index, (rgb, milliseconds)) in gif.iter().enumerate() {
            // No more than 200 colours, so they are exact.
            assert!(rgb == picture(index).rgb(), "picture {index} of {n_frames}");
            assert_eq!(*milliseconds, expected(index));
        }
    }
}

#[test]
fn texts_come_back_from_every_format() {
    let expected: BTreeMap<String, String> = texts().into_iter().collect();
    for name in ["a.apng", "a.gif", "a.webp"] {
        let (_folder, path) = written(name, 2);
        assert_eq!(read_animation_text(&path).unwrap(), expected, "{name}");
        // Whatever is cut off, it is survived.
        let bytes = std::fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let _ = read_animation_text(&path);
        }
        std::fs::write(&path, "words").unwrap();
        assert!(read_animation_text(&path).is_err(), "{name}");
    }
}

#[test]
fn the_same_pictures_give_the_same_bytes() {
    for name in ["a.apng", "a.gif", "a.webp"] {
        let [one, two] = [written(name, 3), written(name, 3)];
        assert!(std::fs::read(one.1).unwrap() == std::fs::read(two.1).unwrap(), "{name}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let format = AnimationFormat::Gif;
    let animation =
        Animation { format, n_frames: 2, frames_per_second: 10, rest_ms: 0, texts: &[] };
    let refused = |animation: Animation<'_>, size| animation.check(size).unwrap_err().to_string();
    assert!(refused(animation, [70_000, 1]).starts_with("out: an animation of 2 pictures"));
    assert!(refused(Animation { n_frames: 0, ..animation }, [1, 1]).starts_with("frames 0"));
    assert!(refused(Animation { n_frames: 9999, ..animation }, [9999, 99]).starts_with("out"));
    let fast = Animation { frames_per_second: 51, ..animation };
    assert!(refused(fast, [1, 1]).starts_with("fps 51: must be between 1 and 50"));
    let webp = Animation { format: AnimationFormat::WebP, ..animation };
    assert!(refused(webp, [17_000, 1]).contains("sides up to 16384"));

    let other = |index: usize| Picture::new(20 + index, 12, [0; 3]);
    let error = animation.write(&path, other).unwrap_err().to_string();
    assert_eq!(error, "frames: picture 1 has 21 × 12 pixels; expected 20 × 12");
    let failing = |index: usize| match index {
        0 => Ok(picture(0)),
        _ => Err(Error::interrupted()),
    };
    assert_eq!(animation.write(&path, failing).unwrap_err().to_string(), "interrupted");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(AnimationFormat::of("a.png"), None);
}
