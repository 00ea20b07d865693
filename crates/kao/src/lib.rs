//! Kao trains and samples denoising diffusion models (DDPM, DDIM, DPM-Solver++) of small images, on
//! a CPU first.
//!
//! Sampling from a model file:
//!
//! ```no_run
//! use kao::device::DeviceKind;
//! use kao::model::Model;
//! use kao::requests::Sample;
//!
//! # fn main() -> kao::Result<()> {
//! let model = Model::load("model.safetensors", &DeviceKind::Cpu.open()?)?;
//! let sampled = Sample::from(&model).seed(7).count(16).steps(20).run()?;
//! assert_eq!(sampled.images.len(), 16);
//! # Ok(())
//! # }
//! ```
//!
//! The same as plain data, which can come from a file or over a network, and reports its progress:
//!
//! ```no_run
//! use kao::control::Unattended;
//! use kao::requests::{Request, Sample};
//!
//! # fn main() -> kao::Result<()> {
//! let request = Sample::from_json(r#"{ "sampler": "ddim", "steps": 50, "out": "grid.png" }"#)?;
//! let sampled = request.run(&Unattended)?;
//! println!("{}", sampled.summary());
//! println!("again: {}", request.command_line()?);
//! # Ok(())
//! # }
//! ```
//!
//! There is a request for each task, see [`requests`]. Samplers know a network only as a
//! [`denoiser::Denoiser`], so that any network can be sampled, see [`sampler::Plan`]. The modules and
//! their borders are in ARCHITECTURE.md of the repository.
#![forbid(unsafe_code)]

pub mod control;
pub mod dataset;
pub mod denoiser;
pub mod device;
pub mod draw;
pub mod error;
pub mod eval;
pub mod files;
pub mod formats;
pub mod guidance;
pub mod hub;
pub mod images;
pub mod locks;
pub mod memory;
pub mod model;
pub mod named;
pub mod noise;
pub mod quantities;
pub mod ranks;
pub mod render;
pub mod requests;
pub mod sampler;
pub mod schedule;
pub mod shard;
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
