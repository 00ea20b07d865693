//! Every failure: one line that names the flag or file, what was found and what was expected; the
//! exit code; and nothing left behind.

use crate::fixture::{command, kao, model, names, trained, with_model};
use std::path::Path;

/// Runs `arguments` in an empty folder (see [`with_model`]) and checks exit code, error line and
/// that no file was written.
fn fails(arguments: &str, code: i32, error: &str) {
    let (folder, typed) = with_model(arguments);
    let ran = kao(folder.path(), &typed);
    let expected = with_model(error).1;
    assert_eq!(ran.error(), format!("error: {expected}"), "{arguments}");
    assert_eq!(ran.code, Some(code), "{arguments}: {ran:?}");
    assert_eq!(ran.out, "", "{arguments}");
    assert_eq!(names(folder.path()), [""; 0], "{arguments}");
}

#[test]
fn wrong_values_are_named_by_their_flag() {
    let cases = [
        (
            "sample --model MODEL --steps 0",
            "--steps 0: must be between 1 and 1000, the number of timesteps",
        ),
        (
            "sample --model MODEL --steps 2000",
            "--steps 2000: must be between 1 and 1000, the number of timesteps",
        ),
        ("sample --model MODEL --count 0", "--count 0: must be at least 1"),
        ("sample --model MODEL --columns 0", "--columns 0: must be at least 1"),
        ("sample --model MODEL --batch-size 0", "--batch-size 0: must be at least 1"),
        ("sample --model MODEL --eta nan", "--eta NaN: must be between 0 and 1"),
        ("sample --model MODEL --eta -1", "--eta -1: must be between 0 and 1"),
        ("sample --model MODEL --eta 5", "--eta 5: must be between 0 and 1"),
        ("sample --model MODEL --threads 0", "--threads 0: must be between 1 and 1024"),
        (
            "sample --model MODEL --strip s.png --strip-images 0",
            "--strip-images 0: must be at least 1",
        ),
        (
            "sample --model MODEL --strip s.png --strip-moments 0",
            "--strip-moments 0: must be at least 1",
        ),
        (
            "sample --model MODEL --sampler ddpm --eta 1",
            "--eta: only applies with ddim, dpm++, dpm++-sde, euler-a",
        ),
        (
            "sample --model MODEL --out grid",
            "`grid`: pictures are written as PNG, expected a name that ends in .png",
        ),
        (
            "sample --model MODEL --strip grid.png",
            "--strip: names the file of --out; expected another",
        ),
        (
            "sample --model MODEL --save-tensors MODEL",
            "--save-tensors: names the file of --model; expected another",
        ),
        ("recover --model MODEL --data FACES --t 0", "--t 0: must be between 1 and 1000"),
        ("recover --model MODEL --data FACES --t 2000", "--t 2000: must be between 1 and 1000"),
        (
            "recover --model MODEL --data FACES --steps 200",
            "--steps 200: must be between 1 and 100, the steps of noise that are added",
        ),
        ("recover --model MODEL --data FACES --eta nan", "--eta NaN: must be between 0 and 1"),
        ("recover --model MODEL --data FACES --count 0", "--count 0: must be at least 1"),
        ("sweep --model MODEL --out sweep --count 0", "--count 0: must be at least 1"),
        ("sweep --model MODEL --out sweep --columns 0", "--columns 0: must be at least 1"),
        ("sweep --model MODEL --out sweep --batch-size 0", "--batch-size 0: must be at least 1"),
        (
            "sweep --model MODEL --out sweep --max-steps 3",
            "--max-steps 3: must be at least 10, the steps of the shortest run",
        ),
        ("draw --count 0 --out faces", "--count 0: must be at least 1"),
        ("draw --count 1 --out faces --size 5", "--size 5: must be between 16 and 512 pixels"),
        ("prepare FACES out --size 0", "--size 0: must be between 1 and 4096 pixels"),
        (
            "convert MODEL out.bin",
            "`out.bin`: models are written as safetensors, expected a name that ends in .safetensors",
        ),
        (
            "bench --preset huge",
            "--preset huge: must be one of anime64, small64, tiny, diffusers64",
        ),
        ("bench --preset tiny --batch-size 0", "--batch-size 0: must be at least 1"),
        ("bench --preset tiny --rounds 0", "--rounds 0: must be at least 1"),
        ("train --out run", "--data: none given; expected a folder of pictures"),
        (
            "train --data FACES --out run --preset huge",
            "--preset huge: must be one of anime64, small64, tiny, diffusers64",
        ),
        ("train --data FACES --out run --steps 0", "--steps 0: must be at least 1"),
        ("train --data FACES --out run --epochs 0", "--epochs 0: must be at least 1"),
        (
            "train --data FACES --out run --preset tiny --epochs 18446744073709551615",
            "--epochs: 18446744073709551615 are more steps than can be counted",
        ),
        ("train --data FACES --out run --batch-size 0", "--batch-size 0: must be at least 1"),
        (
            "train --data FACES --out run --micro-batch-size 0",
            "--micro-batch-size 0: must be at least 1",
        ),
        (
            "train --data FACES --out run --learning-rate nan",
            "--learning-rate NaN: must be above 0",
        ),
        ("train --data FACES --out run --dropout 1", "--dropout 1: must be at least 0 and below 1"),
        ("train --data FACES --out run --ema-halflife 0", "--ema-halflife 0: must be above 0"),
        (
            "train --data FACES --out run --max-gradient-norm -1",
            "--max-gradient-norm -1: must be at least 0",
        ),
        ("train --data FACES --out run --save-every 0", "--save-every 0: must be at least 1"),
    ];
    for (arguments, error) in cases {
        fails(arguments, 2, error);
    }
}

