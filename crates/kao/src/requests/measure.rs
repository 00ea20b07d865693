//! How long a forward pass and a training step take on this machine.

use crate::control::{Control, Report};
use crate::dataset::Batch;
use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::noise::SeededNoise;
use crate::schedule::NoiseSchedule;
use crate::train::Optimizer;
use crate::train::objective::{ObjectiveConfig, TimestepSampling};
use crate::train::step::{StepConfig, TrainState, TrainStep, UpdateConfig};
use crate::unet::{Network, UNet};
use kao_kernels::KernelTime;
use serde::Serialize;
use std::time::Instant;

/// A profile is the mean of so many passes.
const PROFILED_PASSES: usize = 3;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasureConfig {
    /// Images per pass.
    pub batch_size: usize,
    /// Timed passes, after the warm-up.
    pub n_rounds: usize,
    /// Passes before that.
    pub n_warmup: usize,
    /// Whether training steps are measured too.
    pub training: bool,
    /// Whether to profile the time by kernel and resolution; only on the CPU.
    pub by_kernel: bool,
}

impl MeasureConfig {
    /// How many passes are made one after the other, each of which is reported.
    fn n_passes(&self) -> usize {
        self.n_warmup.saturating_add(self.n_rounds)
    }
}

/// Times of one kind of pass, in milliseconds per image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// The median.
    pub ms_per_image: f64,
    /// The shortest.
    pub min_ms_per_image: f64,
    /// Images per second, by the median.
    pub images_per_second: f64,
    /// Operations per second, by the median, in 10⁹: the multiplications and additions of a direct
    /// computation.
    pub gflops: f64,
    /// Operations that the kernels perform per second, by the median, in 10⁹: fewer, since
    /// Winograd's convolution needs a quarter of a direct one's multiplications.
    pub computed_gflops: f64,
    /// The same as a share of the measured peak.
    pub share_of_peak: f64,
    /// Each pass.
    pub samples: Vec<f64>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// Images per pass.
    pub batch_size: usize,
    /// Threads.
    pub threads: usize,
    /// Parameters, as PyTorch counts them.
    pub parameters: usize,
    /// Operations of one forward pass for one image, in 10⁹, of a direct computation.
    pub forward_gflop_per_image: f64,
    /// The same, as the CPU engine performs them.
    pub computed_gflop_per_image: f64,
    /// The machine's peak with the instructions and threads in use, in 10⁹ operations per second:
    /// fused multiply-adds on registers.
    pub peak_gflops: f64,
    /// The instructions in use.
    pub simd: &'static str,
    /// A forward pass without gradients.
    pub forward: Timing,
    /// A whole training step: noise, forward, backward, optimizer, average.
    pub training: Option<Timing>,
    /// The time of one forward pass by kernel and resolution; empty unless it was asked for.
    pub forward_kernels: Vec<KernelShare>,
    /// The same for one training step.
    pub training_kernels: Vec<KernelShare>,
}

/// The time that one kernel takes at one resolution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelShare {
    /// The kernel.
    pub kernel: &'static str,
    /// Height and width of its feature maps; zeros where it works on none.
    pub resolution: [usize; 2],
    /// Calls in a pass.
    pub calls: usize,
    /// Milliseconds per image, the mean of the passes.
    pub ms_per_image: f64,
}

/// Measures a network of `model`'s configuration with random weights on `device`. Progress is
/// reported before each pass.
///
/// # Errors
/// When the configuration is impossible, nothing is to be measured, or `control` stops the work.
pub fn measure(
    model: &ModelConfig,
    config: MeasureConfig,
    device: &Device,
    control: &dyn Control,
) -> Result<Measurement> {
    model.validate()?;
    let MeasureConfig { batch_size, n_rounds, training, by_kernel, .. } = config;
    for (what, n) in [("batch_size", batch_size), ("rounds", n_rounds)] {
        if n == 0 {
            return Err(Error::out_of_range(what, 0, "at least 1"));
        }
    }
    let n_kinds = if training { 2 } else { 1 };
    let passes = Passes { config, total: config.n_passes().saturating_mul(n_kinds), control };
    let schedule = NoiseSchedule::new(&model.schedule)?;
    let images = SeededNoise { seed: 0, first_image: 0 }.x_t(batch_size, model.unet.image_size);
    let timesteps: Vec<usize> =
        (0..batch_size).map(|k| k * schedule.n_timesteps() / batch_size).collect();
    let work = Work {
        direct: model.unet.forward_flop() as f64 / 1e9,
        computed: model.unet.cpu_forward_flop() as f64 / 1e9,
    };

    let unet = UNet::init(&model.unet, 0)?;
    let network = Network::new(unet, Prediction::Epsilon, device)?;
    let forward_pass = || network.predict(&images, &timesteps, &Conditions::none()).map(|_| ());
    let samples = passes.time(0, |_| forward_pass())?;
    let peak_gflops = kao_kernels::peak_gflops();
    let forward = timing(samples, work, peak_gflops);
    let mut forward_kernels = Vec::new();
    if by_kernel {
        let (passed, times) = profiled(|| (0..PROFILED_PASSES).try_for_each(|_| forward_pass()));
        passed?;
        forward_kernels = shares(&times, batch_size);
    }
    drop(network);
    // Training needs blocks of memory of other sizes than sampling.
    kao_kernels::release_freed_memory();

    let mut training_kernels = Vec::new();
    let training = match training {
        false => None,
        true => {
            let mut state = TrainState::new(UNet::init(&model.unet, 0)?);
            let batch = Batch {
                images,
                indices: (0..batch_size).collect(),
                tags: vec![vec![]; batch_size],
            };
            let step = training_step(model, batch_size, &schedule, device);
            let mut make_step = |round: usize| {
                let first_image = round.wrapping_mul(batch_size) as u64;
                step.run(&mut state, &batch, first_image).map(|_| ())
            };
            let samples = passes.time(config.n_passes(), &mut make_step)?;
            if by_kernel {
                let (stepped, times) =
                    profiled(|| (0..PROFILED_PASSES).try_for_each(&mut make_step));
                stepped?;
                training_kernels = shares(&times, batch_size);
            }
            // The backward pass takes about twice the operations of the forward pass.
            Some(timing(samples, work.tripled(), peak_gflops))
        }
    };
    Ok(Measurement {
        batch_size,
        threads: rayon::current_num_threads(),
        parameters: model.unet.parameter_count(),
        forward_gflop_per_image: work.direct,
        computed_gflop_per_image: work.computed,
        peak_gflops,
        simd: kao_kernels::simd_level().name(),
        forward,
        training,
        forward_kernels,
        training_kernels,
    })
}

