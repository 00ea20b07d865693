//! What a model says of how it is sampled, and what a user asks for, is done or refused by name.

use crate::fixture::{kao, model, trained, with_model};
use kao::denoiser::Prediction;
use kao::device::Device;
use kao::formats::StoreAs;
use kao::model::Model;
use kao::sampler::SamplingDefaults;
use kao::timesteps::{End, Spacing};
use std::fs;
use std::path::Path;

/// The trained model, which says how it is to be sampled as those of diffusers do.
fn write_with_defaults(path: &Path) {
    let mut model = Model::load(model(), &Device::Cpu).unwrap();
    model.config.sampling = SamplingDefaults {
        clip: Some(1.0),
        end: Some(End::FirstTimestep),
        spacing: Some(Spacing::Leading),
        steps_offset: 1,
        ..SamplingDefaults::default()
    };
    model.save(path, StoreAs::F32).unwrap();
}

fn text_of(path: &Path, name: &str) -> String {
    let texts = kao::render::read_png_text(path).unwrap();
    texts.get(name).unwrap_or_else(|| panic!("no {name} in {texts:?}")).clone()
}

#[test]
fn what_compare_and_sweep_say_of_a_picture_is_how_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_with_defaults(&path.join("m.safetensors"));
    let of_compare = "compare --model m.safetensors --samplers ddim --steps 3 --count 2 --out c";
    kao(path, of_compare).ok();
    kao(path, "sweep --model m.safetensors --count 2 --max-steps 10 --out s").ok();
    for picture in ["c/grid-ddim-s0003-eta0.png", "s/grid-s0010-eta0.0.png"] {
        let said = |name| text_of(&path.join(picture), name);
        let said = [said("clip"), said("end")];
        assert_eq!(said, ["1, predicted noise kept", "first-timestep"], "{picture}");
    }
    // A method that ends at the first timestep takes one evaluation less or more.
    let json = fs::read_to_string(path.join("c/compare.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["comparisons"][0]["evaluations"], 3);
}

#[test]
fn what_is_encoded_with_a_model_that_clips_is_decoded_by_the_line_that_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_with_defaults(&path.join("m.safetensors"));
    for spacing in ["trailing", "leading"] {
        let arguments = format!(
            "encode FACES --model m.safetensors --count 2 --steps 4 --spacing {spacing} --out l.safetensors"
        );
        let encoded = kao(path, &with_model(&arguments).1).ok();
        let line = encoded.err.lines().find_map(|line| line.strip_prefix("to decode: kao "));
        let line = format!("{} --save-tensors d.safetensors", line.unwrap());
        assert!(line.contains("--unclipped"), "{line}");
        let decoded = kao(path, &line).ok();
        assert!(!decoded.err.contains("warning"), "{decoded:?}");
        // As the noise was measured: the mean squared error of pictures in [0, 1].
        let told = encoded.out.lines().find(|line| line.starts_with("error per dimension"));
        let told: f64 = told.unwrap().split_whitespace().last().unwrap().parse().unwrap();
        let found = kao::formats::read(path.join("d.safetensors")).unwrap().tensors;
        let found = found.get("x_0").unwrap().data().to_vec();
        let shape = [3, 16, 16];
        let faces =
            kao::dataset::Folder::load(&trained().join("faces"), shape, &kao::control::Unattended);
        let faces = faces.unwrap().images(&[0, 1]).unwrap();
        let unit = |value: f32| (f64::from(value).clamp(-1.0, 1.0) + 1.0) / 2.0;
        let sum: f64 =
            faces.data().iter().zip(&found).map(|(&a, &b)| (unit(a) - unit(b)).powi(2)).sum();
        let error = sum / found.len() as f64;
        assert!((error - told).abs() < 2e-6, "{spacing}: {error} and {told}");
        let clipped = kao(path, &line.replace(" --unclipped", "")).ok();
        assert!(
            clipped.err.contains("--clip 1, predicted noise kept in place of false"),
            "{clipped:?}"
        );
    }
}

#[test]
fn a_model_of_the_same_weights_that_predicts_something_else_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut model = Model::load(model(), &Device::Cpu).unwrap();
    let before = model.fingerprint();
    model.save(path.join("m.safetensors"), StoreAs::F32).unwrap();
    let sample = "sample --model m.safetensors --steps 2 --count 1 --out fold/";
    kao(path, sample).ok();
    assert!(kao(path, sample).ok().err.contains("1 of 1 image done before"));
    let made = fs::read(path.join("fold/seed-999-image-00000.png")).unwrap();
    model.config.prediction = Prediction::X0;
    assert_ne!(model.fingerprint(), before);
    model.config.training.clear();
    model.save(path.join("m.safetensors"), StoreAs::F32).unwrap();
    let again = kao(path, sample).ok();
    assert!(!again.err.contains("done before"), "{again:?}");
    assert_ne!(fs::read(path.join("fold/seed-999-image-00000.png")).unwrap(), made);
}

