//! What a run takes: printed by `--dry-run`, noted when it starts and after its first steps; and what
//! the presets take.

use crate::output::{note, result};
use crate::progress::Terminal;
use kao::Result;
use kao::quantities::{estimate, size};
use kao::requests::PlannedRun;
use kao::train::{Preset, TrainConfig};

/// For a run that takes longer, in seconds, faster presets are named.
const LONG_RUN: f64 = 30.0 * 60.0;

/// The presets as a table for `--help`.
pub fn presets() -> String {
    let mut lines = vec![
        "Presets, and what they take on two cores of an AMD EPYC (Zen 5); --dry-run measures here:"
            .to_owned(),
        format!(
            "  {:<11} {:>9} {:>11} {:>7} {:>11} {:>8}",
            "name", "pixels", "parameters", "steps", "pictures/s", "time"
        ),
    ];
    for preset in Preset::ALL {
        let config = preset.config();
        let [_, height, width] = config.model.image_size;
        let speed = preset.reference_speed();
        lines.push(format!(
            "  {:<11} {:>9} {:>11} {:>7} {:>11.0} {:>8}",
            preset.name(),
            format!("{width} × {height}"),
            format!("{:.1} M", config.model.parameter_count() as f64 / 1e6),
            config.steps,
            speed,
            estimate(config.estimated_seconds(0, speed)),
        ));
    }
    lines.join("\n")
}

/// How long a run takes on this machine from step `n_steps` on, for users who may want it shorter:
/// `about 5 h here (--preset tiny: 20 min)`.
pub fn time_here(config: &TrainConfig, n_steps: u64, images_per_second: f64) -> String {
    times(config, n_steps, images_per_second, " here")
}

/// How long a long run of a preset takes elsewhere: noted at once, since it may take minutes until
/// the speed on this machine is known.
pub fn time_elsewhere(config: &TrainConfig, n_steps: u64) -> Option<String> {
    let speed = Preset::of_architecture(&config.model)?.reference_speed();
    let time = config.estimated_seconds(n_steps, speed);
    let words = format!(
        "about {} on two idle cores; the time on this machine follows after the first steps",
        estimate(time)
    );
    (time > LONG_RUN).then_some(words)
}

fn times(config: &TrainConfig, n_steps: u64, images_per_second: f64, place: &str) -> String {
    let time = config.estimated_seconds(n_steps, images_per_second);
    let mut words = format!("about {}{place}", estimate(time));
    if time <= LONG_RUN {
        return words;
    }
    let faster: Vec<String> = config
        .faster_presets(n_steps, images_per_second)
        .into_iter()
        .map(|(preset, seconds)| format!("--preset {}: {}", preset.name(), estimate(seconds)))
        .collect();
    if !faster.is_empty() {
        words += &format!(" ({})", faster.join(", "));
    }
    words
}

/// Prints what a run takes.
pub fn print(planned: &PlannedRun) -> Result<()> {
    let (config, n_steps) = (planned.config(), planned.n_steps_before());
    let Some(run) = planned.estimate()? else { return Ok(()) };
    if let Some(preset) = Preset::of_architecture(&config.model) {
        row("preset", preset.name().to_owned())?;
    }
    row("parameters", format!("{:.2} M", run.n_parameters as f64 / 1e6))?;
    row(
        "pictures",
        format!(
            "{} to train on, {} to validate, {} to test",
            run.training_pictures, run.validation_pictures, run.test_pictures
        ),
    )?;
    row("steps", format!("{} to go of {}", run.steps_left, config.steps))?;
    row("steps per epoch", format!("{:.1}", run.steps_per_epoch))?;
    row("epochs", format!("{:.1}", run.epochs))?;
    row("batch", format!("{} pictures, {} at a time", config.batch_size, run.micro_batch_size))?;
    row("memory", format!("about {} at most", size(run.memory_bytes)))?;
    let n_kept = run.n_checkpoints;
    row(
        "checkpoints",
        format!(
            "{} each, up to {n_kept} kept: {}",
            size(run.checkpoint_bytes),
            size(run.checkpoint_bytes.saturating_mul(n_kept))
        ),
    )?;
    note("measuring a few passes of the network …");
    let terminal = Terminal::default();
    let images_per_second = planned.measured_speed(&terminal)?;
    terminal.clear();
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
    fn for_long_runs_faster_presets_are_named() {
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
    fn the_time_of_long_runs_is_estimated_before_their_first_step() {
        let of = |preset: Preset| time_elsewhere(&preset.config(), 0);
        assert_eq!(of(Preset::Tiny), None);
        let words = of(Preset::Anime64).unwrap();
        assert!(words.starts_with("about 21 days on two idle cores"), "{words}");
    }

    #[test]
    fn the_table_has_every_preset() {
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
