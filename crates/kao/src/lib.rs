//! Kao trains and samples denoising diffusion models (DDPM, DDIM, DPM-Solver++) of small images, on
//! a CPU first.
//!
//! Sampling from a model file:
//!
//! ```no_run
//! use kao::control::Unattended;
//! use kao::device::DeviceKind;
//! use kao::experiments::{SampleConfig, sample_images};
//! use kao::model::Model;
//! use kao::sampler::Start;
//!
//! # fn main() -> kao::Result<()> {
//! let model = Model::load("model.safetensors", &DeviceKind::Cpu.open()?)?;
//! let start = Start::Seed { seed: 999, count: 16, image_shape: model.config.unet.image_size };
//! let sampled = sample_images(&model, &SampleConfig::default(), &start, &Unattended)?;
//! assert_eq!(sampled.images.len(), 16);
//! # Ok(())
//! # }
//! ```
//!
//! Samplers know a network only as a [`denoiser::Denoiser`], so that any network can be sampled
//! with a [`sampler::Plan`]. The rooms and their borders are in ARCHITECTURE.md of the repository.
#![forbid(unsafe_code)]

pub mod control;
pub mod dataset;
pub mod denoiser;
pub mod device;
pub mod draw;
pub mod error;
pub mod eval;
pub mod experiments;
pub mod files;
pub mod formats;
pub mod guidance;
pub mod images;
pub mod locks;
pub mod model;
mod named;
pub mod noise;
pub mod quantities;
pub mod render;
pub mod sampler;
pub mod schedule;
pub mod timesteps;
pub mod train;
pub mod unet;
pub mod vocabulary;

pub use error::{Error, ErrorKind, Result};
pub use images::Images;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeExamples;
