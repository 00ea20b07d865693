//! A UNet as a denoiser: host images in, host predictions out.

use super::cpu;
#[cfg(feature = "gpu")]
use super::gpu;
use super::{NoisyImages, UNet};
use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::images::Images;

/// A network on a device, with what it predicts: satisfies the denoiser contract.
#[derive(Debug)]
pub struct Network {
    unet: UNet,
    prediction: Prediction,
    engine: Engine,
}

/// The weights as the device wants them.
#[derive(Debug)]
enum Engine {
    Cpu(cpu::Prepared),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Uploaded),
}

impl Network {
    /// Brings the weights of `unet` to `device`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(unet: UNet, prediction: Prediction, device: &Device) -> Result<Self> {
        let engine = match device {
            Device::Cpu => Engine::Cpu(cpu::Prepared::new(&unet)),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => Engine::Gpu(gpu::Uploaded::new(&unet, device)?),
        };
        Ok(Network { unet, prediction, engine })
    }

    /// The network within.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// The device that it runs on.
    pub fn device(&self) -> Device {
        match &self.engine {
            Engine::Cpu(_) => Device::Cpu,
            #[cfg(feature = "gpu")]
            Engine::Gpu(uploaded) => Device::Gpu(uploaded.device().clone()),
        }
    }

    /// Images of a pass. The CPU gains nothing from more, but the memory for feature maps grows; and
    /// no image knows which others it was computed with.
    fn images_at_once(&self) -> usize {
        match self.engine {
            Engine::Cpu(_) => self.unet.config().images_at_once(),
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => usize::MAX,
        }
    }

    #[cfg_attr(not(feature = "gpu"), expect(clippy::unnecessary_wraps))]
    fn predict_at_once(&self, images: NoisyImages<'_>) -> Result<Images> {
        match &self.engine {
            Engine::Cpu(prepared) => Ok(cpu::predict(&self.unet, prepared, images)),
            #[cfg(feature = "gpu")]
            Engine::Gpu(uploaded) => gpu::predict(&self.unet, uploaded, images),
        }
    }
}

impl Denoiser for Network {
    fn predict(
        &self,
        x_t: &Images,
        timesteps: &[usize],
        conditions: &Conditions,
    ) -> Result<Images> {
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
        let n_tags = self.unet.config().n_tags;
        let mut asked = (0..x_t.len()).flat_map(|k| conditions.of(k));
        if let Some(tag) = asked.find(|&&tag| tag >= n_tags) {
            return Err(Error::invalid(
                "conditions",
                format!("tag {tag} found; the model knows {n_tags} tags"),
            ));
        }
        let at_once = self.images_at_once();
        if x_t.len() <= at_once {
            return self.predict_at_once(NoisyImages { x_t, timesteps, conditions });
        }
        let mut predicted = Vec::with_capacity(x_t.data().len());
        for (part, timesteps) in timesteps.chunks(at_once).enumerate() {
            let first = part * at_once;
            let range = first..first + timesteps.len();
            let (x_t, conditions) = (&x_t.slice(range.clone()), &conditions.slice(range));
            let images = NoisyImages { x_t, timesteps, conditions };
            predicted.extend_from_slice(self.predict_at_once(images)?.data());
        }
        Images::from_vec(x_t.shape(), predicted)
    }

    fn prediction(&self) -> Prediction {
        self.prediction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::SeededNoise;
    use crate::unet::UNetConfig;

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
        let unet = UNet::init(&config, 1).unwrap();
        let network = Network::new(unet, Prediction::Epsilon, &Device::Cpu).unwrap();
        let at_once = network.images_at_once();
        assert_eq!(at_once, 16);
        let images = SeededNoise { seed: 2, first_image: 0 }.x_t(at_once + 1, config.image_size);
        let timesteps = vec![3; images.len()];
        let together = network.predict(&images, &timesteps, &Conditions::none()).unwrap();
        for k in [0, at_once - 1, at_once] {
            let alone = network
                .predict(&images.slice(k..k + 1), &timesteps[..1], &Conditions::none())
                .unwrap();
            assert_eq!(alone.data(), together.image(k));
        }
    }
}
