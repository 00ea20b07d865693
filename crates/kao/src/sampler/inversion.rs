//! DDIM inversion: from pictures to the noise that DDIM takes to them (Song et al. 2021, section 5.4).
//!
//! Without noise, a step of DDIM from a level b down to a is x_a = √ᾱ_a x̂_0 + √(1 − ᾱ_a) ε̂, with
//! ε̂ = ε(x_b, b). Read upwards, x_b is known once ε̂ is, but ε̂ is asked for at x_b. Inversion takes
//! it where x_b is thought to be. Of first order, as published, that is at x_a itself; of second
//! order where ε̂ of the step before leads to, which is nearer and costs nothing. Either way the
//! answer may be improved by asking again where it leads to (a fixed point is the exact inverse).

use super::Plan;
use super::level::Level;
use super::process::{Evaluations, Observation, Process, unobserved};
use crate::control::Control;
use crate::denoiser::{Clipping, Conditions, Denoiser};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::NoNoise;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};

/// How each step upwards is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InversionConfig {
    /// 1: as published. 2: beginning where the noise of the step before leads to.
    pub order: usize,
    /// How often the network is asked in each step.
    pub iterations: usize,
}

impl Default for InversionConfig {
    /// Second order, once.
    fn default() -> Self {
        InversionConfig { order: 2, iterations: 1 }
    }
}

impl InversionConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// When the order is neither 1 nor 2, or there is no iteration.
    pub fn validate(&self) -> Result<()> {
        if !(1..=2).contains(&self.order) {
            return Err(Error::out_of_range("order", self.order, "1 or 2"));
        }
        match self.iterations {
            0 => Err(Error::out_of_range("iterations", 0, "at least 1")),
            _ => Ok(()),
        }
    }

    /// How often the network is evaluated for each picture in `n_steps` steps.
    pub fn n_evaluations(&self, n_steps: usize) -> usize {
        // The first step has none before it, and asks once more.
        let more = usize::from(self.order == 2 && n_steps > 0);
        n_steps.saturating_mul(self.iterations).saturating_add(more)
    }
}

/// The steps of DDIM without noise, taken upwards.
pub struct Inversion<'a> {
    schedule: &'a NoiseSchedule,
    /// Lowest first.
    steps: Vec<Step>,
    config: InversionConfig,
}

impl<'a> Inversion<'a> {
    /// Of the steps of `plan` over `schedule`.
    ///
    /// # Errors
    /// As [`InversionConfig::validate`].
    pub fn new(schedule: &'a NoiseSchedule, plan: &Plan, config: InversionConfig) -> Result<Self> {
        config.validate()?;
        Ok(Inversion { schedule, steps: plan.steps().iter().rev().copied().collect(), config })
    }

    /// How often the network is evaluated for each picture.
    pub fn n_evaluations(&self) -> usize {
        self.config.n_evaluations(self.steps.len())
    }

    /// Takes `pictures` (`[N, C, H, W]`, at the level where the steps end) to the level of the first
    /// step, `batch_size` at a time. Predictions of x_0 are not clipped.
    ///
    /// # Errors
    /// When the batch size is 0, the denoiser fails, values are not finite, or `control` stops the
    /// work.
    pub fn encode(
        &self,
        denoiser: &dyn Denoiser,
        pictures: &Images,
        batch_size: usize,
        control: &dyn Control,
    ) -> Result<Images> {
        if batch_size == 0 {
            return Err(Error::out_of_range("batch_size", 0, "at least 1"));
        }
        let n_total = self.n_evaluations().saturating_mul(pictures.len());
        let evaluations = Evaluations::of_stage("encoding", control, n_total);
        let mut encoded = pictures.slice(0..0);
        for first in (0..pictures.len()).step_by(batch_size) {
            let batch = pictures.slice(first..pictures.len().min(first + batch_size));
            encoded.append(&self.encode_batch(denoiser, batch, &evaluations)?)?;
        }
        Ok(encoded)
    }

