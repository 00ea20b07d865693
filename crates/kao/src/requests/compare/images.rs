//! The images of a comparison, one combination after the other.

use super::combinations::Combination;
use super::{Compare, Comparison, Measured, Real, STAGE, detail};
use crate::control::{Control, Report};
use crate::error::Result;
use crate::images::Images;
use crate::model::Model;
use crate::requests::distances::DistanceAndFloor;
use crate::requests::{Provenance, Sample, Wishes};
use std::ops::ControlFlow;

/// The images of one combination, and what they cost.
#[derive(Clone, Debug)]
pub struct ComparedImages {
    /// The numbers.
    pub comparison: Comparison,
    /// The images.
    pub images: Images,
    /// How they came to be, as the pictures of the combination say it.
    pub texts: Vec<(String, String)>,
    /// The request that makes the same images by itself.
    pub sample: Sample,
}

/// The images of a combination, as they are before anybody says what they are.
pub(super) struct MadeImages {
    pub images: Images,
    pub seconds: f64,
    pub measured: Measured,
}

/// Reports of a combination, in which the stage is that of the comparison.
struct OfCombination<'a> {
    control: &'a dyn Control,
    detail: &'a str,
}

impl Control for OfCombination<'_> {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        self.control.report(&Report { stage: STAGE, detail: self.detail, ..*report })
    }

    fn wants_previews(&self) -> bool {
        self.control.wants_previews()
    }
}

impl Compare {
    /// Makes the images of every combination with a model that is loaded, in the order of
    /// [`planned`](Self::planned), and hands over each as soon as it is there. Writes nothing: the
    /// folder is for [`run`](crate::requests::Request::run).
    ///
    /// # Errors
    /// When the request does not fit the model, the real pictures cannot be read, `take` fails, or
    /// `control` stops the work.
    pub fn run_on(
        &self,
        model: &Model,
        control: &dyn Control,
        take: &mut dyn FnMut(ComparedImages) -> Result<()>,
    ) -> Result<()> {
        let defaults = &model.config.sampling;
        let combinations = self.combinations(defaults)?;
        self.check(model, &combinations)?;
        let real = self.real(model, control)?;
        let fingerprint = model.fingerprint();
        for (index, combination) in combinations.iter().enumerate() {
            let detail = detail(index, combinations.len(), combination);
            let made = self.make_images(model, combination, real.as_ref(), &detail, control)?;
            take(ComparedImages {
                comparison: Comparison::new(
                    self,
                    combination,
                    defaults,
                    made.seconds,
                    made.measured,
                ),
                images: made.images,
                texts: self.describe(combination, model, &fingerprint, real.as_ref()),
                sample: self.sample(combination),
            })?;
        }
        Ok(())
    }

    /// The images of a combination, by themselves.
    fn sample(&self, combination: &Combination) -> Sample {
        Sample {
            model: self.model.clone(),
            sampling: combination.sampling(self.spacing),
            count: Some(self.count),
            seed: self.seed,
            batch_size: self.batch_size,
            compute: self.compute.clone(),
            // Samplers are compared by what they make of one network.
            wishes: Wishes::unguided(),
            ..Sample::default()
        }
    }

    /// Makes the images of a combination and measures them.
    pub(super) fn make_images(
        &self,
        model: &Model,
        combination: &Combination,
        real: Option<&Real>,
        detail: &str,
        control: &dyn Control,
    ) -> Result<MadeImages> {
        let sampling = OfCombination { control, detail };
        let sample = self.sample(combination);
        let sampled = sample.run_on(model, &self.model.name(), &sampling)?;
        // Other units than those of sampling, so another line.
        let measuring = OfCombination { control, detail: &format!("{detail}: distance") };
        let average = |real: &Real| real.sets.average(&sampled.images, &measuring);
        let distance = real.map(average).transpose()?;
        let measured = Measured {
            distance: distance.map(|DistanceAndFloor { samples, .. }| samples),
            floor: distance.map(|DistanceAndFloor { floor, .. }| floor),
        };
        Ok(MadeImages { images: sampled.images, seconds: sampled.seconds, measured })
    }

    /// How the images of a combination come to be.
    pub(super) fn describe(
        &self,
        combination: &Combination,
        model: &Model,
        fingerprint: &str,
        real: Option<&Real>,
    ) -> Vec<(String, String)> {
        let provenance = Provenance::new()
            .with("model", self.model.name())
            // A model of the same name may have been trained on since, and pictures been added.
            .with("model_fingerprint", fingerprint)
            .with("count", self.count)
            .with("columns", self.columns)
            .with("seed", self.seed);
        let n_timesteps = model.schedule.n_timesteps();
        let sampling = combination.sampling_of(self.spacing, &model.config.sampling);
        let mut provenance = provenance.with_all(sampling.describe(n_timesteps));
        if let Some(real) = real {
            provenance = provenance.with("data_fingerprint", &real.fingerprint);
        }
        provenance.texts
    }
}
