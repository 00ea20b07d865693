//! Samplers: from noise to images.
//!
//! A sampling method is a type with its own settings, in a file of its own, and implements
//! [`Method`]; [`Sampler`] is any of them, by name. [`SamplingConfig`] says which method goes along
//! which timesteps, and becomes a [`Plan`] for one noise schedule: whatever does not fit shows
//! there, before the first step. [`Plan::sample`] takes one batch of noise to images, and
//! [`Generation`] any number of images, batch by batch.
//!
//! Samplers know a network only as a [`Denoiser`](crate::denoiser::Denoiser). The state is `f32` on
//! the host, all arithmetic on it `f64`.

mod config;
mod ddim;
mod ddpm;
mod defaults;
mod dpm;
mod dpm_3m;
mod dpm_sde;
mod euler;
mod euler_ancestral;
mod generate;
mod heun;
mod inpaint;
mod inversion;
mod level;
mod method;
mod plan;
mod process;
mod registry;
mod snapshots;
mod unipc;

pub use config::SamplingConfig;
pub use ddim::{Ddim, check_eta};
pub use ddpm::{Ddpm, Variance};
pub use defaults::{DefaultGuide, GuideModel, SamplingDefaults, Thresholding};
pub use dpm::DpmPlusPlus;
pub use dpm_3m::DpmPlusPlus3M;
pub use dpm_sde::DpmPlusPlusSde;
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use generate::{Generation, Start};
pub use heun::Heun;
pub use inpaint::{Inpainting, Jumps, Known, Masked, Route};
pub use inversion::{Inversion, InversionConfig};
pub use method::{Description, Loop, Method};
pub use plan::{Batch, Plan};
pub use process::{DenoisedImages, Observation, Process, unobserved};
pub use registry::Sampler;
pub use snapshots::{SnapshotOf, Snapshots, SnapshotsConfig};
pub use unipc::UniPc;

#[cfg(test)]
mod solver_tests;
#[cfg(test)]
mod tests;
