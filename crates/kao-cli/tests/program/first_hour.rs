//! What somebody meets who runs the program for the first time: defaults that fit, what it did
//! told in a line, the way on.

use crate::fixture::{kao, names, trained, with_model};
use std::path::Path;
use std::process::{Command, Stdio};

/// A folder with `n` faces of `size` pixels in `faces`.
fn faces(n: usize, size: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    kao(folder.path(), &format!("draw -n {n} --size {size} -o faces")).ok();
    folder
}

#[test]
fn the_preset_follows_the_size_of_the_pictures() {
    for (size, preset, pixels) in [(32, "tiny", 32), (64, "small64", 64)] {
        let folder = faces(12, size);
        let ran = kao(
            folder.path(),
            "train --data faces -o run --steps 1 --batch-size 2 --sample-count 0",
        )
        .ok();
        let chosen = format!("preset {preset}, chosen by the size of the pictures");
        assert!(ran.err.contains(&chosen), "{ran:?}");
        let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
        let config: String = config.split_whitespace().collect();
        assert!(config.contains(&format!("image_size=[3,{pixels},{pixels},]")), "{config}");
        // A preset that is named is not talked about.
        let named = format!(
            "train --data faces -o named --preset {preset} --steps 1 --batch-size 2 --sample-count 0"
        );
        assert!(!kao(folder.path(), &named).ok().err.contains("chosen"));
        let same = |run: &str| {
            let path = folder.path().join(run).join("model.safetensors");
            std::fs::read(path).unwrap()
        };
        assert!(same("run") == same("named"), "the presets differ");
    }
    let help = kao(Path::new("."), "train --help").ok().out;
    for name in ["anime64", "small64", "tiny"] {
        assert!(help.lines().any(|line| line.starts_with(&format!("  {name} "))), "{help}");
    }
}

#[test]
fn the_same_command_with_resume_goes_on() {
    let folder = faces(40, 32);
    let folder = folder.path();
    let command = "train --data faces --out run --preset tiny --batch-size 4 --sample-count 0";
    kao(folder, &format!("{command} --steps 2")).ok();
    let ran = kao(folder, &format!("{command} --steps 4 --resume")).ok();
    assert!(ran.err.contains("2 of 4 steps to go"), "{ran:?}");
    // The run's own settings stay where the preset has others.
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    assert!(config.contains("\nbatch_size = 4\n") && config.contains("\nsteps = 4\n"), "{config}");

    let ran = kao(folder, "train --data faces --out run --preset small64 --steps 5 --resume");
    let error = ran.error();
    assert_eq!(error, "error: --preset small64: must be that of the run to resume, tiny");
    assert_eq!(ran.code, Some(2));

    // A file is read again; and what a run began with is part of its command.
    std::fs::write(folder.join("c.toml"), config.replace("\nsteps = 4\n", "\nsteps = 5\n"))
        .unwrap();
    kao(folder, "train --config c.toml --out run --resume").ok();
    let from = "train --data faces --out second --from run --steps";
    kao(folder, &format!("{from} 1 --batch-size 4 --sample-count 0")).ok();
    kao(folder, &format!("{from} 2 --resume")).ok();
    let ran = kao(folder, "train --out run --from second --steps 9 --resume");
    assert_eq!(ran.error(), "error: --from: `second`: the run to resume began with random weights");
    let ran = kao(folder, "train --out second --from c.toml --steps 9 --resume");
    assert_eq!(ran.error(), "error: --from: `c.toml`: the run to resume began with `run`");
}

