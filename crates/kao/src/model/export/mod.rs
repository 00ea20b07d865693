//! Models in the files of other programs.
//!
//! There is one file for each: `diffusers` writes folders that its pipelines open, `onnx` a graph for
//! runtimes. What cannot be said there is refused, with the entry that cannot be said.

mod diffusers;
mod onnx;

pub use diffusers::write_folder;
pub use onnx::write_onnx;
