//! What is there already: another run's files, an edited configuration, pictures of another sweep.

use crate::fixture::{command, kao, model, names, workplace};
use crate::training::TRAIN;
use std::path::Path;
use std::process::Stdio;

#[test]
fn files_of_another_run_are_neither_overwritten_nor_mixed_with() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} run --steps 4")).ok();
    let run = folder.join("run");
    std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
    for left in ["samples", "model.safetensors"] {
        let before = std::fs::read(run.join("config.toml")).unwrap();
        let ran = kao(folder, &format!("{TRAIN} run --steps 2 --seed 5"));
        assert!(ran.error().contains("holds files of another run, such as `run/"), "{ran:?}");
        assert_eq!(std::fs::read(run.join("config.toml")).unwrap(), before);
        let ran = kao(folder, "train --resume --out run");
        assert!(ran.err.contains("hint: its checkpoints are gone"), "{ran:?}");
        let path = run.join(left);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    // A run of which nothing else is left may begin again, and no other is mixed with it.
    let other = format!("{TRAIN} run --steps 2 --seed 5");
    let ran = kao(folder, &other);
    assert!(ran.error().contains("`run/config.toml`: a configuration other than"), "{ran:?}");
    let config = std::fs::read(run.join("config.toml")).unwrap();
    std::fs::remove_file(run.join("config.toml")).unwrap();
    let ran = kao(folder, &other);
    assert!(ran.error().contains("`run/logs/log.jsonl`: the log of another run"), "{ran:?}");
    std::fs::write(run.join("config.toml"), config).unwrap();
    kao(folder, "train --config run/config.toml --out run").ok();
}

#[test]
fn edits_of_the_configuration_count_when_a_run_is_resumed() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} run --steps 2")).ok();
    let path = folder.join("run/config.toml");
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    edit("learning_rate = 0.001\n", "# slower\nlearning_rate = 0.0001\n");
    edit("steps = 2\n", "steps = 3\n");
    let ran = kao(folder, "train --resume --out run").ok();
    let said = "config.toml: learning_rate is now 0.0001, before it was 0.001";
    assert!(ran.err.lines().any(|line| line == said), "{ran:?}");
    let log = std::fs::read_to_string(folder.join("run/logs/log.jsonl")).unwrap();
    let step = log.lines().rfind(|line| line.contains("\"gradient_norm\"")).expect("steps");
    assert!(step.contains("\"step\":3"), "{step}");
    assert!(step.contains("\"learning_rate\":0.0001,"), "{step}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("# slower"));
    // A flag goes before.
    let ran = kao(folder, "train --resume --out run --steps 4 --learning-rate 0.01").ok();
    assert!(!ran.err.contains("config.toml: "), "{ran:?}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("learning_rate = 0.01\n"));

    // What may not change is refused by name, and nothing is overwritten.
    edit("seed = 999\n", "seed = 1000\n");
    let before = std::fs::read(&path).unwrap();
    let ran = kao(folder, "train --resume --out run --steps 5");
    assert!(ran.error().contains("`run/config.toml`: seed: 1000 given"), "{ran:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::write(&path, "steps = many").unwrap();
    let ran = kao(folder, "train --resume --out run --steps 5");
    assert!(ran.error().contains("`run/config.toml`: line 1"), "{ran:?}");
    std::fs::remove_file(&path).unwrap();
    kao(folder, "train --resume --out run --steps 5").ok();
}

#[test]
fn a_schedule_that_ends_before_noise_is_warned_of() {
    let folder = workplace();
    let folder = folder.path();
    let toml =
        crate::fixture::CONFIG.to_owned() + "num_steps = 50\n\n[schedule]\nn_timesteps = 50\n";
    std::fs::write(folder.join("short.toml"), toml).unwrap();
    let ran = kao(folder, "train --config short.toml --data faces --out run --steps 1").ok();
    let warning = "the last timestep keeps 78 % of the image's amplitude (alpha_bar_T = 0.60)";
    assert!(ran.err.contains(&format!("warning: {warning}")), "{ran:?}");
    let ran = kao(folder, "info run/model.safetensors").ok();
    assert!(ran.out.contains(warning), "{ran:?}");
    let ran = kao(folder, "sample --model run --count 1 --steps 1 --out a.png").ok();
    assert!(ran.err.contains(warning), "{ran:?}");
}

fn sweep(folder: &Path, seed: u64) -> String {
    let model = model();
    let arguments = format!(
        "sweep --model {} --count 1 --max-steps 10 --out sweep --seed {seed}",
        model.display()
    );
    kao(folder, &arguments).ok().err
}

#[test]
fn a_sweep_keeps_what_its_pictures_prove() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let grid = folder.join("sweep/grid-s0010-eta0.0.png");
    sweep(folder, 1);
    let (first, files) = (std::fs::read(&grid).unwrap(), names(&folder.join("sweep")));
    assert_eq!(sweep(folder, 1).matches("done before").count(), 2);

    // As if a sweep of seed 2 had been stopped before it wrote its record.
    let record = folder.join("sweep/s0010-eta0.0.json");
    let written = std::fs::read(&record).unwrap();
    sweep(folder, 2);
    std::fs::write(&record, written).unwrap();
    assert_eq!(sweep(folder, 1).matches("done before").count(), 0);
    assert!(std::fs::read(&grid).unwrap() == first, "the grid is that of another seed");

    std::fs::remove_file(folder.join("sweep/strip-s0010-eta1.0.png")).unwrap();
    assert_eq!(sweep(folder, 1).matches("done before").count(), 1);
    assert_eq!(names(&folder.join("sweep")), files);
}

#[cfg(target_os = "linux")]
#[test]
fn two_sweeps_do_not_write_to_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let arguments = "sweep --model built-in --out sweep";
    let mut first = command(folder, arguments).stderr(Stdio::null()).spawn().unwrap();
    let started = std::time::Instant::now();
    while !folder.join("sweep").exists() {
        assert!(started.elapsed() < std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let ran = kao(folder, arguments);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(ran.error().contains("another `kao sweep` is writing to this folder"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn pipes_in_the_place_of_files_are_refused() {
    let folder = workplace();
    let folder = folder.path();
    let pipe = |path: &Path| {
        let _ = std::fs::remove_file(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    kao(folder, &format!("{TRAIN} run --steps 2")).ok();
    pipe(&folder.join("pipe.png"));
    for arguments in ["info pipe.png", "train --config pipe.png --data faces --out other"] {
        let ran = kao(folder, arguments);
        assert!(ran.error().ends_with("this is a pipe, not a regular file"), "{ran:?}");
    }
    for name in [".lock", "logs/log.jsonl", "config.toml"] {
        let path = folder.join("run").join(name);
        let before = std::fs::read(&path).unwrap();
        pipe(&path);
        let ran = kao(folder, "train --resume --out run --steps 3");
        assert!(ran.error().ends_with("this is a pipe, not a regular file"), "{name}: {ran:?}");
        kao(folder, "info run");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, before).unwrap();
    }
    // What a sweep remembers is made anew.
    pipe(&folder.join("sweep/s0010-eta0.0.json"));
    sweep(folder, 1);
}
