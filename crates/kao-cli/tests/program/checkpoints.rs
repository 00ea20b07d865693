//! Checkpoints of other programs: from whatever `torch.save` wrote to pictures, or to a message that
//! says how to go on.

use crate::fixture::{Ran, kao, model, names};
use crate::support::checkpoints::{CONFIG, settings, weights};
use crate::support::torch::{Py, dict, saved};
use std::fs;
use std::path::Path;

fn written(folder: &Path, name: &str, root: &Py) {
    fs::write(folder.join(name), saved(root)).unwrap();
}

/// What `info` says behind `name`.
fn row<'a>(told: &'a Ran, name: &str) -> Vec<&'a str> {
    let rows = told.out.lines().filter(|line| line.get(..20).is_some_and(|s| s.trim() == name));
    rows.map(|line| line[20..].trim()).collect()
}

#[test]
fn a_state_dictionary_is_told_the_way_on_and_goes_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    written(folder, "weights.pth", &weights("module.", 0.01));
    fs::write(folder.join("config.toml"), CONFIG).unwrap();
    let hint = "kao convert --config FILE IN OUT.safetensors";
    for arguments in ["sample --model weights.pth", "convert weights.pth model.safetensors"] {
        let ran = kao(folder, arguments);
        assert_eq!(
            ran.error(),
            "error: `weights.pth`: a PyTorch state dictionary without the configuration of a model \
             in it"
        );
        assert!(ran.err.contains(hint), "{ran:?}");
        assert!(ran.err.contains("num_steps = 20"), "{ran:?}");
    }
    let told = kao(folder, "info weights.pth").ok();
    assert!(row(&told, "hint")[0].contains(hint), "{told:?}");

    kao(folder, "convert weights.pth model.safetensors --config config.toml").ok();
    let told = kao(folder, "info model.safetensors").ok();
    assert_eq!(row(&told, "prediction"), ["v"]);
    assert_eq!(row(&told, "schedule"), ["linear, 20 timesteps, beta 0.0001 to 0.02"]);
    kao(folder, "sample --model model.safetensors --count 1 --steps 2").ok();

    let ran = kao(folder, "convert weights.pth other.safetensors --config weights.pth");
    assert!(ran.error().contains("weights.pth"), "{ran:?}");
    let wider = CONFIG.replace("ch = 32", "ch = 64");
    fs::write(folder.join("wider.toml"), wider).unwrap();
    let ran = kao(folder, "convert weights.pth other.safetensors --config wider.toml");
    assert!(ran.error().contains("has shape [128, 32], expected [256, 64]"), "{ran:?}");
    assert!(!folder.join("other.safetensors").exists());
}

#[test]
fn a_choice_between_two_sets_of_weights_is_told_and_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = dict([
        ("model", weights("", 0.01)),
        ("ema", weights("module.", 0.02)),
        ("cfg", settings(vec![("beta_schedule", "cosine".into())])),
    ]);
    written(folder, "state.pt", &root);
    let told = kao(folder, "info state.pt").ok();
    let notes = row(&told, "note");
    assert_eq!(notes[0], "its entries `model`, `ema` hold tensors");
    assert!(notes[1].starts_with("the averaged weights (`ema.module.`) are used;"), "{told:?}");
    assert_eq!(row(&told, "schedule"), ["squared-cosine, 20 timesteps"]);
    assert!(told.out.contains("0 missing, 0 unused, 0 of wrong shape"), "{told:?}");

    let ran = kao(folder, "sample --model state.pt --count 1 --steps 2 --out average.png").ok();
    assert!(ran.err.contains("note: the averaged weights (`ema.module.`) are used;"), "{ran:?}");
    let arguments = "sample --model state.pt --count 1 --steps 2 --out raw.png --raw-weights";
    let ran = kao(folder, arguments).ok();
    assert!(ran.err.contains("note: the weights themselves (`model.`) are used"), "{ran:?}");
    for (flags, out) in [("", "a.safetensors"), ("--raw-weights", "b.safetensors")] {
        kao(folder, &format!("convert state.pt {out} {flags}")).ok();
    }
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert_ne!(read("a.safetensors"), read("b.safetensors"));
}

#[test]
fn what_settings_say_and_kao_cannot_do_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (entry, value) in [("beta_schedule", "sigmoid"), ("objective", "flow")] {
        let settings = settings(vec![(entry, value.into())]);
        let root = dict([("state_dict", weights("unet.", 0.01)), ("hyper_parameters", settings)]);
        written(folder, "other.ckpt", &root);
        let ran = kao(folder, "sample --model other.ckpt");
        let expected = format!("`other.ckpt`: `hyper_parameters.{entry}` is \"{value}\": Kao has");
        assert!(ran.error().contains(&expected), "{ran:?}");
        assert_eq!(names(folder), ["other.ckpt"]);
    }
}

#[test]
fn a_picture_given_as_a_model_is_called_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let png = b"\x89PNG\r\n\x1a\n and so on";
    fs::write(folder.join("grid.png"), png).unwrap();
    for arguments in [
        "sample --model grid.png",
        "sample --model grid.png --out grid.png",
        "eval --model grid.png --data . --neighbours grid.png",
        "convert grid.png model.safetensors",
    ] {
        let ran = kao(folder, arguments);
        assert_eq!(ran.error(), "error: `grid.png`: this is a PNG picture", "{arguments}");
        assert_eq!(ran.code, Some(1));
    }
    assert_eq!(names(folder), ["grid.png"]);
    assert_eq!(fs::read(folder.join("grid.png")).unwrap(), png);
}

#[test]
fn a_model_of_another_architecture_is_told_apart_by_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    let faces = model().parent().unwrap().parent().unwrap().join("faces");
    let (faces, model) = (faces.display().to_string(), model().display().to_string());
    let arguments = format!("train --data {faces} --out run --from {model} --preset tiny");
    let ran = kao(folder.path(), &arguments);
    let error = ran.error();
    assert!(error.contains("its architecture is another: its "), "{error}");
    assert!(!error.contains('{') && !error.contains("UNetConfig"), "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
    assert!(made.success());
    for (name, kind) in [("pipe", "a pipe"), ("/dev/zero", "a device")] {
        for arguments in [
            format!("info {name}"),
            format!("convert {name} model.safetensors"),
            format!("sample --model {name}"),
            format!("sample --noise {name}"),
            format!("bench --model {name}"),
        ] {
            let ran = kao(folder, &arguments);
            let expected = format!("`{name}`: this is {kind}, not a regular file");
            assert!(ran.error().ends_with(&expected), "{arguments}: {ran:?}");
        }
    }
}
