//! Folders of diffusers in the program: told, sampled from, gone on from, converted and written.

use crate::fixture::{kao, trained};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with one of diffusers in `tiny`, and pictures of its size in `faces`.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kao/tests/data/diffusers_tiny");
    for name in [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ] {
        let place = folder.path().join("tiny").join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(saved.join(name), place).unwrap();
    }
    folder
}

#[test]
fn a_folder_is_told_sampled_and_converted() {
    let folder = workplace();
    let folder = folder.path();
    let info = kao(folder, "info tiny").ok().out;
    for line in [
        "format                   diffusers folder",
        "image size               8 x 8 pixels, 3 channels",
        "flip_sin_to_cos          true",
        "sampling.clip            1.0",
        "sampling.spacing         leading",
        "sampling.variance        beta",
        "0 missing, 0 unused, 0 of wrong shape",
    ] {
        assert!(info.contains(line), "{line}\n{info}");
    }
    let json = kao(folder, "info tiny --json --tensors").ok().out;
    assert!(json.contains("down_blocks.1.attentions.0.to_q.weight"), "{json}");
    kao(folder, "convert tiny tiny.safetensors").ok();
    let sample = "sample --count 2 --steps 3 --sampler ddim --eta 1";
    kao(folder, &format!("{sample} --model tiny --out a.png")).ok();
    kao(folder, &format!("{sample} --model tiny.safetensors --out b.png")).ok();
    let told = kao(folder, "info a.png").ok().out;
    assert!(told.contains("clip                     1, predicted noise kept"), "{told}");
    assert!(told.contains("spacing                  leading"), "{told}");
    let pixels = |name: &str| image::open(folder.join(name)).unwrap().into_rgb8().into_raw();
    assert_eq!(pixels("a.png"), pixels("b.png"));
    kao(folder, &format!("{sample} --model tiny --unclipped --out c.png")).ok();
    assert_ne!(pixels("a.png"), pixels("c.png"));
}

#[test]
fn a_folder_is_gone_on_from_and_written_again() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("prepare {} faces --size 8", trained().join("faces").display())).ok();
    let train = "train --data faces --no-tags --from tiny --out run --steps 2 --batch-size 2 --sample-count 0";
    kao(folder, train).ok();
    let info = kao(folder, "info run/model.safetensors").ok().out;
    assert!(info.contains("sampling.variance        beta"), "{info}");
    let ran = kao(folder, "convert run again --to diffusers").ok();
    assert_eq!(ran.out, "again\n");
    let config = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let entries =
        |name: &str| -> serde_json::Value { serde_json::from_str(&config(name)).unwrap() };
    for file in ["unet/config.json", "scheduler/scheduler_config.json", "model_index.json"] {
        let (mut before, mut after) =
            (entries(&format!("tiny/{file}")), entries(&format!("again/{file}")));
        for entries in [&mut before, &mut after] {
            entries.as_object_mut().unwrap().remove("_diffusers_version");
            // A head as wide as the only levels with attention is one head.
            entries.as_object_mut().unwrap().remove("attention_head_dim");
        }
        assert_eq!(before, after, "{file}");
    }
    let report = kao(folder, "info again").ok().out;
    assert!(report.contains("0 missing, 0 unused, 0 of wrong shape"), "{report}");
    // Nothing is written over.
    let error = kao(folder, "convert run again --to diffusers");
    assert!(error.error().contains("`again`: the folder holds something"), "{error:?}");
    kao(folder, "convert run net.onnx").ok();
    assert!(fs::metadata(folder.join("net.onnx")).unwrap().len() > 20_000);
}

