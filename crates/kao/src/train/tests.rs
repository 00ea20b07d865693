//! Whole runs: that they can be stopped and resumed anywhere, and what they report.

use super::muon::matrix_of;
use super::reports::{SAMPLING, SAVING, TRAINING, VALIDATION};
use super::{
    CONFIG_FILE, LOG_FILE, Occupied, Optimizer, Preset, RunDir, TimestepSampling, TrainConfig,
    Trained, Training, check_initial_model, fingerprint, start,
};
use crate::control::{Control, Report, Unattended};
use crate::dataset::{Folder, Tags};
use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::device::Device;
use crate::formats::StoreAs;
use crate::images::Images;
use crate::model::Model;
use crate::noise::SeededNoise;
use crate::sampler::{Generation, SamplingConfig, Start};
use crate::unet::{Network, UNet, UNetConfig};
use crate::vocabulary::Vocabulary;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(super) const N_STEPS: u64 = 7;

/// A run of a second's fraction, with several micro-batches of unequal sizes per step.
pub(super) fn config() -> TrainConfig {
    TrainConfig {
        steps: N_STEPS,
        batch_size: 7,
        micro_batch_size: 2,
        warmup_steps: 2,
        ema_halflife_images: 20.0,
        log_every: 2,
        save_every: 3,
        validation_images: 4,
        sample_count: 3,
        sample_steps: 2,
        model: UNetConfig {
            image_size: [1, 8, 8],
            ch: 8,
            ch_mult: vec![1, 2],
            attn: vec![1],
            num_res_blocks: 1,
            dropout: 0.1,
            norm_groups: 2,
            ..UNetConfig::default()
        },
        ..Preset::Tiny.config()
    }
}

/// Enough for a validation set.
pub(super) fn images() -> Images {
    let mut images = SeededNoise { seed: 8, first_image: 0 }.x_t(120, [1, 8, 8]);
    images.data_mut().iter_mut().for_each(|value| *value /= 3.0);
    images
}

fn train(run_dir: &RunDir, control: &dyn Control) -> Trained {
    train_as(config(), run_dir, control)
}

fn train_as(config: TrainConfig, run_dir: &RunDir, control: &dyn Control) -> Trained {
    let mut training = Training::new(config).images(images()).run_dir(run_dir);
    if run_dir.checkpoints().read_dir().unwrap().next().is_some() {
        training = training.resume(run_dir.newest_checkpoint().unwrap().checkpoint);
    }
    training.run(control).unwrap()
}

/// Names and contents of what a run leaves, except for times: checkpoints, model, sample grids.
pub(super) fn files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files =
        vec![("model".to_owned(), std::fs::read(run.join("model.safetensors")).unwrap())];
    for folder in ["checkpoints", "samples"] {
        for entry in run.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(run).unwrap().display().to_string();
            files.push((name, std::fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}

pub(super) fn assert_same_files(a: &Path, b: &Path, what: &str) {
    let (a, b) = (files(a), files(b));
    let names = |files: &[(String, Vec<u8>)]| {
        files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&a), names(&b), "{what}");
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{what}: `{name}` differs");
    }
}

/// The run that is never stopped, and how many reports it makes.
fn uninterrupted() -> (tempfile::TempDir, usize) {
    let folder = tempfile::tempdir().unwrap();
    let n_reports = AtomicUsize::new(0);
    let control = |_: &Report<'_>| {
        n_reports.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let trained = train(&RunDir::open(folder.path()).unwrap(), &control);
    assert_eq!((trained.n_steps, trained.stopped_early), (N_STEPS, false));
    (folder, n_reports.into_inner())
}

