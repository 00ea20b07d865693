//! What a file of noise says of the pictures that were encoded to it.

use super::other_noise::OtherNoise;
use crate::control::{Control, Report};
use crate::error::{Result, shortened};
use crate::formats::{self, Metadata};
use crate::model::{Model, ModelConfig};
use crate::sampler::{DefaultGuide, SamplingConfig};
use std::path::Path;

/// The entry of the metadata by which encoded pictures are told from other noise: their names.
pub(super) const ENCODED: &str = "encoded";

/// Warns where the noise in the file at `path` is of pictures that were encoded otherwise than
/// `sampling` with `model` decodes them: they come back the less exactly.
///
/// # Errors
/// When the file cannot be read, or `control` stops the work.
pub(super) fn warn_of_differences(
    path: &Path,
    model: &Model,
    sampling: &SamplingConfig,
    control: &dyn Control,
) -> Result<()> {
    let metadata = formats::peek(path)?.metadata;
    let Some(differences) = differences(&metadata, model, sampling) else { return Ok(()) };
    let path = path.display();
    let message = format!("warning: `{path}` was encoded otherwise: {differences}");
    control.check(&Report::message("sampling", &message))
}

/// The guide that a model of this configuration has by default, where images come from the noise in
/// the file `noise`: none for that of encoded pictures, which leads back to them without a guide
/// alone.
pub(super) fn default_guide(model: &ModelConfig, noise: Option<&Path>) -> Option<DefaultGuide> {
    let is_encoded = |path: &Path| {
        // What cannot be read is told when the noise is read.
        formats::peek(path).is_ok_and(|contents| contents.metadata.get(ENCODED).is_some())
    };
    let noise = noise.filter(|path| OtherNoise::of(path).is_none());
    model.sampling.guide.filter(|_| !noise.is_some_and(is_encoded))
}

/// What differs; none where nothing does, or the noise is of no pictures.
fn differences(metadata: &Metadata, model: &Model, sampling: &SamplingConfig) -> Option<String> {
    metadata.get(ENCODED)?;
    let here = sampling.describe(model.schedule.n_timesteps()).into_iter();
    // What a sampler costs follows from the rest.
    let here = here.filter(|(key, _)| key != "evaluations");
    let here = here.chain([("model_fingerprint".to_owned(), model.fingerprint())]);
    let differs = |(key, here): (String, String)| {
        let there = metadata.get(&key).and_then(|value| value.as_str()).unwrap_or("none");
        (there != here).then(|| match key.as_str() {
            "model_fingerprint" => "another model".to_owned(),
            _ => format!("`{key}` {here} in place of {}", shortened(there, 40)),
        })
    };
    let differences: Vec<String> = here.filter_map(differs).collect();
    (!differences.is_empty()).then(|| differences.join(", "))
}
