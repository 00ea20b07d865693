//! PyTorch's files: zip archives with a pickle that describes tensors, and their values beside it.
//!
//! [`mod@file`] reads a whole file, with [`archive`] for the zip, [`pickle`] for the pickle,
//! [`state_dicts`] for which of its dictionaries hold tensors, [`tensor`] for what a tensor is in
//! it, and [`settings`] for everything else that it says.

mod archive;
mod file;
mod pickle;
mod settings;
mod state_dicts;
mod tensor;

pub use file::TorchFile;

#[cfg(test)]
mod tests;