#[test]
fn a_run_that_is_stopped_at_any_report_resumes_to_the_same_bytes() {
    let (whole, n_reports) = uninterrupted();
    assert!(n_reports > 30, "{n_reports}");
    for stop_at in 0..n_reports {
        let folder = tempfile::tempdir().unwrap();
        let n_reports = AtomicUsize::new(0);
        let control = |_: &Report<'_>| match n_reports.fetch_add(1, Ordering::Relaxed) == stop_at {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let stopped = train(&RunDir::open(folder.path()).unwrap(), &control);
        let trained = train(&RunDir::open(folder.path()).unwrap(), &Unattended);
        assert!(!trained.stopped_early && stopped.n_steps <= trained.n_steps);
        let what = format!("stopped at report {stop_at}, step {}", stopped.n_steps);
        // A checkpoint of a stopped run stays in place of one of the two newest.
        let last = format!("checkpoints/step-{N_STEPS:08}.safetensors");
        let of = |path: &Path| std::fs::read(path.join(&last)).unwrap();
        assert!(of(whole.path()) == of(folder.path()), "{what}");
        let samples = |path: &Path| {
            let mut files = files(path);
            files.retain(|(name, _)| !name.starts_with("checkpoints"));
            files
        };
        assert!(samples(whole.path()) == samples(folder.path()), "{what}");
    }
}

#[test]
fn threads_do_not_change_a_run() {
    let runs = [1, 3].map(|n_threads| {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(folder.path()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| train(&run_dir, &Unattended));
        folder
    });
    assert_same_files(runs[0].path(), runs[1].path(), "1 and 3 threads");
}

