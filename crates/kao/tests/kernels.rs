//! The network on the CPU kernels against the same network in Burn's own operations, and what the
//! kernels promise: results that depend neither on the batch nor on the number of threads.

use burn::tensor::Device;
use kao::denoiser::{Denoiser, Prediction};
use kao::images::Images;
use kao::noise::SeededNoise;
use kao::schedule::{NoiseSchedule, ScheduleConfig};
use kao::train::TrainConfig;
use kao::train::objective::{NoisyBatch, StepPart, host_gradients, loss};
use kao::unet::ops::with_stock;
use kao::unet::{Activation, Network, UNet, UNetConfig};

fn small() -> UNetConfig {
    UNetConfig {
        image_size: [3, 16, 16],
        num_steps: 100,
        ch: 32,
        ch_mult: vec![1, 2],
        attn: vec![1],
        num_res_blocks: 1,
        ..UNetConfig::default()
    }
}

fn configs() -> Vec<UNetConfig> {
    vec![
        small(),
        // Widths that are no power of two, two blocks a level, sides that differ.
        UNetConfig {
            image_size: [3, 12, 20],
            ch: 96,
            ch_mult: vec![1, 2, 1],
            num_res_blocks: 2,
            ..small()
        },
        UNetConfig { image_size: [1, 10, 6], attn: vec![0, 1], ..small() },
        UNetConfig { activation: Activation::Silu, attn: vec![], ..small() },
        // One level, no resampling, odd sides.
        UNetConfig { image_size: [3, 7, 9], ch_mult: vec![2], attn: vec![0], ..small() },
    ]
}

fn images(config: &UNetConfig, n: usize) -> Images {
    SeededNoise { seed: 5, first_image: 0 }.x_t(n, config.image_size)
}

fn timesteps(n: usize) -> Vec<usize> {
    (0..n).map(|k| (37 * k + 11) % 100).collect()
}

/// A network whose normalizations are not those of the initialization, which do nothing.
fn network(config: &UNetConfig, device: &Device) -> UNet {
    let unet = UNet::init(config, 3, device).unwrap();
    let mut values = unet.values();
    let specs = config.parameters();
    let vectors = values.iter_mut().zip(&specs).filter(|(_, spec)| spec.shape.len() == 1);
    for (index, (values, _)) in vectors.enumerate() {
        for (i, value) in values.iter_mut().enumerate() {
            *value += 0.1 * (((index * 31 + i * 7) % 13) as f32 / 6.0 - 1.0);
        }
    }
    unet.with_values(values)
}

/// Largest difference relative to the largest magnitude of the expected.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

/// Loss and gradients with the given device and dropout seed.
fn training_step(
    config: &UNetConfig,
    device: &Device,
    dropout_seed: Option<u64>,
) -> (f32, Vec<Vec<f32>>) {
    let unet = network(config, device);
    let schedule =
        NoiseSchedule::new(ScheduleConfig { n_timesteps: 100, ..Default::default() }).unwrap();
    let recipe = TrainConfig { seed: 1, batch_size: 2, ..TrainConfig::default() };
    let position = StepPart { first_image: 0, offset: 0 };
    let batch = NoisyBatch::drawn(&schedule, &recipe, &images(config, 2), position).unwrap();
    let loss = loss(&unet, &batch, dropout_seed, device);
    let value = loss.clone().into_data().try_into_vec::<f32>().unwrap()[0];
    (value, host_gradients(&unet, &mut loss.backward()))
}

#[test]
fn a_forward_pass_is_that_of_stock_operations() {
    for config in configs() {
        let device = Device::flex();
        let network = Network::new(network(&config, &device), Prediction::Epsilon, device);
        let (x, t) = (images(&config, 3), timesteps(3));
        let found = network.predict(&x, &t).unwrap();
        let expected = with_stock(|| network.predict(&x, &t)).unwrap();
        assert_ne!(found, expected, "the kernels were not used");
        let error = relative_error(found.data(), expected.data());
        assert!(error < 2e-5, "{error} {config:?}");
    }
}

#[test]
fn prepared_weights_change_nothing() {
    let (config, device) = (small(), Device::flex());
    let (x, t) = (images(&config, 2), timesteps(2));
    let predict = |unet: UNet| {
        let network = Network::new(unet, Prediction::Epsilon, device.clone());
        network.predict(&x, &t).unwrap()
    };
    let unet = network(&config, &device);
    let expected = predict(unet.clone());
    // Weights that are prepared and then replaced must not be remembered.
    let other = UNet::init(&config, 9, &device).unwrap().prepared();
    assert_eq!(predict(other.with_values(unet.values())), expected);
}

#[test]
fn gradients_are_those_of_stock_operations() {
    let device = Device::flex().autodiff();
    for config in configs() {
        for dropout_seed in [None, Some(77)] {
            let (found_loss, found) = training_step(&config, &device, dropout_seed);
            let (expected_loss, expected) =
                with_stock(|| training_step(&config, &device, dropout_seed));
            assert!((found_loss - expected_loss).abs() < 1e-5 * expected_loss);
            let largest = |values: &[f32]| values.iter().fold(0.0f32, |l, v| l.max(v.abs()));
            // Some gradients are sums that cancel to zero (a bias before a normalization).
            let floor = 1e-6 * expected.iter().fold(0.0f32, |l, g| l.max(largest(g)));
            let pairs = found.iter().zip(&expected);
            for (spec, (found, expected)) in config.parameters().iter().zip(pairs) {
                let bound = 1e-4 * largest(expected) + floor;
                let pairs = found.iter().zip(expected);
                let worst = pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
                let name = &spec.name;
                assert!(worst < bound, "{name}: off by {worst}, bound {bound}, {config:?}");
            }
        }
    }
}

#[test]
fn dropout_takes_part() {
    let (config, device) = (small(), Device::flex().autodiff());
    let without = training_step(&config, &device, None).0;
    let with = training_step(&config, &device, Some(1)).0;
    assert!(without != with && with != training_step(&config, &device, Some(2)).0);
    assert_eq!(with, training_step(&config, &device, Some(1)).0);
}

#[test]
fn an_image_does_not_know_its_batch() {
    for config in configs() {
        let device = Device::flex();
        let network = Network::new(network(&config, &device), Prediction::Epsilon, device);
        let (x, t) = (images(&config, 8), timesteps(8));
        let all = network.predict(&x, &t).unwrap();
        for n in [1, 3] {
            for first in (0..8 - n).step_by(n) {
                let some = first..first + n;
                let found = network.predict(&x.slice(some.clone()), &t[some.clone()]).unwrap();
                assert_eq!(found, all.slice(some), "{n} images {config:?}");
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    for config in configs() {
        let results: Vec<_> = [1, 2, 3]
            .into_iter()
            .map(|n_threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                pool.install(|| {
                    let device = Device::flex();
                    let unet = network(&config, &device);
                    let network = Network::new(unet, Prediction::Epsilon, device.clone());
                    let images = network.predict(&images(&config, 3), &timesteps(3)).unwrap();
                    (images, training_step(&config, &device.autodiff(), Some(4)))
                })
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]), "{config:?}");
    }
}

#[test]
fn checkpointing_changes_nothing() {
    for config in configs() {
        let device = Device::flex().autodiff();
        let saving = device.clone().gradient_checkpointing();
        let expected = training_step(&config, &device, Some(6));
        assert_eq!(training_step(&config, &saving, Some(6)), expected, "{config:?}");
    }
}
