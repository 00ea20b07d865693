//! `kao bench`

use crate::compute::{Compute, set_threads};
use crate::output::result;
use crate::progress::Terminal;
use clap::Args;
use kao::Result;
use kao::requests::{Benchmark, Benchmarked, KernelShare, Request, Timing};
use serde_json::json;
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
    /// Measure the architecture of this preset [anime64, small64, tiny, diffusers64] [default: anime64]
    #[arg(long)]
    preset: Option<String>,
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

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Benchmark {
        Benchmark {
            model: self.model.clone(),
            preset: self.preset.clone(),
            batch_size: self.batch_size,
            rounds: self.rounds,
            warmup: self.warmup,
            forward_only: self.forward_only,
            layers: self.layers,
            compute: self.compute.request(),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request();
    set_threads(request.compute.threads)?;
    let terminal = Terminal::default();
    let benchmarked = request.run(&terminal)?;
    terminal.clear();
    let Benchmarked { measurement, model, peak_memory_bytes } = benchmarked;
    if arguments.json {
        let mut object = json!(measurement);
        object["peak_memory_bytes"] = json!(peak_memory_bytes);
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
        measurement.parameters as f64 / 1e6,
        measurement.forward_gflop_per_image,
        measurement.computed_gflop_per_image
    ))?;
    result(format!(
        "{}, {} threads, {}, {}, batch {}; peak {:.0} GFLOP/s\n",
        processor(),
        measurement.threads,
        arguments.compute.device,
        measurement.simd,
        measurement.batch_size,
        measurement.peak_gflops
    ))?;
    result("           ms/image    best  images/s  GFLOP/s     made  of peak")?;
    result(row("forward", &measurement.forward))?;
    if let Some(training) = &measurement.training {
        result(row("training", training))?;
    }
    result(EXPLANATION)?;
    for (name, kernels) in
        [("forward", &measurement.forward_kernels), ("training", &measurement.training_kernels)]
    {
        if !kernels.is_empty() {
            result(format!("\n{name}, ms/image by kernel and resolution"))?;
            result(table(kernels))?;
        }
    }
    if let Some(bytes) = peak_memory_bytes {
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

/// The processor's name, where the system tells.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}
