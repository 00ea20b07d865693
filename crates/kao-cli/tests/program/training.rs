//! `train`: the files that a run leaves, and that a resumed run equals an uninterrupted one.

use crate::fixture::{kao, names, workplace};
use kao::formats::read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const TRAIN: &str = "train --config small.toml --data faces --out";

/// Weights, averages and moments at `n_steps`, and the model.
fn state(run: &Path, n_steps: u64) -> (Vec<(String, Vec<f32>)>, Vec<u8>) {
    let checkpoint = run.join(format!("checkpoints/step-{n_steps:08}.safetensors"));
    let tensors = read(checkpoint).unwrap().tensors;
    let values = tensors.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()));
    (values.collect(), std::fs::read(run.join("model.safetensors")).unwrap())
}

pub fn assert_same(folder: &Path, run: &str, other: &str, n_steps: u64) {
    let (tensors, model) = state(&folder.join(run), n_steps);
    let (other_tensors, other_model) = state(&folder.join(other), n_steps);
    assert_eq!(tensors.len(), other_tensors.len());
    for (a, b) in tensors.iter().zip(&other_tensors) {
        assert!(a == b, "{} of {run} and {other} differ", a.0);
    }
    assert!(model == other_model, "the models of {run} and {other} differ");
}

#[test]
fn a_run_leaves_what_it_should_and_no_more() {
    let folder = workplace();
    let ran = kao(folder.path(), &format!("{TRAIN} run")).ok();
    assert_eq!(ran.out, "run/model.safetensors\n");
    assert!(ran.err.contains("hint: sample from it with: kao sample --model run"), "{ran:?}");
    let run = folder.path().join("run");
    assert_eq!(
        names(&run),
        [".lock", "checkpoints", "config.toml", "logs", "model.safetensors", "samples"]
    );
    // The newest two.
    assert_eq!(
        names(&run.join("checkpoints")),
        ["step-00000008.safetensors", "step-00000012.safetensors"]
    );
    assert_eq!(names(&run.join("samples")).len(), 3);
    let log = std::fs::read_to_string(run.join("logs/log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"gradient_norm\"")).count(), 12);

    // The directory holds a run now.
    let ran = kao(folder.path(), &format!("{TRAIN} run"));
    assert_eq!(ran.error(), "error: `run`: this run directory holds a run already");
    let ran = kao(folder.path(), "train --resume --out run --steps 5");
    assert_eq!(ran.error(), "error: --steps 5: must be at least 12, the number of steps done");
    assert_eq!(ran.code, Some(2));
    let ran = kao(folder.path(), "train --resume --out run --seed 5");
    assert_eq!(ran.error(), "error: --seed: 5 given; the run to resume has 999");
    let ran = kao(folder.path(), "train --resume --out run").ok();
    assert!(ran.err.starts_with("all 12 steps were done before\n"), "{ran:?}");

    // Its configuration repeats it.
    kao(folder.path(), "train --config run/config.toml --out again").ok();
    assert_same(folder.path(), "run", "again", 12);

    // A run is not resumed with other pictures.
    kao(folder.path(), "draw --count 25 --size 16 --out faces").ok();
    let ran = kao(folder.path(), "train --resume --out run --steps 14");
    assert!(ran.error().contains("not the pictures that the run was trained on"), "{ran:?}");
    std::fs::rename(folder.path().join("faces"), folder.path().join("moved")).unwrap();
    let ran = kao(folder.path(), "train --resume --out run --steps 14");
    assert!(ran.err.contains("hint: give --data where the pictures of the run are now"), "{ran:?}");
}