/// The line of `sample` that says what was done, without its time.
fn summary(err: &str) -> Vec<&str> {
    let lines: Vec<&str> = err.lines().filter(|line| line.contains(" · ")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    lines[0].split(" · ").collect()
}

#[test]
fn sampling_says_what_it_did() {
    let (folder, arguments) = with_model("sample --model MODEL -n 2 --steps 3");
    let folder = folder.path();
    let ran = kao(folder, &arguments).ok();
    let parts = summary(&ran.err);
    assert_eq!((parts[0], parts[2], parts[3]), ("2 images", "DPM-Solver++ 3 steps", "seed 999"));
    assert!(parts[1].ends_with("model.safetensors"), "{parts:?}");
    assert!(parts[4].ends_with(" s → grid.png"), "{parts:?}");

    // An η that is given, though it is the default, is DDIM; that is said.
    let ran = kao(folder, &format!("{arguments} --eta 0 --seed 7 -o a.png")).ok();
    assert!(ran.err.starts_with("--eta is given, so the sampler is DDIM"), "{ran:?}");
    let parts = summary(&ran.err);
    assert_eq!((parts[2], parts[3]), ("DDIM 3 steps", "seed 7"));
    let ran = kao(folder, &format!("{arguments} --eta 0 --sampler dpm++")).ok();
    assert!(!ran.err.contains("DDIM"), "{ran:?}");
    let ran = kao(folder, &format!("{arguments} --spacing linear")).ok();
    assert!(ran.err.contains("spacings is given, so the sampler is DDIM"), "{ran:?}");
    let ran = kao(folder, &format!("{arguments} --sampler ddim --eta 0.5")).ok();
    assert_eq!(summary(&ran.err)[2], "DDIM 3 steps η 0.5");
    assert_eq!(kao(folder, &format!("{arguments} --eta 0 --quiet")).ok().err, "");

    let ran = kao(folder, "sample -n 1 --steps 1").ok();
    assert_eq!(summary(&ran.err)[..2], ["1 face", "built-in"]);
    // Not a word on the model where the command is wrong anyway, and errors also when quiet.
    let ran = kao(folder, "sample -n 0 --quiet");
    assert_eq!(ran.err, "error: --count 0: must be at least 1\n");
    for (arguments, error) in [
        ("sweep -n 0 -o sweep", "--count 0: must be at least 1"),
        ("sweep --batch-size 0 -o sweep", "--batch-size 0: must be at least 1"),
        ("recover --eta 2 --data a.png", "--eta 2: must be between 0 and 1"),
        ("eval --batch-size 0 --data .", "--batch-size 0: must be at least 1"),
    ] {
        assert_eq!(kao(folder, arguments).err, format!("error: {error}\n"), "{arguments}");
    }
}

#[test]
fn recovery_shows_something() {
    let recover = |arguments: &str| {
        let (folder, arguments) = with_model(&format!("recover --data FACES {arguments}"));
        kao(folder.path(), &arguments).ok()
    };
    // With the linear schedule of the small model, and the one of the presets.
    let ran = recover("--model MODEL -n 1 --steps 2");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("PSNR noisy ") && lines[0].ends_with(" dB"), "{ran:?}");
    assert!(ran.err.lines().any(|line| line == "noise of 100 of 1000 steps"), "{ran:?}");
    assert!(lines[1].starts_with("PSNR recovered ") && lines[1].ends_with(" dB"), "{ran:?}");
    let ran = recover("-n 1 --steps 2");
    assert!(ran.err.contains("\nnoise of 300 of 1000 steps\n"), "{ran:?}");
    assert_eq!(ran.err.matches("built-in").count(), 1, "{ran:?}");

    // More pictures than the test set has.
    let ran = recover("--model MODEL -n 24 --steps 2");
    assert!(ran.err.contains("warning: ") && ran.err.contains("24 were asked for"), "{ran:?}");

    for sampler in ["dpm++ --eta 0.5", "ddpm", "ddim"] {
        recover(&format!("--model MODEL -n 1 --steps 2 --sampler {sampler}"));
    }
    let ran = recover("--model MODEL -n 1 --origin-bug --steps 3");
    assert!(
        ran.err.contains("the original's error takes 3 steps with each of 1 image: about"),
        "{ran:?}"
    );
    let (folder, wrong) = with_model("recover --data FACES --model MODEL --sampler ddpm --eta 1");
    let ran = kao(folder.path(), &wrong);
    assert_eq!(ran.error(), "error: --eta: only applies with ddim, dpm++, dpm++-sde, euler-a");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[cfg(unix)]
#[test]
fn the_quick_start_goes_on_whatever_steps_are_asked_for() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../quickstart.sh");
    let folder = tempfile::tempdir().unwrap();
    let start = |steps: &str| {
        let output = Command::new("bash")
            .args([script, steps])
            .env("KAO", env!("CARGO_BIN_EXE_kao"))
            .env("QUICKSTART_OUT", folder.path())
            .env("QUICKSTART_FACES", "40")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{steps}: {out}{:?}", String::from_utf8(output.stderr));
        // What it takes is said before anything is done.
        assert!(out.starts_with("What this takes on two cores:\n"), "{out}");
        assert!(folder.path().join("grid.png").is_file());
        out
    };
    assert!(start("2").contains("minutes for 2 steps"));
    assert!(start("3").contains("minutes for 1 steps"));
    assert!(start("1").contains("trained for 3 steps already"));
    assert!(start("3").contains("trained for 3 steps already"));
    let refused = Command::new("bash").args([script, "many"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn completions_and_a_manual_are_printed() {
    for (shell, words) in [
        ("bash", "complete -F _kao"),
        ("zsh", "#compdef kao"),
        ("fish", "complete -c kao"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let ran = kao(trained(), &format!("completions {shell}")).ok();
        assert!(ran.out.contains(words) && ran.out.contains("--learning-rate"), "{shell}");
        assert_eq!(ran.err, "");
    }
    assert_eq!(kao(trained(), "completions tcsh").code, Some(2));
    let page = kao(trained(), "man").ok().out;
    assert!(page.contains(".TH kao 1"), "{page}");
    for words in [".SH \"KAO TRAIN\"", ".SH \"KAO SAMPLE\"", "learning\\-rate", "Examples:"] {
        assert!(page.contains(words), "{words}");
    }
}
