//! `train`, `prepare` and `draw` on the folders that people really have: one picture, small ones,
//! names of any bytes, more pictures than before, a run among its own pictures.

use crate::fixture::{Ran, command, kao, names, workplace};
use crate::training::TRAIN;
use image::{Rgb, RgbImage};
use std::path::Path;

fn picture(side: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| Rgb([seed * 37, x * 7 + seed, y * 5].map(|v| v as u8)))
}

/// All files below `folder`, with their content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        match path.is_dir() {
            true => found.extend(
                files(&path)
                    .into_iter()
                    .map(|(below, content)| (format!("{name}/{below}"), content)),
            ),
            false => found.push((name, std::fs::read(path).unwrap())),
        }
    }
    found
}

#[test]
fn a_single_picture_is_trained_on_whatever_it_shows() {
    let folder = workplace();
    let folder = folder.path();
    std::fs::create_dir(folder.join("one")).unwrap();
    let mut n_warned = 0;
    // One in twenty falls into the validation or the test set; of these some do.
    for seed in 0..60 {
        picture(16, seed).save(folder.join("one/a.png")).unwrap();
        let arguments = "train --config small.toml --data one --out run --steps 1 --dry-run";
        let ran = kao(folder, arguments).ok();
        assert!(ran.out.contains("1 to train on, 0 to validate, 0 to test"), "{seed}: {ran:?}");
        if seed == 0 {
            let ran = kao(folder, "train --config small.toml --data one --out run --steps 1").ok();
            n_warned += usize::from(ran.err.contains("all are trained on"));
            std::fs::remove_dir_all(folder.join("run")).unwrap();
        }
    }
    assert_eq!(n_warned, 1);
}

#[test]
fn a_dry_run_fails_where_the_run_would_and_writes_nothing() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} run --steps 4")).ok();
    kao(folder, "draw --count 20 --size 16 --seed 5 --out others").ok();
    std::fs::write(folder.join("file"), b"").unwrap();
    let small = std::fs::read_to_string(folder.join("small.toml")).unwrap();
    std::fs::write(folder.join("wide.toml"), small.replace("ch = 32", "ch = 64")).unwrap();
    std::fs::create_dir(folder.join("run/checkpoints/aside")).unwrap();
    let before = files(folder);
    let told = |ran: &Ran| (ran.code, ran.err.lines().last().unwrap_or_default().to_owned());
    for arguments in [
        "train --config small.toml --data faces --out run",
        "train --config small.toml --data faces --out file",
        "train --config small.toml --data faces --out file/run",
        "train --config small.toml --data missing --out new",
        "train --config small.toml --data faces --out faces",
        "train --config small.toml --data run/samples --out run",
        "train --config wide.toml --data faces --from run --out new",
        "train --config small.toml --data faces --from missing --out new",
        "train --resume --out new",
        "train --resume --out run --steps 3",
        "train --resume --out run --steps 6 --data others",
        "train --resume --out run --steps 6 --seed 3",
    ] {
        let dry = kao(folder, &format!("{arguments} --dry-run"));
        assert_ne!(dry.code, Some(0), "{arguments}: {dry:?}");
        assert!(files(folder) == before, "{arguments} --dry-run wrote something");
        assert_eq!(told(&dry), told(&kao(folder, arguments)), "{arguments}");
        // What the real one leaves does not matter here.
        let _ = std::fs::remove_dir_all(folder.join("new"));
        let _ = std::fs::remove_file(folder.join("run/.lock"));
        std::fs::write(folder.join("run/.lock"), b"").unwrap();
    }
    // A newest checkpoint that is damaged is neither renamed nor gone on from.
    let newest = folder.join("run/checkpoints/step-00000009.safetensors");
    std::fs::write(&newest, b"damaged").unwrap();
    let before = files(folder);
    let ran = kao(folder, "train --resume --out run --steps 6 --dry-run").ok();
    assert!(ran.err.contains("; it would be set aside as `step-"), "{ran:?}");
    assert!(ran.out.contains("2 to go of 6"), "{ran:?}");
    assert!(files(folder) == before);
}

#[test]
fn more_pictures_later_are_trained_on_from_the_model_on() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} run --steps 2 --sample-count 0")).ok();
    picture(16, 1).save(folder.join("faces/new.png")).unwrap();
    let ran = kao(folder, "train --resume --out run --steps 3");
    assert!(ran.error().contains("not the pictures that the run was trained on"), "{ran:?}");
    let way = "kao train --data faces --from run --out NEW_RUN";
    assert!(ran.err.contains(way), "{ran:?}");
    // The way that is named works.
    let way = way.strip_prefix("kao ").unwrap();
    kao(folder, &format!("{way} --steps 1 --sample-count 0 --batch-size 2")).ok();
    assert!(folder.join("NEW_RUN/model.safetensors").is_file());
}