#[test]
fn tags_in_another_order_are_another_label() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (_, sample) = with_model(
        "sample --model MODEL --steps 1 --tags-from t.txt --guidance 1 --labels --out l/",
    );
    let tags: Vec<String> = {
        let model = Model::load(model(), &Device::Cpu).unwrap();
        model.config.tags.tags().iter().take(2).map(|tag| tag.tag.clone()).collect()
    };
    fs::write(path.join("t.txt"), tags.join(", ")).unwrap();
    kao(path, &sample).ok();
    assert!(kao(path, &sample).ok().err.contains("1 of 1 image done before"));
    fs::write(path.join("t.txt"), format!("{}, {}", tags[1], tags[0])).unwrap();
    assert!(!kao(path, &sample).ok().err.contains("done before"));
}

#[test]
fn nothing_that_is_read_is_written_over() {
    let (folder, commands) = with_model(
        "recover --model MODEL --data a.png --out a.png --steps 1\n\
         recover --model MODEL --data faces --out faces/ --steps 1\n\
         convert m.safetensors m.safetensors --half\n\
         convert m.safetensors ./x/../m.safetensors",
    );
    let path = folder.path();
    fs::create_dir(path.join("faces")).unwrap();
    fs::create_dir(path.join("x")).unwrap();
    for name in ["a.png", "faces/a.png"] {
        fs::copy(trained().join("faces/face-000000.png"), path.join(name)).unwrap();
    }
    fs::copy(model(), path.join("m.safetensors")).unwrap();
    let before =
        [fs::read(path.join("a.png")).unwrap(), fs::read(path.join("m.safetensors")).unwrap()];
    for command in commands.lines() {
        assert!(kao(path, command).error().contains("names the file of"), "{command}");
    }
    let after =
        [fs::read(path.join("a.png")).unwrap(), fs::read(path.join("m.safetensors")).unwrap()];
    assert!(before == after);
    // Nor what `sample` has made, by names that both would give.
    let (_, both) = with_model(
        "sample --model MODEL --count 1 --steps 1 --out out/\n\
         recover --model MODEL --data a.png --steps 1 --out out/",
    );
    both.lines().for_each(|command| drop(kao(path, command).ok()));
    assert_eq!(fs::read_dir(path.join("out")).unwrap().count(), 2);
}

#[test]
fn what_does_not_apply_is_refused() {
    for (command, expected) in [
        ("eval --samples FACES --data FACES --tags girl", "--tags: only applies to samples of"),
        ("eval --samples FACES --data FACES --avoid girl", "--avoid: only applies to samples of"),
        ("eval --samples FACES --data FACES --guide MODEL", "--guide: only applies to samples of"),
        ("eval --samples FACES --data FACES --guidance 3", "--guidance: only applies to samples"),
        (
            "sample --model MODEL --steps 1 --guide MODEL --avoid girl",
            "--avoid: has no effect with --guide",
        ),
    ] {
        let (folder, command) = with_model(command);
        let ran = kao(folder.path(), &command);
        assert!(ran.error().contains(expected), "{ran:?}");
    }
}

#[test]
fn what_cannot_be_drawn_is_refused_before_anything_is_made() {
    for command in [
        "sample --model MODEL --count 64 --scale 64 --steps 40 --strip s.png --strip-images 64 --strip-moments 41 --out g.png",
        "sample --model MODEL --count 600 --scale 64 --labels --out g.png",
        "edit FACES/face-000000.png --model MODEL --count 560 --scale 64 --labels --out g.png",
    ] {
        let (folder, command) = with_model(command);
        let ran = kao(folder.path(), &command);
        assert!(ran.error().contains("pixels"), "{ran:?}");
        assert!(!ran.err.contains("image done"), "{ran:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn commands_that_are_printed_can_be_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("small.toml"), crate::fixture::CONFIG).unwrap();
    let mut train = crate::fixture::command(path, "train --config small.toml --steps 2 --no-tags");
    train.args(["--out", "my run"]).arg("--data").arg(trained().join("faces"));
    let out = train.output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && words.contains("kao sample --model 'my run'"), "{words}");
    let info = crate::fixture::command(path, "info").arg("my run").output().unwrap();
    let words = String::from_utf8_lossy(&info.stdout);
    assert!(words.contains("kao train --resume --out 'my run' --steps MORE"), "{words}");
}

#[cfg(unix)]
#[test]
fn a_folder_without_a_unicode_name_gets_its_page() {
    use std::os::unix::ffi::OsStrExt;
    let (folder, arguments) =
        with_model("compare --model MODEL --samplers ddim --steps 1,2 --count 1");
    let out = std::ffi::OsStr::from_bytes(b"out\xff");
    let mut compare = crate::fixture::command(folder.path(), &arguments);
    let ran = compare.arg("--out").arg(out).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(folder.path().join(out).join("index.html").is_file());
}
