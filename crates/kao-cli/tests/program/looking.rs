//! `info` on run directories: what a run has come to, whatever state it is in.

use crate::fixture::{CONFIG, command, kao, trained, workplace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What stands behind `name` in what `info` tells.
fn row<'a>(told: &'a str, name: &str) -> &'a str {
    let found = told.lines().find(|line| line.get(..20).is_some_and(|start| start.trim() == name));
    found.unwrap_or_else(|| panic!("no row `{name}` in {told}"))[20..].trim()
}

fn has_row(told: &str, name: &str) -> bool {
    told.lines().any(|line| line.get(..20).is_some_and(|start| start.trim() == name))
}

/// A copy of the trained run, to be damaged.
fn copy_of_run() -> (tempfile::TempDir, PathBuf) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy(&entry.path(), &to),
                false => fs::copy(entry.path(), to).map(|_| ()).unwrap(),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&trained().join("run"), &run);
    (folder, run)
}

#[test]
fn a_finished_run_tells_what_it_came_to() {
    let told = kao(trained(), "info run").ok().out;
    assert_eq!(row(&told, "state"), "finished, step 4 of 4 (100.0 %)");
    assert_eq!(row(&told, "images seen"), "16");
    assert!(row(&told, "epochs").starts_with("0."), "{told}");
    assert!(row(&told, "speed").ends_with(" images/s"), "{told}");
    assert_eq!((row(&told, "checkpoints"), row(&told, "samples")), ("1", "1"));
    let newest = "run/checkpoints/step-00000004.safetensors";
    assert_eq!(row(&told, "newest checkpoint"), newest);
    assert!(row(&told, "checkpoint saved").ends_with(" ago"), "{told}");
    assert_eq!(row(&told, "newest sample"), "run/samples/step-00000004.png");
    assert_eq!(row(&told, "model"), "run/model.safetensors");
    assert_eq!(row(&told, "go on"), "kao train --resume --out run --steps MORE");
    assert_eq!(row(&told, "sample"), "kao sample --model run");
    assert!(!has_row(&told, "problem") && !has_row(&told, "time left"), "{told}");
    // The tensors of its model, when asked for.
    let told = kao(trained(), "info run --tensors").ok().out;
    assert!(told.contains("f32   [32, 3, 3, 3]"), "{told}");
}

#[test]
fn json_says_the_same() {
    let told = kao(trained(), "info run --json").ok().out;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["step"], &told["total_steps"]), (&4.into(), &4.into()));
    assert_eq!(told["running"], serde_json::Value::Bool(false));
    assert_eq!(told["checkpoint"]["step"], 4);
    assert_eq!(told["last_look"], serde_json::Value::Null);
    assert_eq!(told["problems"], serde_json::json!([]));
}

#[test]
fn json_is_there_for_models_checkpoints_and_pictures() {
    let told = |arguments: &str| -> serde_json::Value {
        let out = kao(trained(), &format!("info {arguments} --json")).ok().out;
        serde_json::from_str(&out).unwrap()
    };
    let model = told("run/model.safetensors");
    assert_eq!((&model["kind"], &model["config"]["unet"]["ch"]), (&"model".into(), &32.into()));
    assert_eq!(model["tensors"], serde_json::Value::Null);
    let model = told("built-in --tensors");
    assert_eq!(model["config"]["schedule"]["kind"], "karras");
    assert_eq!(
        model["tensors"].as_array().map(Vec::len),
        model["n_tensors"].as_u64().map(|n| n as usize)
    );
    let checkpoint = told("run/checkpoints/step-00000004.safetensors");
    assert_eq!(checkpoint["kind"], "checkpoint");
    assert_eq!(checkpoint["position"]["n_steps"], 4);
    assert!(told("run --tensors")["tensors"].is_array());
    let picture = told("run/samples/step-00000004.png");
    assert_eq!(picture["kind"], "picture");
    assert!(picture["texts"].is_object(), "{picture}");
}

