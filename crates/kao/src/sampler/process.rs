//! What a method's loop works with: the network, the noise of the steps, and whoever watches.

use crate::control::{Control, Report};
use crate::denoiser::{Clipping, Conditions, Denoised, Denoiser, PredictionConverter};
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::noise::NoiseSource;
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use rayon::prelude::*;
use std::cell::Cell;

/// One batch of images on its way from noise to images.
pub struct Process<'a> {
    pub(super) denoiser: &'a dyn Denoiser,
    pub(super) schedule: &'a NoiseSchedule,
    pub(super) steps: &'a [Step],
    pub(super) clipping: Clipping,
    pub(super) noise: &'a dyn NoiseSource,
    pub(super) conditions: &'a Conditions,
    pub(super) observer: &'a mut dyn FnMut(Observation<'_>),
    pub(super) evaluations: &'a Evaluations<'a>,
}

/// Counts evaluations of the network for one image, over all batches.
pub(super) struct Evaluations<'a> {
    stage: &'static str,
    control: &'a dyn Control,
    n_done: Cell<u64>,
    n_total: u64,
}

impl<'a> Evaluations<'a> {
    /// None are done, of so many.
    pub fn new(control: &'a dyn Control, n_total: usize) -> Self {
        Evaluations::of_stage("sampling", control, n_total)
    }

    /// The same, of a stage by another name.
    pub fn of_stage(stage: &'static str, control: &'a dyn Control, n_total: usize) -> Self {
        Evaluations { stage, control, n_done: Cell::new(0), n_total: n_total as u64 }
    }

    fn report(&self) -> Report<'static> {
        let total = Some(self.n_total);
        Report::progress(self.stage, self.n_done.get(), total, "network evaluations")
    }
}

impl Process<'_> {
    /// The steps to take.
    pub fn steps(&self) -> &[Step] {
        self.steps
    }

    /// Evaluates the network on `x`, which has the noise of timestep `t`.
    ///
    /// # Errors
    /// When the network fails, or the work is to stop.
    pub fn denoise<'x>(&mut self, x: &'x Images, t: usize) -> Result<DenoisedImages<'x>> {
        let predicted = self.denoiser.predict(x, &vec![t; x.len()], self.conditions)?;
        let alpha_bar = self.schedule.alpha_bar(t);
        let prediction = self.denoiser.prediction();
        let converter = PredictionConverter::new(alpha_bar, prediction, self.clipping);
        let thresholds = match self.clipping {
            Clipping::Thresholded { .. } => (0..x.len())
                .into_par_iter()
                .map(|k| converter.threshold(x.image(k), predicted.image(k)))
                .collect(),
            Clipping::None | Clipping::Clamped { .. } => Vec::new(),
        };
        let n_done = &self.evaluations.n_done;
        n_done.set(n_done.get() + x.len() as u64);
        self.evaluations.control.check(&self.evaluations.report())?;
        Ok(DenoisedImages { x, predicted, converter, thresholds })
    }

    /// The images after step `step_index`, shaped as `x`: `value(i, z)` is value i of the batch,
    /// where z is `sigma` times the noise of the step. Noise is drawn only where `sigma` is not 0.
    pub fn update(
        &self,
        step_index: usize,
        x: &Images,
        sigma: f64,
        value: impl Fn(usize, f64) -> f64 + Sync,
    ) -> Images {
        let source = self.noise;
        let mut next = Images::zeros(x.shape());
        let size = x.image_len().max(1);
        next.data_mut().par_chunks_exact_mut(size).enumerate().for_each(|(image, next)| {
            let mut z = Vec::new();
            if sigma > 0.0 {
                z.resize(size, 0.0);
                source.fill(step_index, image, &mut z);
            }
            for (i, next) in next.iter_mut().enumerate() {
                let noise = z.get(i).map_or(0.0, |&z| sigma * f64::from(z));
                *next = value(image * size + i, noise) as f32;
            }
        });
        next
    }

    /// To be called at the end of every step: it arrived at `x`. `denoised` is what the network
    /// made of the images before the step.
    ///
    /// # Errors
    /// When `x` is not finite, or the work is to stop.
    pub fn arrived(
        &mut self,
        step_index: usize,
        x: &Images,
        denoised: &DenoisedImages<'_>,
    ) -> Result<()> {
        let (n_steps, step) = (self.steps.len(), self.steps[step_index]);
        check_finite(x, step_index, n_steps, step)?;
        (self.observer)(Observation { step_index, n_steps, step, x, denoised });
        if self.evaluations.control.wants_previews() {
            let preview = denoised.x0();
            let report = Report { preview: Some(&preview), ..self.evaluations.report() };
            self.evaluations.control.check(&report)?;
        }
        Ok(())
    }
}

/// What the network makes of noisy images, all at one noise level.
pub struct DenoisedImages<'x> {
    x: &'x Images,
    predicted: Images,
    converter: PredictionConverter,
    /// Of each image; empty where nothing is thresholded.
    thresholds: Vec<f64>,
}

impl DenoisedImages<'_> {
    /// x̂_0 and ε̂ of value `i` of the batch.
    #[inline]
    pub fn at(&self, i: usize) -> Denoised {
        let threshold = match self.thresholds.is_empty() {
            true => 1.0,
            false => self.thresholds[i / self.x.image_len()],
        };
        self.converter.convert_within(self.x.data()[i], self.predicted.data()[i], threshold)
    }

    /// The predicted clean images, `[N, C, H, W]`.
    pub fn x0(&self) -> Images {
        let mut x0 = Images::zeros(self.x.shape());
        let size = self.x.image_len().max(1);
        x0.data_mut().par_chunks_exact_mut(size).enumerate().for_each(|(image, x0)| {
            for (i, x0) in x0.iter_mut().enumerate() {
                *x0 = self.at(image * size + i).x0 as f32;
            }
        });
        x0
    }
}

/// What an observer of the process sees after each step.
pub struct Observation<'a> {
    /// Position of the step in the sequence, from 0.
    pub step_index: usize,
    /// Steps in the sequence.
    pub n_steps: usize,
    /// The step just made.
    pub step: Step,
    /// The state that it arrived at, `[N, C, H, W]`.
    pub x: &'a Images,
    /// What the network made of the state before the step.
    pub denoised: &'a DenoisedImages<'a>,
}

/// An observer that looks at nothing.
pub fn unobserved(_: Observation<'_>) {}

/// Weights that are finite may still lead to values that are not.
fn check_finite(x: &Images, step_index: usize, n_steps: usize, step: Step) -> Result<()> {
    let Some(value) = x.data().par_iter().find_first(|value| !value.is_finite()) else {
        return Ok(());
    };
    let problem = format!(
        "an image holds {value} after step {} of {n_steps}, at timestep {}",
        step_index + 1,
        step.t
    );
    let hint = "the model is of no use: take an earlier checkpoint, or train it anew at a lower \
                learning rate";
    Err(Error::from(ErrorKind::NotFinite { problem }).with_hint(hint))
}
