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
    let start = Start::Images { x_t: noise.initial(0, n, [1, 1, 3]), noise: Arc::new(noise) };
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
            // The mean of N(0.3, 0.5²) within five standard errors; few steps lose some spread.
            assert!((mean - 0.3).abs() < 5.0 * 0.5 / (N as f64).sqrt() + 0.01, "{mean}");
            assert!((0.40..0.55).contains(&variance.sqrt()), "{sampler:?} {times}: {variance}");
            // Half known: in the middle between the known value and the mean of what is generated.
            let grey = (0..N).map(|k| f64::from(images.image(k)[2])).sum::<f64>() / N as f64;
            assert!((grey - 0.2).abs() < 0.03, "{grey}");
        }
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    let jumps = Jumps { length: 2, times: 3 };
    let whole = inpainted(Ddim { eta: 0.7 }.into(), jumps, 7, 7);
    assert_eq!(inpainted(Ddim { eta: 0.7 }.into(), jumps, 7, 2), whole);
    assert_eq!(inpainted(Ddim { eta: 0.7 }.into(), jumps, 3, 1), whole.slice(0..3));
}
