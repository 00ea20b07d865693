//! Kao trains and samples denoising diffusion models (DDPM, DDIM) of small images.
#![forbid(unsafe_code)]

pub mod error;
pub mod images;

pub use error::{Error, ErrorKind, Result};
pub use images::Images;
