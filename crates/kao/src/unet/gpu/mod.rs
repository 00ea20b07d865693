//! The engine of GPUs: the operations of the forward pass with Burn's tensors, and its gradients by
//! Burn's automatic differentiation.
//!
//! Burn computes and differentiates; it holds nothing. The parameters of a network are host vectors
//! here as on the CPU: [`Uploaded`] is a copy of them for sampling, and a training step brings them
//! to the device and its gradients back.

mod operations;

use super::operations::{Inputs, forward};
use super::patches::{from_map, to_map};
use super::{GradientConfig, NoisyImages, UNet};
use crate::device::GpuDevice;
use crate::error::Result;
use crate::images::Images;
use burn_tensor::{Device, Tensor, TensorData, Transaction};
use operations::{BurnEngine, LayerTensors};

/// The parameters of a network on a device, as its operations read them.
#[derive(Debug)]
pub(super) struct Uploaded {
    device: GpuDevice,
    layers: Vec<LayerTensors>,
}

impl Uploaded {
    /// Brings the parameters of `network` to `device`.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn new(network: &UNet, device: &GpuDevice) -> Result<Self> {
        let parameters = upload(network, device.burn());
        let layers = LayerTensors::of(network, &parameters);
        device.burn().sync().map_err(|error| failed(device, &error))?;
        Ok(Uploaded { device: device.clone(), layers })
    }
}

impl Uploaded {
    /// The device.
    pub(super) fn device(&self) -> &GpuDevice {
        &self.device
    }
}

/// The prediction for a batch, `[N, C, H, W]`.
pub(super) fn predict(
    network: &UNet,
    uploaded: &Uploaded,
    images: NoisyImages<'_>,
) -> Result<Images> {
    let device = &uploaded.device;
    let inputs = inputs(network, images, device.burn());
    let mut engine = BurnEngine::new(network, &uploaded.layers);
    let masks = &mut network.dropout_masks(None);
    let y = forward(&mut engine, network.layers(), inputs, masks);
    prediction(network, y, images.x_t.shape(), device)
}

/// See [`UNet::gradients`].
pub(super) fn gradients(
    network: &UNet,
    images: NoisyImages<'_>,
    config: GradientConfig,
    device: &GpuDevice,
    loss_gradient: &mut (dyn FnMut(&Images) -> Result<Images> + Send),
    sink: &mut (dyn FnMut(usize, Vec<f32>) + Send),
) -> Result<()> {
    let recording = device.burn().clone().autodiff();
    let recording = match config.checkpointing {
        true => recording.gradient_checkpointing(),
        false => recording,
    };
    let parameters = upload(network, &recording);
    let parameters: Vec<Tensor<1>> = parameters.into_iter().map(Tensor::require_grad).collect();
    let layers = LayerTensors::of(network, &parameters);
    let mut engine = BurnEngine::new(network, &layers);
    let inputs = inputs(network, images, &recording);
    let masks = &mut network.dropout_masks(config.dropout_seed);
    let y = forward(&mut engine, network.layers(), inputs, masks);
    drop(layers);

    let predicted = prediction(network, y.clone().without_autodiff(), images.x_t.shape(), device)?;
    let dy = to_map(&loss_gradient(&predicted)?, network.config().output_patch_size());
    drop(predicted);
    let dy = Tensor::<4>::from_data(TensorData::new(dy, y.dims()), &recording);
    // Its gradient with respect to y is dy, whatever the loss was.
    let mut gradients = (y * dy).sum().backward();
    // One transfer for all.
    let found = parameters.iter().map(|parameter| {
        let gradient = parameter.grad_remove(&mut gradients);
        gradient.expect("the prediction depends on every parameter")
    });
    let transfer = found.fold(Transaction::default(), Transaction::register);
    let found = transfer.try_execute().map_err(|error| failed(device, &error))?;
    for (index, gradient) in found.into_iter().enumerate() {
        sink(index, host_values(gradient, device)?);
    }
    Ok(())
}

/// The parameters in the order of [`UNet::values`], each as a vector in memory order.
fn upload(network: &UNet, device: &Device) -> Vec<Tensor<1>> {
    let values = network.values().iter();
    let data = values.map(|values| TensorData::new(values.clone(), [values.len()]));
    data.map(|data| Tensor::from_data(data, device)).collect()
}

fn inputs<'a>(network: &UNet, images: NoisyImages<'_>, device: &Device) -> Inputs<BurnEngine<'a>> {
    let NoisyImages { x_t, timesteps, .. } = images;
    let config = network.config();
    let [channels, h, w] = config.patched_size();
    let x = TensorData::new(network.input_map(x_t), [x_t.len(), h, w, channels]);
    let rows = |values: Vec<f32>, columns| {
        Tensor::from_data(TensorData::new(values, [timesteps.len(), columns]), device)
    };
    let time = rows(network.time_rows(timesteps), config.first_width());
    let tags = network.tag_rows(images).map(|values| rows(values, config.n_tags));
    Inputs { x: Tensor::from_data(x, device), time, tags }
}

/// The output of the network as images of `shape`.
fn prediction(
    network: &UNet,
    y: Tensor<4>,
    shape: [usize; 4],
    device: &GpuDevice,
) -> Result<Images> {
    let values = y.try_into_data().map_err(|error| failed(device, &error))?;
    Ok(from_map(&host_values(values, device)?, network.config().output_patch_size(), shape))
}

fn host_values(data: TensorData, device: &GpuDevice) -> Result<Vec<f32>> {
    let values = data.try_into_vec::<f32>();
    values.map_err(|error| device.error(&format!("returned no f32 values: {error:?}")))
}

fn failed(device: &GpuDevice, error: &impl std::fmt::Display) -> crate::error::Error {
    device.error(&format!("failed: {error}"))
}
