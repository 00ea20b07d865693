//! One sampling run: from a configuration to images, and to the snapshots of a strip.

use crate::control::Control;
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::model::Model;
use crate::sampler::{Generation, SamplingConfig, Snapshots, SnapshotsConfig, Start};

/// A sampling run.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleConfig {
    /// How to go from noise to images.
    pub sampling: SamplingConfig,
    /// Images per pass through the network.
    pub batch_size: usize,
    /// What to keep of the process.
    pub snapshots: Option<SnapshotsConfig>,
}

impl Default for SampleConfig {
    /// 16 images at a time.
    fn default() -> Self {
        SampleConfig { sampling: SamplingConfig::default(), batch_size: 16, snapshots: None }
    }
}

/// What came of a sampling run.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The images, `[N, C, H, W]`, not clamped to [-1, 1].
    pub images: Images,
    /// The snapshots of the process, noise first; empty where none were asked for.
    pub snapshots: Vec<Images>,
}

/// Samples from `model`.
///
/// # Errors
/// When the configuration does not fit the model, the start does not fit the timestep sequence, or
/// `control` stops the run.
pub fn sample_images(
    model: &Model,
    config: &SampleConfig,
    start: &Start,
    control: &dyn Control,
) -> Result<Sampled> {
    let plan = config.sampling.plan(&model.schedule)?;
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
    let mut snapshots = match config.snapshots {
        None => None,
        Some(config) => {
            config.validate()?;
            Some(Snapshots::new(config, plan.steps().len(), start))
        }
    };
    let generation = Generation {
        denoiser: &model.network,
        plan: &plan,
        start,
        conditions: &Conditions::none(),
        batch_size: config.batch_size,
    };
    let images = generation.run(
        &mut |first, observation| {
            if let Some(snapshots) = &mut snapshots {
                snapshots.record(first, &observation);
            }
        },
        control,
    )?;
    Ok(Sampled { images, snapshots: snapshots.map(Snapshots::into_frames).unwrap_or_default() })
}