#[test]
fn with_muon_neither_threads_nor_a_stop_change_a_run() {
    let config = TrainConfig {
        optimizer: Optimizer::Muon,
        timestep_sampling: TimestepSampling::Lognormal,
        learning_rate: 3e-3,
        steps: 60,
        ..config()
    };
    let trained = |n_threads: usize, stop_at: u64| {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(folder.path()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let control = |report: &Report<'_>| match report.stage == TRAINING && report.done == stop_at
        {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        pool.install(|| {
            train_as(config.clone(), &run_dir, &control);
            train_as(config.clone(), &run_dir, &Unattended);
        });
        run_dir.newest_checkpoint().unwrap().checkpoint
    };
    let (whole, stopped) = (trained(1, u64::MAX), trained(3, 5));
    assert_eq!(whole.weights, stopped.weights);
    assert_eq!(whole.optimizer, stopped.optimizer);
    // What Muon updates has no second moment; what it leaves to Adam has.
    let named = config.model.parameters().into_iter().zip(&whole.optimizer.second);
    for (spec, second) in named.filter(|(spec, _)| spec.name.ends_with("weight")) {
        assert_eq!(second.iter().all(|v| *v == 0.0), matrix_of(&spec).is_some(), "{}", spec.name);
    }
    assert!(whole.position.best_validation_loss.unwrap() < 0.9, "{:?}", whole.position);
}

#[test]
fn a_run_without_a_directory_trains_the_same_model() {
    let (whole, _) = uninterrupted();
    let trained = Training::new(config()).images(images()).run(&Unattended).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    trained.model.save(&path, crate::formats::StoreAs::F32).unwrap();
    let checkpoint = RunDir::open(whole.path()).unwrap().newest_checkpoint().unwrap().checkpoint;
    assert_eq!(trained.model.network.unet().values(), checkpoint.optimizer.ema);
    assert_eq!(trained.best_validation_loss, checkpoint.position.best_validation_loss);
}

#[test]
fn losses_of_other_pictures_are_no_measure() {
    let (whole, _) = uninterrupted();
    let mut checkpoint =
        RunDir::open(whole.path()).unwrap().newest_checkpoint().unwrap().checkpoint;
    checkpoint.position.best_validation_loss = Some(1e-9);
    let best = |config: TrainConfig| {
        let config = TrainConfig { steps: N_STEPS + 1, ..config };
        let training = Training::new(config).images(images());
        training.resume(checkpoint.clone()).run(&Unattended).unwrap().best_validation_loss
    };
    assert_eq!(best(config()), Some(1e-9));
    assert!(best(TrainConfig { validation_images: 3, ..config() }).unwrap() > 1e-3);
}

#[test]
fn reports_are_those_that_are_listed() {
    let seen = Mutex::new(Vec::new());
    let control = |report: &Report<'_>| {
        let names: Vec<&'static str> = report.values.iter().map(|(name, _)| *name).collect();
        let file = report.file.map(|path| path.file_name().unwrap().to_owned());
        let has_preview = report.preview.is_some();
        seen.lock().unwrap().push((report.stage, report.done, names, file, has_preview));
        ControlFlow::Continue(())
    };
    let folder = tempfile::tempdir().unwrap();
    train(&RunDir::open(folder.path()).unwrap(), &control);
    let seen = seen.into_inner().unwrap();
    let (stage, done, names, ..) = &seen[0];
    assert_eq!((*stage, *done, names[0]), (TRAINING, 0, "parameters"));
    let steps: Vec<u64> = seen
        .iter()
        .filter(|(stage, _, names, ..)| *stage == TRAINING && names.contains(&"loss"))
        .map(|(_, done, ..)| *done)
        .collect();
    assert_eq!(steps, (1..=N_STEPS).collect::<Vec<_>>());
    let of = |stage: &str, name: &str| -> Vec<(u64, bool, bool)> {
        let found = seen.iter().filter(|(s, _, names, ..)| *s == stage && names.contains(&name));
        found.map(|(_, done, _, file, has_preview)| (*done, file.is_some(), *has_preview)).collect()
    };
    assert_eq!(of(VALIDATION, "is_best"), [3, 6, 7].map(|step| (step, false, false)));
    assert_eq!(of(SAMPLING, "step"), [3, 6, 7].map(|step| (step, true, true)));
    // Before the first model is written there is a checkpoint.
    assert_eq!(of(SAVING, "step"), [3, 3, 6, 7].map(|step| (step, true, false)));
}

#[test]
fn a_run_is_not_resumed_to_fewer_steps_or_with_other_pictures() {
    let (whole, _) = uninterrupted();
    let run_dir = RunDir::open(whole.path()).unwrap();
    let checkpoint = run_dir.newest_checkpoint().unwrap().checkpoint;
    let resumed = |config, images| {
        let training = Training::new(config).images(images).resume(checkpoint.clone());
        training.run(&Unattended).unwrap_err().to_string()
    };
    let fewer = TrainConfig { steps: N_STEPS - 1, ..config() };
    assert_eq!(resumed(fewer, images()), "steps 6: must be at least 7, the number of steps done");
    let more = TrainConfig { steps: N_STEPS + 1, ..config() };
    let message = resumed(more.clone(), images().slice(0..100));
    assert!(message.contains("not the pictures that the run was trained on"), "{message}");
    let message = resumed(TrainConfig { seed: 1, ..more }, images());
    assert!(message.starts_with("seed: 1 given; the run to resume has "), "{message}");
}

#[test]
fn what_is_in_a_directory_keeps_a_new_run_out() {
    let folder = tempfile::tempdir().unwrap();
    let (run, other) = (folder.path(), TrainConfig { seed: 1, ..config() });
    assert_eq!(RunDir::occupied(&run.join("missing"), Some(&config())).unwrap(), None);
    let run_dir = RunDir::open(run).unwrap();
    run_dir.write_config(&config()).unwrap();
    run_dir.log(&serde_json::json!({"step": 1})).unwrap();
    let of = |config: &TrainConfig| RunDir::occupied(run, Some(config)).unwrap();
    assert_eq!(of(&config()), None);
    assert_eq!(of(&other), Some(Occupied::Config(run.join(CONFIG_FILE))));
    assert_eq!(RunDir::occupied(run, None).unwrap(), None);
    std::fs::remove_file(run.join(CONFIG_FILE)).unwrap();
    assert_eq!(of(&config()), Some(Occupied::Log(run.join(LOG_FILE))));
    train(&run_dir, &Unattended);
    assert_eq!(RunDir::occupied(run, None).unwrap(), Some(Occupied::Run));
    std::fs::remove_dir_all(run_dir.checkpoints()).unwrap();
    assert!(matches!(of(&config()), Some(Occupied::Files(_))));
}

#[test]
fn pictures_of_another_shape_and_no_pictures_are_refused() {
    for shape in [[0, 1, 8, 8], [5, 1, 8, 9], [5, 3, 8, 8]] {
        let training = Training::new(config()).images(Images::zeros(shape));
        assert!(training.run(&Unattended).is_err(), "{shape:?}");
    }
}

/// Pictures whose tag says whether they are dark or bright.
pub(super) fn tagged_folder() -> Arc<Folder> {
    let mut images = images();
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..images.len()).map(|k| format!("{k}.png")).collect();
    for k in 0..images.len() {
        let is_bright = k % 2 == 0;
        let shift = if is_bright { 0.6 } else { -0.6 };
        images
            .image_mut(k)
            .iter_mut()
            .for_each(|value| *value = (*value / 3.0 + shift).clamp(-1.0, 1.0));
        let tag = if is_bright { "bright" } else { "dark" };
        std::fs::write(dir.path().join(format!("{k}.txt")), format!("{tag}, picture")).unwrap();
    }
    let tags = Tags::read(dir.path(), names.iter().map(String::as_str), None).unwrap();
    let bytes = (0..images.len()).flat_map(|k| images.to_bytes_hwc(k)).collect();
    Arc::new(Folder::from_bytes([1, 8, 8], names, bytes).unwrap().with_tags(tags))
}

