use super::*;
use crate::control::Unattended;
use crate::denoiser::GaussianDenoiser;
use crate::noise::{ImageNumbers, NumberedNoise, Purpose};
use crate::sampler::{Ddim, Ddpm, Sampler};
use crate::schedule::ScheduleConfig;
use crate::timesteps::{End, Spacing, sequence};
use std::sync::Arc;

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(ScheduleConfig::default()).unwrap()
}

fn steps(n: usize) -> Vec<Step> {
    sequence(Spacing::Trailing, n, schedule().alpha_bars(), End::Clean).unwrap()
}

fn route(n_steps: usize, jumps: Jumps, sampler: Sampler) -> Route {
    let schedule = schedule();
    Route::new(&schedule, &steps(n_steps), jumps, |steps, is_followed| {
        let sampler = if is_followed { sampler.followed() } else { sampler };
        sampler.plan(&schedule, steps, false)
    })
    .unwrap()
}

/// The steps of a route by the positions in the sequence that they lead to; jumps in brackets.
fn walked(n_steps: usize, jumps: Jumps) -> String {
    let all = steps(n_steps);
    let route = route(n_steps, jumps, Ddim::default().into());
    let position = |t: usize| all.iter().position(|step| step.t == t).unwrap();
    let words = route.legs.iter().flat_map(|leg| {
        let steps = route.plans[leg.plan].steps();
        let up = leg.up.map(|_| format!("({})", position(steps[0].t)));
        let down = steps.iter().map(|step| match step.t_prev {
            Some(t) => position(t).to_string(),
            None => n_steps.to_string(),
        });
        up.into_iter().chain(down).collect::<Vec<_>>()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_way_jumps_as_in_the_paper() {
    let jumps = |length, times| Jumps { length, times };
    assert_eq!(walked(4, jumps(1, 1)), "1 2 3 4");
    assert_eq!(walked(3, jumps(1, 2)), "1 (0) 1 2 (1) 2 3");
    // Turns are counted from the end, and the last step is never gone again.
    assert_eq!(walked(6, jumps(2, 3)), "1 2 3 (1) 2 3 (1) 2 3 4 5 (3) 4 5 (3) 4 5 6");
    assert_eq!(walked(2, jumps(5, 9)), "1 2");
    // 250 steps, length 10, 10 times: 24 turns of which each goes 9 times over 10 steps again.
    let route = route(250, jumps(Jumps::default_length(250), 10), Ddim::default().into());
    assert_eq!(route.n_evaluations(), 250 + 24 * 9 * 10);
    assert_eq!([20, 50, 100, 1000].map(Jumps::default_length), [1, 2, 4, 40]);
    assert!(jumps(0, 2).validate().is_err() && jumps(1, 0).validate().is_err());
}

/// `n` images of one known and one unknown pixel, after inpainting a Gaussian.
fn inpainted(sampler: Sampler, jumps: Jumps, n: usize, batch_size: usize) -> Images {
    let schedule = schedule();
    let denoiser = GaussianDenoiser {
        schedule: schedule.clone(),
        mean: 0.3,
        standard_deviation: 0.5,
        prediction: Prediction::V,
    };
    let route = route(25, jumps, sampler);
    let pictures = Images::from_vec([1, 1, 1, 3], vec![0.7, -0.2, 0.1]).unwrap();
    let masks = Images::from_vec([1, 1, 1, 3], vec![0.0, 1.0, 0.5]).unwrap();
    let numbers = ImageNumbers::From { first: 0, count: n };
    let noise = NumberedNoise { seed: 3, purpose: Purpose::Noising, numbers };
    let mut x_t = noise.initial(0, n, [1, 1, 3]);
    let alpha_bar = schedule.alpha_bar(999);
    for k in 0..n {
        let x = &mut x_t.image_mut(k)[2];
        *x = (alpha_bar.sqrt() * 0.1 + (1.0 - alpha_bar).sqrt() * f64::from(*x)) as f32;
    }
    let start = Start::Images { x_t, noise: Arc::new(noise) };
    let inpainting = Inpainting {
        denoiser: &denoiser,
        schedule: &schedule,
        route: &route,
        start: &start,
        conditions: &Conditions::none(),
        known: Some(Known { pictures: &pictures, masks: &masks, picture_of: &vec![0; n] }),
        batch_size,
    };
    let mut all = Images::zeros([0, 1, 1, 3]);
    inpainting.run_batches(&mut |_, images| all.append(&images), &Unattended).unwrap();
    all
}

#[test]
fn what_is_known_stays_and_the_rest_is_of_the_distribution() {
    const N: usize = 4000;
    for sampler in
        [Sampler::from(Ddim { eta: 1.0 }), Ddpm::default().into(), Ddim::default().into()]
    {
        for times in [1, 4] {
            let images = inpainted(sampler, Jumps { length: 3, times }, N, 512);
            assert!((0..N).all(|k| images.image(k)[0] == 0.7), "known pixels are exact");
            let values: Vec<f64> = (0..N).map(|k| images.image(k)[1].into()).collect();
            let mean = values.iter().sum::<f64>() / N as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / N as f64;
            // The mean of N(0.3, 0.5²) within five standard errors. Steps of DDIM lose some spread
            // where they are few, those that are gone again more.
            assert!((mean - 0.3).abs() < 5.0 * 0.5 / (N as f64).sqrt() + 0.01, "{mean}");
            assert!((0.35..0.55).contains(&variance.sqrt()), "{sampler:?} {times}: {variance}");
        }
    }
}

#[test]
fn grey_is_a_strength_of_its_own() {
    // A pixel whose share is a half, and the same that begins as noisy as half of the steps leave it.
    let whole = inpainted(Ddim::default().into(), Jumps { length: 1, times: 1 }, 5, 5);
    let schedule = schedule();
    let denoiser = GaussianDenoiser {
        schedule: schedule.clone(),
        mean: 0.3,
        standard_deviation: 0.5,
        prediction: Prediction::Epsilon,
    };
    // Of 25 steps no more than a half is left before the last 12.
    let half = steps(25)[13..].to_vec();
    let alpha_bar = schedule.alpha_bar(half[0].t);
    let numbers = ImageNumbers::From { first: 0, count: 5 };
    let noise = NumberedNoise { seed: 3, purpose: Purpose::Noising, numbers };
    let mut x = noise.initial(0, 5, [1, 1, 3]);
    for x in x.data_mut() {
        *x = (alpha_bar.sqrt() * 0.1 + (1.0 - alpha_bar).sqrt() * f64::from(*x)) as f32;
    }
    let plan = Sampler::from(Ddim::default()).plan(&schedule, half, false).unwrap();
    let expected = plan.sample(&denoiser, x, &noise).unwrap();
    for k in 0..5 {
        let (found, expected) = (whole.image(k)[2], expected.image(k)[2]);
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    let jumps = Jumps { length: 2, times: 3 };
    let whole = inpainted(Ddim { eta: 0.7 }.into(), jumps, 7, 7);
    assert_eq!(inpainted(Ddim { eta: 0.7 }.into(), jumps, 7, 2), whole);
    assert_eq!(inpainted(Ddim { eta: 0.7 }.into(), jumps, 3, 1), whole.slice(0..3));
}

/// The exact denoiser of two pixels of a Gaussian with mean 0, variance 1 and a correlation: along
/// their sum the variance is 1 + ρ, along their difference 1 − ρ.
struct Correlated {
    schedule: NoiseSchedule,
    correlation: f64,
}

impl Denoiser for Correlated {
    fn predict(&self, x_t: &Images, timesteps: &[usize], _: &Conditions) -> Result<Images> {
        let mut predicted = Images::zeros(x_t.shape());
        for (k, &t) in timesteps.iter().enumerate() {
            let alpha_bar = self.schedule.alpha_bar(t);
            let shrunk = |x: f64, variance: f64| {
                alpha_bar.sqrt() * variance / (alpha_bar * variance + 1.0 - alpha_bar) * x
            };
            let [a, b] = [x_t.image(k)[0], x_t.image(k)[1]].map(f64::from);
            let sum = shrunk(a + b, 1.0 + self.correlation);
            let difference = shrunk(a - b, 1.0 - self.correlation);
            let x0 = [(sum + difference) / 2.0, (sum - difference) / 2.0];
            predicted.image_mut(k).copy_from_slice(&x0.map(|value| value as f32));
        }
        Ok(predicted)
    }

    fn prediction(&self) -> Prediction {
        Prediction::X0
    }
}

/// Mean and standard deviation of the second pixel where the first is known to be 1.5.
fn conditional(times: usize) -> [f64; 2] {
    const N: usize = 4000;
    let schedule = schedule();
    let denoiser = Correlated { schedule: schedule.clone(), correlation: 0.9 };
    let route = route(50, Jumps { length: 2, times }, Ddpm::default().into());
    let pictures = Images::from_vec([1, 1, 1, 2], vec![1.5, 0.0]).unwrap();
    let masks = Images::from_vec([1, 1, 1, 2], vec![0.0, 1.0]).unwrap();
    let numbers = ImageNumbers::From { first: 0, count: N };
    let noise = NumberedNoise { seed: 3, purpose: Purpose::Noising, numbers };
    let start = Start::Images { x_t: noise.initial(0, N, [1, 1, 2]), noise: Arc::new(noise) };
    let inpainting = Inpainting {
        denoiser: &denoiser,
        schedule: &schedule,
        route: &route,
        start: &start,
        conditions: &Conditions::none(),
        known: Some(Known { pictures: &pictures, masks: &masks, picture_of: &[0; N] }),
        batch_size: N,
    };
    let mut values = Vec::new();
    let mut collect = |_: usize, images: Images| {
        values.extend((0..N).map(|k| f64::from(images.image(k)[1])));
        Ok(())
    };
    inpainting.run_batches(&mut collect, &Unattended).unwrap();
    let mean = values.iter().sum::<f64>() / N as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / N as f64;
    [mean, variance.sqrt()]
}

#[test]
fn jumps_lead_to_what_goes_with_the_known_part() {
    // The second pixel given the first: N(ρ a, 1 − ρ²).
    let [expected, spread] = [0.9 * 1.5, (1.0f64 - 0.81).sqrt()];
    let [once, jumps] = [1, 10].map(conditional);
    let off = |[mean, deviation]: [f64; 2]| [(mean - expected).abs(), (deviation - spread).abs()];
    // 50 steps are not exact; without jumps the mean is off by 0.45.
    assert!(off(jumps)[0] < 0.1 && off(jumps)[1] < 0.1, "{jumps:?}");
    assert!(off(once)[0] > 3.0 * off(jumps)[0], "{once:?} {jumps:?}");
}
