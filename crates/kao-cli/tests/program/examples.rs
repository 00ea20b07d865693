//! Every example of every `--help` is run, in a folder that holds what it names. What would take
//! long is made short: fewer pictures, steps and images; everything else is as it stands there.

use crate::fixture::{kao, trained};
use kao::formats::{StoreAs, TensorView, write_safetensors};
use kao::noise::SeededNoise;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The examples in the help of `command`, without their comments and redirections.
fn examples(command: &str) -> Vec<String> {
    let help = kao(Path::new("."), &format!("{command} --help")).ok().out;
    let lines = help.lines().filter_map(|line| line.strip_prefix("  kao "));
    let example = |line: &str| {
        let end = [line.find("   "), line.find(" > ")].into_iter().flatten().min();
        line[..end.unwrap_or(line.len())].trim().to_owned()
    };
    lines.map(example).filter(|example| !example.is_empty()).collect()
}

/// The names of all commands.
pub fn commands() -> Vec<String> {
    let help = kao(Path::new("."), "--help").ok().out;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let is_entry = line.starts_with("  ") && !line.starts_with("   ");
        is_entry.then(|| line.split_whitespace().next()).flatten().map(str::to_owned)
    });
    names.filter(|name| name != "help").collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// A mask for drawn faces: the lower half is painted anew.
fn mask(path: &Path) {
    let side = image::image_dimensions(trained().join("faces/face-000000.png")).unwrap().0;
    let shade = |_, y| image::Luma([if y < side / 2 { 0 } else { 255u8 }]);
    image::GrayImage::from_fn(side, side, shade).save(path).unwrap();
}

/// A file with the noise of three images of the built-in model.
fn noise(path: &Path) {
    let noise = SeededNoise { seed: 1, first_image: 0 }.x_t(3, [3, 64, 64]);
    let (shape, metadata) = (noise.shape(), Default::default());
    let view = TensorView { shape: &shape, data: noise.data() };
    write_safetensors(path, [("x_T", view)], &metadata, StoreAs::F32).unwrap();
}

/// A folder with everything that an example names, but what it writes itself.
fn place(example: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = "run/model.safetensors";
    let picture = "faces/face-000000.png";
    for (from, to) in [
        ("faces", "faces"),
        ("faces", "mine"),
        ("faces", "downloads/anime"),
        ("faces", "other/pictures"),
        ("faces", "pictures/faces"),
        ("run", "run"),
        (model, "last.ckpt"),
        (model, "weights.pth"),
        (model, "model.safetensors"),
        ("run/config.toml", "config.toml"),
        (picture, "one.jpg"),
        ("faces/face-000001.png", "two.png"),
        ("run/samples/step-00000004.png", "grid.png"),
    ] {
        copy(&trained().join(from), &folder.path().join(to));
    }
    if example.contains("cifar10") {
        let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kao/tests/data/diffusers_tiny");
        copy(&saved, &folder.path().join("ddpm-cifar10-32"));
        if example.contains(" cifar10.safetensors ") {
            kao(folder.path(), "convert ddpm-cifar10-32 cifar10.safetensors").ok();
        }
    }
    if example.contains(" archives ") && example.starts_with("train") {
        kao(folder.path(), "prepare faces archives --size 16 --min-side 1 --shards 9").ok();
    }
    mask(&folder.path().join("mask.png"));
    noise(&folder.path().join("noise.safetensors"));
    let words: Vec<&str> = example.split_whitespace().collect();
    let written = words.iter().position(|word| *word == "--out").map(|at| words[at + 1]);
    let written = written.or((words[0] == "prepare").then(|| words[2]));
    if let Some(path) = written.map(|name| folder.path().join(name))
        && path.is_dir()
    {
        fs::remove_dir_all(path).unwrap();
    }
    folder
}

/// The example with less to do.
fn shortened(example: &str) -> String {
    let mut words: Vec<String> = example.split_whitespace().map(str::to_owned).collect();
    let has = |words: &[String], flag: &str| words.iter().any(|word| word == flag);
    let less: &[(&str, &str)] = match words[0].as_str() {
        "draw" => &[("--count", "3")],
        // A grid over two lists has as many images as the lists ask for.
        "sample" if has(&words, "--rows") => &[("--steps", "2")],
        "edit" if has(&words, "--pick") => &[("--steps", "2")],
        "edit" => &[("--count", "2"), ("--steps", "2")],
        "interpolate" if has(&words, "--pick") => &[("--steps", "2")],
        "interpolate" => &[("--frames", "3"), ("--steps", "2")],
        "sample" if has(&words, "--pick") => &[("--steps", "2")],
        "sample" => &[("--count", "2"), ("--steps", "2")],
        "recover" => &[("--count", "1"), ("--steps", "2")],
        "encode" => &[("--steps", "2")],
        "compare" if has(&words, "--evaluations") => &[("--count", "2"), ("--evaluations", "3")],
        "compare" => &[("--count", "2"), ("--steps", "2,3")],
        "sweep" => &[("--count", "1"), ("--max-steps", "10")],
        "eval" if has(&words, "--samples") => &[("--count", "8")],
        "eval" => &[("--count", "8"), ("--steps", "2")],
        "bench" => &[("--batch-size", "1"), ("--rounds", "1"), ("--warmup", "0")],
        "train" if has(&words, "--epochs") => {
            &[("--epochs", "1"), ("--batch-size", "24"), ("--sample-count", "0")]
        }
        "train" => &[("--steps", "2"), ("--batch-size", "4"), ("--sample-count", "0")],
        _ => &[],
    };
    for (flag, value) in less {
        match words.iter().position(|word| word == flag) {
            Some(at) => words[at + 1] = (*value).to_owned(),
            None => words.extend([(*flag).to_owned(), (*value).to_owned()]),
        }
    }
    words.join(" ")
}

#[test]
fn every_example_runs() {
    let mut n_examples = 0;
    let all = commands();
    assert!(all.len() >= 12, "{all:?}");
    for command in all.iter().map(String::as_str).chain([""]) {
        let examples = examples(command);
        assert!(!examples.is_empty() || command == "man", "{command}");
        // What names a repository needs a server.
        for example in examples.into_iter().filter(|example| !example.contains(" hf:")) {
            let folder = place(&example);
            let arguments = shortened(&example);
            if arguments.contains(" --resume") {
                // There has to be something to resume.
                let begins = arguments.replace(" --resume", "").replace("--steps 2", "--steps 1");
                kao(folder.path(), &begins).ok();
            }
            n_examples += 1;
            #[cfg(all(unix, feature = "studio"))]
            if command == "studio" {
                crate::studio::serves(folder.path(), &arguments);
                continue;
            }
            let ran = kao(folder.path(), &arguments);
            assert_eq!(ran.code, Some(0), "kao {example}, as kao {arguments}: {ran:?}");
        }
    }
    assert!(n_examples >= 35, "{n_examples}");
}
