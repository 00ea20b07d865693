//! Samplers against closed forms: for Gaussian data the exact ε is known, so no network is needed.

use super::*;
use crate::control::{Report, Unattended};
use crate::denoiser::{Conditions, Denoiser, GaussianDenoiser, Prediction};
use crate::error::{ErrorKind, Result};
use crate::images::Images;
use crate::noise::{GivenNoise, NoNoise, NoiseSource, SeededNoise};
use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
use crate::timesteps::{End, Spacing, Step, sequence, starting_at};
use std::ops::ControlFlow;
use std::sync::Mutex;

const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(ScheduleConfig::default()).unwrap()
}

fn denoiser(prediction: Prediction) -> GaussianDenoiser {
    GaussianDenoiser { schedule: schedule(), mean: MEAN, standard_deviation: DEVIATION, prediction }
}

fn ddim(eta: f64) -> Sampler {
    Ddim { eta }.into()
}

fn dpm(eta: f64) -> Sampler {
    DpmPlusPlus { eta }.into()
}

fn ddpm(variance: Variance, final_noise: bool) -> Sampler {
    Ddpm { variance: Some(variance), final_noise }.into()
}

/// Takes `x` along `steps` of the denoiser's schedule.
fn sample(
    denoiser: &GaussianDenoiser,
    steps: &[Step],
    sampler: Sampler,
    x: Images,
    noise: &dyn NoiseSource,
) -> Images {
    let plan = sampler.plan(&denoiser.schedule, steps.to_vec(), false).unwrap();
    plan.sample(denoiser, x, noise).unwrap()
}

/// Where the probability-flow ODE takes x_T, down to the noise level `end`: Gaussians are carried
/// to Gaussians by an affine map.
fn exact(schedule: &NoiseSchedule, x: f64, end: f64) -> f64 {
    let alpha_bar = schedule.alpha_bar(schedule.n_timesteps() - 1);
    let deviation = |alpha_bar: f64| (alpha_bar * DEVIATION.powi(2) + 1.0 - alpha_bar).sqrt();
    let whitened = (x - alpha_bar.sqrt() * MEAN) / deviation(alpha_bar);
    end.sqrt() * MEAN + deviation(end) * whitened
}

fn run(n_steps: usize, sampler: Sampler, x: Images, noise: &dyn NoiseSource) -> Images {
    let steps = sequence(Spacing::Trailing, n_steps, schedule().alpha_bars(), End::Clean).unwrap();
    sample(&denoiser(Prediction::Epsilon), &steps, sampler, x, noise)
}

/// The largest error of a few starts after so many steps without noise.
fn error(schedule: &NoiseSchedule, n_steps: usize, end: End, sampler: Sampler) -> f64 {
    let starts = [-2.5f32, -1.0, 0.0, 0.4, 1.7];
    let x = Images::from_vec([1, 1, 1, 5], starts.to_vec()).unwrap();
    let steps = sequence(Spacing::Trailing, n_steps, schedule.alpha_bars(), end).unwrap();
    let level = schedule.alpha_bar_at(steps[n_steps - 1].t_prev);
    let denoiser = GaussianDenoiser { schedule: schedule.clone(), ..denoiser(Prediction::Epsilon) };
    let x = sample(&denoiser, &steps, sampler, x, &NoNoise);
    let arrived = x.data().iter().map(|&x| f64::from(x));
    let expected = starts.map(|start| exact(schedule, f64::from(start), level));
    arrived.zip(expected).map(|(x, expected)| (x - expected).abs()).fold(0.0, f64::max)
}

#[test]
fn ddim_converges_to_the_exact_map_at_first_order() {
    let error = |n_steps| error(&schedule(), n_steps, End::Clean, ddim(0.0));
    let errors = [25, 50, 100, 200].map(error);
    for pair in errors.windows(2) {
        let ratio = pair[0] / pair[1];
        assert!((1.7..2.3).contains(&ratio), "halving the step should halve the error: {errors:?}");
    }
    assert!(error(1000) < 0.01);
}

