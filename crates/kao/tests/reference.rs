//! The whole against arrays that the original program itself produced.
//!
//! They lie in `../shared/reference` beside the repository; where they are not, these tests say so
//! and check nothing (`golden.rs` always runs).

use kao::denoiser::{Conditions, Denoiser, Prediction};
use kao::device::{Device, DeviceKind};
use kao::formats::{NamedTensors, read};
use kao::images::Images;
use kao::model::Model;
use kao::noise::{GivenNoise, NoNoise, NoiseSource};
use kao::sampler::{Ddim, Ddpm, Sampler, Variance};
use kao::timesteps::{End, Spacing, sequence, visited};
use kao::train::Optimizer;
use kao::train::adam::OptimizerState;
use kao::train::objective::{LossGradients, NoisyBatch, loss_gradients};
use kao::unet::GradientConfig;
use kao::unet::parameters::file_tensors;
use kao_kernels::AdamStep;
use std::path::{Path, PathBuf};

/// The folder of arrays, or `None` with a word on it.
fn reference() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    if folder.join("tiny.ckpt").is_file() {
        return Some(folder);
    }
    println!("skipped: no reference arrays at {}", folder.display());
    None
}

fn tiny(folder: &Path) -> Model {
    Model::load(folder.join("tiny.ckpt"), &DeviceKind::Cpu.open().unwrap()).unwrap()
}

fn images(tensors: &NamedTensors, name: &str) -> Images {
    let tensor = tensors.get(name).unwrap_or_else(|| panic!("no `{name}`"));
    Images::from_vec(tensor.shape().try_into().unwrap(), tensor.data().to_vec()).unwrap()
}

/// `z` [S, N, C, H, W] as one batch per step.
fn steps(tensors: &NamedTensors, name: &str) -> Vec<Images> {
    let tensor = tensors.get(name).unwrap_or_else(|| panic!("no `{name}`"));
    let shape: [usize; 4] = tensor.shape()[1..].try_into().unwrap();
    let size = shape.iter().product();
    let steps = tensor.data().chunks_exact(size);
    steps.map(|step| Images::from_vec(shape, step.to_vec()).unwrap()).collect()
}

fn timesteps(tensors: &NamedTensors, name: &str) -> Vec<usize> {
    tensors.get(name).unwrap().data().iter().map(|&t| t as usize).collect()
}

/// Largest difference relative to the largest magnitude.
fn relative_error(found: &Images, expected: &Images) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let scale = expected.data().iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
    let pairs = found.data().iter().zip(expected.data());
    pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

#[test]
fn step_sequences_are_the_originals() {
    let Some(folder) = reference() else { return };
    let json = std::fs::read_to_string(folder.join("timesteps.json")).unwrap();
    let sequences: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&json).unwrap();
    assert!(sequences.len() > 10);
    for (key, expected) in sequences {
        // "T200.S7.linear"
        let parts: Vec<&str> = key.split('.').collect();
        let number = |part: &str| part[1..].parse::<usize>().unwrap();
        let spacing = match parts[2] {
            "linear" => Spacing::Linear,
            "quadratic" => Spacing::Quadratic,
            other => panic!("{other}"),
        };
        let mut found = visited(spacing, number(parts[1]), &vec![0.5; number(parts[0])]).unwrap();
        found.reverse();
        let expected: Vec<usize> = serde_json::from_value(expected).unwrap();
        assert_eq!(found, expected, "{key}");
    }
}

#[test]
fn one_forward_pass() {
    let Some(folder) = reference() else { return };
    let tensors = read(folder.join("tiny.ddim.safetensors")).unwrap().tensors;
    let t = timesteps(&tensors, "unet.t");
    let eps = tiny(&folder)
        .network
        .predict(&images(&tensors, "unet.x"), &t, &Conditions::none())
        .unwrap();
    let error = relative_error(&eps, &images(&tensors, "unet.eps"));
    println!("forward: {error:e}");
    assert!(error < 1e-4, "{error}");
}

#[test]
fn ddim_runs() {
    let Some(folder) = reference() else { return };
    let tensors = read(folder.join("tiny.ddim.safetensors")).unwrap().tensors;
    let model = tiny(&folder);
    for (spacing, name, n_steps, eta) in [
        (Spacing::Linear, "linear", 10, 0.0),
        (Spacing::Linear, "linear", 10, 1.0),
        (Spacing::Linear, "linear", 20, 0.5),
        (Spacing::Quadratic, "quadratic", 10, 0.0),
    ] {
        let key = format!("ddim.{name}.steps{n_steps}.eta{eta:?}");
        let sequence =
            sequence(spacing, n_steps, model.schedule.alpha_bars(), spacing.default_end()).unwrap();
        let z = if eta > 0.0 { steps(&tensors, &format!("{key}.z")) } else { Vec::new() };
        let given = GivenNoise { steps: &z, first_image: 0 };
        let noise: &dyn NoiseSource = if eta > 0.0 { &given } else { &NoNoise };
        let x_t = images(&tensors, &format!("{key}.x_T"));
        let plan = Sampler::from(Ddim { eta }).plan(&model.schedule, sequence, false).unwrap();
        let x_0 = plan.sample(&model.network, x_t, noise).unwrap();
        let error = relative_error(&x_0, &images(&tensors, &format!("{key}.x_0")));
        println!("{key}: {error:e}");
        assert!(error < 1e-3, "{key}: {error}");
    }
}

