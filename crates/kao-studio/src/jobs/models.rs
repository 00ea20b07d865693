//! Models that are loaded: the newest few stay in memory.

use kao::control::Control;
use kao::device::DeviceKind;
use kao::model::{Model, model_file};
use kao::requests::ModelSource;
use kao::{Error, Result};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// How many models stay loaded.
const N_LOADED: usize = 3;

/// The models that are loaded, the one used last at the end.
#[derive(Debug, Default)]
pub struct Models {
    loaded: Mutex<Vec<(Version, Arc<Model>)>>,
    device: DeviceKind,
}

/// A file as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    source: ModelSource,
    file: Option<(PathBuf, u64, Option<SystemTime>)>,
}

impl Version {
    fn of(source: &ModelSource) -> Result<Self> {
        let file = match &source.path {
            None => None,
            Some(path) => {
                let path = model_file(path)?;
                let metadata = path.metadata().map_err(|error| Error::io("read", &path, error))?;
                let (n_bytes, modified) = (metadata.len(), metadata.modified().ok());
                Some((path, n_bytes, modified))
            }
        };
        Ok(Version { source: source.clone(), file })
    }
}

impl Models {
    /// None yet; they will run on this device.
    pub fn on(device: DeviceKind) -> Self {
        Models { device, ..Models::default() }
    }

    /// The model, loaded where it is not yet, or its file has changed since.
    ///
    /// # Errors
    /// When it cannot be read, or the device fails.
    pub fn get(&self, source: &ModelSource, control: &dyn Control) -> Result<Arc<Model>> {
        let version = Version::of(source)?;
        let lock = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut loaded = lock();
            if let Some(at) = loaded.iter().position(|(known, _)| *known == version) {
                let found = loaded.remove(at);
                let model = found.1.clone();
                loaded.push(found);
                return Ok(model);
            }
            loaded.retain(|(known, _)| known.source != version.source);
            if loaded.len() >= N_LOADED {
                loaded.remove(0);
            }
        }
        let model = Arc::new(source.load(&self.device.open()?, control)?);
        lock().push((version, model.clone()));
        Ok(model)
    }
}
