//! What one file may ask for.
//!
//! A few kilobytes can describe gigabytes: a name that is used two thousand times, a dictionary
//! that a hundred thousand others share, an archive that unpacks to a thousand times its size. So
//! everything that a file declares has a limit, far above what real files have and low enough that
//! no file takes more than a few seconds or a few hundred megabytes beyond its own size. Names and
//! shapes are checked before they are copied.

use crate::error::shortened;
use std::borrow::Cow;

/// Tensors in a file. Large image models have some thousand.
pub(super) const MAX_TENSORS: usize = 100_000;

/// Bytes of a tensor's name, and of the name of its storage.
pub(super) const MAX_NAME_BYTES: usize = 1024;

/// Dimensions of a tensor, as many as PyTorch allows.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// Bytes of a safetensors header. One of a thousand tensors takes 100 KB.
pub(super) const MAX_HEADER_BYTES: u64 = 32 << 20;

/// Bytes of a pickle, which holds names and settings; the values are elsewhere.
pub(super) const MAX_PICKLE_BYTES: u64 = 32 << 20;

/// Values in a pickle, and entries on the stack of its machine.
pub(super) const MAX_PICKLE_VALUES: usize = 4_000_000;

/// Bytes of memory that the values of a pickle may take, as far as they can be told in advance.
pub(super) const MAX_PICKLE_MEMORY: usize = 256 << 20;

/// Values of a pickle that may be visited in search of tensors and settings. What is shared is
/// visited as often as it is met.
pub(super) const MAX_PICKLE_VISITS: u64 = 16 << 20;

/// Values, and bytes of text, of all settings of a file together.
pub(super) const MAX_SETTINGS: usize = 1 << 20;

/// Bytes that may be read in search of an archive's directory, and in reading it.
pub(super) const MAX_DIRECTORY_BYTES: u64 = 32 << 20;

/// Bytes that a small archive may always unpack to. Beyond it, four times its own size.
pub(super) const FREE_ARCHIVE_BYTES: u64 = 64 << 20;

/// A name from a file, short enough for a message.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    shortened(name, 80)
}