#[test]
fn few_and_broken_pictures_are_warned_of() {
    let folder = workplace();
    let few = folder.path().join("few");
    std::fs::create_dir(&few).unwrap();
    std::fs::copy(folder.path().join("faces/face-000000.png"), few.join("a.png")).unwrap();
    std::fs::write(few.join("broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let ran = kao(
        folder.path(),
        &format!("{TRAIN} run --data few --steps 1").replace("--data faces ", ""),
    )
    .ok();
    assert!(ran.err.contains("warning: `broken.png` skipped: "), "{ran:?}");
    assert!(ran.err.contains("1 picture to train on"), "{ran:?}");
    assert!(ran.err.contains("warning: too few pictures for a validation set"), "{ran:?}");
}

#[test]
fn a_diverging_run_says_so() {
    let folder = workplace();
    let ran = kao(folder.path(), &format!("{TRAIN} run --learning-rate 1e30"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.error().starts_with("error: training diverged: step "), "{ran:?}");
    assert!(ran.err.contains("1 for --max-gradient-norm"), "{ran:?}");
    // A setting that the run has already is not proposed.
    let ran =
        kao(folder.path(), &format!("{TRAIN} held --learning-rate 1e30 --max-gradient-norm 1"));
    assert!(ran.error().starts_with("error: training diverged: step "), "{ran:?}");
    assert!(
        ran.err.contains("a learning rate below ") && !ran.err.contains("max-gradient-norm"),
        "{ran:?}"
    );
}

#[test]
fn a_run_logs_its_validations() {
    let folder = workplace();
    let folder = folder.path();
    // Enough for a validation set.
    kao(folder, "draw --count 150 --size 16 --out many").ok();
    kao(folder, "train --config small.toml --data many --out run").ok();
    let logs = names(&folder.join("run/logs"));
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(logs.iter().any(|name| name.starts_with("events.out.tfevents.")), "{logs:?}");
    let log = std::fs::read_to_string(folder.join("run/logs/log.jsonl")).unwrap();
    let validations: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line.get("validation_loss").is_some())
        .collect();
    assert_eq!(validations.len(), 3);
    for line in validations {
        assert!(line["raw_validation_loss"].is_f64(), "{line}");
        let ranges = line["validation_by_t"].as_array().unwrap();
        assert!(!ranges.is_empty() && ranges.iter().all(|range| range["loss"].is_f64()), "{line}");
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let folder = workplace();
    let folder = folder.path();
    let ran = kao(folder, &format!("{TRAIN} run --epochs 3 --memory 1GiB --dry-run")).ok();
    assert!(ran.err.contains("measuring a few passes"), "{ran:?}");
    for name in ["parameters", "pictures", "steps per epoch", "memory", "speed here", "time here"] {
        assert!(ran.out.lines().any(|line| line.starts_with(name)), "{name}: {ran:?}");
    }
    assert!(ran.out.contains("4 pictures, 4 at a time"), "{ran:?}");
    assert!(!folder.join("run").exists());
    let ran = kao(folder, &format!("{TRAIN} run --memory 20MiB"));
    assert!(ran.error().starts_with("error: --memory 0.02 GiB: must be at least 0."));
    assert!(ran.err.contains("hint: with --gradient-checkpointing it needs less"), "{ran:?}");
    assert_eq!(ran.code, Some(2));
    let ran = kao(folder, &format!("{TRAIN} run --memory much"));
    assert!(ran.error().contains("expected a size such as 4GiB"), "{ran:?}");
    assert!(!ran.err.contains("found; expected"), "{ran:?}");
}

#[test]
fn a_run_can_begin_with_a_model_and_a_checkpoint_can_be_sampled() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} first --steps 4")).ok();
    let config = std::fs::read_to_string(folder.join("first/config.toml")).unwrap();
    assert!(config.contains("optimizer = \"adam\""), "{config}");

    // The architecture comes from the model, the recipe from the flags.
    let arguments = "train --data faces --from first --out second --steps 2 --batch-size 4 \
                     --optimizer adamw --weight-decay 0.01 --learning-rate-decay linear \
                     --min-snr-gamma 5 --timestep-sampling stratified --sample-count 0 \
                     --validation-images 4 --learning-rate 1e-9 --warmup-steps 0";
    let ran = kao(folder, arguments).ok();
    assert!(!ran.err.contains("another noise schedule"), "{ran:?}");
    let config = std::fs::read_to_string(folder.join("second/config.toml")).unwrap();
    for entry in ["initial_model = \"first\"", "optimizer = \"adamw\"", "min_snr_gamma = 5.0"] {
        assert!(config.contains(entry), "{entry}: {config}");
    }
    // At such a learning rate the weights are still those that it began with.
    let (before, _) = state(&folder.join("first"), 4);
    let (after, _) = state(&folder.join("second"), 2);
    let ema = |values: &[(String, Vec<f32>)]| {
        let found = values.iter().find(|(name, _)| name == "ema.head.weight");
        found.expect("an average of the head").1.clone()
    };
    let pairs = ema(&before).into_iter().zip(ema(&after));
    assert!(pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) < 1e-6);

    let ran = kao(folder, "train --data faces --from first --out third --preset tiny");
    assert!(ran.error().contains("its architecture is another: its "), "{ran:?}");

    // Another schedule is said, and no more; another prediction is refused.
    let schedule = config.split("[schedule]").nth(1).expect("a schedule");
    let kind = schedule.lines().find(|line| line.starts_with("kind")).expect("its kind");
    let karras = config.replace(kind, "kind = \"karras\"");
    std::fs::write(folder.join("karras.toml"), karras).unwrap();
    let arguments = "train --config karras.toml --from first --out";
    let ran = kao(folder, &format!("{arguments} other")).ok();
    let said = ran.err.lines().filter(|line| line.contains("has another noise schedule (")).count();
    assert!(said == 1 && ran.err.contains("than the run (karras, "), "{ran:?}");
    let ran = kao(folder, &format!("{arguments} third --prediction x0"));
    assert!(ran.error().contains("its prediction is"), "{ran:?}");

    let sample = "sample --count 2 --steps 2 --model first/checkpoints/step-00000004.safetensors";
    kao(folder, &format!("{sample} --out average.png")).ok();
    kao(folder, &format!("{sample} --out raw.png --raw-weights")).ok();
    kao(folder, "sample --count 2 --steps 2 --model first --out model.png").ok();
    let pixels = |name: &str| image::open(folder.join(name)).unwrap().into_rgb8();
    assert_eq!(pixels("average.png"), pixels("model.png"));
    assert_ne!(pixels("average.png"), pixels("raw.png"));
    let ran = kao(folder, "sample --count 2 --steps 2 --model first --raw-weights --out raw.png");
    assert!(ran.error().contains("holds one set of weights"), "{ran:?}");
}

