//! A UNet as a denoiser: host images in, host predictions out.

use super::UNet;
use super::ops::{has_kernels, on_the_pool};
use crate::denoiser::{Denoiser, Prediction};
use crate::error::{Error, Result};
use crate::images::Images;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

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
    fn images_at_once(&self) -> usize {
        let [_, h, w] = self.unet.config().patched_size();
        match has_kernels(&self.device) {
            true => (KERNEL_PIXELS / (h * w)).max(1),
            false => usize::MAX,
        }
    }

    fn predict_at_once(&self, x_t: &Images, timesteps: &[usize]) -> Result<Images> {
        let predict = || {
            let patch_size = self.unet.config().patch_size;
            let x = to_device(x_t, patch_size, &self.device);
            from_device(self.unet.forward(x, timesteps, None), patch_size, x_t.shape())
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
        let at_once = self.images_at_once();
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

/// `[N, C, H, W]` on the host to `[N, H/p, W/p, C·p²]` on a device, patches of `patch_size` p as
/// pixels.
pub(crate) fn to_device(images: &Images, patch_size: usize, device: &Device) -> Tensor<4> {
    let [n, c, h, w] = images.shape();
    let patches = Patches { shape: [c, h, w], side: patch_size };
    let mut values = vec![0.0; images.data().len()];
    let size = images.image_len().max(1);
    values
        .par_chunks_exact_mut(size)
        .zip(images.data().par_chunks_exact(size))
        .for_each(|(there, here)| patches.visit(|from, to| there[to] = here[from]));
    let shape = [n, h / patch_size, w / patch_size, c * patch_size * patch_size];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The way back, to images of `shape` `[N, C, H, W]`.
pub(crate) fn from_device(x: Tensor<4>, patch_size: usize, shape: [usize; 4]) -> Result<Images> {
    let values = x
        .into_data()
        .try_into_vec::<f32>()
        .map_err(|error| Error::invalid("device", format!("returned no f32 values: {error:?}")))?;
    let [_, c, h, w] = shape;
    let patches = Patches { shape: [c, h, w], side: patch_size };
    let mut images = Images::zeros(shape);
    let size = images.image_len().max(1);
    images
        .data_mut()
        .par_chunks_exact_mut(size)
        .zip(values.par_chunks_exact(size))
        .for_each(|(here, there)| patches.visit(|to, from| here[to] = there[from]));
    Ok(images)
}

/// Where the values of an image lie once its patches are pixels.
#[derive(Clone, Copy)]
struct Patches {
    /// `[C, H, W]`.
    shape: [usize; 3],
    side: usize,
}

impl Patches {
    /// Calls `visit` with every index into `[C, H, W]` and the one into `[H/p, W/p, C, p, p]`.
    fn visit(self, mut visit: impl FnMut(usize, usize)) {
        let ([c, h, w], p) = (self.shape, self.side);
        for channel in 0..c {
            for y in 0..h {
                let row = (channel * h + y) * w;
                let there = (y / p * (w / p) * c + channel) * p * p + y % p * p;
                for patch in 0..w / p {
                    let there = there + patch * c * p * p;
                    (0..p).for_each(|x| visit(row + patch * p + x, there + x));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::SeededNoise;
    use crate::unet::UNetConfig;
    use proptest::prelude::*;

    fn numbered(shape: [usize; 4]) -> Images {
        let n = shape.iter().product::<usize>();
        Images::from_vec(shape, (0..n).map(|k| k as f32).collect()).unwrap()
    }

    #[test]
    fn a_patch_becomes_a_pixel_with_its_channels_together() {
        let images = numbered([1, 2, 2, 4]);
        let x = to_device(&images, 2, &Device::flex());
        assert_eq!(x.dims(), [1, 1, 2, 8]);
        let values = x.into_data().try_into_vec::<f32>().unwrap();
        // Channel by channel, rows within: as PyTorch's pixel_unshuffle numbers them.
        let expected = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];
        assert_eq!(values, expected.map(|k| k as f32));
    }

    proptest! {
        #[test]
        fn patches_come_back(n in 0usize..3, c in 1usize..4, rows in 1usize..4, columns in 1usize..4, p in 1usize..5) {
            let images = numbered([n, c, rows * p, columns * p]);
            let there = to_device(&images, p, &Device::flex());
            prop_assert_eq!(from_device(there, p, images.shape()).unwrap(), images);
        }
    }

    #[test]
    fn what_is_predicted_does_not_depend_on_the_passes() {
        let config = UNetConfig {
            image_size: [3, 128, 128],
            num_steps: 10,
            patch_size: 2,
            ch: 32,
            ch_mult: vec![1, 1],
            attn: vec![],
            num_res_blocks: 1,
            ..UNetConfig::default()
        };
        let device = Device::flex();
        let unet = UNet::init(&config, 1, &device).unwrap();
        let network = Network::new(unet, Prediction::Epsilon, device);
        let at_once = network.images_at_once();
        assert_eq!(at_once, 16);
        let images = SeededNoise { seed: 2, first_image: 0 }.x_t(at_once + 1, config.image_size);
        let timesteps = vec![3; images.len()];
        let together = network.predict(&images, &timesteps).unwrap();
        for k in [0, at_once - 1, at_once] {
            let alone = network.predict(&images.slice(k..k + 1), &timesteps[..1]).unwrap();
            assert_eq!(alone.data(), together.image(k));
        }
    }
}