#[test]
fn the_losses_are_told_and_drawn() {
    let (folder, run) = copy_of_run();
    let told = kao(folder.path(), "info run --plot a/loss.png").ok().out;
    assert_eq!(row(&told, "plot"), "a/loss.png");
    assert!(!has_row(&told, "validation loss") && !has_row(&told, "trend"), "{told}");
    let size = |name: &str| {
        let picture = image::open(folder.path().join(name)).unwrap();
        (picture.width(), picture.height())
    };
    assert_eq!(size("a/loss.png"), (1000, 600));

    // Looks, of which the newer ones tell more.
    let mut log = fs::read_to_string(run.join("logs/log.jsonl")).unwrap();
    for (step, loss) in [(5, 0.5), (6, 0.25)] {
        log += &format!("{{\"step\":{step},\"validation_loss\":{loss}}}\n");
    }
    log += "{\"step\":7,\"validation_loss\":0.375,\"raw_validation_loss\":0.5,\"validation_by_t\":[\
            {\"from\":0,\"to\":500,\"loss\":0.625},{\"from\":500,\"to\":1000,\"loss\":0.125}]}\n";
    fs::write(run.join("logs/log.jsonl"), log).unwrap();
    let told = kao(folder.path(), "info run --plot b.png").ok().out;
    assert_eq!(row(&told, "validation loss"), "0.37500 at step 7");
    assert_eq!(row(&told, "lowest so far"), "0.25000 at step 6");
    assert_eq!(row(&told, "t 0 to 499"), "0.62500");
    assert_eq!(row(&told, "t 500 to 999"), "0.12500");
    assert_eq!(row(&told, "raw weights"), "0.50000");
    assert_eq!(row(&told, "trend"), "falling: -33.3 % over the last 3 validations");
    assert_eq!(size("b.png"), (1000, 1200));
    let told: serde_json::Value =
        serde_json::from_str(&kao(folder.path(), "info run --json").ok().out).unwrap();
    assert_eq!(told["last_look"]["validation_by_t"][1]["loss"], 0.125);
    assert_eq!(
        (&told["best_look"]["step"], &told["trend"]["direction"]),
        (&6.into(), &"falling".into())
    );

    let told = kao(folder.path(), "info a/loss.png").ok().out;
    assert_eq!(row(&told, "step"), "4");

    let ran = kao(trained(), "info run --plot loss.jpg");
    assert!(ran.error().contains("expected a name that ends in .png"), "{ran:?}");
    let ran = kao(trained(), "info run/model.safetensors --plot x.png");
    let problem = "`run/model.safetensors` is a file; expected a run directory";
    assert_eq!(ran.error(), format!("error: --plot: {problem}"));
    assert_eq!(ran.code, Some(2));
    assert!(!trained().join("loss.jpg").exists() && !trained().join("x.png").exists());
}

#[test]
fn a_run_that_has_just_begun_is_one() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["run/checkpoints", "run/samples", "run/logs"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("run/.lock"), "").unwrap();
    let ran = kao(folder.path(), "info run");
    assert_eq!(ran.error(), "error: `run`: a folder without a model or checkpoints");
    fs::write(folder.path().join("run/config.toml"), CONFIG).unwrap();
    let told = kao(folder.path(), "info run --plot loss.png").ok().out;
    assert_eq!(row(&told, "state"), "not begun, step 0 of 12 (0.0 %)");
    assert_eq!((row(&told, "checkpoints"), row(&told, "samples")), ("0", "0"));
    assert_eq!(row(&told, "model"), "none yet");
    assert_eq!(row(&told, "begin"), "kao train --config run/config.toml --out run");
    assert!(folder.path().join("loss.png").is_file());
    kao(folder.path(), "info run --json").ok();
}

#[test]
fn a_stopped_run_tells_where_it_goes_on() {
    let (folder, run) = copy_of_run();
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    fs::write(run.join("config.toml"), config.replace("\nsteps = 4\n", "\nsteps = 10\n")).unwrap();
    let lines: String = [5, 6]
        .map(|step| {
            format!(
                "{{\"step\":{step},\"images\":{},\"loss\":0.5,\"gradient_norm\":1.0,\
                 \"learning_rate\":0.001,\"images_per_second\":4.0}}\n",
                4 * step
            )
        })
        .concat();
    let log = fs::read_to_string(run.join("logs/log.jsonl")).unwrap();
    fs::write(run.join("logs/log.jsonl"), log + &lines).unwrap();
    let told = kao(folder.path(), "info run").ok().out;
    assert_eq!(row(&told, "state"), "stopped, step 6 of 10 (60.0 %), goes on from step 4");
    assert!(row(&told, "time left").ends_with(" at this speed"), "{told}");
    assert_eq!(row(&told, "go on"), "kao train --resume --out run");
}

