//! What Kao's own files say of themselves: the keys of their metadata, the names of their tensors,
//! and the versions of their formats.

use crate::error::{Error, Result};
use crate::formats::Metadata;
use std::path::Path;

/// The key under which a model has its configuration, as JSON.
pub const MODEL: &str = "kao";

/// The key under which a folder of diffusers has what its JSON files say.
pub const FOLDER: &str = "diffusers";

/// The key under which a checkpoint of a run, which is no model, has its position, as JSON.
pub const CHECKPOINT: &str = "kao.checkpoint";

/// The key of a checkpoint's checksum.
pub const CHECKPOINT_CHECKSUM: &str = "kao.sha256";

/// The key of a checkpoint's format version; without it, the version is 1.
const CHECKPOINT_FORMAT_KEY: &str = "kao.checkpoint_format";

/// The version of checkpoints that this program writes. It increases with every change that an older
/// Kao would misread without noticing. Entries added to the configuration need no new version: an
/// older Kao refuses names that it does not know.
const CHECKPOINT_FORMAT: u64 = 2;

/// The prefix of the names of a checkpoint's weights.
pub const WEIGHTS_PREFIX: &str = "weights.";

/// The prefix of the names of their moving average.
pub const AVERAGE_PREFIX: &str = "ema.";

/// The prefix of the names of Adam's first moments.
pub const FIRST_MOMENT_PREFIX: &str = "adam.first.";

/// The prefix of the names of Adam's second moments.
pub const SECOND_MOMENT_PREFIX: &str = "adam.second.";

/// The entry of the metadata that says of which version a new checkpoint is.
pub fn checkpoint_format() -> (String, String) {
    (CHECKPOINT_FORMAT_KEY.to_owned(), CHECKPOINT_FORMAT.to_string())
}

/// Checks that the checkpoint at `path` is of a version that this program knows.
///
/// # Errors
/// When it is of a newer one.
pub fn check_checkpoint_format(path: &Path, metadata: &Metadata) -> Result<()> {
    let Some(format) = metadata.get(CHECKPOINT_FORMAT_KEY).and_then(|format| format.as_str())
    else {
        return Ok(());
    };
    match format.parse::<u64>() {
        Ok(format) if format <= CHECKPOINT_FORMAT => Ok(()),
        Ok(format) => {
            let known = CHECKPOINT_FORMAT;
            let problem =
                format!("its format version is {format}; this Kao reads versions up to {known}");
            Err(newer_checkpoint(path, problem))
        }
        Err(_) => Err(Error::malformed(path, "its format version is not a number")),
    }
}

/// The checkpoint at `path` is sound, but of a newer version of Kao.
pub fn newer_checkpoint(path: &Path, problem: String) -> Error {
    Error::newer(path, problem).with_hint("a newer Kao wrote it: resume the run with that version")
}
