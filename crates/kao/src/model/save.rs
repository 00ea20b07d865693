//! Writing models: one safetensors file, with the configuration as JSON in its metadata.

use super::config::ModelConfig;
use super::metadata;
use crate::error::{Error, Result};
use crate::formats::{NamedTensors, StoreAs, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes `tensors` with `config` as one model file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save(
    path: &Path,
    config: &ModelConfig,
    tensors: &NamedTensors,
    store_as: StoreAs,
) -> Result<()> {
    let json = serde_json::to_string(config).map_err(|error| Error::malformed(path, error))?;
    let texts = BTreeMap::from([(metadata::MODEL.to_owned(), json)]);
    write_safetensors(path, tensors.views(), &texts, store_as)
}