#[test]
fn a_damaged_run_tells_what_is_damaged_and_all_else() {
    let (folder, run) = copy_of_run();
    let checkpoint = run.join("checkpoints/step-00000004.safetensors");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(run.join("checkpoints/step-00000008.safetensors"), &bytes[..bytes.len() / 2])
        .unwrap();
    fs::write(run.join("model.safetensors"), "nothing of the kind").unwrap();
    fs::write(run.join("config.toml"), "steps = no\n").unwrap();
    let log = fs::read_to_string(run.join("logs/log.jsonl")).unwrap();
    fs::write(run.join("logs/log.jsonl"), format!("\u{1}broken\n{log}{{\"step\":")).unwrap();
    let told = kao(folder.path(), "info run").ok().out;
    assert_eq!(row(&told, "state"), "finished, step 4 of 4 (100.0 %)");
    assert!(row(&told, "newest checkpoint").contains("step-00000004"), "{told}");
    let problems: Vec<&str> = told.lines().filter(|line| line.starts_with("problem ")).collect();
    assert_eq!(problems.len(), 4, "{told}");
    for name in [
        "`run/logs/log.jsonl`: 1 line is broken",
        "step-00000008",
        "config.toml`: line 1",
        "model.safetensors",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {told}");
    }
    // Nothing but a log.
    for name in ["checkpoints", "samples"] {
        fs::remove_dir_all(run.join(name)).unwrap();
    }
    fs::remove_file(run.join("model.safetensors")).unwrap();
    fs::remove_file(run.join("config.toml")).unwrap();
    let told = kao(folder.path(), "info run").ok().out;
    assert_eq!(row(&told, "state"), "stopped, step 4");
    assert!(!has_row(&told, "go on") && !has_row(&told, "begin"), "{told}");
}

#[test]
fn a_training_that_is_running_is_told_and_not_disturbed() {
    let folder = workplace();
    let arguments = "train --config small.toml --data faces --out run --steps 1000000 \
                     --save-every 1000000 --sample-count 0";
    let mut child = command(folder.path(), arguments).stderr(Stdio::null()).spawn().unwrap();
    let log = folder.path().join("run/logs/log.jsonl");
    let started = Instant::now();
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        assert!(started.elapsed() < Duration::from_secs(300), "the run does not move");
        std::thread::sleep(Duration::from_millis(5));
    }
    let told = kao(folder.path(), "info run").ok().out;
    assert!(row(&told, "state").starts_with("training now, step "), "{told}");
    assert!(!has_row(&told, "go on") && !has_row(&told, "begin"), "{told}");
    let seen = fs::read_to_string(&log).unwrap().lines().count();
    while fs::read_to_string(&log).unwrap().lines().count() <= seen {
        assert!(started.elapsed() < Duration::from_secs(300), "the run does not move any more");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let told = kao(folder.path(), "info run").ok().out;
    assert!(row(&told, "state").starts_with("stopped, step "), "{told}");
    // There was no checkpoint yet.
    assert_eq!(row(&told, "begin"), "kao train --config run/config.toml --out run");
}

#[test]
fn the_built_in_model_is_told_about_and_a_file_of_its_name_goes_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let told = kao(folder.path(), "info built-in").ok().out;
    assert_eq!(row(&told, "image size"), "64 x 64 pixels, 3 channels");
    assert_eq!((row(&told, "patch_size"), row(&told, "activation")), ("2", "silu"));
    assert_eq!(row(&told, "schedule"), "karras, 1000 timesteps");
    assert_eq!(row(&told, "prediction"), "v");
    std::fs::write(folder.path().join("built-in"), "mine").unwrap();
    assert!(kao(folder.path(), "info built-in").err.contains("not a weights file"));
}

#[test]
fn sample_grids_are_animated() {
    let (folder, run) = copy_of_run();
    let newest = run.join("samples/step-00000004.png");
    fs::copy(&newest, run.join("samples/step-00000002.png")).unwrap();
    // One of another size, and one that is none.
    image::RgbImage::new(7, 9).save(run.join("samples/step-00000001.png")).unwrap();
    fs::write(run.join("samples/step-00000003.png"), "words").unwrap();
    let ran = kao(folder.path(), "info run --animate made/learning.gif").ok();
    assert_eq!(row(&ran.out, "animation"), "made/learning.gif, 2 grids");
    assert!(ran.err.contains("2 sample grids have another size"), "{ran:?}");
    let told = kao(folder.path(), "info made/learning.gif").ok().out;
    assert_eq!(row(&told, "run"), "run");
    let made = fs::read(folder.path().join("made/learning.gif")).unwrap();
    use image::AnimationDecoder;
    let gif = image::codecs::gif::GifDecoder::new(std::io::Cursor::new(made)).unwrap();
    let frames = gif.into_frames().collect_frames().unwrap();
    let (width, height) = image::image_dimensions(&newest).unwrap();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].buffer().dimensions(), (width, height + 14));

    let ran = kao(folder.path(), "info run --animate learning.mp4");
    assert!(ran.error().contains("ends in .gif, .apng or .webp"), "{ran:?}");
    fs::remove_dir_all(run.join("samples")).unwrap();
    let ran = kao(folder.path(), "info run --animate learning.gif");
    assert_eq!(ran.error(), "error: `run`: the run has no sample grids yet");
    let ran = kao(folder.path(), "info run/model.safetensors --animate learning.gif");
    assert!(ran.error().starts_with("error: --animate: "), "{ran:?}");
    assert!(!folder.path().join("learning.gif").exists());
}
