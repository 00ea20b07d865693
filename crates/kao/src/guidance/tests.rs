//! Guidance on a mixture of Gaussians, whose denoiser is known in closed form, conditional on the
//! component and unconditional.

use super::*;
use crate::control::Unattended;
use crate::sampler::{DpmPlusPlus, Generation, SamplingConfig, Start};
use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two Gaussians of standard deviation `spread` around −`distance` and +`distance`, equally likely,
/// for images of a single value. Tag 0 is the first, tag 1 the second.
struct Mixture {
    schedule: NoiseSchedule,
    distance: f64,
    spread: f64,
    n_images: AtomicUsize,
}

impl Mixture {
    fn new(distance: f64, spread: f64) -> Self {
        let config = ScheduleConfig { kind: ScheduleKind::Karras, ..ScheduleConfig::default() };
        let schedule = NoiseSchedule::new(config).unwrap();
        Mixture { schedule, distance, spread, n_images: AtomicUsize::new(0) }
    }

    /// E[ε | x_t] under `tags`.
    fn epsilon(&self, x_t: f64, t: usize, tags: &[usize]) -> f64 {
        let alpha_bar = self.schedule.alpha_bar(t);
        let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let variance = alpha_bar * self.spread * self.spread + 1.0 - alpha_bar;
        let means = [-self.distance, self.distance];
        let asked = |k: usize| tags.is_empty() || tags.contains(&k);
        let weights = [0, 1].map(|k| {
            let z = x_t - signal * means[k];
            if asked(k) { (-z * z / (2.0 * variance)).exp() } else { 0.0 }
        });
        let total = (weights[0] + weights[1]).max(f64::MIN_POSITIVE);
        let mean = (weights[0] * means[0] + weights[1] * means[1]) / total;
        noise * (x_t - signal * mean) / variance
    }
}

impl Denoiser for Mixture {
    fn predict(&self, x_t: &Images, timesteps: &[usize], asked: &Conditions) -> Result<Images> {
        self.n_images.fetch_add(x_t.len(), Ordering::Relaxed);
        let mut predicted = Images::zeros(x_t.shape());
        for (k, &t) in timesteps.iter().enumerate() {
            for (out, &x) in predicted.image_mut(k).iter_mut().zip(x_t.image(k)) {
                *out = self.epsilon(f64::from(x), t, asked.of(k)) as f32;
            }
        }
        Ok(predicted)
    }
}

fn noisy(values: &[f32]) -> Images {
    Images::from_vec([values.len(), 1, 1, 1], values.to_vec()).unwrap()
}

fn scale(scale: f64) -> GuidanceConfig {
    GuidanceConfig { scale, ..GuidanceConfig::default() }
}

fn asked(tags: &[&[usize]]) -> Conditions {
    Conditions::new(tags.iter().map(|tags| tags.to_vec()).collect())
}

#[test]
fn classifier_free_guidance_is_the_papers_formula() {
    let mixture = Mixture::new(0.8, 0.2);
    let conditions = asked(&[&[1], &[0], &[1]]).avoiding(vec![vec![], vec![1], vec![0]]);
    let values = [0.3f32, -0.2, 1.1];
    let t = 400;
    let guided = Guided::new(&mixture, Negative::Same, &mixture.schedule, scale(2.5)).unwrap();
    let found = guided.predict(&noisy(&values), &[t; 3], &conditions).unwrap();
    for (k, &x) in values.iter().enumerate() {
        let positive = mixture.epsilon(f64::from(x), t, conditions.of(k));
        let negative = mixture.epsilon(f64::from(x), t, conditions.avoided_of(k));
        // (1 + w) ε(z, c) − w ε(z), with w = s − 1 (Ho & Salimans 2022, equation 6).
        let expected = 2.5 * positive - 1.5 * negative;
        assert!((f64::from(found.data()[k]) - expected).abs() < 1e-5, "image {k}");
    }
}

