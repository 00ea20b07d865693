//! `encode`: noise from which `sample` makes the pictures again.

use crate::fixture::{kao, trained, with_model};
use std::fs;
use std::path::Path;

/// The number behind `name` in what a run prints.
fn number(out: &str, name: &str) -> f64 {
    let line = out.lines().find(|line| line.starts_with(name)).unwrap();
    line[name.len()..].trim().trim_end_matches(" dB").parse().unwrap()
}

fn encode(folder: &Path, arguments: &str) -> crate::fixture::Ran {
    let (_, arguments) = with_model(&format!("encode FACES --model MODEL --count 3 {arguments}"));
    kao(folder, &arguments).ok()
}

#[test]
fn what_is_encoded_is_decoded_by_the_line_that_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ran = encode(path, "--steps 20 --picture p.png --out l.safetensors");
    assert!(ran.out.ends_with("l.safetensors\np.png\n"), "{ran:?}");
    assert_eq!(number(&ran.out, "evaluations of the network"), 21.0);
    let (error, psnr) = (number(&ran.out, "error per dimension"), number(&ran.out, "PSNR"));
    assert!(error > 0.0 && error < 0.1 && psnr > 10.0, "{ran:?}");
    // 3 columns of 16 pixels, twice enlarged, or as wide as their names.
    assert_eq!(image::image_dimensions(path.join("p.png")).unwrap().1, 2 + 12 + 3 * 34);

    let line = ran.err.lines().find_map(|line| line.strip_prefix("to decode: kao ")).unwrap();
    for words in ["--sampler ddim", "--steps 20", "--noise l.safetensors"] {
        assert!(line.contains(words), "{line}");
    }
    let decoded = kao(path, line).ok();
    assert!(!decoded.err.contains("warning"), "{decoded:?}");
    // A warning for all that is not as it was.
    for (other, words) in [
        ("--sampler heun", "--sampler heun in place of ddim"),
        ("--sampler ddim --steps 19", "--steps 19 in place of 20"),
        ("--sampler ddim --steps 20 --spacing karras", "--spacing karras in place of trailing"),
        ("--sampler ddim --steps 20 --eta 1 --clip", "--eta 1 in place of 0"),
    ] {
        let (_, arguments) =
            with_model(&format!("sample --model MODEL --noise l.safetensors {other}"));
        let ran = kao(path, &arguments);
        if other.contains("--eta 1") {
            // Noise of the steps is in no file of encoded pictures.
            assert!(ran.error().contains("no tensor `z`"), "{ran:?}");
            continue;
        }
        let expected = "warning: `l.safetensors` was encoded otherwise: ";
        assert!(ran.err.contains(expected) && ran.err.contains(words), "{other}: {ran:?}");
    }
    let ran = kao(path, "sample --count 1 --steps 1 --noise l.safetensors");
    assert!(ran.error().contains("expected [N, 3, 64, 64], the images of the model"), "{ran:?}");
}

#[test]
fn noise_is_the_same_bytes_in_any_batch_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |others: &str| {
        encode(folder.path(), &format!("--steps 4 {others} --out l.safetensors"));
        fs::read(folder.path().join("l.safetensors")).unwrap()
    };
    let whole = bytes("--batch-size 8 --threads 2");
    assert!(whole == bytes("--batch-size 2 --threads 1"));
    assert!(whole != bytes("--order 1") && whole != bytes("--iterations 2"));
}

#[test]
fn pictures_of_any_size_are_encoded_and_none_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    kao(path, "draw --count 2 --size 40 --out large").ok();
    let picture = "large/face-000000.png";
    let before = fs::read(path.join(picture)).unwrap();
    let model = trained().join("run/model.safetensors");
    let model = model.display();
    let arguments = format!("encode {picture} --model {model}");
    kao(path, &format!("{arguments} --steps 2 --out l.safetensors")).ok();
    let ran = kao(path, &format!("{arguments} --out {picture}"));
    assert!(ran.error().starts_with("error: --out: names the file of "), "{ran:?}");
    let ran = kao(path, &format!("{arguments} --out l.safetensors --picture {picture}"));
    assert!(ran.error().starts_with("error: --picture: names the file of "), "{ran:?}");
    assert!(before == fs::read(path.join(picture)).unwrap());
    for (wrong, words) in [
        ("--order 3", "--order 3: must be 1 or 2"),
        ("--iterations 0", "--iterations 0: must be at least 1"),
        ("--steps 0", "--steps 0: must be at least 1"),
        ("--count 2", "--count 2: must be at most 1, the pictures that there are"),
    ] {
        let ran = kao(path, &format!("{arguments} --out no.safetensors {wrong}"));
        assert_eq!(ran.error(), format!("error: {words}"));
        assert!(!path.join("no.safetensors").exists());
    }
    let ran = kao(path, &format!("encode missing.png --model {model} --out l.safetensors"));
    assert!(ran.error().contains("missing.png"), "{ran:?}");
}
