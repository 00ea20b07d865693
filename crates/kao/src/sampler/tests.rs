//! Samplers against closed forms: for Gaussian data the exact ε is known, so no network is needed.

use super::*;
use crate::denoiser::{Conditions, GaussianDenoiser, Prediction};
use crate::noise::{GivenNoise, NoNoise, SeededNoise};
use crate::schedule::{ScheduleConfig, ScheduleKind};
use crate::timesteps::{End, Spacing, starting_at, walk};

const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(ScheduleConfig::default()).unwrap()
}

fn denoiser(prediction: Prediction) -> GaussianDenoiser {
    GaussianDenoiser { schedule: schedule(), mean: MEAN, standard_deviation: DEVIATION, prediction }
}

fn ddim(eta: f64) -> SamplerConfig {
    SamplerConfig { method: Method::Ddim { eta }, clip: false }
}

fn dpm(eta: f64) -> SamplerConfig {
    SamplerConfig { method: Method::DpmPlusPlus { eta }, clip: false }
}

fn ddpm(variance: Variance, final_noise: bool) -> SamplerConfig {
    SamplerConfig { method: Method::Ddpm { variance, final_noise }, clip: false }
}

/// Where the probability-flow ODE takes x_T, down to the noise level `end`: Gaussians are carried
/// to Gaussians by an affine map.
fn exact(schedule: &NoiseSchedule, x: f64, end: f64) -> f64 {
    let alpha_bar = schedule.alpha_bar(schedule.n_timesteps() - 1);
    let deviation = |alpha_bar: f64| (alpha_bar * DEVIATION.powi(2) + 1.0 - alpha_bar).sqrt();
    let whitened = (x - alpha_bar.sqrt() * MEAN) / deviation(alpha_bar);
    end.sqrt() * MEAN + deviation(end) * whitened
}

fn run(n_steps: usize, config: SamplerConfig, x: Images, noise: &dyn NoiseSource) -> Images {
    let steps = walk(Spacing::Trailing, n_steps, 1000, End::Clean).unwrap();
    let denoiser = denoiser(Prediction::Epsilon);
    sample(&denoiser, &schedule(), &steps, config, x, noise, &mut unobserved).unwrap()
}

/// The largest error of a few starts after so many steps without noise.
fn error(schedule: &NoiseSchedule, n_steps: usize, end: End, config: SamplerConfig) -> f64 {
    let starts = [-2.5f32, -1.0, 0.0, 0.4, 1.7];
    let x = Images::from_vec([1, 1, 1, 5], starts.to_vec()).unwrap();
    let steps = walk(Spacing::Trailing, n_steps, schedule.n_timesteps(), end).unwrap();
    let level = schedule.alpha_bar_at(steps[n_steps - 1].t_prev);
    let denoiser = GaussianDenoiser { schedule: schedule.clone(), ..denoiser(Prediction::Epsilon) };
    let x = sample(&denoiser, schedule, &steps, config, x, &NoNoise, &mut unobserved).unwrap();
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
    // To the first timestep: the step from there to the clean image costs the same in any walk.
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
    let schedule = schedule();
    let walks = [
        vec![Step { t: 600, t_prev: Some(200) }],
        vec![Step { t: 600, t_prev: Some(200) }, Step { t: 200, t_prev: Some(0) }],
        vec![
            Step { t: 600, t_prev: Some(600) },
            Step { t: 600, t_prev: Some(200) },
            Step { t: 200, t_prev: None },
        ],
    ];
    for steps in walks {
        let [one, other] = [ddim(0.0), dpm(0.0)].map(|config| {
            let x = Images::from_vec([1, 1, 1, 2], vec![-1.0, 0.5]).unwrap();
            let denoiser = denoiser(Prediction::Epsilon);
            sample(&denoiser, &schedule, &steps, config, x, &NoNoise, &mut unobserved).unwrap()
        });
        assert_eq!(one.data(), other.data(), "{steps:?}");
    }
}

