//! A GPU against the CPU, in a build that has one (`cargo test --features vulkan`).
//!
//! Any device will do: where there is no GPU, a driver that computes on the processor. Where there
//! is neither, these tests fail.

#![cfg(feature = "gpu")]

use kao::denoiser::{Conditions, Denoiser, Prediction};
use kao::device::{Device, DeviceKind};
use kao::images::Images;
use kao::model::Model;
use kao::noise::{NoNoise, SeededNoise};
use kao::sampler::{Ddim, Sampler};
use kao::schedule::{NoiseSchedule, ScheduleConfig};
use kao::timesteps::{End, Spacing, sequence};
use kao::train::Optimizer;
use kao::train::adam::OptimizerState;
use kao::train::objective::{LossGradients, NoisyBatch, loss_gradients};
use kao::unet::{Activation, GradientConfig, Network, TimeScaleShift, UNet, UNetConfig};
use kao_kernels::AdamStep;

/// The first kind of GPU that this build has.
fn gpu() -> Device {
    let kind = if cfg!(feature = "cuda") {
        DeviceKind::Cuda
    } else if cfg!(feature = "metal") {
        DeviceKind::Metal
    } else {
        DeviceKind::Vulkan
    };
    let device = kind.open().unwrap();
    if let Device::Gpu(gpu) = &device {
        println!("{kind}: {}", gpu.name());
    }
    device
}

/// One of everything: two levels with two blocks each, attention, patches or not.
fn configs() -> Vec<UNetConfig> {
    let small = UNetConfig {
        image_size: [3, 16, 16],
        num_steps: 100,
        ch: 32,
        ch_mult: vec![1, 2],
        attn: vec![1],
        num_res_blocks: 1,
        ..UNetConfig::default()
    };
    vec![
        // Widths that are no power of two, sides that differ.
        UNetConfig {
            image_size: [3, 12, 20],
            ch: 96,
            ch_mult: vec![1, 2, 1],
            num_res_blocks: 2,
            ..small.clone()
        },
        // What the built-in model has: SiLU, patches, wider groups.
        UNetConfig { activation: Activation::Silu, patch_size: 2, norm_groups: 8, ..small.clone() },
        // Layers at full resolution behind the patches, and tags.
        UNetConfig {
            activation: Activation::Silu,
            patch_size: 2,
            norm_groups: 8,
            detail_channels: 32,
            n_tags: 5,
            ..small.clone()
        },
        // Scale and shift by time and tags.
        UNetConfig {
            resnet_time_scale_shift: TimeScaleShift::ScaleShift,
            n_tags: 5,
            ..small.clone()
        },
        // What a folder of diffusers may bring: several heads, attention on the way up alone, a
        // first convolution as wide as its level, the other padding, time embeddings the other way
        // around, pixels that are centred.
        UNetConfig {
            activation: Activation::Silu,
            norm_groups: 8,
            norm_eps: 1e-5,
            attn: vec![],
            attn_up: Some(vec![0, 1]),
            attention_head_dim: 8,
            downsample_padding: 0,
            flip_sin_to_cos: true,
            freq_shift: 1.0,
            center_input_sample: true,
            ..small.clone()
        },
        // One level, odd sides.
        UNetConfig { image_size: [1, 7, 9], ch_mult: vec![2], attn: vec![0], ..small },
    ]
}

/// A network whose normalizations are not the identity, as they begin.
fn unet(config: &UNetConfig) -> UNet {
    let mut unet = UNet::init(config, 3).unwrap();
    let specs = config.parameters();
    let vectors =
        unet.values_mut().iter_mut().zip(&specs).filter(|(_, spec)| spec.shape.len() == 1);
    for (k, value) in vectors.flat_map(|(values, _)| values).enumerate() {
        *value += 0.1 * ((k * 7 % 13) as f32 / 6.0 - 1.0);
    }
    // Some layers begin at zero, which would hide those before them.
    for values in unet.values_mut().iter_mut().filter(|values| values.iter().all(|&v| v == 0.0)) {
        for (k, value) in values.iter_mut().enumerate() {
            *value = 0.05 * ((k * 5 % 11) as f32 / 5.0 - 1.0);
        }
    }
    unet
}

/// Tags for two images of three, where the network has any.
fn conditions(config: &UNetConfig, n: usize) -> Conditions {
    match config.n_tags {
        0 => Conditions::none(),
        n_tags => Conditions::new((0..n).map(|k| vec![0, n_tags - 1][..k % 3].to_vec()).collect()),
    }
}

fn noise(seed: u64, n: usize, config: &UNetConfig) -> Images {
    SeededNoise { seed, first_image: 0 }.x_t(n, config.image_size)
}

fn timesteps(n: usize) -> Vec<usize> {
    (0..n).map(|k| (37 * k + 11) % 100).collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The largest difference, of the largest expected value.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    difference(found, expected) / largest(expected)
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|value| value.is_finite()));
    let differences: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    largest(&differences)
}

fn predict(config: &UNetConfig, device: &Device) -> Images {
    let network = Network::new(unet(config), Prediction::Epsilon, device).unwrap();
    network.predict(&noise(5, 3, config), &timesteps(3), &conditions(config, 3)).unwrap()
}