    fn encode_batch(
        &self,
        denoiser: &dyn Denoiser,
        mut x: Images,
        evaluations: &Evaluations<'_>,
    ) -> Result<Images> {
        let mut process = Process {
            denoiser,
            schedule: self.schedule,
            steps: &self.steps,
            clipping: Clipping::None,
            noise: &NoNoise,
            conditions: &Conditions::none(),
            observer: &mut (unobserved as fn(Observation<'_>)),
            evaluations,
        };
        // ε̂ of the step before.
        let mut before: Option<Images> = None;
        for (i, step) in self.steps.iter().enumerate() {
            let [to, from] = Level::ends(self.schedule, step);
            let risen = |k: usize, epsilon: f64| {
                let x0 = (f64::from(x.data()[k]) - from.noise * epsilon) / from.signal;
                to.signal * x0 + to.noise * epsilon
            };
            let mut arrived = match &before {
                Some(epsilon) if self.config.order == 2 => {
                    process.update(i, &x, 0.0, |k, _| risen(k, f64::from(epsilon.data()[k])))
                }
                _ => x.clone(),
            };
            let more = usize::from(self.config.order == 2 && before.is_none());
            for _ in 0..self.config.iterations + more {
                let denoised = process.denoise(&arrived, step.t)?;
                let epsilon = process.update(i, &x, 0.0, |k, _| denoised.at(k).epsilon);
                let next = process.update(i, &x, 0.0, |k, _| risen(k, denoised.at(k).epsilon));
                process.arrived(i, &next, &denoised)?;
                arrived = next;
                before = Some(epsilon);
            }
            x = arrived;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Unattended;
    use crate::denoiser::{GaussianDenoiser, Prediction};
    use crate::sampler::{Ddim, SamplingConfig};
    use crate::schedule::{ScheduleConfig, ScheduleKind};

    const MEAN: f64 = 0.3;
    const DEVIATION: f64 = 0.5;

    fn schedule() -> NoiseSchedule {
        let config = ScheduleConfig { kind: ScheduleKind::Karras, ..ScheduleConfig::default() };
        NoiseSchedule::new(config).unwrap()
    }

    fn denoiser(prediction: Prediction) -> GaussianDenoiser {
        let (mean, standard_deviation) = (MEAN, DEVIATION);
        GaussianDenoiser { schedule: schedule(), mean, standard_deviation, prediction }
    }

    fn pictures() -> Images {
        Images::from_vec([3, 1, 1, 2], vec![-0.9, -0.2, 0.0, 0.3, 0.6, 1.0]).unwrap()
    }

    /// The pictures encoded, and decoded again by the same steps.
    fn there_and_back(
        n_steps: usize,
        config: InversionConfig,
        prediction: Prediction,
    ) -> [Images; 2] {
        let sampler = Some(Ddim::default().into());
        let sampling = SamplingConfig { sampler, steps: Some(n_steps), ..Default::default() };
        let (schedule, denoiser) = (schedule(), denoiser(prediction));
        let plan = sampling.plan(&schedule).unwrap();
        let inversion = Inversion::new(&schedule, &plan, config).unwrap();
        let encoded = inversion.encode(&denoiser, &pictures(), 2, &Unattended).unwrap();
        let decoded = plan.sample(&denoiser, encoded.clone(), &NoNoise).unwrap();
        [encoded, decoded]
    }

    fn error(n_steps: usize, order: usize, iterations: usize) -> f64 {
        let config = InversionConfig { order, iterations };
        let [_, decoded] = there_and_back(n_steps, config, Prediction::Epsilon);
        let pairs = pictures().into_vec().into_iter().zip(decoded.into_vec());
        pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
    }

    #[test]
    fn what_is_encoded_is_decoded_again_the_better_the_more_steps() {
        let of = |order| [25, 50, 100, 200].map(|n_steps| error(n_steps, order, 1));
        let (first, second) = (of(1), of(2));
        for (errors, range) in [(first, 1.6..2.4), (second, 3.0..5.0)] {
            for pair in errors.windows(2) {
                assert!(range.contains(&(pair[0] / pair[1])), "{errors:?}");
            }
        }
        assert!(first.iter().zip(second).all(|(first, second)| second < 0.5 * first));
        // The fixed point is the exact inverse.
        assert!(error(25, 1, 200) < 1e-5 && error(25, 2, 200) < 1e-5);
    }

    #[test]
    fn pictures_of_the_data_are_encoded_to_gaussian_noise() {
        let config = InversionConfig { order: 2, iterations: 1 };
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::X0] {
            let [encoded, _] = there_and_back(500, config, prediction);
            for (x_0, x_t) in pictures().data().iter().zip(encoded.data()) {
                // The probability-flow ODE carries quantiles to quantiles.
                let expected = (f64::from(*x_0) - MEAN) / DEVIATION;
                assert!((f64::from(*x_t) - expected).abs() < 0.05, "{prediction:?}: {x_t}");
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_and_costs_counted() {
        let refused = |order, iterations| {
            InversionConfig { order, iterations }.validate().unwrap_err().to_string()
        };
        assert_eq!(refused(0, 1), "order 0: must be 1 or 2");
        assert_eq!(refused(3, 1), "order 3: must be 1 or 2");
        assert_eq!(refused(1, 0), "iterations 0: must be at least 1");
        assert_eq!(InversionConfig { order: 1, iterations: 1 }.n_evaluations(50), 50);
        assert_eq!(InversionConfig { order: 2, iterations: 3 }.n_evaluations(50), 151);
        let n_evaluations = std::sync::atomic::AtomicU64::new(0);
        let control = |report: &crate::control::Report<'_>| {
            assert_eq!((report.stage, report.total), ("encoding", Some(27)));
            n_evaluations.store(report.done, std::sync::atomic::Ordering::Relaxed);
            std::ops::ControlFlow::Continue(())
        };
        let (schedule, denoiser) = (schedule(), denoiser(Prediction::Epsilon));
        let sampling = SamplingConfig { steps: Some(4), ..Default::default() };
        let plan = sampling.plan(&schedule).unwrap();
        let config = InversionConfig { order: 2, iterations: 2 };
        let inversion = Inversion::new(&schedule, &plan, config).unwrap();
        inversion.encode(&denoiser, &pictures(), 2, &control).unwrap();
        assert_eq!(n_evaluations.into_inner(), 27);
    }
}
