//! Loading a model: the configuration of a file meets its tensors.

use super::config::ModelConfig;
use super::import::{self, CheckpointWeights};
use super::place::{BuiltIn, Place};
use super::save::save;
use crate::device::Device;
use crate::error::{Error, Result, shortened};
use crate::formats::{self, Format, LoadReport, NamedTensors, StoreAs, WeightsFile};
use crate::schedule::NoiseSchedule;
use crate::unet::{Network, UNet, UNetConfig};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The most values of a time table that is computed, where a file has none.
const MAX_COMPUTED_TABLE: usize = 1 << 26;

/// A network ready to sample from.
#[derive(Debug)]
pub struct Model {
    /// Everything but the weights.
    pub config: ModelConfig,
    /// The network, a denoiser.
    pub network: Network,
    /// Its noise levels.
    pub schedule: NoiseSchedule,
    /// What whoever uses the model should know of how it was read: which of two sets of weights it
    /// has, what of the file was left out.
    pub notes: Vec<String>,
}

/// How a file is read as a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Which weights, where there are two sets.
    pub weights: CheckpointWeights,
    /// The configuration, in place of what the file says.
    pub config: Option<ModelConfig>,
}

impl Model {
    /// Puts a network and its configuration together, on a device.
    ///
    /// # Errors
    /// When the configuration is impossible, or the device fails.
    pub fn new(config: ModelConfig, unet: UNet, device: &Device) -> Result<Self> {
        config.validate()?;
        let schedule = NoiseSchedule::new(&config.schedule)?;
        let network = Network::new(unet, config.prediction, device)?;
        Ok(Model { config, network, schedule, notes: Vec::new() })
    }

    /// The model that is part of the program: faces of 64×64 pixels, trained on drawn ones. It is
    /// read when this is called, not before.
    ///
    /// # Errors
    /// When the device takes no network.
    pub fn built_in(device: &Device) -> Result<Self> {
        let (built_in, options) = (BuiltIn::Model, LoadOptions::default());
        Self::from_file(Path::new(built_in.name()), built_in.read()?, &options, device)
    }

    /// Loads a Kao model, a run directory (its `model.safetensors`), a checkpoint of a run (the
    /// averaged weights), a folder of diffusers, or a checkpoint of PyTorch that says what model it is
    /// of.
    ///
    /// # Errors
    /// When the file cannot be read, is no model, or lacks a tensor.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default(), device)
    }

    /// As [`load`](Self::load), with the choice of which weights of a file that has two sets.
    ///
    /// # Errors
    /// As for [`load`](Self::load), and when the raw weights are asked of a file with one set.
    pub fn load_weights(
        path: impl AsRef<Path>,
        which: CheckpointWeights,
        device: &Device,
    ) -> Result<Self> {
        Self::load_with(path, &LoadOptions { weights: which, config: None }, device)
    }

    /// As [`load`](Self::load), as `options` say. With a configuration of its own, a file of bare
    /// weights becomes a model.
    ///
    /// # Errors
    /// As for [`load_weights`](Self::load_weights), and when the configuration does not fit.
    pub fn load_with(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self> {
        match Place::of(path.as_ref())? {
            Place::BuiltIn(built_in) => {
                Self::from_file(Path::new(built_in.name()), built_in.read()?, options, device)
            }
            Place::Folder(folder) => {
                let path = folder.path().to_path_buf();
                if options.config.is_none() {
                    let metadata = folder.metadata();
                    ModelConfig::from_metadata(&path, Format::Diffusers, metadata)?;
                }
                Self::from_file(&path, folder.read()?, options, device)
            }
            Place::File(path) => {
                // What can be known without the values is, before they are read.
                let contents = formats::peek(&path)?;
                if options.config.is_none() {
                    import::check_configuration(&path, &contents)?;
                }
                drop(contents);
                Self::from_file(&path, formats::read(&path)?, options, device)
            }
        }
    }

    fn from_file(
        path: &Path,
        file: WeightsFile,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self> {
        let WeightsFile { format, metadata, tensors, notes: file_notes } = file;
        let config = match &options.config {
            Some(config) => config.clone(),
            None => ModelConfig::from_metadata(path, format, &metadata)?,
        };
        let (tensors, choice) =
            import::network_tensors(path, &config, &metadata, tensors, options.weights)?;
        let mut notes = match format {
            Format::Diffusers => file_notes,
            _ => Vec::new(),
        };
        notes.extend(choice);
        let (unet, report) = build(path, &config, &tensors)?;
        drop(tensors);
        if let [first, ..] = &report.unused[..] {
            let (n, first) = (report.unused.len(), shortened(first, 60));
            notes
                .push(format!("{n} tensors are not of this network and are left out: `{first}` …"));
        }
        Ok(Model { notes, ..Model::new(config, unet, device)? })
    }

    /// 16 hexadecimal digits that stand for all of the model that its images depend on: the weights,
    /// the architecture, the noise levels, what is predicted, and how it is sampled by default.
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        let ModelConfig { unet, schedule, prediction, sampling, .. } = &self.config;
        // Dropout is of training alone.
        let unet = UNetConfig { dropout: 0.0, ..unet.clone() };
        let settings = serde_json::json!([unet, schedule, prediction, sampling]);
        digest.update(settings.to_string());
        for (name, tensor) in self.network.unet().to_tensors().iter() {
            digest.update(name);
            let mut bytes = Vec::with_capacity(4 * tensor.data().len());
            bytes.extend(tensor.data().iter().flat_map(|value| value.to_le_bytes()));
            digest.update(bytes);
        }
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the model as one `.safetensors` file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, store_as: StoreAs) -> Result<()> {
        save(path.as_ref(), &self.config, &self.network.unet().to_tensors(), store_as)
    }
}

fn build(path: &Path, config: &ModelConfig, tensors: &NamedTensors) -> Result<(UNet, LoadReport)> {
    let report = import::compare_named(config, tensors).into_result(path)?;
    let UNetConfig { num_steps, ch, .. } = config.unet;
    if report.loaded.len() == config.unet.parameters().len()
        && num_steps.saturating_mul(ch) > MAX_COMPUTED_TABLE
    {
        let problem = format!("no table of its {num_steps} timesteps, too large to be computed");
        return Err(Error::malformed(path, problem));
    }
    if let Some((name, _)) =
        tensors.iter().find(|(_, tensor)| !tensor.data().iter().all(|value| value.is_finite()))
    {
        return Err(Error::malformed(
            path,
            format!("tensor `{name}` holds values that are not finite"),
        )
        .with_hint("the training that wrote it had diverged"));
    }
    Ok((UNet::from_tensors(&config.unet, tensors)?, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_whole() {
        let model = Model::built_in(&Device::Cpu).unwrap();
        assert!(model.config.unet.parameter_count() <= 8_000_000);
        assert_eq!(model.config.unet.image_size, [3, 64, 64]);
        let guide = model.config.sampling.guide.unwrap();
        let guide = Model::load(guide.model.name(), &Device::Cpu).unwrap();
        assert!(guide.config.unet.parameter_count() <= 2_000_000);
        assert_eq!(guide.config.unet.image_size, [3, 64, 64]);
        assert!(guide.config.schedule.agrees_with(&model.config.schedule));
        assert!(guide.config.sampling.guide.is_none());
    }
}
