//! Samples from a denoiser of one's own. Samplers know nothing else of a network, so anything that
//! predicts noise will do; here it is a formula instead of a network.
//!
//! ```text
//! cargo run --release -p kao --example your_own_denoiser
//! ```

use kao::denoiser::{Conditions, Denoiser, Prediction};
use kao::noise::SeededNoise;
use kao::sampler::{Sampler, SamplingConfig};
use kao::schedule::{NoiseSchedule, ScheduleConfig};
use kao::{Images, Result};

/// The exact denoiser of data that consist of two values, −1 and 1, each half of the time.
struct TwoValues {
    schedule: NoiseSchedule,
}

impl Denoiser for TwoValues {
    fn predict(&self, x_t: &Images, timesteps: &[usize], _: &Conditions) -> Result<Images> {
        let mut x_0 = Images::zeros(x_t.shape());
        for (k, &t) in timesteps.iter().enumerate() {
            // E[x_0 | x_t] for x_t = √ᾱ x_0 + √(1 − ᾱ) ε.
            let alpha_bar = self.schedule.alpha_bar(t);
            let slope = alpha_bar.sqrt() / (1.0 - alpha_bar);
            for (x_0, &x_t) in x_0.image_mut(k).iter_mut().zip(x_t.image(k)) {
                *x_0 = (slope * f64::from(x_t)).tanh() as f32;
            }
        }
        Ok(x_0)
    }

    fn prediction(&self) -> Prediction {
        Prediction::X0
    }
}

fn main() -> Result<()> {
    let schedule = NoiseSchedule::new(ScheduleConfig::default())?;
    let denoiser = TwoValues { schedule: schedule.clone() };
    let noise = SeededNoise { seed: 7, first_image: 0 };
    for sampler in Sampler::all() {
        let sampler = Some(sampler);
        let plan = SamplingConfig { sampler, ..SamplingConfig::default() }.plan(&schedule)?;
        let images = plan.sample(&denoiser, noise.x_t(4, [1, 16, 16]), &noise)?;
        let values = images.data();
        let ones = values.iter().filter(|&&value| value > 0.0).count();
        let off = values.iter().map(|value| (value.abs() - 1.0).abs()).fold(0.0, f32::max);
        let name = sampler.map_or("", |sampler| sampler.name());
        println!(
            "{name:<8} {} evaluations: {:.0} % are 1, at most {off:.4} off",
            plan.n_evaluations(),
            100.0 * ones as f64 / values.len() as f64
        );
    }
    Ok(())
}