/// A training step of a new run.
fn training_step<'a>(
    model: &ModelConfig,
    batch_size: usize,
    schedule: &'a NoiseSchedule,
    device: &'a Device,
) -> TrainStep<'a> {
    let objective = ObjectiveConfig {
        prediction: model.prediction,
        timestep_sampling: TimestepSampling::Uniform,
        min_snr_gamma: 0.0,
        loss_focus: 0.0,
        tag_dropout: 0.0,
        seed: 0,
    };
    let update = UpdateConfig {
        optimizer: Optimizer::Adam,
        learning_rate: 1e-4,
        weight_decay: 0.0,
        max_gradient_norm: 0.0,
        ema_decay: 0.999,
    };
    let config = StepConfig {
        objective,
        micro_batch_size: batch_size,
        gradient_checkpointing: false,
        update,
    };
    TrainStep { schedule, device, config }
}

/// Passes that are made one after the other.
struct Passes<'a> {
    config: MeasureConfig,
    /// Passes of all kinds.
    total: usize,
    control: &'a dyn Control,
}

impl Passes<'_> {
    /// The times of `pass`, which gets its number, in milliseconds per image and without the
    /// warm-up. `n_before` passes of other kinds were made before.
    fn time(&self, n_before: usize, mut pass: impl FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for number in 0..self.config.n_passes() {
            let (done, total) = ((n_before + number) as u64, Some(self.total as u64));
            self.control.check(&Report::progress("measuring", done, total, "passes"))?;
            let started = Instant::now();
            pass(number)?;
            let ms = started.elapsed().as_secs_f64() * 1e3 / self.config.batch_size as f64;
            if number >= self.config.n_warmup {
                samples.push(ms);
            }
        }
        Ok(samples)
    }
}

/// A profile of `body`, which runs on a thread of the pool as the kernels do.
fn profiled<R: Send>(body: impl FnOnce() -> R + Send) -> (R, Vec<KernelTime>) {
    rayon::scope(|_| kao_kernels::profile(body))
}

fn shares(times: &[KernelTime], batch_size: usize) -> Vec<KernelShare> {
    let images = (PROFILED_PASSES * batch_size) as f64;
    let share = |time: &KernelTime| KernelShare {
        kernel: time.kernel,
        resolution: time.resolution,
        calls: time.calls / PROFILED_PASSES,
        ms_per_image: time.time.as_secs_f64() * 1e3 / images,
    };
    times.iter().map(share).collect()
}

/// Operations for one image, in 10⁹.
#[derive(Clone, Copy)]
struct Work {
    /// Of a direct computation.
    direct: f64,
    /// As the engine performs them.
    computed: f64,
}

impl Work {
    fn tripled(self) -> Self {
        Work { direct: 3.0 * self.direct, computed: 3.0 * self.computed }
    }
}

fn timing(samples: Vec<f64>, work: Work, peak_gflops: f64) -> Timing {
    let mut sorted = samples.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    };
    Timing {
        ms_per_image: median,
        min_ms_per_image: sorted[0],
        images_per_second: 1e3 / median,
        gflops: work.direct / (median / 1e3),
        computed_gflops: work.computed / (median / 1e3),
        share_of_peak: work.computed / (median / 1e3) / peak_gflops,
        samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let work = Work { direct: 1.0, computed: 0.25 };
        let t = timing(vec![3.0, 1.0, 2.0], work, 1000.0);
        assert_eq!((t.ms_per_image, t.min_ms_per_image), (2.0, 1.0));
        assert_eq!((t.gflops, t.computed_gflops, t.share_of_peak), (500.0, 125.0, 0.125));
        assert_eq!(timing(vec![4.0, 1.0, 2.0, 3.0], work, 1.0).ms_per_image, 2.5);
    }
}