#[test]
fn dpm_solver_converges_to_the_exact_map_at_second_order() {
    let karras = ScheduleConfig { kind: ScheduleKind::Karras, ..ScheduleConfig::default() };
    let karras = NoiseSchedule::new(karras).unwrap();
    // To the first timestep: the step from there to the clean image costs the same in any sequence.
    let errors =
        [40, 80, 160, 320].map(|n_steps| error(&karras, n_steps, End::FirstTimestep, dpm(0.0)));
    for pair in errors.windows(2) {
        let ratio = pair[0] / pair[1];
        assert!((3.6..4.4).contains(&ratio), "halving the step quarters the error: {errors:?}");
    }
    for schedule in [&schedule(), &karras] {
        for n_steps in [20, 50] {
            let [first, second] =
                [ddim(0.0), dpm(0.0)].map(|config| error(schedule, n_steps, End::Clean, config));
            assert!(second < 0.4 * first, "{n_steps} steps: {second}, DDIM {first}");
        }
    }
}

#[test]
fn dpm_solver_takes_first_and_last_steps_and_those_of_no_length_as_ddim_does() {
    let sequences = [
        vec![Step { t: 600, t_prev: Some(200) }],
        vec![Step { t: 600, t_prev: Some(200) }, Step { t: 200, t_prev: Some(0) }],
        vec![
            Step { t: 600, t_prev: Some(600) },
            Step { t: 600, t_prev: Some(200) },
            Step { t: 200, t_prev: None },
        ],
    ];
    for steps in sequences {
        let [one, other] = [ddim(0.0), dpm(0.0)].map(|sampler| {
            let x = Images::from_vec([1, 1, 1, 2], vec![-1.0, 0.5]).unwrap();
            sample(&denoiser(Prediction::Epsilon), &steps, sampler, x, &NoNoise)
        });
        assert_eq!(one.data(), other.data(), "{steps:?}");
    }
}

#[test]
fn stochastic_samplers_reach_the_data_distribution() {
    let n = 256 * 64;
    for config in [
        ddim(0.0),
        ddim(0.5),
        ddim(1.0),
        dpm(0.0),
        dpm(1.0),
        ddpm(Variance::Posterior, false),
        Euler {}.into(),
    ] {
        let noise = SeededNoise { seed: 5, first_image: 0 };
        let x = run(1000, config, noise.x_t(64, [1, 16, 16]), &noise);
        let values = || x.data().iter().map(|&v| f64::from(v));
        let mean = values().sum::<f64>() / n as f64;
        let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        // Five standard errors, and the discretisation (below 1e-3 in the variance at 1000 steps
        // for a Gaussian this wide).
        let deviation = DEVIATION / (n as f64).sqrt();
        assert!((mean - MEAN).abs() < 5.0 * deviation + 2e-3, "{config:?} mean {mean}");
        let spread = DEVIATION.powi(2) * (2.0 / n as f64).sqrt();
        let expected = DEVIATION.powi(2);
        assert!((variance - expected).abs() < 5.0 * spread + 2e-3, "{config:?} {variance}");
    }
}

#[test]
fn ddim_at_eta_one_is_ddpm_with_the_posterior_variance() {
    let schedule = schedule();
    for step in sequence(Spacing::Trailing, 1000, schedule.alpha_bars(), End::Clean).unwrap() {
        let ddim = ddim::Update::new(&schedule, step, 1.0);
        let ddpm = ddpm::Update::new(&schedule, step, Variance::Posterior, true);
        assert!((ddim.sigma - ddpm.sigma).abs() < 1e-12);
        // Both as functions of x_t and ε: x̂_0 = (x_t − √(1 − ᾱ) ε) / √ᾱ.
        let alpha_bar = schedule.alpha_bar(step.t);
        let from_x = ddim.from_x0 / alpha_bar.sqrt();
        let from_epsilon =
            ddim.from_epsilon - ddim.from_x0 * (1.0 - alpha_bar).sqrt() / alpha_bar.sqrt();
        assert!((from_x - ddpm.from_x).abs() < 1e-12, "{step:?}");
        assert!((from_epsilon - ddpm.from_epsilon).abs() < 1e-9, "{step:?}");
    }
    // The posterior variance of the schedule itself (Ho et al. 2020, equation 7).
    let t = 500;
    let step = Step { t, t_prev: Some(t - 1) };
    let posterior =
        schedule.beta(t) * (1.0 - schedule.alpha_bar(t - 1)) / (1.0 - schedule.alpha_bar(t));
    let sigma = ddim::Update::new(&schedule, step, 1.0).sigma;
    assert!((sigma * sigma - posterior).abs() < 1e-12);
}