#[test]
fn what_a_scheduler_leaves_out_is_as_its_class_has_it() {
    let folder = workplace();
    let folder = folder.path();
    let file = folder.join("tiny/scheduler/scheduler_config.json");
    for (class, betas) in [
        ("HeunDiscreteScheduler", "0.00085 to 0.012"),
        ("KDPM2AncestralDiscreteScheduler", "0.00085 to 0.012"),
        ("EulerDiscreteScheduler", "0.0001 to 0.02"),
    ] {
        fs::write(&file, format!("{{\"_class_name\": \"{class}\"}}")).unwrap();
        let info = kao(folder, "info tiny").ok().out;
        let schedule = info.lines().find(|line| line.starts_with("schedule ")).unwrap();
        assert!(schedule.contains(betas), "{class}: {schedule}");
    }
}

#[test]
fn a_model_that_ends_at_the_first_timestep_is_one_of_ddim_in_all_its_files() {
    let folder = workplace();
    let folder = folder.path();
    let scheduler = r#"{"_class_name": "DDIMScheduler", "set_alpha_to_one": false, "variance_type": "fixed_large"}"#;
    fs::write(folder.join("tiny/scheduler/scheduler_config.json"), scheduler).unwrap();
    kao(folder, "convert tiny tiny.safetensors").ok();
    kao(folder, "convert tiny.safetensors again --to diffusers").ok();
    let entries = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(folder.join("again").join(name)).unwrap()).unwrap()
    };
    let (index, scheduler) =
        (entries("model_index.json"), entries("scheduler/scheduler_config.json"));
    assert_eq!(index["scheduler"][1], "DDIMScheduler");
    assert_eq!(index["_class_name"], "DDIMPipeline");
    assert_eq!(scheduler["_class_name"], "DDIMScheduler");
    assert_eq!(scheduler["set_alpha_to_one"], false);
    assert_eq!(scheduler["variance_type"], "fixed_large");
}

#[test]
fn what_diffusers_cannot_say_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = trained().join("run/model.safetensors");
    let convert = |input: &str| {
        kao(folder.path(), &format!("convert {input} out --to diffusers")).error().to_owned()
    };
    let error = convert(&model.display().to_string());
    assert!(error.contains("activation: diffusers has no hardswish"), "{error}");
    let error = convert("built-in");
    assert!(error.contains("patch_size: 2 found"), "{error}");
    assert!(!folder.path().join("out").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    for (arguments, expected) in [
        ("built-in a.txt --to onnx", "expected a name that ends in .onnx"),
        ("built-in a.onnx --half", "--half: an ONNX file holds 32-bit floats"),
        ("built-in a.onnx --to kao", "expected a name that ends in .safetensors"),
    ] {
        let error = kao(folder.path(), &format!("convert {arguments}"));
        assert!(error.error().contains(expected), "{error:?}");
    }
}

#[test]
fn repositories_that_are_not_here_are_told_how_to_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let mut command = crate::fixture::command(folder.path(), arguments);
        let ran = command.env("HF_HOME", folder.path()).env("HF_HUB_OFFLINE", "1").output();
        String::from_utf8(ran.unwrap().stderr).unwrap()
    };
    let words = run("info hf:someone/cats");
    assert!(words.contains("hf:someone/cats has not been fetched"), "{words}");
    assert!(words.contains("kao fetch hf:someone/cats"), "{words}");
    fs::create_dir(folder.path().join("data")).unwrap();
    for arguments in [
        "sample --model hf:someone/cats",
        "bench --model hf:someone/cats",
        "convert hf:someone/cats cats.safetensors",
        "train --from hf:someone/cats --data data --out run",
        "fetch hf:someone/cats",
    ] {
        let words = run(arguments);
        assert!(words.contains("HF_HUB_OFFLINE is set"), "{words}");
    }
    assert!(run("fetch cats").contains("expected hf:OWNER/NAME"));
    // What the hub's own tools have fetched is used.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let root = folder.path().join("hub/models--someone--cats");
    let snapshot = root.join("snapshots").join(commit);
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), commit).unwrap();
    fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    fs::rename(workplace().path().join("tiny"), &snapshot).unwrap();
    let words = run("sample --model hf:someone/cats --count 1 --steps 1 --out cat.png");
    assert!(words.contains("hf:someone/cats"), "{words}");
    assert!(folder.path().join("cat.png").exists(), "{words}");
}
