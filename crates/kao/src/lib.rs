//! Kao trains and samples denoising diffusion models (DDPM, DDIM) of small images.
#![forbid(unsafe_code)]

pub mod dataset;
pub mod denoiser;
pub mod device;
pub mod draw;
pub mod error;
pub mod experiments;
pub mod images;
pub mod model;
pub mod noise;
pub mod render;
pub mod sampler;
pub mod schedule;
pub mod timesteps;
pub mod train;
pub mod unet;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
pub use images::Images;
