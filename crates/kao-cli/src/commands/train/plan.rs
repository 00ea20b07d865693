//! What a run takes, before it begins and after its first steps; what the presets take.

use crate::interrupt;
use crate::output::{note, result};
use crate::progress::Progress;
use kao::Result;
use kao::dataset::{Folder, SplitConfig};
use kao::device::Device;
use kao::experiments::{MeasureConfig, measure};
use kao::quantities::{self, estimate};
use kao::train::{Preset, TrainConfig};
use kao::unet::UNetConfig;

/// A forward pass takes about this share of the time of a training step.
const FORWARD_SHARE: f64 = 0.3;

/// A run that takes longer is told which presets take less.
const LONG_RUN: f64 = 30.0 * 60.0;

/// Pictures per second of training on two cores of an AMD EPYC (Zen 5, AVX-512) that have nothing
/// else to do. Other machines differ, but the presets' speeds are to each other as here.
fn reference_speed(preset: Preset) -> f64 {
    match preset {
        Preset::Anime64 => 17.0,
        Preset::Small64 => 120.0,
        Preset::Tiny => 450.0,
    }
}

/// The presets as a table for `--help`.
pub fn presets() -> String {
    let mut lines = vec![
        "Presets, and what they take on two cores of an AMD EPYC (Zen 5); --dry-run measures here:"
            .to_owned(),
        format!(
            "  {:<8} {:>9} {:>11} {:>7} {:>11} {:>8}",
            "name", "pixels", "parameters", "steps", "pictures/s", "time"
        ),
    ];
    for preset in Preset::ALL {
        let config = preset.config();
        let [_, height, width] = config.model.image_size;
        let speed = reference_speed(preset);
        lines.push(format!(
            "  {:<8} {:>9} {:>11} {:>7} {:>11.0} {:>8}",
            preset.name(),
            format!("{width} × {height}"),
            format!("{:.1} M", config.model.parameter_count() as f64 / 1e6),
            config.steps,
            speed,
            estimate(seconds(&config, 0, speed)),
        ));
    }
    lines.join("\n")
}

/// The preset whose architecture the run has, whatever its dropout.
pub fn preset_of(config: &TrainConfig) -> Option<Preset> {
    Preset::ALL.into_iter().find(|preset| {
        let model = preset.config().model;
        UNetConfig { dropout: model.dropout, ..config.model.clone() } == model
    })
}

/// Seconds that a run takes from `n_steps` on, at so many pictures per second of training:
/// training, and what it looks at every so many steps.
fn seconds(config: &TrainConfig, n_steps: u64, images_per_second: f64) -> f64 {
    let n_left = config.steps.saturating_sub(n_steps) as f64;
    let n_looks = n_left / config.save_every as f64;
    let n_sampled = config.sample_count as f64 * config.sample_steps as f64;
    // With the averaged weights and with the weights themselves.
    let n_validated = 2.0 * config.validation_images as f64;
    let n_images =
        n_left * config.batch_size as f64 + n_looks * (n_sampled + n_validated) * FORWARD_SHARE;
    n_images / images_per_second
}

/// How long a run takes here from `n_steps` on, for whoever may want it shorter: `about 5 h here
/// (--preset tiny: 20 min)`.
pub fn time_here(config: &TrainConfig, n_steps: u64, images_per_second: f64) -> String {
    times(config, n_steps, images_per_second, " here")
}

/// Where a run of a preset takes long: how long elsewhere, before the first steps tell how long
/// here. A step of `anime64` alone takes a quarter of a minute.
pub fn time_elsewhere(config: &TrainConfig, n_steps: u64) -> Option<String> {
    let time = seconds(config, n_steps, reference_speed(preset_of(config)?));
    let words = format!("about {} on two idle cores; how long here, soon", estimate(time));
    (time > LONG_RUN).then_some(words)
}

fn times(config: &TrainConfig, n_steps: u64, images_per_second: f64, place: &str) -> String {
    let time = seconds(config, n_steps, images_per_second);
    let mut words = format!("about {}{place}", estimate(time));
    let Some(preset) = preset_of(config).filter(|_| time > LONG_RUN) else {
        return words;
    };
    let shorter: Vec<String> = Preset::ALL
        .into_iter()
        .filter_map(|other| {
            let share = reference_speed(other) / reference_speed(preset);
            let takes = seconds(&other.config(), 0, images_per_second * share);
            let is_shorter = reference_speed(other) > reference_speed(preset) && takes < time;
            is_shorter.then(|| format!("--preset {}: {}", other.name(), estimate(takes)))
        })
        .collect();
    if !shorter.is_empty() {
        words += &format!(" ({})", shorter.join(", "));
    }
    words
}

