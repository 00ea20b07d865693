//! The safetensors format: a JSON header with names, types, shapes and offsets, then the values.
//!
//! The header's types come from the `safetensors` crate. Reading and writing stream here, so
//! that a model is never held twice, and every error names the tensor and the numbers.

mod header;
mod layout;
mod read;
mod write;

pub(super) use read::SafetensorsFile;
pub use write::{StoreAs, stream_safetensors, write_safetensors};