#[test]
fn beta_is_the_larger_variance_and_the_last_step_is_silent_unless_asked() {
    let schedule = schedule();
    let middle = Step { t: 300, t_prev: Some(299) };
    let sigma = |step, variance| ddpm::Update::new(&schedule, step, variance, true).sigma;
    assert!((sigma(middle, Variance::Beta).powi(2) - schedule.beta(300)).abs() < 1e-12);
    assert!(sigma(middle, Variance::Beta) > sigma(middle, Variance::Posterior));

    let last = Step { t: 0, t_prev: None };
    assert_eq!(sigma(last, Variance::Posterior), 0.0);
    assert!(sigma(last, Variance::Beta) > 0.0);

    let x = || Images::zeros([1, 1, 2, 2]);
    let ones = vec![Images::from_vec([1, 1, 2, 2], vec![1.0; 4]).unwrap()];
    let noise = GivenNoise { steps: &ones, first_image: 0 };
    let run = |final_noise| {
        let sampler = ddpm(Variance::Beta, final_noise);
        sample(&denoiser(Prediction::Epsilon), &[last], sampler, x(), &noise)
    };
    let added = f64::from(run(true).data()[0] - run(false).data()[0]);
    assert!((added - schedule.beta(0).sqrt()).abs() < 1e-6);
}

#[test]
fn what_is_predicted_does_not_matter() {
    let noise = SeededNoise { seed: 1, first_image: 0 };
    let steps = sequence(Spacing::Trailing, 50, schedule().alpha_bars(), End::Clean).unwrap();
    let [epsilon, x0, v] = [Prediction::Epsilon, Prediction::X0, Prediction::V].map(|prediction| {
        let x = noise.x_t(2, [3, 4, 4]);
        sample(&denoiser(prediction), &steps, ddim(0.7), x, &noise)
    });
    for other in [x0, v] {
        for (a, b) in epsilon.data().iter().zip(other.data()) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    for config in Sampler::all().into_iter().chain([ddim(1.0), dpm(1.0)]) {
        let whole = SeededNoise { seed: 9, first_image: 0 };
        let together = run(20, config, whole.x_t(5, [1, 4, 4]), &whole);
        for k in 0..5 {
            let own = SeededNoise { seed: 9, first_image: k as u64 };
            let alone = run(20, config, own.x_t(1, [1, 4, 4]), &own);
            assert_eq!(alone.image(0), together.image(k));
        }
    }
}

#[test]
fn clipping_holds_the_predicted_image_in_range() {
    let wide = GaussianDenoiser { standard_deviation: 3.0, ..denoiser(Prediction::Epsilon) };
    let steps = sequence(Spacing::Trailing, 10, schedule().alpha_bars(), End::Clean).unwrap();
    let noise = SeededNoise { seed: 2, first_image: 0 };
    let mut worst = 0.0f32;
    let mut observer = |observation: Observation<'_>| {
        worst = observation.denoised.x0().data().iter().fold(worst, |worst, v| worst.max(v.abs()));
    };
    let plan = ddim(0.0).plan(&schedule(), steps, true).unwrap();
    let batch =
        Batch { x: noise.x_t(2, [1, 8, 8]), noise: &noise, conditions: &Conditions::none() };
    let x = plan.sample_observed(&wide, batch, &mut observer, &Unattended).unwrap();
    assert_eq!(worst, 1.0);
    assert!(x.data().iter().all(|v| v.abs() <= 1.0 + 1e-6));
}

#[test]
fn starting_in_the_middle_recovers_a_noised_value() {
    // Noise a value to t = 100, sample from there: for narrow data the value comes back.
    let narrow = GaussianDenoiser { standard_deviation: 1e-3, ..denoiser(Prediction::Epsilon) };
    let schedule = schedule();
    let mut x = Images::zeros([1, 1, 1, 4]);
    schedule.add_noise(&[MEAN as f32; 4], &[1.0, -1.0, 0.3, 2.0], 99, x.data_mut());
    let dense = sequence(Spacing::Trailing, 1000, schedule.alpha_bars(), End::Clean).unwrap();
    let steps = starting_at(&dense, 99);
    assert_eq!(steps.len(), 100);
    let x = sample(&narrow, &steps, ddim(0.0), x, &NoNoise);
    assert!(x.data().iter().all(|&v| (f64::from(v) - MEAN).abs() < 0.01), "{:?}", x.data());
}