#[test]
fn enlarged_pictures_are_told_of() {
    let folder = workplace();
    let folder = folder.path();
    let out = kao(folder, "prepare faces ready --size 32").ok().out;
    assert!(
        out.starts_with("24 read, 24 written, 24 of them enlarged\n24 pictures with tags, "),
        "{out}"
    );
    for (data, side) in [("faces", 64), ("ready", 64)] {
        let arguments = format!("train --preset small64 --data {data} --out run --dry-run");
        let ran = kao(folder, &arguments).ok();
        let warning = format!(
            "warning: 24 of 24 pictures enlarged to {side}x{side} pixels: the model learns their blur"
        );
        assert!(ran.err.contains(&warning), "{ran:?}");
    }
    let ran = kao(folder, &format!("{TRAIN} run --dry-run")).ok();
    assert!(!ran.err.contains("enlarged"), "{ran:?}");
}

#[test]
fn a_run_among_its_pictures_does_not_train_on_its_samples() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} faces/run --steps 4")).ok();
    assert!(!names(&folder.join("faces/run/samples")).is_empty());
    // Another run on the folder, and the same one later, see the pictures alone.
    kao(folder, "train --resume --out faces/run --steps 6").ok();
    let ran = kao(folder, &format!("{TRAIN} other --dry-run")).ok();
    let counts = ran.out.lines().find(|line| line.starts_with("pictures")).unwrap();
    let sum: u32 = counts.split_whitespace().filter_map(|word| word.parse::<u32>().ok()).sum();
    assert_eq!(sum, 24, "{counts}");
    let ran = kao(folder, "train --config small.toml --data faces --out faces");
    assert_eq!(ran.error(), "error: `faces`: the run directory is the folder of pictures");
}

#[test]
fn faces_of_another_set_are_refused_and_counted_when_replaced() {
    let folder = workplace();
    let folder = folder.path();
    let ran = kao(folder, "draw --count 30 --size 32 --out faces");
    assert_eq!(ran.code, Some(1));
    assert!(ran.error().contains("16×16 pixels, where 32×32 are asked for"), "{ran:?}");
    assert!(ran.err.contains("\nhint: choose a new folder"), "{ran:?}");
    let ran = kao(folder, "draw --count 2 --size 16 --seed 3 --out faces");
    assert!(ran.error().contains("of seed 999, where face 0 of seed 3"), "{ran:?}");
    std::fs::write(folder.join("faces/face-000007.png"), b"").unwrap();
    let out = kao(folder, "draw --count 25 --size 16 --out faces").ok().out;
    assert_eq!(out, "2 faces drawn (1 in place of broken or older ones), 23 were there: faces\n");
}

#[cfg(unix)]
#[test]
fn folders_named_in_any_bytes_are_trained_on() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = workplace();
    let folder = folder.path();
    // 日本 in Shift-JIS, which is no Unicode.
    let name = OsStr::from_bytes(b"\x93\xfa\x96\x7b");
    std::fs::rename(folder.join("faces"), folder.join(name)).unwrap();
    let run = |arguments: &str, with: &[&OsStr]| {
        let output = command(folder, arguments).args(with).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {words}");
    };
    let small = "train --config small.toml --sample-count 0 --steps 2";
    let data = OsStr::new("--data");
    run(&format!("{small} --out run"), &[data, name]);
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    assert!(config.contains("data = \"percent-encoded:%93%FA%96{\""), "{config}");
    // It is gone on with, repeated from its configuration, and begun with from such a folder.
    run("train --resume --out run --steps 3", &[]);
    run("train --config run/config.toml --out again", &[]);
    std::fs::rename(folder.join("run"), folder.join("again").join(name)).unwrap();
    let model = Path::new("again").join(name);
    run(&format!("{small} --out third"), &[data, name, OsStr::new("--from"), model.as_os_str()]);
    run("train --resume --out third --steps 4", &[]);
    run("info third", &[]);
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_at_once() {
    let folder = workplace();
    let folder = folder.path();
    let pipe = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    pipe("x.png");
    pipe("drawn/face-000000.png");
    pipe("prepared/prepare.json");
    pipe("trained/prepare.json");
    std::fs::copy(folder.join("faces/face-000000.png"), folder.join("trained/a.png")).unwrap();
    for arguments in [
        "recover --data x.png --t 3 --out o.png",
        "draw --count 1 --size 16 --out drawn",
        "prepare faces prepared",
        "train --config small.toml --data trained --out run",
    ] {
        let ran = kao(folder, arguments);
        assert!(ran.error().contains("this is a pipe, not a regular file"), "{ran:?}");
    }
}
