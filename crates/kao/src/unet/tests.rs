//! The engine of the CPU against the reference kernels, over whole networks; and what it promises:
//! results that depend neither on the batch nor on the number of threads.

use super::{
    Activation, GradientConfig, Middle, Network, NoisyImages, ParameterSpec, TimeScaleShift, UNet,
    UNetConfig, reference,
};
use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::device::Device;
use crate::images::Images;
use crate::noise::SeededNoise;

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
        // What the built-in model has: SiLU, patches, wider groups.
        UNetConfig {
            activation: Activation::Silu,
            patch_size: 2,
            norm_groups: 8,
            attn: vec![],
            ..small()
        },
        // Layers at full resolution behind the patches, and tags.
        UNetConfig {
            image_size: [3, 24, 16],
            activation: Activation::Silu,
            patch_size: 2,
            norm_groups: 8,
            detail_channels: 16,
            n_tags: 5,
            ..small()
        },
        // Scale and shift by the time embedding, in layers as above.
        UNetConfig {
            image_size: [3, 24, 16],
            activation: Activation::Silu,
            patch_size: 2,
            norm_groups: 8,
            resnet_time_scale_shift: TimeScaleShift::ScaleShift,
            detail_channels: 16,
            n_tags: 5,
            ..small()
        },
        // And in the original's.
        UNetConfig { resnet_time_scale_shift: TimeScaleShift::ScaleShift, ..small() },
        // Layers at full resolution behind single pixels, of one channel.
        UNetConfig { image_size: [1, 8, 10], detail_channels: 32, n_tags: 1, ..small() },
        // Several heads, attention on the way down alone, padding at two sides, another
        // normalization and time embedding.
        UNetConfig {
            image_size: [3, 12, 8],
            activation: Activation::Silu,
            norm_groups: 4,
            attn: vec![0, 1],
            attn_up: Some(vec![]),
            attention_head_dim: 8,
            downsample_padding: 0,
            norm_eps: 1e-3,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            time_embedding_dim: 24,
            center_input_sample: true,
            n_tags: 3,
            ..small()
        },
        // The first convolution narrower than all levels, attention on the way up alone.
        UNetConfig {
            image_size: [1, 8, 16],
            ch: 8,
            ch_mult: vec![5, 3, 2],
            first_width: 24,
            norm_groups: 8,
            attn: vec![],
            attn_up: Some(vec![2]),
            middle: Middle::Plain,
            attention_head_dim: 4,
            downsample_padding: 0,
            ..small()
        },
        // Nothing in the middle.
        UNetConfig { image_size: [3, 4, 8], middle: Middle::None, ..small() },
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

/// Tags that differ from image to image; the first has none.
fn conditions(config: &UNetConfig, n: usize) -> Conditions {
    Conditions::new((0..n).map(|k| (0..config.n_tags.min(k)).collect()).collect())
}

/// A network without what begins as doing nothing: normalizations and layers of zeros.
fn unet(config: &UNetConfig) -> UNet {
    let mut unet = UNet::init(config, 3).unwrap();
    let specs = config.parameters();
    let hiding = |(values, spec): &(&mut Vec<f32>, &ParameterSpec)| {
        spec.shape.len() == 1 || values.iter().all(|&value| value == 0.0)
    };
    let found = unet.values_mut().iter_mut().zip(&specs).filter(hiding);
    for (index, (values, _)) in found.enumerate() {
        for (i, value) in values.iter_mut().enumerate() {
            *value += 0.1 * (((index * 31 + i * 7) % 13) as f32 / 6.0 - 1.0);
        }
    }
    unet
}

fn network(config: &UNetConfig) -> Network {
    Network::new(unet(config), Prediction::Epsilon, &Device::Cpu).unwrap()
}

/// Largest difference relative to the largest magnitude of the expected.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

/// The gradient of the mean squared difference between the prediction and a fixed target.
fn loss_gradient(prediction: &Images) -> Images {
    let target =
        SeededNoise { seed: 8, first_image: 0 }.x_t(prediction.len(), prediction.image_shape());
    let n = prediction.data().len() as f32;
    let pairs = prediction.data().iter().zip(target.data());
    Images::from_vec(prediction.shape(), pairs.map(|(p, t)| 2.0 * (p - t) / n).collect()).unwrap()
}

fn gradients(config: &UNetConfig, passes: GradientConfig) -> Vec<Vec<f32>> {
    let unet = unet(config);
    let mut found = vec![Vec::new(); unet.values().len()];
    unet.gradients(
        NoisyImages {
            x_t: &images(config, 2),
            timesteps: &timesteps(2),
            conditions: &conditions(config, 2),
        },
        passes,
        &Device::Cpu,
        &mut |prediction| Ok(loss_gradient(prediction)),
        &mut |index, gradient| {
            assert!(found[index].is_empty(), "parameter {index} twice");
            found[index] = gradient;
        },
    )
    .unwrap();
    found
}

#[test]
fn a_forward_pass_is_that_of_the_reference_kernels() {
    for config in configs() {
        let network = network(&config);
        let (x, t) = (images(&config, 3), timesteps(3));
        let asked = conditions(&config, 3);
        let found = network.predict(&x, &t, &asked).unwrap();
        let images = NoisyImages { x_t: &x, timesteps: &t, conditions: &asked };
        let expected = reference::predict(network.unet(), images);
        let error = relative_error(found.data(), expected.data());
        assert!(error < 2e-5, "{error} {config:?}");
    }
}

