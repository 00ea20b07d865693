//! What the ranks of a run must have in common: the program, how their processors round, the
//! configuration and the pictures.

use super::adam::Optimizer;
use super::config::TrainConfig;
use super::objective::{ObjectiveConfig, StepPart, TimestepSampling};
use super::step::{StepConfig, TrainStep, UpdateConfig};
use crate::dataset::Batch;
use crate::denoiser::Prediction;
use crate::device::Device;
use crate::error::Result;
use crate::noise::SeededNoise;
use crate::ranks::agreement::Facts;
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use crate::unet::{UNet, UNetConfig};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Digits of a checksum that are shown.
const SHOWN_DIGITS: usize = 12;

/// The facts of a program and the machine that it runs on: its version and a checksum of its file,
/// the instructions in use, and a checksum of the gradients of a small network on `device`, in
/// which every difference in rounding shows.
///
/// # Errors
/// When the device fails.
pub fn of_program(device: &Device) -> Result<Facts> {
    let mut program = concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned();
    let file = std::env::current_exe().and_then(std::fs::read);
    if let Ok(bytes) = file {
        let _ = write!(program, ", build {}", checksum([bytes.as_slice()]));
    }
    Ok(Facts::from([
        ("program".to_owned(), program),
        ("instructions".to_owned(), kao_kernels::simd_level().name().to_owned()),
        ("rounding".to_owned(), rounding(device)?),
    ]))
}

/// The facts of a run of `config` on the pictures of this fingerprint.
pub(super) fn of_run(config: &TrainConfig, fingerprint: &str) -> Facts {
    // Each entry is a fact, so that those which differ are named.
    let mut facts: Facts = config
        .entries()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("data"))
        .map(|(name, value)| (format!("entry {name}"), value))
        .collect();
    // The same pictures may lie at another place on another machine.
    facts.insert("checksum of the pictures".to_owned(), shortened(fingerprint));
    facts
}

/// A checksum of the gradients of a small network, in which all kinds of layers take part.
fn rounding(device: &Device) -> Result<String> {
    const N_IMAGES: usize = 2;
    let config = UNetConfig {
        image_size: [3, 16, 16],
        ch: 32,
        ch_mult: vec![1, 2],
        attn: vec![1],
        num_res_blocks: 1,
        dropout: 0.1,
        norm_groups: 4,
        ..UNetConfig::default()
    };
    let unet = UNet::init(&config, 1)?;
    let images = SeededNoise { seed: 2, first_image: 0 }.x_t(N_IMAGES, config.image_size);
    let batch =
        Batch { images, indices: (0..N_IMAGES).collect(), tags: vec![Vec::new(); N_IMAGES] };
    let objective = ObjectiveConfig {
        prediction: Prediction::V,
        timestep_sampling: TimestepSampling::Stratified,
        min_snr_gamma: 5.0,
        loss_focus: 0.0,
        tag_dropout: 0.0,
        seed: 3,
    };
    let update = UpdateConfig {
        optimizer: Optimizer::Adam,
        learning_rate: 0.0,
        weight_decay: 0.0,
        max_gradient_norm: 0.0,
        ema_decay: 0.0,
    };
    let config =
        StepConfig { objective, micro_batch_size: N_IMAGES, gradient_checkpointing: false, update };
    let schedule = NoiseSchedule::new(ScheduleConfig::default())?;
    let step = TrainStep { schedule: &schedule, device, config };
    let part = StepPart { first_image: 0, offset: 0, batch_size: N_IMAGES };
    let found = step.gradients_of_part(&unet, &batch, part)?;
    Ok(checksum(found.gradients.iter().map(|values| bytemuck::cast_slice::<f32, u8>(values))))
}

fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    let digits: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    shortened(&digits)
}

fn shortened(digits: &str) -> String {
    digits.chars().take(SHOWN_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;
    use kao_kernels::{SimdLevel, simd_level, with_simd_level};

    #[test]
    fn other_instructions_round_otherwise_and_are_a_difference() {
        let here = of_program(&Device::Cpu).unwrap();
        assert_eq!(here, of_program(&Device::Cpu).unwrap());
        assert!(here["program"].contains(", build "), "{here:?}");
        if simd_level() == SimdLevel::Portable {
            return;
        }
        // Kernels run on the pool's threads, and the level is that of the thread that calls.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let portable = pool
            .install(|| with_simd_level(SimdLevel::Portable, || of_program(&Device::Cpu).unwrap()));
        assert_ne!(here["instructions"], portable["instructions"]);
        assert_ne!(here["rounding"], portable["rounding"]);
        assert_eq!(here["program"], portable["program"]);
    }

    #[test]
    fn each_entry_of_a_configuration_is_a_fact_but_where_the_pictures_lie() {
        let config = Preset::Tiny.config();
        let facts = of_run(&config, "0123456789abcdef");
        assert_eq!(facts["checksum of the pictures"], "0123456789ab");
        let other = TrainConfig { data: "elsewhere".into(), ..config.clone() };
        assert_eq!(facts, of_run(&other, "0123456789abcdef"));
        let other = TrainConfig { seed: 5, ..config };
        let other = of_run(&other, "0123456789abcdef");
        let differing: Vec<_> =
            facts.iter().filter(|(name, value)| other[*name] != **value).collect();
        assert_eq!(differing.len(), 1);
        assert_eq!(differing[0].0, "entry seed");
    }
}
