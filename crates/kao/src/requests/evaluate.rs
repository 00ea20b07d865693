//! How far samples are from real pictures, and whether they copy them.

use super::destinations::check_distinct;
use super::sample::check_batch;
use super::{
    Compute, Estimate, Evaluation, EvaluationConfig, ModelSource, Provenance, Request, Sample,
    check_at_least_one, evaluate,
};
use crate::control::{Control, Report};
use crate::dataset::{Folder, common_size};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::{MIN_SIDE, resolutions};
use crate::files::prepare_path;
use crate::images::Images;
use crate::memory;
use crate::quantities::counted;
use crate::render::{self, Layout};
use crate::sampler::SamplingConfig;
use crate::schedule::NoiseSchedule;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Samples of a model where no number is given.
const COUNT: usize = 1024;

/// Sets below this size differ much by chance.
const SMALL_SET: usize = 256;

/// Compares samples of a model, or the pictures of a folder, with real pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// Which model.
    pub model: ModelSource,
    /// A folder of real pictures, that which the model was trained on.
    pub data: PathBuf,
    /// Evaluate the pictures of this folder instead of samples of a model.
    pub samples: Option<PathBuf>,
    /// How many samples; of a folder, the first by name. By default 1024, or the whole folder.
    pub count: Option<usize>,
    /// How to sample.
    #[serde(flatten)]
    pub sampling: SamplingConfig,
    /// Seed of the samples' noise, and of which patches and pictures are compared.
    pub seed: u64,
    /// A picture to write (.png): the samples that are most like a training picture, beside the
    /// training pictures that are most like them.
    pub neighbours: Option<PathBuf>,
    /// Samples in that picture.
    pub rows: usize,
    /// Images at a time: memory grows with it, the images stay the same.
    pub batch_size: usize,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Evaluate {
    fn default() -> Self {
        Evaluate {
            model: ModelSource::default(),
            data: PathBuf::new(),
            samples: None,
            count: None,
            sampling: SamplingConfig::default(),
            seed: 999,
            neighbours: None,
            rows: 10,
            batch_size: 16,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Evaluate`].
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Distances and neighbours.
    pub evaluation: Evaluation,
    /// The names of the real pictures: neighbours are positions in this list.
    pub picture_names: Vec<String>,
    /// What was compared, and how the samples came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

/// The samples, the real pictures at their size, and what the samples are.
type Compared = (Images, Folder, Provenance);

impl Request for Evaluate {
    const COMMAND: &'static str = "eval";
    type Outcome = Evaluated;

    fn validate(&self) -> Result<()> {
        if self.data.as_os_str().is_empty() {
            return Err(Error::invalid("data", "none given; expected a folder of pictures"));
        }
        check_at_least_one(&[("count", self.count.unwrap_or(COUNT)), ("rows", self.rows)])?;
        if let Some(path) = &self.neighbours {
            render::check_png_path(path)?;
            check_distinct(
                &[("model.path", self.model.path.as_deref())],
                &[("neighbours", Some(path))],
            )?;
        }
        self.sampling.validate()?;
        check_at_least_one(&[("batch_size", self.batch_size)])?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        if self.samples.is_some() {
            return Ok(Estimate::default());
        }
        let model = self.model.config()?;
        let schedule = NoiseSchedule::new(&model.schedule)?;
        let count = self.count.unwrap_or(COUNT);
        let sampling = self.sampling.of_model(&model.sampling);
        let n_evaluations = sampling.plan(&schedule)?.n_evaluations().saturating_mul(count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        // The samples, and two sets of pictures that they are compared with.
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, 3 * count, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Evaluated> {
        self.model.check(control)?;
        self.validate()?;
        self.compute.run(|device| {
            let (samples, data, provenance) = match &self.samples {
                Some(dir) => self.pictures_as_samples(dir, control)?,
                None => self.sampled(device, control)?,
            };
            self.check_count(samples.len(), &data)?;
            let config = EvaluationConfig { seed: self.seed, ..EvaluationConfig::default() };
            let evaluation = evaluate(&samples, &data, &config, control)?;
            if evaluation.n_compared < SMALL_SET {
                let message = format!(
                    "warning: sets of {} are small: chance weighs much, some thousand tell more",
                    counted(evaluation.n_compared as u64, "picture")
                );
                control.check(&Report::message("finding neighbours", &message))?;
            }
            let files = self.write(&evaluation, &samples, &data, &provenance)?;
            let names = data.pictures().iter().map(|picture| picture.name.clone());
            Ok(Evaluated { evaluation, picture_names: names.collect(), provenance, files })
        })
    }
}

impl Evaluate {
    fn sampled(&self, device: &Device, control: &dyn Control) -> Result<Compared> {
        let model = self.model.load(device, control)?;
        let unet = &model.config.unet;
        let count = self.count.unwrap_or(COUNT);
        check_size("model.path", unet.image_size)?;
        self.sampling.of_model(&model.config.sampling).plan(&model.schedule)?;
        memory::check("count", "so many images", unet.image_bytes(count))?;
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        let data = Folder::load(&self.data, unet.image_size, control)?;
        self.check_count(count, &data)?;
        self.prepare_path()?;

        self.model.report_default(control)?;
        let request = Sample {
            model: self.model.clone(),
            sampling: self.sampling,
            count: Some(count),
            seed: self.seed,
            batch_size: self.batch_size,
            compute: self.compute.clone(),
            ..Sample::default()
        };
        let sampled = request.run_on(&model, &self.model.name(), control)?.images;
        let provenance = self
            .provenance(count)
            .with("model", self.model.name())
            .with_all(self.sampling.describe(model.schedule.n_timesteps()));
        Ok((sampled, data, provenance))
    }

    fn pictures_as_samples(&self, dir: &Path, control: &dyn Control) -> Result<Compared> {
        let [height, width] = common_size(dir, control)?;
        let shape = [3, height, width];
        check_size("samples", shape)?;
        let pictures = Folder::load(dir, shape, control)?;
        let count = match self.count {
            Some(count) if count > pictures.len() => {
                let (n, dir) = (pictures.len(), dir.display());
                let allowed = format!("at most {n}, the pictures in `{dir}`");
                return Err(Error::out_of_range("count", count, allowed));
            }
            count => count.unwrap_or(pictures.len()),
        };
        let samples = pictures.images(&Vec::from_iter(0..count))?;
        let data = Folder::load(&self.data, shape, control)?;
        self.prepare_path()?;
        Ok((samples, data, self.provenance(count).with_path("samples", dir)))
    }

    /// Refuses what `evaluate` would, before the samples are made.
    fn check_count(&self, n_samples: usize, data: &Folder) -> Result<()> {
        const LEAST: usize = 4;
        let few = |dir: &Path, n: usize, least: usize| {
            let found = counted(n as u64, "picture");
            let problem =
                format!("{found} found; a distance takes at least {least}, better thousands");
            Err(Error::malformed(dir, problem))
        };
        match &self.samples {
            _ if data.len() < LEAST => few(&self.data, data.len(), LEAST),
            Some(dir) if n_samples < 2 && self.count.is_none() => {
                let hint = "a grid is one picture: `kao sample --out DIR/` writes each image to a \
                            file of its own";
                few(dir, n_samples, 2).map_err(|error| error.with_hint(hint))
            }
            _ if n_samples < 2 => {
                Err(Error::out_of_range("count", n_samples, "at least 2, better a thousand"))
            }
            _ => Ok(()),
        }
    }

    fn prepare_path(&self) -> Result<()> {
        self.neighbours.as_ref().map_or(Ok(()), prepare_path)
    }

    fn provenance(&self, count: usize) -> Provenance {
        let provenance = Provenance::new().with_path("data", &self.data);
        provenance.with("count", count).with("seed", self.seed)
    }

    fn write(
        &self,
        evaluation: &Evaluation,
        samples: &Images,
        data: &Folder,
        provenance: &Provenance,
    ) -> Result<Vec<PathBuf>> {
        let Some(path) = &self.neighbours else { return Ok(Vec::new()) };
        let columns = evaluation.columns(samples, data, self.rows)?;
        let labels = ["sample", "nearest", "2nd", "3rd", "4th", "5th"];
        let labelled: Vec<(&str, &Images)> = labels.into_iter().zip(&columns).collect();
        let layout = Layout { scale: 2, ..Layout::default() };
        let picture = render::labelled_columns(&labelled, &layout)?;
        render::write_png(path, &picture, &provenance.texts)?;
        Ok(vec![path.clone()])
    }
}

pub(super) fn check_size(field: &str, [_, height, width]: [usize; 3]) -> Result<()> {
    if resolutions([height, width]).is_empty() {
        let problem = format!(
            "images of {height} × {width} pixels found; expected at least {MIN_SIDE} × {MIN_SIDE}"
        );
        return Err(Error::invalid(field, problem));
    }
    Ok(())
}
