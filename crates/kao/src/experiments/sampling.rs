//! One sampling run: from a configuration as a user writes it to images, and to the moments of a
//! strip.

use crate::error::{Error, Result};
use crate::images::Images;
use crate::model::Model;
use crate::sampler::{Method, Progress, SamplerConfig, Start, Variance, generate};
use crate::timesteps::{self, End, Spacing, Step};

/// Which sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// Song et al. 2021.
    Ddim,
    /// DPM-Solver++, Lu et al. 2022.
    DpmPlusPlus,
    /// Ho et al. 2020.
    Ddpm,
}

/// A sampling run.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleConfig {
    /// Which sampler.
    pub sampler: SamplerKind,
    /// Steps of the walk; by default all T with DDPM and 20 with the others.
    pub n_steps: Option<usize>,
    /// η of DDIM and DPM-Solver++.
    pub eta: f64,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// Where the walk ends; by default as the spacing has it.
    pub end: Option<End>,
    /// Variance of DDPM.
    pub variance: Variance,
    /// Whether DDPM draws noise in its last step too.
    pub final_noise: bool,
    /// Whether x̂_0 is held within `[-1, 1]`.
    pub clip: bool,
    /// Images per pass through the network.
    pub batch_size: usize,
    /// What to keep of the process.
    pub moments: Option<MomentsConfig>,
}

impl Default for SampleConfig {
    /// DPM-Solver++, 20 steps, η = 0, trailing, 16 images at a time.
    fn default() -> Self {
        SampleConfig {
            sampler: SamplerKind::DpmPlusPlus,
            n_steps: None,
            eta: 0.0,
            spacing: Spacing::Trailing,
            end: None,
            variance: Variance::Posterior,
            final_noise: false,
            clip: false,
            batch_size: 16,
            moments: None,
        }
    }
}

impl SampleConfig {
    /// Steps of the walk over a schedule of `n_timesteps`.
    pub fn steps(&self, n_timesteps: usize) -> usize {
        const FEW: usize = 20;
        self.n_steps.unwrap_or(match self.sampler {
            SamplerKind::Ddim | SamplerKind::DpmPlusPlus => FEW.min(n_timesteps),
            SamplerKind::Ddpm => n_timesteps,
        })
    }

    /// The walk over a schedule of `n_timesteps`.
    ///
    /// # Errors
    /// When there are more steps than timesteps, or none.
    pub fn walk(&self, n_timesteps: usize) -> Result<Vec<Step>> {
        let end = self.end.unwrap_or(self.spacing.default_end());
        timesteps::walk(self.spacing, self.steps(n_timesteps), n_timesteps, end)
    }

    /// The sampler of the run.
    pub fn sampler_config(&self) -> SamplerConfig {
        let method = match self.sampler {
            SamplerKind::Ddim => Method::Ddim { eta: self.eta },
            SamplerKind::DpmPlusPlus => Method::DpmPlusPlus { eta: self.eta },
            SamplerKind::Ddpm => {
                Method::Ddpm { variance: self.variance, final_noise: self.final_noise }
            }
        };
        SamplerConfig { method, clip: self.clip }
    }

    /// The run in a few words: `DPM-Solver++ 20 steps`, `DDIM 10 steps η 1`.
    pub fn summary(&self, n_timesteps: usize) -> String {
        let name = match self.sampler {
            SamplerKind::Ddim => "DDIM",
            SamplerKind::DpmPlusPlus => "DPM-Solver++",
            SamplerKind::Ddpm => "DDPM",
        };
        let n_steps = self.steps(n_timesteps);
        let steps = if n_steps == 1 { "step" } else { "steps" };
        match self.eta {
            0.0 => format!("{name} {n_steps} {steps}"),
            eta => format!("{name} {n_steps} {steps} η {eta}"),
        }
    }

    /// The run in words, as keys and values for a picture's text chunks.
    pub fn describe(&self, n_timesteps: usize) -> Vec<(&'static str, String)> {
        let mut words = vec![
            ("sampler", self.sampler_config().method.name().to_owned()),
            ("steps", self.steps(n_timesteps).to_string()),
        ];
        match self.sampler {
            SamplerKind::Ddim | SamplerKind::DpmPlusPlus => {
                words.push(("eta", self.eta.to_string()));
            }
            SamplerKind::Ddpm => {
                words.push(("variance", format!("{:?}", self.variance).to_lowercase()));
            }
        }
        words.push(("spacing", format!("{:?}", self.spacing).to_lowercase()));
        let end = match self.end.unwrap_or(self.spacing.default_end()) {
            End::Clean => "clean",
            End::FirstTimestep => "first-timestep",
        };
        words.push(("end", end.to_owned()));
        words.push(("clip", self.clip.to_string()));
        words
    }
}