#[test]
fn what_cannot_fit_the_memory_is_refused_before_it_is_taken() {
    if !cfg!(target_os = "linux") {
        return;
    }
    for (arguments, flag) in [
        ("sample --model MODEL --count 99999999999999", "--count"),
        ("sweep --model MODEL --out sweep --count 99999999999999", "--count"),
        ("train --data FACES --out run --preset tiny --batch-size 9999999999", "--batch-size"),
        ("train --data FACES --out run --preset tiny --sample-count 99999999999", "--sample-count"),
        ("bench --preset tiny --batch-size 9999999999", "--batch-size"),
    ] {
        let (folder, typed) = with_model(arguments);
        let ran = kao(folder.path(), &typed);
        assert_eq!(ran.code, Some(2), "{arguments}: {ran:?}");
        let error = ran.error();
        assert!(
            error.starts_with(&format!("error: {flag}: such"))
                || error.starts_with(&format!("error: {flag}: so many")),
            "{error}"
        );
        assert!(error.contains("of memory;"), "{error}");
        assert_eq!(names(folder.path()), [""; 0], "{arguments}");
    }
}

#[test]
fn the_parsers_errors_are_one_line_too() {
    let cases = [
        ("train", "the following required arguments were not provided: --out <RUN_DIR>"),
        ("sample --steps abc", "invalid value 'abc' for '--steps <N>': expected a whole number"),
        ("sample --steps -5", "invalid value '-5' for '--steps <N>': expected a whole number"),
        ("sample --eta abc", "invalid value 'abc' for '--eta <ETA>': expected a number"),
        ("sample --stepz 5", "unexpected argument '--stepz' found"),
        (
            "sample --sampler foo",
            "invalid value 'foo' for '--sampler <SAMPLER>' [possible values: ddim, dpm++, dpm++-sde, dpm++-3m, unipc, euler, euler-a, heun, ddpm]",
        ),
        (
            "sample --device foo",
            "invalid value 'foo' for '--device <DEVICE>': expected one of cpu, cuda, metal, vulkan",
        ),
        (
            "sample --strip-images 3",
            "the following required arguments were not provided: --strip <FILE>",
        ),
        (
            "prepare a b --fit foo",
            "invalid value 'foo' for '--fit <FIT>' [possible values: crop, stretch]",
        ),
        (
            "train --out run --config c.toml --preset tiny",
            "the argument '--config <FILE>' cannot be used with '--preset <PRESET>'",
        ),
        (
            "train --out run --memory much",
            "invalid value 'much' for '--memory <SIZE>': expected a size such as 4GiB or 1500MB",
        ),
        (
            "train --out run --prediction noise",
            "invalid value 'noise' for '--prediction <WHAT>': expected one of epsilon, x0, v",
        ),
        ("paint", "unrecognized subcommand 'paint'"),
    ];
    for (arguments, error) in cases {
        fails(arguments, 2, error);
        let (folder, typed) = with_model(arguments);
        let ran = kao(folder.path(), &typed);
        assert!(ran.err.lines().nth(1).is_some_and(|line| line.starts_with("hint: ")), "{ran:?}");
        assert_eq!(ran.err.lines().count(), 2, "{ran:?}");
    }
    // The beginning of a value, not the value with the most letters in common.
    let ran = kao(Path::new("."), "sample --sampler dpm");
    assert!(ran.err.contains("hint: a similar value exists: 'dpm++'"), "{ran:?}");
    let ran = kao(Path::new("."), "sample --stepz 5");
    assert!(ran.err.contains("hint: a similar argument exists: '--steps'"), "{ran:?}");
}