#[test]
fn stochastic_samplers_reach_the_data_distribution() {
    let n = 256 * 64;
    for config in
        [ddim(0.0), ddim(0.5), ddim(1.0), dpm(0.0), dpm(1.0), ddpm(Variance::Posterior, false)]
    {
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
    for step in walk(Spacing::Trailing, 1000, 1000, End::Clean).unwrap() {
        let ddim = ddim::update(&schedule, step, 1.0).unwrap();
        let ddpm = ddpm::update(&schedule, step, Variance::Posterior, true);
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
    let sigma = ddim::update(&schedule, step, 1.0).unwrap().sigma;
    assert!((sigma * sigma - posterior).abs() < 1e-12);
}

#[test]
fn beta_is_the_larger_variance_and_the_last_step_is_silent_unless_asked() {
    let schedule = schedule();
    let middle = Step { t: 300, t_prev: Some(299) };
    let sigma = |step, variance| ddpm::update(&schedule, step, variance, true).sigma;
    assert!((sigma(middle, Variance::Beta).powi(2) - schedule.beta(300)).abs() < 1e-12);
    assert!(sigma(middle, Variance::Beta) > sigma(middle, Variance::Posterior));

    let last = Step { t: 0, t_prev: None };
    assert_eq!(sigma(last, Variance::Posterior), 0.0);
    assert!(sigma(last, Variance::Beta) > 0.0);

    let x = || Images::zeros([1, 1, 2, 2]);
    let ones = vec![Images::from_vec([1, 1, 2, 2], vec![1.0; 4]).unwrap()];
    let noise = GivenNoise { steps: &ones, first_image: 0 };
    let run = |final_noise| {
        let config = ddpm(Variance::Beta, final_noise);
        let denoiser = denoiser(Prediction::Epsilon);
        sample(&denoiser, &schedule, &[last], config, x(), &noise, &mut unobserved).unwrap()
    };
    let added = f64::from(run(true).data()[0] - run(false).data()[0]);
    assert!((added - schedule.beta(0).sqrt()).abs() < 1e-6);
}

#[test]
fn what_is_predicted_does_not_matter() {
    let noise = SeededNoise { seed: 1, first_image: 0 };
    let steps = walk(Spacing::Trailing, 50, 1000, End::Clean).unwrap();
    let [epsilon, x0, v] = [Prediction::Epsilon, Prediction::X0, Prediction::V].map(|prediction| {
        let x = noise.x_t(2, [3, 4, 4]);
        let denoiser = denoiser(prediction);
        sample(&denoiser, &schedule(), &steps, ddim(0.7), x, &noise, &mut unobserved).unwrap()
    });
    for other in [x0, v] {
        for (a, b) in epsilon.data().iter().zip(other.data()) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    for config in [ddim(1.0), dpm(1.0)] {
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
    let steps = walk(Spacing::Trailing, 10, 1000, End::Clean).unwrap();
    let noise = SeededNoise { seed: 2, first_image: 0 };
    let mut worst = 0.0f32;
    let config = SamplerConfig { clip: true, ..ddim(0.0) };
    let mut watch = |progress: Progress<'_>| {
        worst = progress.x0_hat.data().iter().fold(worst, |worst, v| worst.max(v.abs()));
        Ok(())
    };
    let x = noise.x_t(2, [1, 8, 8]);
    let x = sample(&wide, &schedule(), &steps, config, x, &noise, &mut watch).unwrap();
    assert_eq!(worst, 1.0);
    assert!(x.data().iter().all(|v| v.abs() <= 1.0 + 1e-6));
}

#[test]
fn a_walk_from_the_middle_recovers_a_noised_value() {
    // Noise a value to t = 100, walk down: for narrow data the value comes back.
    let narrow = GaussianDenoiser { standard_deviation: 1e-3, ..denoiser(Prediction::Epsilon) };
    let schedule = schedule();
    let mut x = Images::zeros([1, 1, 1, 4]);
    schedule.add_noise(&[MEAN as f32; 4], &[1.0, -1.0, 0.3, 2.0], 99, x.data_mut());
    let dense = walk(Spacing::Trailing, 1000, 1000, End::Clean).unwrap();
    let steps = starting_at(&dense, 99);
    assert_eq!(steps.len(), 100);
    let x = sample(&narrow, &schedule, &steps, ddim(0.0), x, &NoNoise, &mut unobserved).unwrap();
    assert!(x.data().iter().all(|&v| (f64::from(v) - MEAN).abs() < 0.01), "{:?}", x.data());
}

#[test]
fn impossible_requests_are_refused() {
    let config = SamplerConfig { method: Method::Ddim { eta: -0.1 }, clip: false };
    let denoiser = denoiser(Prediction::Epsilon);
    let attempt = |steps: &[Step], config| {
        let x = Images::zeros([1, 1, 1, 1]);
        sample(&denoiser, &schedule(), steps, config, x, &NoNoise, &mut unobserved).is_err()
    };
    let fine = Step { t: 10, t_prev: Some(5) };
    assert!(attempt(&[fine], config));
    assert!(attempt(&[fine], ddim(f64::NAN)));
    assert!(attempt(&[fine], ddim(100.0)));
    assert!(attempt(&[Step { t: 1000, t_prev: None }], ddim(0.0)));
    assert!(attempt(&[Step { t: 5, t_prev: Some(6) }], ddim(0.0)));
    assert!(!attempt(&[fine], ddim(1.0)));
}

#[test]
fn the_squared_cosine_schedule_walks_too() {
    let config = ScheduleConfig { kind: ScheduleKind::SquaredCosine, ..Default::default() };
    let schedule = NoiseSchedule::new(config).unwrap();
    let denoiser = GaussianDenoiser { schedule: schedule.clone(), ..denoiser(Prediction::Epsilon) };
    let steps = walk(Spacing::Trailing, 100, 1000, End::Clean).unwrap();
    let x = Images::from_vec([1, 1, 1, 2], vec![-1.0, 1.0]).unwrap();
    let x = sample(&denoiser, &schedule, &steps, ddim(0.0), x, &NoNoise, &mut unobserved).unwrap();
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
    let steps = walk(Spacing::Trailing, 4, 1000, End::Clean).unwrap();
    let start = Start::Seed { seed: 1, count: 3, image_shape: [1, 2, 2] };
    for config in [ddim(0.0), dpm(0.0), ddpm(Variance::Beta, false)] {
        for clip in [false, true] {
            let config = SamplerConfig { clip, ..config };
            let run = |denoiser: &dyn Denoiser| {
                generate(denoiser, &schedule(), &steps, config, &start, 2, &mut |_, _| Ok(()))
            };
            let error = run(&BreaksBelow(600)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotFinite { .. }), "{error:?}");
            let expected = "sampling failed: an image holds NaN after step 3 of 4, at timestep 499";
            assert_eq!(error.to_string(), expected);
        }
    }
}
