//! Classifiers in files: one safetensors file, with the configuration as JSON in its metadata.

use super::{Classifier, ClassifierConfig};
use crate::error::{Error, Result};
use crate::formats::{self, StoreAs, TensorView, WeightsFile};
use std::collections::BTreeMap;
use std::path::Path;

/// The key of the configuration in the file's metadata.
const KEY: &str = "kao_classifier";

impl Classifier {
    /// Writes the classifier, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, store_as: StoreAs) -> Result<()> {
        let json =
            serde_json::to_string(&self.config).map_err(|error| Error::malformed(path, error))?;
        let metadata = BTreeMap::from([(KEY.to_owned(), json)]);
        let parameters = self.config.parameters();
        let views = parameters
            .iter()
            .zip(&self.values)
            .map(|((name, shape), values)| (name.as_str(), TensorView { shape, data: values }));
        formats::write_safetensors(path, views, &metadata, store_as)
    }

    /// Reads a classifier.
    ///
    /// # Errors
    /// When the file cannot be read, or holds none.
    pub fn load(path: &Path) -> Result<Self> {
        Self::of(path, formats::read(path)?)
    }

    /// The classifier of drawn faces that comes with Kao.
    ///
    /// # Errors
    /// None in practice: tests open it.
    pub fn of_faces() -> Result<Self> {
        const NAME: &str = "built-in classifier";
        static FILE: &[u8] = include_bytes!("../../../../../models/face64/classifier.safetensors");
        Self::of(Path::new(NAME), formats::read_embedded(NAME, FILE)?)
    }

    fn of(path: &Path, file: WeightsFile) -> Result<Self> {
        let WeightsFile { mut tensors, metadata, .. } = file;
        let json = metadata.get(KEY).and_then(|json| json.as_str()).ok_or_else(|| {
            Error::malformed(path, format!("is no classifier: its metadata has no `{KEY}`"))
        })?;
        let config: ClassifierConfig = serde_json::from_str(json)
            .map_err(|error| Error::malformed(path, format!("`{KEY}`: {error}")))?;
        config.validate().map_err(|error| Error::malformed(path, error))?;
        let value = |(name, shape): (String, Vec<usize>)| match tensors.remove(&name) {
            Some(tensor) if tensor.shape() == shape => Ok(tensor.into_data()),
            Some(tensor) => {
                let found = tensor.shape();
                let problem = format!("tensor `{name}` has shape {found:?}; expected {shape:?}");
                Err(Error::malformed(path, problem))
            }
            None => Err(Error::malformed(path, format!("tensor `{name}` is missing"))),
        };
        let values = config.parameters().into_iter().map(value).collect::<Result<_>>()?;
        Ok(Classifier { config, values })
    }
}
