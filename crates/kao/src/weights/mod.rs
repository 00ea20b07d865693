//! Files to named tensors and back.
//!
//! Every format is one file here and ends in the same thing: named tensors on the host and the
//! metadata that came with them. This room knows no model: it does not know which names a UNet
//! has, nor what a configuration means. [`LoadReport`] compares what a file holds with what
//! somebody expects.
//!
//! Files are taken to be hostile. Every size that a file declares is checked against the size
//! the file really has before memory is taken, what a few bytes can ask for is limited
//! (`limits.rs`), nothing in a pickle is ever called, and no input panics.

mod archive;
mod atomic;
mod file;
mod limits;
mod pickle;
mod report;
mod safetensors;
mod state_dicts;
mod tensor;
mod torch_file;
mod torch_tensor;

pub use self::safetensors::{StoreAs, stream_safetensors, write_safetensors};
pub use atomic::{atomic_write, prepare_path, remove_leftovers};
pub use file::{
    Contents, Format, Metadata, SETTINGS, WeightsFile, check, peek, peek_embedded, read,
    read_embedded,
};
pub use report::{LoadReport, Missing, WrongShape};
pub use tensor::{Dtype, HostTensor, NamedTensors, TensorInfo, TensorView};

#[cfg(test)]
mod tests;