/// Prints what a run would take from `n_steps` on.
pub fn plan(config: &TrainConfig, folder: &Folder, n_steps: u64, device: &Device) -> Result<()> {
    let split = folder.split(&SplitConfig::default())?;
    let n_train = split.train.len().max(1);
    let n_parts = config.batch_size.div_ceil(config.micro_batch_size);
    if let Some(preset) = preset_of(config) {
        row("preset", preset.name().to_owned())?;
    }
    row("parameters", format!("{:.2} M", config.model.parameter_count() as f64 / 1e6))?;
    row(
        "pictures",
        format!(
            "{} to train on, {} to validate, {} to test",
            split.train.len(),
            split.validation.len().min(config.validation_images),
            split.test.len()
        ),
    )?;
    let steps_per_epoch = n_train as f64 / config.batch_size as f64;
    row("steps", format!("{} to go of {}", config.steps - n_steps, config.steps))?;
    row("steps per epoch", format!("{steps_per_epoch:.1}"))?;
    row("epochs", format!("{:.1}", config.steps as f64 / steps_per_epoch))?;
    row(
        "batch",
        format!(
            "{} pictures, {} at a time",
            config.batch_size,
            config.batch_size.div_ceil(n_parts)
        ),
    )?;
    row(
        "memory",
        format!("about {} at most", quantities::size(config.estimated_bytes(folder.len()))),
    )?;
    let n_kept = (config.keep_checkpoints as u64).saturating_add(1);
    row(
        "checkpoints",
        format!(
            "{} each, up to {n_kept} kept: {}",
            quantities::size(config.checkpoint_bytes()),
            quantities::size(config.checkpoint_bytes().saturating_mul(n_kept))
        ),
    )?;
    let measuring = MeasureConfig {
        batch_size: config.micro_batch_size,
        n_rounds: 3,
        n_warmup: 1,
        training: true,
        by_kernel: false,
    };
    note("measuring a few passes of the network …");
    // Passes forward, and as many training steps.
    let n_passes = 2 * (measuring.n_warmup + measuring.n_rounds) as u64;
    let progress = Progress::new("measuring", n_passes, "passes");
    let mut n_begun = 0;
    let measured = measure(&config.model_config(), measuring, device, &mut || {
        progress.set(n_begun);
        n_begun += 1;
        interrupt::check()
    })?;
    drop(progress);
    let Some(training) = measured.training else { return Ok(()) };
    let images_per_second = training.images_per_second;
    row("speed here", format!("{images_per_second:.1} images/s"))?;
    row("time here", times(config, n_steps, images_per_second, ""))
}

fn row(name: &str, value: String) -> Result<()> {
    result(format!("{name:<16} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_told_which_presets_take_less() {
        let of =
            |preset: Preset, images_per_second| time_here(&preset.config(), 1, images_per_second);
        let small = of(Preset::Small64, 20.0);
        assert_eq!(small, "about 6 h here (--preset tiny: 23 min)");
        let anime = of(Preset::Anime64, 3.4);
        assert!(anime.starts_with("about 10") && anime.contains(" days here (--preset small64: "));
        assert!(anime.contains("--preset tiny: "), "{anime}");
        assert!(anime.chars().count() <= 80, "{anime}");
        assert_eq!(of(Preset::Tiny, 20.0), "about 85 min here");
    }

    #[test]
    fn long_runs_are_told_so_before_their_first_step() {
        let of = |preset: Preset| time_elsewhere(&preset.config(), 0);
        assert_eq!(of(Preset::Tiny), None);
        let words = of(Preset::Anime64).unwrap();
        assert!(words.starts_with("about 21 days on two idle cores"), "{words}");
    }

    #[test]
    fn the_table_tells_of_every_preset() {
        let table = presets();
        let row = |name: &str| {
            let row = table.lines().find(|line| line.starts_with(&format!("  {name} ")));
            row.unwrap().to_owned()
        };
        assert!(row("anime64").contains("64 × 64      25.4 M  236000"), "{table}");
        assert!(row("anime64").ends_with(" days"), "{table}");
        assert!(row("small64").ends_with(" h") || row("small64").ends_with(" min"), "{table}");
        assert!(row("tiny").ends_with(" min"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    }
}