#[test]
fn help_and_version_are_no_failures() {
    let here = Path::new(".");
    assert!(kao(here, "--version").ok().out.starts_with("kao "));
    for command in [
        "prepare", "draw", "train", "sample", "recover", "encode", "compare", "sweep", "eval",
        "convert", "info", "bench",
    ] {
        let ran = kao(here, &format!("{command} --help")).ok();
        assert!(ran.out.contains("Examples:"), "{command}");
        assert_eq!(ran.err, "");
    }
    let ran = kao(here, "");
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("Usage: kao [OPTIONS] <COMMAND>"));
}

#[test]
fn files_that_are_no_models_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).unwrap();
    std::fs::create_dir(path.join("empty")).unwrap();
    write("nothing", b"");
    write("words", b"some words, and then some more");
    let whole = std::fs::read(model()).unwrap();
    write("header.safetensors", &whole[..5000]);
    write("values.safetensors", &whole[..whole.len() - 1000]);
    // The last value of the last tensor becomes NaN.
    let mut diverged = whole.clone();
    let end = diverged.len() - 4;
    diverged[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    write("nan.safetensors", &diverged);
    let picture = trained().join("faces/face-000000.png");
    std::fs::copy(picture, path.join("picture.png")).unwrap();
    std::fs::copy(
        trained().join("run/checkpoints/step-00000004.safetensors"),
        path.join("step.safetensors"),
    )
    .unwrap();
    for (name, error) in [
        ("missing", "cannot read `missing`: No such file or directory"),
        ("empty", "`empty`: a folder without a model.safetensors"),
        ("nothing", "`nothing`: this is an empty file"),
        ("words", "`words`: this is not a weights file"),
        ("picture.png", "`picture.png`: this is a PNG picture"),
        ("header.safetensors", "`header.safetensors`: its safetensors header should be "),
        ("values.safetensors", "`values.safetensors`: "),
        ("nan.safetensors", "`nan.safetensors`: tensor `"),
    ] {
        for command in ["sample --model", "recover --data . --model", "sweep --out sweep --model"] {
            let ran = kao(path, &format!("{command} {name}"));
            assert!(ran.error().starts_with(&format!("error: {error}")), "{ran:?}");
            assert_eq!(ran.code, Some(1));
        }
        let ran = kao(path, &format!("convert {name} out.safetensors"));
        assert!(ran.error().starts_with(&format!("error: {error}")), "{ran:?}");
        assert!(!path.join("out.safetensors").exists());
    }
    let ran = kao(path, "info missing");
    assert_eq!(ran.error(), "error: cannot read `missing`: No such file or directory (os error 2)");
    assert_eq!(kao(path, "info step.safetensors").ok().err, "");
}

#[test]
fn folders_where_files_are_expected_and_files_where_folders_are() {
    let (folder, _) = with_model("");
    let path = folder.path();
    std::fs::create_dir(path.join("d.png")).unwrap();
    std::fs::write(path.join("file"), b"x").unwrap();
    for (arguments, error) in [
        ("sample --model MODEL --out d.png", "cannot write `d.png`: it is a folder"),
        ("sample --model MODEL --save-tensors d.png", "cannot write `d.png`: it is a folder"),
        (
            "sample --model MODEL --out file/x.png",
            "cannot create `file`: File exists (os error 17)",
        ),
        ("recover --model MODEL --data FACES --out d.png", "cannot write `d.png`: it is a folder"),
        ("recover --model MODEL --data FACES FACES", "`FACES`: this is a folder"),
        ("sweep --model MODEL --out file", "`file`: a file, where a folder is expected"),
        ("draw --count 1 --out file", "`file`: a file, where a folder is expected"),
        ("prepare FACES file", "`file`: a file, where a folder is expected"),
        ("prepare file out", "`file`: is a file, where a folder of pictures is expected"),
        ("train --data FACES --out file", "`file`: a file, where a folder is expected"),
        ("train --data FACES --out file/run", "`file`: a file, where a folder is expected"),
        (
            "train --data file --out run",
            "`file`: is a file, where a folder of pictures is expected",
        ),
        (
            "train --data missing --out run",
            "cannot read `missing`: No such file or directory (os error 2)",
        ),
        ("train --data d.png --out run", "`d.png`: holds no picture: it is empty"),
        ("train --resume --out d.png", "`d.png`: no run with a checkpoint to resume from"),
        ("train --resume --out missing", "`missing`: no run with a checkpoint to resume from"),
        ("info d.png/..", "`d.png/..`: a folder without a model or checkpoints"),
    ] {
        let ran = kao(path, &with_model(arguments).1);
        assert_eq!(ran.error(), format!("error: {}", with_model(error).1), "{arguments}");
        assert_eq!(ran.code, Some(1), "{arguments}");
        assert_eq!(names(path), ["d.png", "file"], "{arguments}");
    }
    assert_eq!(names(&path.join("d.png")), [""; 0]);
}

