//! The solvers against closed forms and against diffusers' schedulers, whose values
//! `bench/golden_samplers.py` stored.

use super::*;
use crate::control::Unattended;
use crate::denoiser::{Conditions, Denoiser, GaussianDenoiser, Prediction};
use crate::error::Result;
use crate::images::Images;
use crate::noise::{GivenNoise, NoNoise, NoiseSource, SeededNoise};
use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
use crate::timesteps::{End, Spacing, Step, sequence, visited};
use proptest::prelude::*;
use serde_json::Value;

fn schedule(kind: ScheduleKind) -> NoiseSchedule {
    NoiseSchedule::new(ScheduleConfig { kind, ..ScheduleConfig::default() }).unwrap()
}

fn sample(plan: &Plan, denoiser: &dyn Denoiser, x: Images, noise: &dyn NoiseSource) -> Vec<f64> {
    let images = plan.sample(denoiser, x, noise).unwrap();
    images.data().iter().map(|&value| f64::from(value)).collect()
}

/// The largest difference.
fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

/// The error of a few starts after `n_steps` steps of a Gaussian's exact denoiser, down to the first
/// timestep: the step from there to the clean image costs the same in any sequence.
fn error(n_steps: usize, plan: impl Fn(&NoiseSchedule, Vec<Step>) -> Plan) -> f64 {
    let schedule = schedule(ScheduleKind::Karras);
    let starts = [-2.5f32, -1.0, 0.0, 0.4, 1.7];
    let x = Images::from_vec([1, 1, 1, 5], starts.to_vec()).unwrap();
    let steps =
        sequence(Spacing::Trailing, n_steps, schedule.alpha_bars(), End::FirstTimestep).unwrap();
    let denoiser = GaussianDenoiser {
        schedule: schedule.clone(),
        mean: MEAN,
        standard_deviation: DEVIATION,
        prediction: Prediction::X0,
    };
    let found = sample(&plan(&schedule, steps), &denoiser, x, &NoNoise);
    // The probability-flow ODE carries Gaussians to Gaussians by an affine map.
    let moments = |t: usize| {
        let alpha_bar = schedule.alpha_bar(t);
        let deviation = (alpha_bar * DEVIATION.powi(2) + 1.0 - alpha_bar).sqrt();
        (alpha_bar.sqrt() * MEAN, deviation)
    };
    let ((mean, deviation), (end_mean, end_deviation)) =
        (moments(schedule.n_timesteps() - 1), moments(0));
    let exact = starts.map(|x| end_mean + end_deviation * (f64::from(x) - mean) / deviation);
    largest(&found, &exact)
}

/// By which power of the number of steps the error falls, each time it is doubled.
fn orders(
    n_steps: impl IntoIterator<Item = usize>,
    plan: impl Fn(&NoiseSchedule, Vec<Step>) -> Plan + Copy,
) -> Vec<f64> {
    let errors: Vec<f64> = n_steps.into_iter().map(|n| error(n, plan)).collect();
    errors.windows(2).map(|pair| (pair[0] / pair[1]).log2()).collect()
}

#[test]
fn each_method_converges_to_the_exact_map_at_its_order() {
    // A predictor of second order and its corrector make one of third (Zhao et al. 2023, section 3.2).
    for (sampler, n_steps, expected) in [
        (Sampler::from(Ddim { eta: 0.0 }), 20, 1.0),
        (Euler {}.into(), 20, 1.0),
        (EulerAncestral { eta: 0.0 }.into(), 20, 1.0),
        (Heun {}.into(), 20, 2.0),
        (DpmPlusPlus { eta: 0.0 }.into(), 40, 2.0),
        (DpmPlusPlusSde { eta: 0.0 }.into(), 40, 2.0),
        (UniPc {}.into(), 20, 3.0),
        (DpmPlusPlus3M {}.into(), 40, 3.0),
    ] {
        let plan = |schedule: &_, steps| sampler.plan(schedule, steps, false).unwrap();
        let orders = orders([n_steps, 2 * n_steps, 4 * n_steps], plan);
        let is_it = |order: &f64| (order - expected).abs() < 0.25;
        assert!(orders.iter().all(is_it), "{}: {orders:?}", sampler.name());
    }
}

/// DPM-Solver++(3M) with half of its curvature, as diffusers and the authors' program have it.
fn third_order_with_half_the_curvature(schedule: &NoiseSchedule, steps: Vec<Step>) -> Plan {
    let half = |schedule: &_, steps: &_| Ok(dpm_3m::third_order(schedule, steps, 0.5));
    Plan::new(schedule, steps, false.into(), half).unwrap()
}