#[test]
fn a_forward_pass_is_that_of_the_cpu() {
    let gpu = gpu();
    for config in configs() {
        let (found, expected) = (predict(&config, &gpu), predict(&config, &Device::Cpu));
        let error = relative_error(found.data(), expected.data());
        println!("forward pass: off by {error:e}");
        assert!(error < 1e-4, "{error} {config:?}");
    }
}

/// Loss and gradients of a batch of two.
fn gradients(unet: &UNet, passes: GradientConfig, device: &Device) -> LossGradients {
    let schedule = ScheduleConfig { n_timesteps: unet.config().num_steps, ..Default::default() };
    let schedule = NoiseSchedule::new(schedule).unwrap();
    let [x_0, epsilon] = [8, 9].map(|seed| noise(seed, 2, unet.config()));
    let batch =
        NoisyBatch::new(&schedule, Prediction::Epsilon, &x_0, timesteps(2), &epsilon).unwrap();
    let batch = batch.under(conditions(unet.config(), 2));
    loss_gradients(unet, &batch, 1.0, passes, device).unwrap()
}

#[test]
fn gradients_are_those_of_the_cpu() {
    let gpu = gpu();
    for config in configs() {
        let unet = unet(&config);
        for (dropout_seed, checkpointing) in [(None, false), (Some(77), false), (Some(77), true)] {
            let passes = GradientConfig { dropout_seed, checkpointing };
            let found = gradients(&unet, passes, &gpu);
            let expected = gradients(&unet, passes, &Device::Cpu);
            assert!((found.loss / expected.loss - 1.0).abs() < 1e-4);
            // Some gradients are sums that cancel to zero (a bias before a normalization).
            let largest_of_all = expected.gradients.iter().map(|g| largest(g)).fold(0.0, f32::max);
            let mut worst = 0.0f32;
            let pairs = found.gradients.iter().zip(&expected.gradients);
            for (spec, (found, expected)) in config.parameters().iter().zip(pairs) {
                let scale = largest(expected).max(1e-3 * largest_of_all);
                let error = difference(found, expected) / scale;
                assert!(error < 1e-3, "{}: off by {error}, {passes:?} {config:?}", spec.name);
                worst = worst.max(error);
            }
            println!("gradients: off by {worst:e}, {passes:?}");
        }
    }
}

/// The weights after three steps of Adam, as changes from where they began.
fn trained(config: &UNetConfig, device: &Device) -> Vec<f32> {
    let began = unet(config);
    let mut unet = began.clone();
    let mut optimizer = OptimizerState::new(&unet);
    // A large epsilon: without it, a gradient that is all rounding moves its weight as far as any.
    let settings = AdamStep { lr: 1e-3, eps: 1e-3, ..AdamStep::default() };
    for step in 0..3 {
        let passes = GradientConfig { dropout_seed: Some(step), checkpointing: false };
        let LossGradients { gradients, .. } = gradients(&unet, passes, device);
        optimizer.step(&mut unet, &gradients, Optimizer::Adam, settings, 0.9);
    }
    let pairs = unet.values().iter().flatten().zip(began.values().iter().flatten());
    pairs.map(|(now, then)| now - then).collect()
}

#[test]
fn training_steps_are_those_of_the_cpu() {
    let gpu = gpu();
    let config = &configs()[1];
    let (found, expected) = (trained(config, &gpu), trained(config, &Device::Cpu));
    assert!(largest(&expected) > 1e-4, "the steps move the weights");
    let error = relative_error(&found, &expected);
    println!("three training steps: off by {error:e}");
    assert!(error < 1e-3, "{error}");
}

/// Two pictures of the built-in model.
fn sampled(device: &Device) -> Images {
    let model = Model::built_in(device).unwrap();
    let steps = sequence(Spacing::Linear, 4, model.schedule.alpha_bars(), End::Clean).unwrap();
    let plan = Sampler::from(Ddim { eta: 0.0 }).plan(&model.schedule, steps, true).unwrap();
    let x = SeededNoise { seed: 1, first_image: 0 }.x_t(2, model.config.unet.image_size);
    plan.sample(&model.network, x, &NoNoise).unwrap()
}

#[test]
fn a_sampled_picture_is_that_of_the_cpu() {
    let gpu = gpu();
    let (found, expected) = (sampled(&gpu), sampled(&Device::Cpu));
    let error = relative_error(found.data(), expected.data());
    println!("sampled pictures: off by {error:e}");
    assert!(error < 1e-3, "{error}");
}

#[cfg(feature = "vulkan")]
#[test]
fn a_device_that_is_not_there_is_an_error() {
    const ALONE: &str = "KAO_TEST_WITHOUT_DRIVERS";
    let name = "a_device_that_is_not_there_is_an_error";
    if std::env::var_os(ALONE).is_some() {
        let error = DeviceKind::Vulkan.open().unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("device: no Vulkan device can be opened: "), "{message}");
        assert!(error.to_string().chars().count() < 400, "{error}");
        assert!(error.hint().is_some());
        println!("{error}");
        return;
    }
    // A process of its own, in which the Vulkan loader finds no driver.
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        test.env(variable, "/no/such/driver.json");
    }
    let ran = test.output().unwrap();
    println!("{}", String::from_utf8_lossy(&ran.stdout));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
