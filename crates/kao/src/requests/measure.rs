//! How long a forward pass and a training step take on this machine.

use crate::control::{Control, Report};
use crate::denoiser::{Conditions, Denoiser, Prediction};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::model::ModelConfig;
use crate::noise::SeededNoise;
use crate::schedule::NoiseSchedule;
use crate::train::TrainConfig;
use crate::train::adam::OptimizerState;
use crate::train::objective::{NoisyBatch, StepPart, loss_gradients};
use crate::unet::{GradientConfig, Network, UNet};
use kao_kernels::{AdamStep, KernelTime};
use serde::Serialize;
use std::time::Instant;

/// Passes that a profile is the mean of.
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
    /// Whether to tell the time by kernel and resolution; on the CPU alone.
    pub by_kernel: bool,
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
    /// Arithmetic per second, by the median, in 10⁹ operations: multiplications and additions as a
    /// direct computation has them.
    pub gflops: f64,
    /// The operations really made per second, by the median, in 10⁹: fewer, since Winograd's
    /// convolution needs a quarter of a direct one's multiplications.
    pub computed_gflops: f64,
    /// Those as a share of the measured peak.
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
    /// Operations of one forward pass for one image, in 10⁹, as a direct computation has them.
    pub forward_gflop_per_image: f64,
    /// Those that the CPU engine really makes.
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
    /// The time of one forward pass by kernel and resolution, where it was asked for.
    pub forward_kernels: Vec<KernelShare>,
    /// The same of one training step.
    pub training_kernels: Vec<KernelShare>,
}

/// The part of a pass that one kernel takes at one resolution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelShare {
    /// The kernel.
    pub kernel: &'static str,
    /// Height and width of what it works on; zeros where there are no pixels.
    pub resolution: [usize; 2],
    /// Calls in a pass.
    pub calls: usize,
    /// Milliseconds per image, the mean of the passes.
    pub ms_per_image: f64,
}

/// Measures a network of `model`'s configuration with random weights on `device`. `control` gets a
/// report before each pass.
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
    let MeasureConfig { batch_size, n_rounds, n_warmup, training, by_kernel } = config;
    for (what, n) in [("batch size", batch_size), ("rounds", n_rounds)] {
        if n == 0 {
            return Err(Error::out_of_range(what, 0, "at least 1"));
        }
    }
    let schedule = NoiseSchedule::new(model.schedule)?;
    let images = SeededNoise { seed: 0, first_image: 0 }.x_t(batch_size, model.unet.image_size);
    let timesteps: Vec<usize> =
        (0..batch_size).map(|k| k * schedule.n_timesteps() / batch_size).collect();
    let work = Work {
        direct: model.unet.forward_flop() as f64 / 1e9,
        computed: model.unet.cpu_forward_flop() as f64 / 1e9,
    };

    let unet = UNet::init(&model.unet, 0)?;
    let network = Network::new(unet, Prediction::Epsilon, device)?;
    let mut samples = Vec::new();
    for round in 0..n_warmup.saturating_add(n_rounds) {
        control.check(&Report::progress("measuring", round as u64, None, "passes"))?;
        let started = Instant::now();
        network.predict(&images, &timesteps, &Conditions::none())?;
        let ms = started.elapsed().as_secs_f64() * 1e3 / batch_size as f64;
        if round >= n_warmup {
            samples.push(ms);
        }
    }
    let peak_gflops = kao_kernels::peak_gflops();
    let forward = timing(samples, work, peak_gflops);
    let mut forward_kernels = Vec::new();
    if by_kernel {
        let (passed, times) = profiled(|| {
            let mut passes = (0..PROFILED_PASSES)
                .map(|_| network.predict(&images, &timesteps, &Conditions::none()));
            passes.try_for_each(|pass| pass.map(|_| ()))
        });
        passed?;
        forward_kernels = shares(&times, batch_size);
    }
    drop(network);
    // What sampling used is not there in the pieces that training needs.
    kao_kernels::release_freed_memory();

    let mut training_kernels = Vec::new();
    let training = match training {
        false => None,
        true => {
            let samples = training_steps(model, &schedule, &images, config, device, control)?;
            if by_kernel {
                let config = MeasureConfig { n_warmup: 0, n_rounds: PROFILED_PASSES, ..config };
                let (stepped, times) =
                    profiled(|| training_steps(model, &schedule, &images, config, device, control));
                stepped?;
                training_kernels = shares(&times, batch_size);
            }
            // Backward takes about twice the operations of forward.
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

fn training_steps(
    model: &ModelConfig,
    schedule: &NoiseSchedule,
    images: &Images,
    config: MeasureConfig,
    device: &Device,
    control: &dyn Control,
) -> Result<Vec<f64>> {
    let mut unet = UNet::init(&model.unet, 0)?;
    let mut optimizer = OptimizerState::new(&unet);
    let recipe = TrainConfig {
        prediction: model.prediction,
        batch_size: config.batch_size,
        ..TrainConfig::default()
    };
    let mut samples = Vec::new();
    for round in 0..config.n_warmup.saturating_add(config.n_rounds) {
        control.check(&Report::progress("measuring", round as u64, None, "passes"))?;
        let started = Instant::now();
        let position =
            StepPart { first_image: round.wrapping_mul(config.batch_size) as u64, offset: 0 };
        let batch = NoisyBatch::drawn(schedule, &recipe, images, position)?;
        let dropout_seed = Some(position.first_image);
        let passes = GradientConfig { dropout_seed, checkpointing: false };
        let found = loss_gradients(&unet, &batch, 1.0, passes, device)?;
        optimizer.step(&mut unet, &found.gradients, AdamStep::default(), 0.999);
        let ms = started.elapsed().as_secs_f64() * 1e3 / config.batch_size as f64;
        if round >= config.n_warmup {
            samples.push(ms);
        }
    }
    Ok(samples)
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
    /// As a direct computation has them.
    direct: f64,
    /// As they are made.
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