#[test]
fn half_the_curvature_costs_the_third_order() {
    let orders = orders([40, 80, 160], third_order_with_half_the_curvature);
    assert!(orders.iter().all(|order| (1.5..2.1).contains(order)), "{orders:?}");
}

/// The exact denoiser of data whose values are of two Gaussians; see `bench/golden_samplers.py`.
struct TwoGaussians(NoiseSchedule);

impl Denoiser for TwoGaussians {
    fn predict(&self, x_t: &Images, timesteps: &[usize], _: &Conditions) -> Result<Images> {
        const MEAN: f64 = 0.7;
        const VARIANCE: f64 = 0.2 * 0.2;
        let mut predicted = Images::zeros(x_t.shape());
        for (k, &t) in timesteps.iter().enumerate() {
            let alpha_bar = self.0.alpha_bar(t);
            let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
            let variance = alpha_bar * VARIANCE + 1.0 - alpha_bar;
            for (out, &x) in predicted.image_mut(k).iter_mut().zip(x_t.image(k)) {
                let x = f64::from(x);
                let side = (signal * MEAN / variance * x).tanh();
                let x0 = signal * VARIANCE / variance * x
                    + MEAN * side * (1.0 - alpha_bar * VARIANCE / variance);
                *out = ((x - signal * x0) / noise) as f32;
            }
        }
        Ok(predicted)
    }
}

