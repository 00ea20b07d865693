//! Noise as other programs draw it, from PyTorch's generator for the CPU.

use super::noise_file::GivenNoise;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::memory;
use crate::named::names;
use crate::noise::torch::{MIN_VALUES, TorchGenerator};
use crate::sampler::Plan;
use crate::unet::UNetConfig;
use crate::unet::layers::{LayerKind, Layers};
use std::path::Path;

/// The images of the grid that the original's program samples, all from one noise.
const ORIGINAL_COUNT: usize = 256;

/// Whose noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherNoise {
    /// A pipeline of diffusers: x_T, then what each step draws, all images at once.
    Torch,
    /// The original's program: as much is drawn before x_T as its network and its tests take.
    Original,
}

names!(OtherNoise, "noise", { Torch => "torch", Original => "original" });

impl OtherNoise {
    /// What is named where a file of noise is asked for; a file of that name goes before it.
    pub fn of(path: &Path) -> Option<Self> {
        let noise = path.to_str()?.parse().ok()?;
        (!path.exists()).then_some(noise)
    }

    /// For how many images there is noise, where `count` are asked for.
    pub(super) fn count(self, count: usize) -> usize {
        match self {
            OtherNoise::Torch => count,
            OtherNoise::Original => ORIGINAL_COUNT,
        }
    }

    /// Draws it for `n` images.
    ///
    /// # Errors
    /// When the images are too small or too many, or the original's program would not have drawn it
    /// so.
    pub(super) fn draw(
        self,
        seed: u64,
        n: usize,
        unet: &UNetConfig,
        plan: &Plan,
    ) -> Result<GivenNoise> {
        let shape = unet.image_size;
        let n_values = shape.iter().product::<usize>().saturating_mul(n);
        if n_values < MIN_VALUES {
            let problem =
                format!("{n_values} values in all; PyTorch draws fewer than 16 otherwise");
            return Err(Error::invalid("noise", problem));
        }
        let mut generator = TorchGenerator::new(seed);
        let n_steps = match (self, plan.draws_noise()) {
            (_, false) => 0,
            (OtherNoise::Torch, true) => plan.steps().len(),
            (OtherNoise::Original, true) => {
                let problem =
                    "original: the noise of steps was drawn on a GPU, whose numbers are others";
                return Err(Error::invalid("noise", problem)
                    .with_hint("take a sampler without noise, such as DDIM with an eta of 0"));
            }
        };
        if self == OtherNoise::Original {
            generator.skip(draws_before(unet)?);
        }
        memory::check("noise", "so much noise", unet.image_bytes(n.saturating_mul(n_steps + 1)))?;
        let mut draw = || generator.images(n, shape);
        Ok(GivenNoise { x_t: draw(), z: (0..n_steps).map(|_| draw()).collect::<Vec<Images>>() })
    }
}

/// The numbers that the original's program draws before x_T: one for each weight and bias of a
/// convolution or linear layer, and a noise for its tests.
fn draws_before(unet: &UNetConfig) -> Result<u64> {
    let is_the_originals = UNetConfig {
        image_size: unet.image_size,
        num_steps: unet.num_steps,
        ch: unet.ch,
        ch_mult: unet.ch_mult.clone(),
        attn: unet.attn.clone(),
        num_res_blocks: unet.num_res_blocks,
        dropout: unet.dropout,
        ..UNetConfig::default()
    } == *unet;
    if !is_the_originals {
        let problem = "original: the model is not one that the original's program makes";
        return Err(Error::invalid("noise", problem));
    }
    let layers = Layers::new(unet).list;
    let drawn = layers.iter().filter(|layer| layer.kind != LayerKind::GroupNorm);
    let weights: u64 = drawn
        .map(|layer| layer.weight_shape().iter().product::<usize>() as u64 + layer.c_out as u64)
        .sum();
    let of_images = unet.image_size.iter().product::<usize>() * ORIGINAL_COUNT;
    Ok(weights + of_images as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_draws_so_many_before() {
        // Counted in the original's program.
        let drawn = draws_before(&UNetConfig::default()).unwrap();
        assert_eq!(drawn, 25_281_795 + 3_145_728);
        let other = UNetConfig { patch_size: 2, ..UNetConfig::default() };
        assert!(draws_before(&other).is_err());
    }
}
