//! Training: the loop and its parts.

pub mod adam;
pub mod objective;
