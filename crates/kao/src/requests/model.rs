//! The model of a request.

use crate::control::{Control, Report};
use crate::device::Device;
use crate::error::Result;
use crate::model::{self, BUILT_IN, CheckpointWeights, LoadOptions, Model, ModelConfig};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSource {
    /// A Kao model, a run directory or one of its checkpoints, a folder of diffusers, a repository
    /// of a hub (`hf:OWNER/NAME`), or a checkpoint of another program; without it the built-in model.
    pub path: Option<PathBuf>,
    /// Of a file with two sets of weights, the raw weights in place of their average.
    pub raw_weights: bool,
}

impl ModelSource {
    /// The model at `path`, as it is usually read.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        ModelSource { path: Some(path.into()), raw_weights: false }
    }

    /// What the model is called in texts.
    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| BUILT_IN.to_owned(), |path| path.display().to_string())
    }

    /// The configuration; the weights are not read.
    ///
    /// # Errors
    /// When the file cannot be read, or is no model.
    pub fn config(&self) -> Result<ModelConfig> {
        ModelConfig::of(self.path())
    }

    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(BUILT_IN))
    }

    /// Looks whether the file can hold a model at all, before what else may be wrong. A repository
    /// of a hub is fetched first.
    pub(super) fn check(&self, control: &dyn Control) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        model::fetch_if_needed(path, control)?;
        model::check(path)
    }

    /// Loads the model; what is worth knowing of how it was read is reported.
    ///
    /// # Errors
    /// When the file cannot be read, is no model, or `control` stops the work.
    pub fn load(&self, device: &Device, control: &dyn Control) -> Result<Model> {
        if self.path.is_none() {
            return Model::built_in(device);
        }
        let weights = match self.raw_weights {
            true => CheckpointWeights::Raw,
            false => CheckpointWeights::Average,
        };
        let options = LoadOptions { weights, ..LoadOptions::default() };
        model::fetch_if_needed(self.path(), control)?;
        let model = Model::load_with(self.path(), &options, device)?;
        report_notes(&model, control)?;
        Ok(model)
    }

    /// Reports which model is used, where none is named.
    pub(super) fn report_default(&self, control: &dyn Control) -> Result<()> {
        match &self.path {
            None => {
                let message = "no model is named: this is the built-in one, trained on faces that \
                               Kao drew";
                control.check(&Report::message("loading", message))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Reports what is worth knowing of how a model was read.
pub(super) fn report_notes(model: &Model, control: &dyn Control) -> Result<()> {
    for note in &model.notes {
        control.check(&Report::message("loading", &format!("note: {note}")))?;
    }
    Ok(())
}