#[test]
fn a_run_in_two_parts_is_the_run_in_one() {
    let folder = workplace();
    kao(folder.path(), &format!("{TRAIN} whole --save-every 100 --steps 10")).ok();
    kao(folder.path(), &format!("{TRAIN} parts --save-every 100 --steps 3")).ok();
    kao(folder.path(), "train --resume --out parts --steps 10").ok();
    assert_same(folder.path(), "whole", "parts", 10);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use crate::fixture::stoppable;

    /// Starts a run of 40 steps and lets it come to step `n_steps` before it is sent `signal`.
    fn stopped(folder: &Path, run: &str, n_steps: usize, signal: &str) -> std::process::Output {
        let arguments = format!("{TRAIN} {run} --steps 40 --save-every 10");
        let child =
            stoppable(folder, &arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.unwrap();
        wait_for_step(&folder.join(run), n_steps);
        send(signal, &child);
        child.wait_with_output().unwrap()
    }

    fn wait_for_step(run: &Path, n_steps: usize) {
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(run.join("logs/log.jsonl")).unwrap_or_default();
            if log.lines().filter(|line| line.contains("\"gradient_norm\"")).count() >= n_steps {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(300), "the run does not move");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(signal: &str, child: &Child) {
        let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn stopped_runs_resume_as_if_they_had_not_been_stopped() {
        let folder = workplace();
        let folder = folder.path();
        kao(folder, &format!("{TRAIN} whole --steps 40 --save-every 10")).ok();

        let output = stopped(folder, "asked", 5, "-INT");
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{words}");
        let last = words.lines().last().unwrap();
        assert!(last.starts_with("stopped at step "), "{words}");
        assert!(
            last.ends_with(" and saved; go on with: kao train --resume --out asked"),
            "{words}"
        );
        assert!(!words.contains("error: "), "{words}");
        kao(folder, "train --resume --out asked").ok();
        assert_same(folder, "whole", "asked", 40);

        let output = stopped(folder, "killed", 13, "-KILL");
        assert_eq!(output.status.code(), None);
        kao(folder, "train --resume --out killed").ok();
        assert_same(folder, "whole", "killed", 40);
        // What a killed run left half-written does not stay.
        assert!(names(&folder.join("killed/checkpoints")).len() >= 2);
    }

    #[test]
    fn a_run_that_is_stopped_while_it_samples_samples_when_resumed() {
        let folder = workplace();
        let folder = folder.path();
        // The grid of step 2 takes longer than anybody waits.
        let toml = crate::fixture::CONFIG.replace("sample_steps = 2", "sample_steps = 1000");
        std::fs::write(folder.join("slow.toml"), toml).unwrap();
        let arguments = "train --config slow.toml --data faces --out run --steps 3 --save-every 2 --sample-count 60";
        let child = stoppable(folder, arguments).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_step(&folder.join("run"), 2);
        send("-INT", &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(names(&folder.join("run/samples")), [""; 0]);
        let position =
            std::fs::read(folder.join("run/checkpoints/step-00000002.safetensors")).unwrap();
        let header = String::from_utf8_lossy(&position[..position.len().min(20_000)]).into_owned();
        assert!(header.contains("looked\\\":false"), "the checkpoint knows what is due");
        kao(folder, "train --resume --out run --sample-count 1").ok();
        assert_eq!(names(&folder.join("run/samples")), ["step-00000002.png", "step-00000003.png"]);
    }

    #[test]
    fn a_run_directory_belongs_to_one_training() {
        let folder = workplace();
        let folder = folder.path();
        let arguments = format!("{TRAIN} run --steps 1000000 --save-every 10 --sample-count 0");
        let child = stoppable(folder, &arguments).stderr(Stdio::null()).spawn().unwrap();
        wait_for_step(&folder.join("run"), 1);
        let ran = kao(folder, &format!("{TRAIN} run"));
        let found = ran.error().to_owned();
        assert!(
            found.contains("another training is writing to this folder")
                || found.contains("this run directory holds a run already"),
            "{found}"
        );
        wait_for_step(&folder.join("run"), 11);
        let ran = kao(folder, "train --resume --out run");
        assert_eq!(ran.error(), "error: `run`: another training is writing to this folder");
        send("-TERM", &child);
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    }

    #[test]
    fn sampling_that_is_stopped_leaves_nothing() {
        let (folder, arguments) = crate::fixture::with_model(
            "sample --model MODEL --count 500 --steps 1000 --out g.png --save-tensors x.safetensors",
        );
        let child = stoppable(folder.path(), &arguments).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        send("-INT", &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().ends_with("error: interrupted\n"));
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

/// Without MPI, each process that a launcher starts would train the whole run.
#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_are_refused_in_a_build_without_mpi() {
    let folder = workplace();
    let train = |variables: &[(&str, &str)], more: &str| {
        let mut command = crate::fixture::command(folder.path(), &format!("{TRAIN} run {more}"));
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for variables in [
        &[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "1")][..],
        &[("PMI_SIZE", "4")],
        &[("SLURM_STEP_NUM_TASKS", "4"), ("PMIX_RANK", "0")],
    ] {
        let (code, words) = train(variables, "");
        assert_eq!(code, Some(2), "{words}");
        assert!(words.starts_with("error: ranks: a launcher started 4 processes"), "{words}");
        assert!(words.contains("--features mpi"), "{words}");
    }
    assert_eq!(names(folder.path()), ["faces", "small.toml"]);
    // One process of a launcher, and a job of a cluster with several tasks, train as ever.
    let (code, words) = train(&[("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_NTASKS", "8")], "--steps 1");
    assert_eq!(code, Some(0), "{words}");
}