/// Which images and moments of the process a strip shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MomentsConfig {
    /// The first so many images.
    pub n_images: usize,
    /// So many moments, spread evenly from x_T to x_0.
    pub n_moments: usize,
}

impl Default for MomentsConfig {
    /// 6 images at 15 moments, as the original.
    fn default() -> Self {
        MomentsConfig { n_images: 6, n_moments: 15 }
    }
}

/// What a sampling run made.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// x_0, `[N, C, H, W]`, unclipped.
    pub images: Images,
    /// The states of the first images at the moments asked for, noisiest first.
    pub moments: Vec<Images>,
}

/// Is told after each step how many of all image-steps are done; an error from it ends the run.
pub type Watcher<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// Samples from `model`.
///
/// # Errors
/// When the configuration does not fit the model, the start does not fit the walk, or the watcher
/// ends the run.
pub fn sample_images(
    model: &Model,
    config: &SampleConfig,
    start: &Start,
    watcher: &mut Watcher<'_>,
) -> Result<Sampled> {
    let walk = config.walk(model.schedule.n_timesteps())?;
    if let Start::Given { x_t, .. } | Start::Noised { x_t, .. } = start
        && x_t.image_shape() != model.config.unet.image_size
    {
        return Err(Error::invalid(
            "noise",
            format!(
                "`x_T` holds images of shape {:?}; the model makes {:?}",
                x_t.image_shape(),
                model.config.unet.image_size
            ),
        ));
    }
    if let Some(MomentsConfig { n_images, n_moments }) = config.moments {
        for (what, n) in [("strip images", n_images), ("strip moments", n_moments)] {
            if n == 0 {
                return Err(Error::out_of_range(what, 0, "at least 1"));
            }
        }
    }
    let total = walk.len().saturating_mul(start.count()) as u64;
    let mut moments = config.moments.map(|config| Moments::new(config, walk.len(), start));
    let mut done = 0;
    let images = generate(
        &model.network,
        &model.schedule,
        &walk,
        config.sampler_config(),
        start,
        config.batch_size,
        &mut |first, progress| {
            done += progress.x.len() as u64;
            if let Some(moments) = &mut moments {
                moments.record(first, &progress);
            }
            watcher(done, total)
        },
    )?;
    let moments = moments.map(|moments| moments.frames).unwrap_or_default();
    Ok(Sampled { images, moments })
}

/// Collects states of the first images.
struct Moments {
    /// After how many steps each frame is taken; 0 is x_T.
    after_steps: Vec<usize>,
    frames: Vec<Images>,
}

impl Moments {
    fn new(config: MomentsConfig, n_steps: usize, start: &Start) -> Self {
        let n_images = config.n_images.min(start.count());
        // There are no more than the start and what each step arrives at.
        let n_moments = config.n_moments.min(n_steps + 1);
        let last = n_moments.saturating_sub(1).max(1);
        // One moment alone is the result.
        let mut after_steps: Vec<usize> = match n_moments {
            1 => vec![n_steps],
            n => (0..n).map(|moment| (moment * n_steps + last / 2) / last).collect(),
        };
        after_steps.dedup();
        let x_t = match start {
            Start::Seed { seed, image_shape, .. } => {
                crate::noise::SeededNoise { seed: *seed, first_image: 0 }
                    .x_t(n_images, *image_shape)
            }
            Start::Given { x_t, .. } | Start::Noised { x_t, .. } => x_t.slice(0..n_images),
        };
        let frames = vec![x_t; after_steps.len()];
        Moments { after_steps, frames }
    }

    fn record(&mut self, first: usize, progress: &Progress<'_>) {
        for (frame, &after) in self.frames.iter_mut().zip(&self.after_steps) {
            if after == progress.step_index + 1 {
                let end = frame.len().min(first + progress.x.len());
                for image in first..end {
                    frame.image_mut(image).copy_from_slice(progress.x.image(image - first));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_from_noise_to_image() {
        let start = Start::Seed { seed: 0, count: 10, image_shape: [1, 2, 2] };
        let after = |n_moments, n_steps| {
            Moments::new(MomentsConfig { n_images: 6, n_moments }, n_steps, &start).after_steps
        };
        assert_eq!(after(3, 10), [0, 5, 10]);
        assert_eq!(after(15, 5), [0, 1, 2, 3, 4, 5]);
        assert_eq!(after(1, 10), [10]);
        assert_eq!(after(usize::MAX, 3), [0, 1, 2, 3]);
        let many = after(15, 1000);
        assert_eq!((many[0], many[14], many.len()), (0, 1000, 15));
    }
}
