//! The network against values that PyTorch computed, stored beside this file.
//!
//! `bench/golden.py` made them, and says how weights and inputs follow from names.

use kao::denoiser::{Conditions, Denoiser, Prediction};
use kao::device::Device;
use kao::formats::{HostTensor, NamedTensors};
use kao::images::Images;
use kao::schedule::{NoiseSchedule, ScheduleConfig};
use kao::train::Optimizer;
use kao::train::adam::OptimizerState;
use kao::train::objective::{LossGradients, NoisyBatch, loss_gradients};
use kao::unet::parameters::file_tensors;
use kao::unet::{Activation, GradientConfig, Network, UNet, UNetConfig};
use kao_kernels::AdamStep;
use std::path::Path;
use uniform::{parameter, uniform};

#[path = "support/uniform.rs"]
mod uniform;

fn golden() -> NamedTensors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/unet_golden.safetensors");
    kao::formats::read(path).unwrap().tensors
}

fn config() -> UNetConfig {
    UNetConfig {
        image_size: [3, 8, 8],
        num_steps: 100,
        ch: 32,
        ch_mult: vec![1, 2],
        attn: vec![1],
        num_res_blocks: 1,
        ..UNetConfig::default()
    }
}

fn unet(config: &UNetConfig) -> UNet {
    let mut tensors = NamedTensors::new();
    for (name, shape) in config.tensors() {
        let values = parameter(&name, &shape);
        tensors.insert(name, HostTensor::new(shape, values).unwrap());
    }
    let table = "time_embedding.time_embedding.0.weight";
    tensors.insert(table, golden().get(table).unwrap().clone());
    UNet::from_tensors(config, &tensors).unwrap()
}

fn images(tensors: &NamedTensors, name: &str) -> Images {
    let tensor = tensors.get(name).unwrap();
    let shape = tensor.shape().try_into().unwrap();
    Images::from_vec(shape, tensor.data().to_vec()).unwrap()
}

fn timesteps(tensors: &NamedTensors, name: &str) -> Vec<usize> {
    tensors.get(name).unwrap().data().iter().map(|&t| t as usize).collect()
}

/// Largest difference relative to the largest magnitude.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

#[test]
fn inputs_are_made_as_the_script_makes_them() {
    let golden = golden();
    let x = golden.get("x").unwrap();
    let made: Vec<f32> =
        uniform("x", x.data().len()).into_iter().map(|u| (1.5 * u) as f32).collect();
    assert_eq!(made, x.data());
}

#[test]
fn one_forward_pass() {
    let golden = golden();
    let single_channel = UNetConfig { image_size: [1, 8, 8], ..config() };
    let silu = UNetConfig { activation: Activation::Silu, ..config() };
    for (config, x, eps) in [
        (config(), "x", "eps"),
        (silu, "x", "silu.eps"),
        (single_channel, "single_channel.x", "single_channel.eps"),
    ] {
        let network = Network::new(unet(&config), Prediction::Epsilon, &Device::Cpu).unwrap();
        let found = network
            .predict(&images(&golden, x), &timesteps(&golden, "t"), &Conditions::none())
            .unwrap();
        let error = relative_error(found.data(), images(&golden, eps).data());
        assert!(error < 1e-5, "{eps}: {error}");
    }
}

#[test]
fn noising_gradients_and_five_steps_of_adam() {
    let golden = golden();
    let mut unet = unet(&config());
    let schedule =
        NoiseSchedule::new(ScheduleConfig { n_timesteps: 100, ..Default::default() }).unwrap();
    let batch = NoisyBatch::new(
        &schedule,
        Prediction::Epsilon,
        &images(&golden, "x_0"),
        timesteps(&golden, "train.t"),
        &images(&golden, "noise"),
    )
    .unwrap();
    assert!(relative_error(batch.x_t.data(), images(&golden, "x_t").data()) < 1e-6);

    let mut state = OptimizerState::new(&unet);
    let losses = golden.get("losses").unwrap().data();
    for (step, &expected) in losses.iter().enumerate() {
        let passes = GradientConfig::default();
        let found = loss_gradients(&unet, &batch, 1.0, passes, &Device::Cpu).unwrap();
        let LossGradients { loss: found, gradients } = found;
        let expected = f64::from(expected);
        assert!((found - expected).abs() < 1e-5 * expected, "loss {step}: {found} not {expected}");
        if step == 0 {
            check_gradients(&golden, &gradients);
        }
        let settings = AdamStep { lr: 1e-4, ..AdamStep::default() };
        state.step(&mut unet, &gradients, Optimizer::Adam, settings, 0.0);
    }
    assert_eq!(state.ema, unet.values(), "an average without memory is the weights");
}

fn check_gradients(golden: &NamedTensors, gradients: &[Vec<f32>]) {
    let gradients = file_tensors(&config(), gradients);
    // Some gradients are zero but for rounding (a bias before a normalization).
    let floor = gradients.iter().fold(0.0f32, |worst, (_, gradient)| {
        gradient.data().iter().fold(worst, |worst, g| worst.max(g.abs()))
    }) * 1e-4;
    let mut n_compared = 0;
    for (name, gradient) in gradients.iter() {
        let norm = gradient.data().iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let summary = golden.get(&format!("grad_summary.{name}")).unwrap().data();
        let bound = 1e-4 * summary[0] + floor;
        assert!(
            (norm as f32 - summary[0]).abs() < bound,
            "{name}: norm {norm}, not {}",
            summary[0]
        );
        if let Some(expected) = golden.get(&format!("grad.{name}")) {
            n_compared += 1;
            assert_eq!(gradient.shape(), expected.shape());
            let scale = expected.data().iter().fold(0.0f32, |worst, g| worst.max(g.abs()));
            let bound = 1e-4 * scale + 1e-2 * floor;
            for (found, expected) in gradient.data().iter().zip(expected.data()) {
                assert!((found - expected).abs() < bound, "{name}: {found} {expected}");
            }
        }
    }
    assert!(n_compared > 10);
}
