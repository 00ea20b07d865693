//! Whether a device computes what the CPU computes.
//!
//! A driver that misreads a kernel answers with noise, and without an error. So a device is opened
//! by computing a small network on it, the prediction and the gradients, and comparing both with
//! the CPU's.

use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::device::gpu::panic_message;
use crate::device::{Device, DeviceKind, GpuDevice};
use crate::error::{ErrorKind, Result};
use crate::images::Images;
use crate::noise::SeededNoise;
use crate::unet::{
    Activation, GradientConfig, Network, NoisyImages, ParameterSpec, TimeScaleShift, UNet,
    UNetConfig,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// The largest difference that rounding may make, as a share of the largest value. GPUs may round
/// the factors of a matrix product to 11 bits.
const TOLERANCE: f32 = 1e-3;

/// Gradients this much smaller than the largest are sums that cancel out, of which rounding may
/// leave anything.
const NEGLIGIBLE: f32 = 1e-2;

/// The devices that were found, each with what is wrong with it.
static OPENED: Mutex<Vec<(GpuDevice, Option<String>)>> = Mutex::new(Vec::new());

/// The device of this kind, if there is one and it passes the test, which it takes once.
pub(super) fn open(kind: DeviceKind) -> Result<GpuDevice> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = opened.iter().find(|(device, _)| device.kind() == kind).cloned();
    let (device, problem) = match known {
        Some(known) => known,
        None => {
            let device = GpuDevice::find(kind)?;
            let problem = problem_of(&device);
            opened.push((device.clone(), problem.clone()));
            (device, problem)
        }
    };
    match problem {
        None => Ok(device),
        Some(problem) => Err(device.error(&problem)),
    }
}

/// What is wrong with a device, in words that follow its name.
fn problem_of(device: &GpuDevice) -> Option<String> {
    let device = Device::Gpu(device.clone());
    match catch_unwind(AssertUnwindSafe(|| error_of(&device))) {
        Ok(Ok(error)) => problem_of_error(error),
        Ok(Err(error)) => Some(match error.kind() {
            ErrorKind::Invalid { problem, .. } => format!("does not compute: {problem}"),
            other => format!("does not compute: {other}"),
        }),
        Err(panic) => Some(format!("does not compute: {}", panic_message(&*panic))),
    }
}

fn problem_of_error(error: f32) -> Option<String> {
    // Not a number is wrong too.
    let right = error <= TOLERANCE;
    (!right).then(|| format!("computes wrongly: off by {error:.2} of the largest value"))
}

/// How far small networks on `device` are from the same on the CPU.
fn error_of(device: &Device) -> Result<f32> {
    let errors = [TimeScaleShift::Default, TimeScaleShift::ScaleShift].into_iter().map(|time| {
        let unet = network(time)?;
        Ok(largest_error(&compute(&unet, device)?, &compute(&unet, &Device::Cpu)?))
    });
    Ok(largest(&errors.collect::<Result<Vec<f32>>>()?))
}

/// The largest difference of the prediction, which comes first, and of the gradients, each as a
/// share of the largest value.
fn largest_error(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    let gradients = expected[1..].iter();
    let floor = NEGLIGIBLE * gradients.map(|values| largest(values)).fold(0.0, f32::max);
    let errors = found.iter().zip(expected).map(|(found, expected)| {
        let differences: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        largest(&differences) / largest(expected).max(floor)
    });
    largest(&errors.collect::<Vec<f32>>())
}

/// The largest magnitude; not a number where one is none, which `f32::max` would pass over.
fn largest(values: &[f32]) -> f32 {
    let sizes = values.iter().map(|value| value.abs());
    sizes.fold(0.0, |largest, size| if size > largest || size.is_nan() { size } else { largest })
}

/// A network with what all networks have: two levels, attention, a skip connection, a shortcut; the
/// time embedding acts on its blocks in the way `time`. It has neither patches with layers at full
/// resolution behind them nor tags.
fn network(time: TimeScaleShift) -> Result<UNet> {
    let config = UNetConfig {
        image_size: [3, 8, 8],
        num_steps: 10,
        ch: 32,
        ch_mult: vec![1, 2],
        attn: vec![1],
        num_res_blocks: 1,
        activation: Activation::Silu,
        norm_groups: 8,
        resnet_time_scale_shift: time,
        ..UNetConfig::default()
    };
    let mut unet = UNet::init(&config, 1)?;
    // Normalizations begin as the identity and some layers at zero, which would hide parameters.
    let specs = config.parameters();
    let hiding = |(values, spec): &(&mut Vec<f32>, &ParameterSpec)| {
        spec.shape.len() == 1 || values.iter().all(|&value| value == 0.0)
    };
    let found = unet.values_mut().iter_mut().zip(&specs).filter(hiding);
    for (k, value) in found.flat_map(|(values, _)| values).enumerate() {
        *value += 0.1 * ((k * 7 % 13) as f32 / 6.0 - 1.0);
    }
    Ok(unet)
}

/// The prediction of `unet`, then the gradient of every parameter.
fn compute(unet: &UNet, device: &Device) -> Result<Vec<Vec<f32>>> {
    let x_t = SeededNoise { seed: 2, first_image: 0 }.x_t(2, unet.config().image_size);
    let timesteps = [1, 8];
    let conditions = Conditions::none();
    let network = Network::new(unet.clone(), Prediction::Epsilon, device)?;
    let mut computed = vec![network.predict(&x_t, &timesteps, &conditions)?.data().to_vec()];
    computed.resize(1 + unet.values().len(), Vec::new());
    let passes = GradientConfig::default();
    let mut loss_gradient = |prediction: &Images| -> Result<Images> { Ok(prediction.clone()) };
    let mut sink = |index: usize, gradient| computed[1 + index] = gradient;
    let images = NoisyImages { x_t: &x_t, timesteps: &timesteps, conditions: &conditions };
    unet.gradients(images, passes, device, &mut loss_gradient, &mut sink)?;
    Ok(computed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_right_passes() {
        assert_eq!(problem_of_error(error_of(&Device::Cpu).unwrap()), None);
        assert_eq!(problem_of_error(9e-4), None);
    }

    #[test]
    fn one_wrong_value_is_enough() {
        let unet = network(TimeScaleShift::ScaleShift).unwrap();
        let expected = compute(&unet, &Device::Cpu).unwrap();
        assert_eq!(expected.len(), 1 + unet.values().len());
        for index in [0, 1, expected.len() - 1] {
            for wrong in [1.0, f32::NAN, f32::INFINITY] {
                let mut found = expected.clone();
                found[index][0] += wrong;
                let problem = problem_of_error(largest_error(&found, &expected)).unwrap();
                assert!(problem.starts_with("computes wrongly: off by "), "{problem}");
            }
        }
        let problem = problem_of_error(2.07).unwrap();
        assert_eq!(problem, "computes wrongly: off by 2.07 of the largest value");
    }
}