pub(super) fn tagged_config(folder: &Folder) -> TrainConfig {
    let mut config = TrainConfig { batch_size: 16, micro_batch_size: 16, ..config() };
    assert_eq!(config.take_tags(folder, 1).unwrap(), 0);
    config
}

#[test]
fn a_model_learns_what_tags_mean() {
    let folder = tagged_folder();
    let config =
        TrainConfig { steps: 300, learning_rate: 2e-3, save_every: 300, ..tagged_config(&folder) };
    let names: Vec<&str> = config.tags.tags().iter().map(|tag| tag.tag.as_str()).collect();
    assert_eq!(names[0], "picture");
    let trained = Training::new(config).folder(folder).run(&Unattended).unwrap();
    let model = trained.model;
    let tags = &model.config.tags;
    let start = Start::Seed { seed: 1, count: 8, image_shape: [1, 8, 8] };
    let mean = |text: &str| {
        let asked = tags.find("tags", text).unwrap();
        let generation = Generation {
            denoiser: &model.network,
            plan: &SamplingConfig::default().plan(&model.schedule).unwrap(),
            start: &start,
            conditions: &Conditions::new(vec![asked; 8]),
            batch_size: 8,
        };
        let images = generation.run(&mut |_, _| {}, &Unattended).unwrap();
        let n = images.data().len() as f32;
        images.data().iter().sum::<f32>() / n
    };
    let (bright, dark) = (mean("bright"), mean("dark, picture"));
    assert!(bright > dark + 0.4, "{bright} {dark}");
}

