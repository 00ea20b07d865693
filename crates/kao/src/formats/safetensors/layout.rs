//! What readers and writers of safetensors share.

/// The entry of a header that is no tensor.
pub const METADATA: &str = "__metadata__";

/// Bytes of the number before the header: its length.
pub const LENGTH_BYTES: u64 = 8;

/// Bytes that are read or written at a time; a multiple of every value's size.
pub const CHUNK_BYTES: usize = 1 << 18;