#[test]
fn guided_samples_keep_to_their_side() {
    // The guided score is that of p(x)·p(c | x)^s: samples lie farther from the other component.
    let mixture = Mixture::new(0.25, 0.25);
    let config =
        SamplingConfig { sampler: Some(DpmPlusPlus::default().into()), ..Default::default() };
    let plan = SamplingConfig { steps: Some(50), ..config }.plan(&mixture.schedule).unwrap();
    let start = Start::Seed { seed: 3, count: 400, image_shape: [1, 1, 1] };
    let conditions = asked(&vec![&[1usize][..]; 400]);
    let mean = |guidance: f64| {
        let guided =
            Guided::new(&mixture, Negative::Same, &mixture.schedule, scale(guidance)).unwrap();
        let generation = Generation {
            denoiser: &guided,
            plan: &plan,
            start: &start,
            conditions: &conditions,
            batch_size: 64,
        };
        let images = generation.run(&mut |_, _| {}, &Unattended).unwrap();
        images.data().iter().map(|&value| f64::from(value)).sum::<f64>() / 400.0
    };
    let means = [0.0, 1.0, 2.0, 4.0].map(mean);
    assert!(means[0].abs() < 0.05, "scale 0 is unconditional: {means:?}");
    assert!((means[1] - 0.25).abs() < 0.04, "scale 1 is the component: {means:?}");
    assert!(means[2] > means[1] + 0.03 && means[3] > means[2] + 0.03, "{means:?}");
}

#[test]
fn a_guide_and_tags_act_each_at_their_own_noise_levels() {
    let (mixture, weaker) = (Mixture::new(0.7, 0.2), Mixture::new(0.7, 0.35));
    let schedule = &mixture.schedule;
    let sigma = |t: usize| ((1.0 - schedule.alpha_bar(t)) / schedule.alpha_bar(t)).sqrt();
    let within =
        |s: f64, low: f64, high: f64| GuidanceConfig { interval: Some([low, high]), ..scale(s) };
    let negative = Negative::Weaker { denoiser: &weaker, tags: vec![None, None] };
    let guided = Guided::new(&mixture, negative, schedule, within(1.8, 0.0, 1.0)).unwrap();
    let guided = guided.and_by_tags(within(2.5, 0.5, f64::INFINITY)).unwrap();
    let x = 0.4f32;
    let mut seen = [0; 3];
    for t in (0..1000).step_by(50) {
        let found = guided.predict(&noisy(&[x]), &[t], &asked(&[&[1]])).unwrap().data()[0];
        let weak = weaker.epsilon(f64::from(x), t, &[]);
        // What the guide makes of a prediction under these tags.
        let by_guide = |tags: &[usize]| {
            let own = mixture.epsilon(f64::from(x), t, tags);
            if sigma(t) <= 1.0 { weak + 1.8 * (own - weak) } else { own }
        };
        let expected = match sigma(t) >= 0.5 {
            true => by_guide(&[]) + 2.5 * (by_guide(&[1]) - by_guide(&[])),
            false => by_guide(&[1]),
        };
        seen[usize::from(sigma(t) >= 0.5) + usize::from(sigma(t) > 1.0)] += 1;
        assert!((f64::from(found) - expected).abs() < 1e-4, "{t}: {found} and {expected}");
    }
    assert!(seen.iter().all(|&n| n > 0), "the guide alone, both, tags alone: {seen:?}");
}

#[test]
fn autoguidance_leads_away_from_what_the_weaker_one_does_worse() {
    // A weaker denoiser knows the components less exactly: it takes them to be wider. Guided away
    // from it, samples concentrate (Karras et al. 2024, section 3).
    let (mixture, weaker) = (Mixture::new(0.7, 0.2), Mixture::new(0.7, 0.35));
    let (x, t) = (0.4f32, 350);
    let negative = || Negative::Weaker { denoiser: &weaker, tags: vec![Some(0), None] };
    let guided = Guided::new(&mixture, negative(), &mixture.schedule, scale(1.8)).unwrap();
    let found = guided.predict(&noisy(&[x, x]), &[t; 2], &asked(&[&[0], &[1]])).unwrap();
    for (k, (tags, known)) in [(vec![0], vec![0]), (vec![1], vec![])].into_iter().enumerate() {
        let positive = mixture.epsilon(f64::from(x), t, &tags);
        let negative = weaker.epsilon(f64::from(x), t, &known);
        let expected = negative + 1.8 * (positive - negative);
        assert!((f64::from(found.data()[k]) - expected).abs() < 1e-5, "image {k}");
    }
    let spread = |denoiser: &dyn Denoiser| {
        let plan = SamplingConfig::default().plan(&mixture.schedule).unwrap();
        let start = Start::Seed { seed: 3, count: 300, image_shape: [1, 1, 1] };
        let conditions = asked(&vec![&[0usize][..]; 300]);
        let generation = Generation {
            denoiser,
            plan: &plan,
            start: &start,
            conditions: &conditions,
            batch_size: 300,
        };
        deviation(generation.run(&mut |_, _| {}, &Unattended).unwrap().data())
    };
    let (with, without) = (spread(&guided), spread(&mixture));
    assert!(with < 0.9 * without, "{with} {without}");
}

