//! `kao bench`

use crate::compute::Compute;
use crate::interrupt;
use crate::memory;
use crate::output::result;
use crate::preset::preset;
use clap::Args;
use kao::control::Report;
use kao::experiments::{KernelShare, MeasureConfig, Timing, measure};
use kao::model::{ModelConfig, model_file};
use kao::{Result, formats};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao bench
  kao bench --preset tiny --batch-size 32
  kao bench --layers
  kao bench --batch-size 1 --forward-only --json")]
pub struct Arguments {
    /// Measure the architecture of this model; weights are random
    #[arg(long, short, value_name = "FILE", conflicts_with = "preset")]
    model: Option<PathBuf>,
    /// Measure the architecture of this preset [anime64, small64, tiny]
    #[arg(long, default_value = "anime64")]
    preset: String,
    /// Images per pass
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,
    /// Timed passes
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: usize,
    /// Passes before the timed ones
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: usize,
    /// Leave the training step out
    #[arg(long)]
    forward_only: bool,
    /// Show the time by kernel and resolution
    #[arg(long)]
    layers: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.compute.open()?;
    let model = architecture(arguments)?;
    let config = MeasureConfig {
        batch_size: arguments.batch_size,
        n_rounds: arguments.rounds,
        n_warmup: arguments.warmup,
        training: !arguments.forward_only,
        by_kernel: arguments.layers,
    };
    let needed = match config.training {
        false => memory::forward(config.batch_size, &model.unet),
        true => memory::training(config.batch_size, config.batch_size, &model.unet),
    };
    memory::check("--batch-size", "such a pass", needed)?;
    let control = |_: &Report<'_>| {
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let measured = measure(&model, config, &device, &control)?;
    let peak_memory = peak_memory_bytes();
    if arguments.json {
        let mut object = json!(measured);
        object["peak_memory_bytes"] = json!(peak_memory);
        object["machine"] = json!({
            "processor": processor(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "device": arguments.compute.device.name(),
        });
        object["version"] = json!(env!("CARGO_PKG_VERSION"));
        return result(object);
    }
    let [c, h, w] = model.unet.image_size;
    result(format!(
        "{:.1} M parameters, images [{c}, {h}, {w}], {:.2} GFLOP a forward pass ({:.2} really made)",
        measured.parameters as f64 / 1e6,
        measured.forward_gflop_per_image,
        measured.computed_gflop_per_image
    ))?;
    result(format!(
        "{}, {} threads, {}, {}, batch {}; peak {:.0} GFLOP/s\n",
        processor(),
        measured.threads,
        arguments.compute.device,
        measured.simd,
        measured.batch_size,
        measured.peak_gflops
    ))?;
    result("           ms/image    best  images/s  GFLOP/s     made  of peak")?;
    result(row("forward", &measured.forward))?;
    if let Some(training) = &measured.training {
        result(row("training", training))?;
    }
    result(EXPLANATION)?;
    for (name, kernels) in
        [("forward", &measured.forward_kernels), ("training", &measured.training_kernels)]
    {
        if !kernels.is_empty() {
            result(format!("\n{name}, ms/image by kernel and resolution"))?;
            result(table(kernels))?;
        }
    }
    if let Some(bytes) = peak_memory {
        result(format!("\npeak memory {:.0} MiB", bytes as f64 / f64::from(1 << 20)))?;
    }
    Ok(())
}

const EXPLANATION: &str = "
GFLOP/s: multiplications and additions as a direct computation needs them, to compare programs
made:    those really made a second, since Winograd's 3x3 convolution needs a quarter of them
of peak: what is made, as a share of the most multiply-adds that this machine can make";

fn row(name: &str, timing: &Timing) -> String {
    format!(
        "{name:<10} {:>8.2} {:>7.2} {:>9.1} {:>8.0} {:>8.0} {:>7.0}%",
        timing.ms_per_image,
        timing.min_ms_per_image,
        timing.images_per_second,
        timing.gflops,
        timing.computed_gflops,
        100.0 * timing.share_of_peak
    )
}

/// Kernels down, resolutions across, sums at the ends.
fn table(kernels: &[KernelShare]) -> String {
    let mut resolutions: Vec<[usize; 2]> = kernels.iter().map(|share| share.resolution).collect();
    resolutions.sort_unstable_by(|a, b| b.cmp(a));
    resolutions.dedup();
    let mut names: Vec<&str> = kernels.iter().map(|share| share.kernel).collect();
    names.dedup();
    let sum = |name: Option<&str>, resolution: Option<[usize; 2]>| -> f64 {
        let chosen = kernels.iter().filter(|share| {
            name.is_none_or(|name| share.kernel == name)
                && resolution.is_none_or(|resolution| share.resolution == resolution)
        });
        chosen.map(|share| share.ms_per_image).sum()
    };
    let line = |name: &str, cells: &mut dyn Iterator<Item = String>| {
        cells.fold(format!("{name:<28}"), |line, cell| format!("{line} {cell:>8}"))
    };
    let heading = |&[h, w]: &[usize; 2]| match h {
        0 => "-".to_owned(),
        _ => format!("{h}x{w}"),
    };
    let mut headings = resolutions.iter().map(heading).chain(["all".to_owned()]);
    let mut lines = vec![line("", &mut headings)];
    for name in names.into_iter().map(Some).chain([None]) {
        let cells = resolutions.iter().copied().map(Some).chain([None]);
        let mut cells = cells.map(|resolution| match sum(name, resolution) {
            0.0 => String::new(),
            ms => format!("{ms:.2}"),
        });
        lines.push(line(name.unwrap_or("all kernels"), &mut cells));
    }
    lines.join("\n")
}

fn architecture(arguments: &Arguments) -> Result<ModelConfig> {
    if let Some(path) = &arguments.model {
        let path = model_file(path)?;
        let contents = formats::peek(&path)?;
        return ModelConfig::from_metadata(&path, contents.format, &contents.metadata);
    }
    Ok(preset(&arguments.preset)?.config().model_config())
}

/// The most memory that this process has had, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The processor's name, where the system tells.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}
