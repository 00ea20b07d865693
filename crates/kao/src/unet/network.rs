//! A UNet as a denoiser: host images in, host predictions out.

use super::UNet;
use super::ops::{has_kernels, on_the_pool};
use crate::denoiser::{Denoiser, Prediction};
use crate::error::{Error, Result};
use crate::images::Images;
use burn::tensor::{Device, Tensor, TensorData};

/// Pixels of a pass on the CPU kernels: 16 images of 64×64.
const KERNEL_PIXELS: usize = 16 * 64 * 64;

/// A network on a device, with what it predicts: satisfies the denoiser contract.
#[derive(Debug)]
pub struct Network {
    unet: UNet,
    prediction: Prediction,
    device: Device,
}

impl Network {
    /// Wraps `unet`, whose parameters are on `device`; they are prepared for the CPU kernels where
    /// those run it.
    pub fn new(unet: UNet, prediction: Prediction, device: Device) -> Self {
        Network { unet: unet.prepared(), prediction, device }
    }

    /// The network within.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// Images of a pass. Kernels gain nothing from more, but the memory for feature maps grows; and
    /// no image knows which others it was computed with.
    fn images_at_once(&self, [_, h, w]: [usize; 3]) -> usize {
        match has_kernels(&self.device) {
            true => (KERNEL_PIXELS / (h * w)).max(1),
            false => usize::MAX,
        }
    }

    fn predict_at_once(&self, x_t: &Images, timesteps: &[usize]) -> Result<Images> {
        let predict = || {
            let predicted = self.unet.forward(to_device(x_t, &self.device), timesteps, None);
            from_device(predicted, x_t.shape())
        };
        match has_kernels(&self.device) {
            true => on_the_pool(predict),
            false => predict(),
        }
    }
}

impl Denoiser for Network {
    fn predict(&self, x_t: &Images, timesteps: &[usize]) -> Result<Images> {
        let expected = self.unet.config().image_size;
        if x_t.image_shape() != expected || timesteps.len() != x_t.len() {
            return Err(Error::invalid(
                "images",
                format!(
                    "{} of shape {:?} with {} timesteps; the model takes {expected:?}, one \
                     timestep each",
                    x_t.len(),
                    x_t.image_shape(),
                    timesteps.len()
                ),
            ));
        }
        let n_timesteps = self.unet.config().num_steps;
        if let Some(t) = timesteps.iter().find(|&&t| t >= n_timesteps) {
            return Err(Error::invalid(
                "timestep",
                format!("{t} found; the model has {n_timesteps}"),
            ));
        }
        let at_once = self.images_at_once(expected);
        if x_t.len() <= at_once {
            return self.predict_at_once(x_t, timesteps);
        }
        let mut predicted = Vec::with_capacity(x_t.data().len());
        for (part, timesteps) in timesteps.chunks(at_once).enumerate() {
            let first = part * at_once;
            let images = x_t.slice(first..first + timesteps.len());
            predicted.extend_from_slice(self.predict_at_once(&images, timesteps)?.data());
        }
        Images::from_vec(x_t.shape(), predicted)
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }
}

/// `[N, C, H, W]` on the host to `[N, H, W, C]` on a device.
pub(crate) fn to_device(images: &Images, device: &Device) -> Tensor<4> {
    let [n, c, h, w] = images.shape();
    let values = transpose_images(images.data(), c, h * w);
    Tensor::from_data(TensorData::new(values, [n, h, w, c]), device)
}

/// `[N, H, W, C]` on a device to `[N, C, H, W]` on the host.
pub(crate) fn from_device(x: Tensor<4>, shape: [usize; 4]) -> Result<Images> {
    let values = x
        .into_data()
        .try_into_vec::<f32>()
        .map_err(|error| Error::invalid("device", format!("returned no f32 values: {error:?}")))?;
    let [_, c, h, w] = shape;
    Images::from_vec(shape, transpose_images(&values, h * w, c))
}

/// Each image from `[rows, columns]` to `[columns, rows]`.
fn transpose_images(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for image in values.chunks_exact((rows * columns).max(1)) {
        for column in 0..columns {
            out.extend(image[column..].iter().step_by(columns));
        }
    }
    out
}