#[test]
fn ddpm_runs() {
    let Some(folder) = reference() else { return };
    let tensors = read(folder.join("tiny.ddpm.safetensors")).unwrap().tensors;
    let model = tiny(&folder);
    for (name, variance) in [("beta", Variance::Beta), ("posterior", Variance::Posterior)] {
        let key = format!("ddpm.{name}");
        let sequence =
            sequence(Spacing::Trailing, 1000, model.schedule.alpha_bars(), End::Clean).unwrap();
        let z = steps(&tensors, &format!("{key}.z"));
        let noise = GivenNoise { steps: &z, first_image: 0 };
        let x_t = images(&tensors, &format!("{key}.x_T"));
        let sampler = Sampler::from(Ddpm { variance: Some(variance), final_noise: true });
        let plan = sampler.plan(&model.schedule, sequence, false).unwrap();
        let x_0 = plan.sample(&model.network, x_t, &noise).unwrap();
        let error = relative_error(&x_0, &images(&tensors, &format!("{key}.x_0")));
        println!("{key}: {error:e}");
        // The stored noise is f16, which rounds to 5e-4.
        assert!(error < 3e-3, "{key}: {error}");
    }
}

#[test]
fn gradients_and_five_steps_of_adam() {
    let Some(folder) = reference() else { return };
    let tensors = read(folder.join("tiny.train.safetensors")).unwrap().tensors;
    let model = tiny(&folder);
    let config = model.config.unet.clone();
    let mut unet = model.network.unet().clone();

    let alpha_bars = tensors.get("alphas_cumprod").unwrap().data();
    for (t, &expected) in alpha_bars.iter().enumerate() {
        let found = model.schedule.alpha_bar(t) as f32;
        assert!((found - expected).abs() < 1e-4 * expected, "{t}: {found} {expected}");
    }
    let batch = NoisyBatch::new(
        &model.schedule,
        Prediction::Epsilon,
        &images(&tensors, "x_0"),
        timesteps(&tensors, "t"),
        &images(&tensors, "noise"),
    )
    .unwrap();
    assert!(relative_error(&batch.x_t, &images(&tensors, "x_t")) < 1e-5);

    let mut state = OptimizerState::new(&unet);
    for (step, &expected) in tensors.get("losses").unwrap().data().iter().enumerate() {
        let passes = GradientConfig::default();
        let found = loss_gradients(&unet, &batch, 1.0, passes, &Device::Cpu).unwrap();
        let LossGradients { loss: found, gradients } = found;
        let expected = f64::from(expected);
        println!("loss {step}: {found} expected {expected}");
        assert!((found - expected).abs() < 1e-4 * expected, "loss {step}: {found} {expected}");
        if step == 0 {
            check_gradients(&tensors, &file_tensors(&config, &gradients));
        }
        let settings = AdamStep { lr: 1e-4, ..AdamStep::default() };
        state.step(&mut unet, &gradients, Optimizer::Adam, settings, 0.999);
    }
}

fn check_gradients(reference: &NamedTensors, gradients: &NamedTensors) {
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |worst, g| worst.max(g.abs()));
    let overall = gradients.iter().fold(0.0f32, |worst, (_, g)| worst.max(largest(g.data())));
    let mut n_compared = 0;
    let mut worst = 0.0f32;
    for (name, gradient) in gradients.iter() {
        let expected = reference.get(&format!("grad.unet.{name}")).unwrap_or_else(|| {
            panic!("no gradient of `{name}`");
        });
        n_compared += 1;
        // Some gradients are zero but for rounding (a bias before a normalization).
        let scale = largest(expected.data()).max(1e-3 * overall);
        for (found, expected) in gradient.data().iter().zip(expected.data()) {
            let error = (found - expected).abs() / scale;
            worst = worst.max(error);
            assert!(error < 1e-3, "{name}: {found} {expected}");
        }
    }
    println!("gradients of {n_compared} parameters: {worst:e}");
    let n_expected = reference.names().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(n_compared, n_expected);
}
