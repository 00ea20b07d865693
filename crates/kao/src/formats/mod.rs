//! Formats of weights: from the bytes of a file to named tensors and metadata, and back.
//!
//! Every format has a module of its own here and ends in the same thing: named tensors on the host
//! ([`NamedTensors`]) and what the file says besides ([`Metadata`]). [`read`](fn@read) and [`peek`]
//! recognise the format by the content. [`onnx`] is only written. [`LoadReport`] compares what a file holds with what somebody
//! expects. No model is known here: neither which names a UNet has nor what a configuration means
//! is the business of this module; that is [`model::import`](crate::model)'s.
//!
//! Files are taken to be hostile. Every size that a file declares is checked against the size
//! the file really has before memory is taken, what a few bytes can ask for is limited
//! (`limits.rs`), nothing in a pickle is ever called, and no input panics.

mod contents;
mod limits;
pub mod onnx;
mod read;
mod report;
mod safetensors;
mod source;
mod tensor;
mod torch;

pub use self::safetensors::{StoreAs, stream_safetensors, write_safetensors};
pub use contents::{Contents, Format, Metadata, SETTINGS, WeightsFile};
pub use read::{check, peek, peek_embedded, read, read_embedded};
pub use report::{LoadReport, Missing, WrongShape};
pub use tensor::{Dtype, HostTensor, NamedTensors, TensorInfo, TensorView};

#[cfg(test)]
mod tests;