fn golden() -> Value {
    serde_json::from_str(include_str!("testdata/golden.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn images(value: &Value) -> Images {
    let values = numbers(value).iter().map(|&value| value as f32).collect();
    Images::from_vec([1, 1, 4, 4], values).unwrap()
}

#[test]
fn values_are_those_of_diffusers() {
    let (golden, schedule) = (golden(), schedule(ScheduleKind::Linear));
    let denoiser = TwoGaussians(schedule.clone());
    let z: Vec<Images> = golden["z"].as_array().unwrap().iter().map(images).collect();
    let noise = GivenNoise { steps: &z, first_image: 0 };
    let runs = golden["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 21);
    for run in runs {
        let sampler = Sampler::named(run["sampler"].as_str().unwrap()).unwrap();
        let n_steps = run["steps"].as_u64().unwrap() as usize;
        let steps =
            sequence(Spacing::Trailing, n_steps, schedule.alpha_bars(), End::Clean).unwrap();
        let plan = match sampler {
            Sampler::DpmPlusPlus3M(_) => third_order_with_half_the_curvature(&schedule, steps),
            _ => sampler.plan(&schedule, steps, false).unwrap(),
        };
        assert_eq!(plan.n_evaluations() as u64, run["evaluations"], "{}", sampler.name());
        let found = sample(&plan, &denoiser, images(&golden["x_T"]), &noise);
        // Their states and levels are in single precision in parts.
        let difference = largest(&found, &numbers(&run["x_0"]));
        assert!(difference < 1e-4, "{} {n_steps} steps: {difference}", sampler.name());
    }
}

#[test]
fn karras_timesteps_are_those_of_diffusers() {
    let schedule = schedule(ScheduleKind::Linear);
    for (n_steps, expected) in golden()["karras"].as_object().unwrap() {
        let found = visited(Spacing::Karras, n_steps.parse().unwrap(), schedule.alpha_bars());
        let expected: Vec<usize> = serde_json::from_value(expected.clone()).unwrap();
        assert_eq!(found.unwrap(), expected);
    }
}

#[test]
fn methods_that_are_one_in_other_variables_give_the_same() {
    for kind in [ScheduleKind::Linear, ScheduleKind::Karras] {
        let schedule = schedule(kind);
        let denoiser = TwoGaussians(schedule.clone());
        let noise = SeededNoise { seed: 3, first_image: 0 };
        for (one, other) in [
            (Sampler::from(EulerAncestral { eta: 1.0 }), Sampler::from(Ddim { eta: 1.0 })),
            (EulerAncestral { eta: 0.4 }.into(), Ddim { eta: 0.4 }.into()),
            (EulerAncestral { eta: 0.0 }.into(), Euler {}.into()),
            (DpmPlusPlusSde { eta: 1.0 }.into(), DpmPlusPlus { eta: 1.0 }.into()),
            (DpmPlusPlusSde { eta: 0.0 }.into(), DpmPlusPlus { eta: 0.0 }.into()),
        ] {
            for (spacing, n_steps) in
                [(Spacing::Trailing, 7), (Spacing::Linear, 30), (Spacing::Karras, 12)]
            {
                let end = spacing.default_end();
                let steps = sequence(spacing, n_steps, schedule.alpha_bars(), end).unwrap();
                let [one_found, other_found] = [one, other].map(|sampler| {
                    let plan = sampler.plan(&schedule, steps.clone(), false).unwrap();
                    sample(&plan, &denoiser, noise.x_t(2, [1, 8, 8]), &noise)
                });
                let difference = largest(&one_found, &other_found);
                assert!(difference < 1e-4, "{one:?} {other:?} {spacing}: {difference}");
            }
        }
    }
}

#[test]
fn steps_of_no_length_do_no_harm() {
    let schedule = schedule(ScheduleKind::Linear);
    let denoiser = TwoGaussians(schedule.clone());
    let steps = [(800, Some(400)), (400, Some(100)), (100, Some(20)), (20, None)];
    let idle = [(800, Some(800)), (400, Some(400)), (100, Some(100)), (20, Some(20))];
    let step = |(t, t_prev): (usize, Option<usize>)| Step { t, t_prev };
    for sampler in Sampler::all().into_iter().filter(|sampler| sampler.name() != "ddpm") {
        for (position, idle) in idle.into_iter().enumerate() {
            let x = || Images::from_vec([1, 1, 1, 3], vec![-1.3, 0.2, 0.9]).unwrap();
            let mut with_idle = steps.to_vec();
            with_idle.insert(position, idle);
            let [found, found_with] = [steps.to_vec(), with_idle].map(|steps| {
                let steps = steps.into_iter().map(step).collect();
                let plan = sampler.plan(&schedule, steps, false).unwrap();
                sample(&plan, &denoiser, x(), &NoNoise)
            });
            assert!(found_with.iter().all(|value| value.is_finite()), "{}", sampler.name());
            // A method that looks back sees no change over such a step, and is of lower order after.
            let bound = if position == 0 { 1e-5 } else { 0.3 };
            let difference = largest(&found, &found_with);
            assert!(difference < bound, "{} at {position}: {difference}", sampler.name());
        }
    }
}

#[test]
fn what_a_method_costs_is_what_it_evaluates() {
    let schedule = schedule(ScheduleKind::Karras);
    for sampler in Sampler::all() {
        for &spacing in Spacing::ALL {
            for end in [End::Clean, End::FirstTimestep] {
                for n_steps in [1, 2, 7, 20] {
                    let steps = sequence(spacing, n_steps, schedule.alpha_bars(), end).unwrap();
                    let plan = sampler.plan(&schedule, steps, false).unwrap();
                    let expected = sampler.n_evaluations(n_steps, end);
                    assert_eq!(plan.n_evaluations(), expected, "{} {spacing}", sampler.name());
                }
            }
        }
    }
    assert_eq!(Sampler::from(Heun {}).n_evaluations(20, End::Clean), 39);
}

proptest! {
    /// Images do not depend on how they are parted into batches, for any method, spacing and number
    /// of steps.
    #[test]
    fn batches_do_not_matter(
        method in 0..Sampler::all().len(),
        spacing in 0..Spacing::ALL.len(),
        n_steps in 1usize..25,
        batch_size in 1usize..5,
        clip: bool,
    ) {
        let (sampler, spacing) = (Sampler::all()[method], Spacing::ALL[spacing]);
        let schedule = schedule(ScheduleKind::Linear);
        let denoiser = TwoGaussians(schedule.clone());
        let end = spacing.default_end();
        let steps = sequence(spacing, n_steps, schedule.alpha_bars(), end).unwrap();
        let plan = sampler.plan(&schedule, steps, clip).unwrap();
        let start = Start::Seed { seed: 8, count: 5, image_shape: [1, 2, 3] };
        let generate = |batch_size| {
            let conditions = &Conditions::none();
            let (denoiser, plan, start) = (&denoiser, &plan, &start);
            let generation = Generation { denoiser, plan, start, conditions, batch_size };
            generation.run(&mut |_, _| {}, &Unattended).unwrap()
        };
        let (parted, whole) = (generate(batch_size), generate(5));
        prop_assert_eq!(parted.data(), whole.data());
prop_assert!(whole.data().iter().all(|value| value.is_finite()), "{:?}", whole.data());
        // The data are of two clusters at ±0.7, and any method ends near them whose steps are not
        // all too long.
        let is_near = whole.data().iter().all(|value| value.abs() < 3.0);
        prop_assert!(is_near || n_steps < 10 || spacing.is_the_originals(), "{:?}", whole.data());
    }
}
