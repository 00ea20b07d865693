//! A model: a network with everything that is needed to sample from it, in one file.
//!
//! This is where the configuration in a file's metadata meets the tensors in it. Kao's own files
//! carry the configuration as JSON under the key `kao`; what files of other programs say is for the
//! importers in [`import`] to know, one for each origin, and [`export`] writes theirs. `metadata` has the keys and the format
//! versions of Kao's own files, `folder` the files of a folder of diffusers, and `place` knows what a
//! user may name as a model.

mod config;
pub mod export;
mod folder;
pub mod import;
mod load;
pub(crate) mod metadata;
mod place;
mod save;

pub use config::ModelConfig;
pub use folder::is_one as is_diffusers_folder;
pub use import::{CheckpointWeights, compare};
pub use load::{LoadOptions, Model};
pub use place::{
    BUILT_IN, BUILT_IN_GUIDE, RUN_MODEL, check, fetch_if_needed, is_built_in, model_file, peek,
};
pub use save::save;
