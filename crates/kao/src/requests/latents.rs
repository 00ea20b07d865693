//! What a file of noise says of the pictures that were encoded to it.

use crate::error::shortened;
use crate::formats::Metadata;
use crate::model::Model;
use crate::sampler::SamplingConfig;

/// The entry of the metadata by which encoded pictures are told from other noise: their names.
pub(super) const ENCODED: &str = "encoded";

/// What differs between how pictures were encoded, as the file of their noise says, and how `sampling`
/// is about to decode them; none where nothing does, or the noise is of no pictures.
pub(super) fn decoded_otherwise(
    metadata: &Metadata,
    model: &Model,
    sampling: &SamplingConfig,
) -> Option<String> {
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