#[test]
fn impossible_requests_are_refused() {
    let is_refused = |steps: &[Step], sampler: Sampler| {
        sampler.plan(&schedule(), steps.to_vec(), false).is_err()
    };
    let fine = Step { t: 10, t_prev: Some(5) };
    for eta in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        for sampler in [ddim(eta), dpm(eta)] {
            let error = sampler.plan(&schedule(), vec![fine], false).unwrap_err().to_string();
            assert_eq!(error, format!("sampler.eta {eta}: must be between 0 and 1"));
        }
    }
    for sampler in Sampler::all() {
        assert!(is_refused(&[Step { t: 1000, t_prev: None }], sampler));
        assert!(is_refused(&[Step { t: 5, t_prev: Some(6) }], sampler));
        assert!(!is_refused(&[fine], sampler));
    }
    assert!(!is_refused(&[fine], ddim(1.0)));
}

#[test]
fn the_squared_cosine_schedule_is_sampled_too() {
    let config = ScheduleConfig { kind: ScheduleKind::SquaredCosine, ..Default::default() };
    let schedule = NoiseSchedule::new(config).unwrap();
    let denoiser = GaussianDenoiser { schedule: schedule.clone(), ..denoiser(Prediction::Epsilon) };
    let steps = sequence(Spacing::Trailing, 100, schedule.alpha_bars(), End::Clean).unwrap();
    let x = Images::from_vec([1, 1, 1, 2], vec![-1.0, 1.0]).unwrap();
    let x = sample(&denoiser, &steps, ddim(0.0), x, &NoNoise);
    for (x, expected) in x.data().iter().zip([MEAN - DEVIATION, MEAN + DEVIATION]) {
        assert!((f64::from(*x) - expected).abs() < 0.03, "{x} {expected}");
    }
}

/// Predicts without fault above a timestep, and no numbers at it and below.
struct BreaksBelow(usize);

impl Denoiser for BreaksBelow {
    fn predict(&self, x_t: &Images, timesteps: &[usize], _: &Conditions) -> Result<Images> {
        let mut predicted = Images::zeros(x_t.shape());
        if timesteps[0] <= self.0 {
            predicted.data_mut()[1] = f32::NAN;
        }
        Ok(predicted)
    }

    fn prediction(&self) -> Prediction {
        Prediction::Epsilon
    }
}