#[test]
fn a_scale_of_one_is_no_guidance_and_costs_nothing() {
    let mixture = Mixture::new(0.8, 0.2);
    let x = noisy(&[0.3, -0.2]);
    let conditions = asked(&[&[1], &[]]).avoiding(vec![vec![0], vec![]]);
    let expected = mixture.predict(&x, &[400, 10], &conditions).unwrap();
    let guided = Guided::new(&mixture, Negative::Same, &mixture.schedule, scale(1.0)).unwrap();
    mixture.n_images.store(0, Ordering::Relaxed);
    assert_eq!(guided.predict(&x, &[400, 10], &conditions).unwrap(), expected);
    assert_eq!(mixture.n_images.load(Ordering::Relaxed), 2);
}

#[test]
fn outside_the_interval_predictions_are_left_alone() {
    let mixture = Mixture::new(0.8, 0.2);
    let sigma = |t| {
        let alpha_bar: f64 = mixture.schedule.alpha_bar(t);
        ((1.0 - alpha_bar) / alpha_bar).sqrt()
    };
    let interval = Some([sigma(300) - 1e-9, sigma(500) + 1e-9]);
    let config = GuidanceConfig { interval, ..scale(3.0) };
    let guided = Guided::new(&mixture, Negative::Same, &mixture.schedule, config).unwrap();
    let everywhere = Guided::new(&mixture, Negative::Same, &mixture.schedule, scale(3.0)).unwrap();
    let timesteps = [299, 300, 400, 500, 501];
    let x = noisy(&[0.1; 5]);
    let conditions = asked(&[&[1][..]; 5]);
    let found = guided.predict(&x, &timesteps, &conditions).unwrap();
    let plain = mixture.predict(&x, &timesteps, &conditions).unwrap();
    let full = everywhere.predict(&x, &timesteps, &conditions).unwrap();
    for (k, is_within) in [false, true, true, true, false].into_iter().enumerate() {
        let expected = if is_within { &full } else { &plain };
        assert_eq!(found.image(k), expected.image(k), "timestep {}", timesteps[k]);
        assert_ne!(full.image(k), plain.image(k));
    }
}

#[test]
fn impossible_settings_are_named() {
    let cases = [
        (scale(-1.0), "guidance"),
        (scale(f64::NAN), "guidance"),
        (GuidanceConfig { rescale: 1.5, ..scale(2.0) }, "guidance_rescale"),
        (GuidanceConfig { interval: Some([2.0, 1.0]), ..scale(2.0) }, "guidance_interval"),
        (GuidanceConfig { interval: Some([f64::NAN, 1.0]), ..scale(2.0) }, "guidance_interval"),
    ];
    for (config, field) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(field), "{error} lacks {field}");
    }
}

proptest! {
    #[test]
    fn a_whole_rescale_keeps_the_spread(
        values in prop::collection::vec((-3.0f32..3.0, -3.0f32..3.0), 8..40), scale in 1.5f64..6.0,
    ) {
        let (mut positive, negative): (Vec<f32>, Vec<f32>) = values.into_iter().unzip();
        let before = deviation(&positive);
        guide(&mut positive, &negative, scale, 1.0);
        prop_assert!((deviation(&positive) - before).abs() < 1e-4 * before.max(1.0));
    }
}