#[test]
fn runs_with_tags_resume_and_know_their_tags() {
    let folder = tagged_folder();
    let config = tagged_config(&folder);
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, stop_after: Option<u64>| {
        let run_dir = RunDir::open(dir.path().join(name)).unwrap();
        let mut training = Training::new(config.clone()).folder(folder.clone()).run_dir(&run_dir);
        if run_dir.checkpoints().read_dir().unwrap().next().is_some() {
            training = training.resume(run_dir.newest_checkpoint().unwrap().checkpoint);
        }
        let control = |report: &Report<'_>| match stop_after {
            Some(n) if report.stage == TRAINING && report.done >= n => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        training.run(&control).unwrap()
    };
    train("whole", None);
    train("parts", Some(2));
    train("parts", None);
    assert_same_files(&dir.path().join("whole"), &dir.path().join("parts"), "with tags");

    // Other tags are another run.
    let fingerprint_of = |config: &TrainConfig, folder: &Folder| fingerprint(folder, config);
    let other = Folder::clone(&folder).with_tags(Tags::default());
    assert_ne!(fingerprint_of(&config, &folder), fingerprint_of(&config, &other));
    let untagged = super::tests::config();
    assert_eq!(fingerprint_of(&untagged, &folder), folder.fingerprint());
}

#[test]
fn a_model_grows_tags_and_layers_and_stays_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let plain = TrainConfig { model: UNetConfig { dropout: 0.0, ..config().model }, ..config() };
    let plain = TrainConfig { model: UNetConfig { patch_size: 2, ..plain.model }, ..plain };
    let trained = Training::new(plain.clone()).images(images()).run(&Unattended).unwrap();
    trained.model.save(&path, StoreAs::F32).unwrap();
    let x = SeededNoise { seed: 1, first_image: 0 }.x_t(3, [1, 8, 8]);
    let predict = |unet: UNet, asked: &Conditions| {
        let network = Network::new(unet, Prediction::V, &Device::Cpu).unwrap();
        network.predict(&x, &[3, 500, 900], asked).unwrap()
    };
    let expected = predict(trained.model.network.unet().clone(), &Conditions::none());

    let folder = tagged_folder();
    let mut grown = TrainConfig { initial_model: Some(path.clone()), ..plain.clone() };
    grown.take_tags(&folder, 1).unwrap();
    grown.model.detail_channels = 8;
    let start = start::Start::new(&grown).unwrap();
    let found =
        predict(start.state.unet.clone(), &Conditions::new(vec![vec![0, 2], vec![1], vec![]]));
    for (found, expected) in found.data().iter().zip(expected.data()) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    // Tags go by their names, and without tags the network is that of no tags asked for.
    let mut unet = start.state.unet;
    let n = unet.values().len();
    let tags = unet.config().parameters().iter().position(|p| p.name == "tag_embedding.weight");
    for index in [tags.unwrap(), tags.unwrap() + 1] {
        assert!(index < n);
        let values = unet.values_mut()[index].iter_mut().enumerate();
        values.for_each(|(k, value)| *value = (k as f32).sin());
    }
    let tagged = Model::new(grown.model_config(), unet.clone(), &Device::Cpu).unwrap();
    tagged.save(&path, StoreAs::F32).unwrap();
    let number = |config: &TrainConfig, tag: &str| config.tags.number(tag).unwrap();
    let mut others = grown.clone();
    let reversed = grown.tags.tags().iter().rev().cloned().collect();
    others.tags = Vocabulary::new(reversed).unwrap();
    let renumbered = start::Start::new(&others).unwrap().state.unet;
    for tag in ["dark", "bright", "picture"] {
        let asked = |config| Conditions::new(vec![vec![number(config, tag)]; 3]);
        let expected = predict(unet.clone(), &asked(&grown));
        assert_eq!(predict(renumbered.clone(), &asked(&others)), expected, "{tag}");
    }
    let mut without = grown.clone();
    (without.model.n_tags, without.tags) = (0, Vocabulary::default());
    let without = start::Start::new(&without).unwrap().state.unet;
    let expected = predict(unet, &Conditions::none());
    for (found, expected) in
        predict(without, &Conditions::none()).data().iter().zip(expected.data())
    {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    // What is no more than another architecture is refused.
    let wider = TrainConfig { model: UNetConfig { ch: 16, ..grown.model.clone() }, ..grown };
    let error = check_initial_model(&wider).unwrap_err().to_string();
    assert!(error.contains("its ch is 8; the run has 16"), "{error}");
}