#[test]
fn images_that_are_not_finite_are_an_error() {
    let steps = sequence(Spacing::Trailing, 4, schedule().alpha_bars(), End::Clean).unwrap();
    let start = Start::Seed { seed: 1, count: 3, image_shape: [1, 2, 2] };
    for sampler in Sampler::all() {
        for clip in [false, true] {
            let plan = sampler.plan(&schedule(), steps.clone(), clip).unwrap();
            let denoiser = BreaksBelow(600);
            let conditions = &Conditions::none();
            let generation = Generation {
                denoiser: &denoiser,
                plan: &plan,
                start: &start,
                conditions,
                batch_size: 2,
            };
            let error = generation.run(&mut |_, _| {}, &Unattended).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotFinite { .. }), "{error:?}");
            // Heun's method looks where a step arrives.
            let at = match sampler {
                Sampler::Heun(_) => "after step 2 of 4, at timestep 749",
                _ => "after step 3 of 4, at timestep 499",
            };
            let expected = format!("sampling failed: an image holds NaN {at}");
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn euler_converges_to_the_exact_map_at_first_order() {
    let error = |n_steps| error(&schedule(), n_steps, End::Clean, Euler {}.into());
    let errors = [25, 50, 100, 200].map(error);
    for pair in errors.windows(2) {
        let ratio = pair[0] / pair[1];
        assert!((1.7..2.3).contains(&ratio), "halving the step should halve the error: {errors:?}");
    }
}

#[test]
fn euler_is_ddim_without_noise() {
    let karras = ScheduleConfig { kind: ScheduleKind::Karras, ..ScheduleConfig::default() };
    let noise = SeededNoise { seed: 4, first_image: 0 };
    for schedule in [schedule(), NoiseSchedule::new(karras).unwrap()] {
        for (spacing, n_steps) in [(Spacing::Trailing, 7), (Spacing::Linear, 50)] {
            let steps =
                sequence(spacing, n_steps, schedule.alpha_bars(), spacing.default_end()).unwrap();
            for clip in [false, true] {
                let [euler, ddim] = [Euler {}.into(), ddim(0.0)].map(|sampler: Sampler| {
                    let plan = sampler.plan(&schedule, steps.clone(), clip).unwrap();
                    let denoiser = GaussianDenoiser {
                        schedule: schedule.clone(),
                        ..denoiser(Prediction::Epsilon)
                    };
                    plan.sample(&denoiser, noise.x_t(2, [1, 8, 8]), &NoNoise).unwrap()
                });
                for (a, b) in euler.data().iter().zip(ddim.data()) {
                    assert!((a - b).abs() < 2e-5, "{spacing} {n_steps} clip {clip}: {a} {b}");
                }
            }
        }
    }
}

/// Asks for images that are as bright as the number of their first tag says.
struct Brightness;

impl Denoiser for Brightness {
    fn predict(&self, x_t: &Images, _: &[usize], conditions: &Conditions) -> Result<Images> {
        let mut x0 = Images::zeros(x_t.shape());
        for k in 0..x_t.len() {
            let tag = conditions.of(k).first().copied().unwrap_or(0);
            x0.image_mut(k).fill(tag as f32 / 10.0);
        }
        Ok(x0)
    }

    fn prediction(&self) -> Prediction {
        Prediction::X0
    }
}

#[test]
fn every_image_has_its_own_condition_whatever_the_batch() {
    let conditions = Conditions::new(vec![vec![1], vec![], vec![3], vec![4], vec![5]]);
    let start = Start::Seed { seed: 1, count: 5, image_shape: [1, 2, 2] };
    for sampler in Sampler::all() {
        let steps = sequence(Spacing::Trailing, 3, schedule().alpha_bars(), End::Clean).unwrap();
        let plan = sampler.plan(&schedule(), steps, false).unwrap();
        for batch_size in [1, 2, 5] {
            let generation = Generation {
                denoiser: &Brightness,
                plan: &plan,
                start: &start,
                conditions: &conditions,
                batch_size,
            };
            let images = generation.run(&mut |_, _| {}, &Unattended).unwrap();
            for (k, expected) in [0.1, 0.0, 0.3, 0.4, 0.5].into_iter().enumerate() {
                let values = images.image(k);
                let is_it = values.iter().all(|value| (value - expected).abs() < 1e-5);
                assert!(is_it, "{} image {k}: {values:?}", sampler.name());
            }
        }
    }
}

#[test]
fn progress_counts_evaluations_of_the_network_and_stops_the_work() {
    let start = Start::Seed { seed: 1, count: 5, image_shape: [1, 2, 2] };
    for sampler in Sampler::all() {
        let steps = sequence(Spacing::Trailing, 4, schedule().alpha_bars(), End::Clean).unwrap();
        let plan = sampler.plan(&schedule(), steps, false).unwrap();
        let generation = Generation {
            denoiser: &denoiser(Prediction::Epsilon),
            plan: &plan,
            start: &start,
            conditions: &Conditions::none(),
            batch_size: 2,
        };
        let total = 5 * plan.n_evaluations() as u64;
        let reports = Mutex::new(Vec::new());
        let control = |report: &Report<'_>| {
            assert_eq!((report.stage, report.total), ("sampling", Some(total)));
            reports.lock().unwrap().push(report.done);
            ControlFlow::Continue(())
        };
        generation.run(&mut |_, _| {}, &control).unwrap();
        let reports = reports.into_inner().unwrap();
        assert!(reports.is_sorted() && reports[0] == 2, "{reports:?}");
        assert_eq!(reports.last(), Some(&total), "{}", sampler.name());
        let stop = |report: &Report<'_>| match report.done {
            0..=4 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        let error = generation.run(&mut |_, _| {}, &stop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Interrupted), "{error}");
    }
}
