//! How fast this machine is.

use super::{Compute, Estimate, MeasureConfig, Measurement, Request, check_at_least_one, measure};
use crate::control::Control;
use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::memory;
use crate::model::{ModelConfig, fetch_if_needed};
use crate::train::Preset;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The preset that is measured where nothing is named.
const PRESET: Preset = Preset::Anime64;

/// Measures a forward pass and a training step of a network with random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Benchmark {
    /// Measure the architecture of this model.
    pub model: Option<PathBuf>,
    /// Measure the architecture of this preset; by default `anime64`.
    pub preset: Option<String>,
    /// Images per pass.
    pub batch_size: usize,
    /// Timed passes.
    pub rounds: usize,
    /// Passes before the timed ones.
    pub warmup: usize,
    /// Leave the training step out.
    pub forward_only: bool,
    /// Measure the time by kernel and resolution too.
    pub layers: bool,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Benchmark {
    fn default() -> Self {
        Benchmark {
            model: None,
            preset: None,
            batch_size: 8,
            rounds: 10,
            warmup: 2,
            forward_only: false,
            layers: false,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Benchmark`].
#[derive(Clone, Debug, PartialEq)]
pub struct Benchmarked {
    /// What was measured.
    pub measurement: Measurement,
    /// The architecture that was measured.
    pub model: ModelConfig,
    /// The most memory that the process has had, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

impl Request for Benchmark {
    const COMMAND: &'static str = "bench";
    type Outcome = Benchmarked;

    fn validate(&self) -> Result<()> {
        if self.model.is_some() && self.preset.is_some() {
            return Err(Error::invalid("preset", "given together with a model; expected one"));
        }
        self.preset()?;
        check_at_least_one(&[("batch_size", self.batch_size), ("rounds", self.rounds)])?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let unet = self.architecture()?.unet;
        let n_passes = self.batch_size.saturating_mul(self.rounds.saturating_add(self.warmup));
        let shares = if self.forward_only { 1 } else { 4 };
        let n_evaluations = n_passes.saturating_mul(shares);
        let operations = n_evaluations as f64 * unet.cpu_forward_flop() as f64;
        Ok(Estimate {
            memory_bytes: self.needed(&unet),
            n_evaluations: n_evaluations as u64,
            operations,
        })
    }

    fn run(&self, control: &dyn Control) -> Result<Benchmarked> {
        if let Some(model) = &self.model {
            fetch_if_needed(model, control)?;
        }
        self.validate()?;
        self.compute.run(|device| {
            let model = self.architecture()?;
            if self.compute.device == DeviceKind::Cpu {
                memory::check("batch_size", "such a pass", self.needed(&model.unet))?;
            }
            let config = MeasureConfig {
                batch_size: self.batch_size,
                n_rounds: self.rounds,
                n_warmup: self.warmup,
                training: !self.forward_only,
                by_kernel: self.layers,
            };
            let measurement = measure(&model, config, device, control)?;
            Ok(Benchmarked { measurement, model, peak_memory_bytes: memory::peak() })
        })
    }
}

impl Benchmark {
    fn preset(&self) -> Result<Preset> {
        self.preset.as_deref().map_or(Ok(PRESET), preset_named)
    }

    fn architecture(&self) -> Result<ModelConfig> {
        match &self.model {
            Some(path) => ModelConfig::of(path),
            None => Ok(self.preset()?.config().model_config()),
        }
    }

    fn needed(&self, unet: &crate::unet::UNetConfig) -> u64 {
        match self.forward_only {
            true => unet.sampling_bytes(self.batch_size),
            false => unet.training_bytes(self.batch_size, self.batch_size, false),
        }
    }
}

/// The preset of that name.
///
/// # Errors
/// When there is none.
pub fn preset_named(name: &str) -> Result<Preset> {
    Preset::from_name(name).ok_or_else(|| {
        let names = Preset::ALL.map(Preset::name).join(", ");
        Error::out_of_range("preset", name, format!("one of {names}"))
    })
}