#[test]
fn gradients_are_those_of_the_reference_kernels() {
    for config in configs() {
        for dropout_seed in [None, Some(77)] {
            let found = gradients(&config, GradientConfig { dropout_seed, checkpointing: false });
            let expected = reference::gradients(
                &unet(&config),
                NoisyImages {
                    x_t: &images(&config, 2),
                    timesteps: &timesteps(2),
                    conditions: &conditions(&config, 2),
                },
                dropout_seed,
                loss_gradient,
            );
            let largest = |values: &[f32]| values.iter().fold(0.0f32, |l, v| l.max(v.abs()));
            // Some gradients are sums that cancel to zero (a bias before a normalization).
            let floor = 1e-6 * expected.iter().fold(0.0f32, |l, g| l.max(largest(g)));
            let pairs = found.iter().zip(&expected);
            for (spec, (found, expected)) in config.parameters().iter().zip(pairs) {
                assert_eq!(found.len(), expected.len(), "{}", spec.name);
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
fn what_is_untrained_does_nothing() {
    let plain = UNetConfig { patch_size: 2, ..small() };
    let (x, t) = (images(&plain, 2), timesteps(2));
    let predict = |config: &UNetConfig, asked: &Conditions| {
        let unet = UNet::init(config, 3).unwrap();
        let network = Network::new(unet, Prediction::Epsilon, &Device::Cpu).unwrap();
        network.predict(&x, &t, asked).unwrap()
    };
    let expected = predict(&plain, &Conditions::none());
    let with_tags = UNetConfig { n_tags: 4, ..plain.clone() };
    assert_eq!(predict(&with_tags, &Conditions::none()), expected);
    assert_eq!(predict(&with_tags, &Conditions::new(vec![vec![3], vec![0, 1]])), expected);
}

#[test]
fn unknown_tags_are_refused() {
    let config = UNetConfig { n_tags: 2, ..small() };
    let (x, t) = (images(&config, 1), timesteps(1));
    let asked = |tag| Conditions::new(vec![vec![tag]]);
    assert!(network(&config).predict(&x, &t, &asked(1)).is_ok());
    let error = network(&config).predict(&x, &t, &asked(2)).unwrap_err().to_string();
    assert!(error.contains("tag 2 found; the model knows 2 tags"), "{error}");
    let error = network(&small()).predict(&x, &t, &asked(0)).unwrap_err().to_string();
    assert!(error.contains("the model knows 0 tags"), "{error}");
}

#[test]
fn the_layers_do_the_arithmetic_that_they_say() {
    // Counted by hand for one level, one block a way: 8×8 pixels, 32 channels throughout.
    let config = UNetConfig { image_size: [3, 8, 8], ch_mult: vec![1], attn: vec![], ..small() };
    let (pixels, c, time) = (64, 32, 128);
    let conv = |c_in: usize, c_out: usize| 2 * 9 * pixels * c_in * c_out;
    let block = |c_in: usize| {
        let shortcut = if c_in == c { 0 } else { 2 * pixels * c_in * c };
        conv(c_in, c) + conv(c, c) + 2 * time * c + shortcut
    };
    let attention = 4 * 2 * pixels * c * c + 2 * 2 * pixels * pixels * c;
    let expected = 2 * (c * time + time * time)
        + conv(3, c)
        + block(c)
        + (block(c) + attention)
        + block(c)
        + 2 * block(2 * c)
        + conv(c, 3);
    assert_eq!(config.forward_flop(), expected as u64);
}

#[test]
fn dropout_takes_part() {
    let config = small();
    let with =
        |dropout_seed| gradients(&config, GradientConfig { dropout_seed, checkpointing: false });
    let (without, one, two) = (with(None), with(Some(1)), with(Some(2)));
    assert!(without != one && one != two);
    assert_eq!(one, with(Some(1)));
}

#[test]
fn an_image_does_not_know_its_batch() {
    for config in configs() {
        let network = network(&config);
        let (x, t) = (images(&config, 8), timesteps(8));
        let asked = conditions(&config, 8);
        let all = network.predict(&x, &t, &asked).unwrap();
        for n in [1, 3] {
            for first in (0..8 - n).step_by(n) {
                let some = first..first + n;
                let found = network
                    .predict(&x.slice(some.clone()), &t[some.clone()], &asked.slice(some.clone()))
                    .unwrap();
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
                    let images = network(&config).predict(
                        &images(&config, 3),
                        &timesteps(3),
                        &conditions(&config, 3),
                    );
                    let passes = GradientConfig { dropout_seed: Some(4), checkpointing: false };
                    (images.unwrap(), gradients(&config, passes))
                })
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]), "{config:?}");
    }
}

#[test]
fn checkpointing_changes_nothing() {
    for config in configs() {
        let passes = GradientConfig { dropout_seed: Some(6), checkpointing: false };
        let expected = gradients(&config, passes);
        let saving = GradientConfig { checkpointing: true, ..passes };
        assert_eq!(gradients(&config, saving), expected, "{config:?}");
    }
}