#[test]
fn configurations_that_cannot_be_are_named_with_their_file() {
    let (folder, _) = with_model("");
    let path = folder.path().join("c.toml");
    for (toml, error) in [
        ("steps = \"a\"", "line 1: invalid type: string \"a\", expected a whole number"),
        ("steps = 0", "steps 0: must be at least 1"),
        ("\nmodel = 3", "line 2: invalid type: integer `3`, expected a table [model]"),
        (
            "[model]\nch = 33",
            "model: ch, ch_mult: level 0 is 33 x 1 = 33 wide; expected a multiple of 32, the groups of the normalization",
        ),
        ("lerning_rate = 1.0", "line 1: unknown field `lerning_rate`"),
    ] {
        std::fs::write(&path, toml).unwrap();
        let ran = kao(folder.path(), &with_model("train --config c.toml --data FACES --out run").1);
        assert!(ran.error().starts_with(&format!("error: `c.toml`: {error}")), "{ran:?}");
        assert_eq!(ran.code, Some(1));
        assert_eq!(names(folder.path()), ["c.toml"]);
    }
}

#[test]
fn a_device_that_this_build_lacks_is_refused() {
    let built = [cfg!(feature = "cuda"), cfg!(feature = "metal"), cfg!(feature = "vulkan")];
    let lacking = ["cuda", "metal", "vulkan"].into_iter().zip(built).filter(|(_, built)| !built);
    for (device, _) in lacking {
        let ran = kao(trained(), &format!("sample --model run --device {device}"));
        assert_eq!(ran.code, Some(2));
        assert!(ran.error().starts_with(&format!("error: --device: {device} found; ")));
        let hint = format!("hint: build it with `cargo build --release --features {device}`");
        assert!(ran.err.contains(&hint), "{ran:?}");
    }
}

#[test]
fn names_with_control_characters_stay_on_one_line() {
    let mut program = command(trained(), "info");
    let output = program.arg("a\nerror: b\u{1b}[2J").output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(words.contains("`a\\nerror: b\\u{1b}[2J`"), "{words}");
}

#[test]
fn only_training_writes_to_the_directory_of_a_run() {
    let folder = trained();
    let model = std::fs::read(folder.join("run/model.safetensors")).unwrap();
    for arguments in [
        "convert built-in run/model.safetensors",
        "sample --count 1 --steps 1 --out x.png --save-tensors run/model.safetensors",
    ] {
        let ran = kao(folder, arguments);
        let expected = "error: `run/model.safetensors`: this is the model of a run, which only \
                        training writes";
        assert_eq!(ran.error(), expected, "{arguments}");
    }
    for arguments in [
        "draw --count 1 --out run",
        "sweep --out run --max-steps 10",
        "prepare faces run --size 16",
    ] {
        let ran = kao(folder, arguments);
        let expected = "error: `run`: this is the directory of a training run";
        assert_eq!(ran.error(), expected, "{arguments}");
    }
    assert_eq!(std::fs::read(folder.join("run/model.safetensors")).unwrap(), model);
}

#[cfg(not(feature = "studio"))]
#[test]
fn a_build_without_pages_says_how_to_get_them() {
    let ran = kao(trained(), "studio --port 7860 --open");
    assert_eq!(ran.error(), "error: studio: this build has no pages");
    assert!(ran.err.contains("hint: build it with `cargo build --release --features studio`"));
    assert_eq!(ran.code, Some(2));
}
