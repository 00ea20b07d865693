//! Images from a model.

use super::destinations::check_distinct;
use super::{Compute, Estimate, ModelSource, Provenance, Request, Wishes, check_at_least_one};
use crate::control::{Control, Report};
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::files::prepare_path;
use crate::formats::{self, NamedTensors, StoreAs, TensorView};
use crate::images::Images;
use crate::memory;
use crate::model::Model;
use crate::quantities::{counted, duration};
use crate::render::{self, Layout};
use crate::sampler::{Generation, Plan, SamplingConfig, Snapshots, SnapshotsConfig, Start};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Images where no number is given.
const COUNT: usize = 64;

/// Samples images. Image k of a seed is the same whatever `count`, `batch_size` and `threads` are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sample {
    /// Which model.
    pub model: ModelSource,
    /// How to go from noise to images.
    #[serde(flatten)]
    pub sampling: SamplingConfig,
    /// What the images are asked to show.
    #[serde(flatten)]
    pub wishes: Wishes,
    /// How many images; with `noise` the first so many. By default 64, all of `noise`, or as many as
    /// tags are given for.
    pub count: Option<usize>,
    /// Seed of the noise.
    pub seed: u64,
    /// A .safetensors file to take noise from: `x_T` [N, C, H, W], and `z` [S, N, C, H, W] for the
    /// steps.
    pub noise: Option<PathBuf>,
    /// Images at a time: memory grows with it, the images stay the same.
    pub batch_size: usize,
    /// A grid to write (.png).
    pub out: Option<PathBuf>,
    /// Columns of the grid.
    pub columns: usize,
    /// A strip to write (.png): snapshots of the process, from noise to image.
    pub strip: Option<PathBuf>,
    /// Images in the strip.
    pub strip_images: usize,
    /// Snapshots in the strip.
    pub strip_snapshots: usize,
    /// A .safetensors file to write the images to: `x_0` [N, C, H, W], not clamped to [-1, 1].
    pub save_tensors: Option<PathBuf>,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Sample {
    fn default() -> Self {
        let SnapshotsConfig { n_images, n_snapshots } = SnapshotsConfig::default();
        Sample {
            model: ModelSource::default(),
            sampling: SamplingConfig::default(),
            wishes: Wishes::default(),
            count: None,
            seed: 999,
            noise: None,
            batch_size: 16,
            out: None,
            columns: 8,
            strip: None,
            strip_images: n_images,
            strip_snapshots: n_snapshots,
            save_tensors: None,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Sample`].
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The images, `[N, C, H, W]`, not clamped to [-1, 1].
    pub images: Images,
    /// Snapshots of the process, noise first; empty where none were asked for.
    pub snapshots: Vec<Images>,
    /// Evaluations of the network for each image.
    pub n_evaluations: usize,
    /// Seconds that the work took, loading the model not included.
    pub seconds: f64,
    /// How the images came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// Model, sampler and noise in a few words.
    words: Vec<String>,
}

impl Sampled {
    /// One line: how many images of what, how they were made, and how long it took.
    pub fn summary(&self) -> String {
        let time = match self.seconds {
            seconds if seconds < 59.95 => format!("{seconds:.1} s"),
            seconds => duration(seconds),
        };
        format!("{} · {time}", self.words.join(" · "))
    }
}

impl Request for Sample {
    const COMMAND: &'static str = "sample";
    type Outcome = Sampled;

    fn validate(&self) -> Result<()> {
        for path in [&self.out, &self.strip].into_iter().flatten() {
            render::check_png_path(path)?;
        }
        self.wishes.validate()?;
        let [tags_from, guide] = self.wishes.inputs();
        let model = ("model.path", self.model.path.as_deref());
        check_distinct(
            &[model, ("noise", self.noise.as_deref()), tags_from, guide],
            &[
                ("out", self.out.as_deref()),
                ("strip", self.strip.as_deref()),
                ("save_tensors", self.save_tensors.as_deref()),
            ],
        )?;
        self.sampling.validate()?;
        check_at_least_one(&[
            ("count", self.count.unwrap_or(COUNT)),
            ("columns", self.columns),
            ("batch_size", self.batch_size),
        ])?;
        self.strip_config().validate()?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let schedule = crate::schedule::NoiseSchedule::new(&model.schedule)?;
        let count = match (&self.noise, self.count) {
            (Some(path), None) => given_x_t(path, &formats::read(path)?.tensors)?.len(),
            (None, count) => count.or(self.wishes.n_images()?).unwrap_or(COUNT),
            (Some(_), Some(count)) => count,
        };
        let sampling = self.sampling.of_model(&model.sampling);
        let evaluations = sampling.plan(&schedule)?.n_evaluations();
        let n_evaluations = (evaluations * self.wishes.evaluations()).saturating_mul(count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, count, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Sampled> {
        self.model.check(control)?;
        self.validate()?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            self.run_on(&model, &self.model.name(), control)
        })
    }
}

impl Sample {
    /// As [`run`](Request::run), on a model that is loaded already and called `name` in texts.
    ///
    /// # Errors
    /// As [`run`](Request::run).
    pub fn run_on(&self, model: &Model, name: &str, control: &dyn Control) -> Result<Sampled> {
        let snapshots = self.strip.as_ref().map(|_| self.strip_config());
        self.run_with(model, name, &Conditions::none(), snapshots, control)
    }

    pub(super) fn run_with(
        &self,
        model: &Model,
        name: &str,
        conditions: &Conditions,
        snapshots: Option<SnapshotsConfig>,
        control: &dyn Control,
    ) -> Result<Sampled> {
        self.validate()?;
        let sampling = self.sampling.of_model(&model.config.sampling);
        let plan = sampling.plan(&model.schedule)?;
        let start = self.start(model, &plan)?;
        let conditions = match conditions.is_none() {
            true => &self.wishes.conditions(&model.config.tags, start.count())?,
            false => conditions,
        };
        self.check(model, start.count())?;
        let guide = self.wishes.load_guide(&model.config, &model.network.device())?;
        let denoiser = self.wishes.guided(model, guide.as_ref())?;
        if let Some(warning) = model.schedule.leftover_warning() {
            control.check(&Report::message("sampling", &format!("warning: {warning}")))?;
        }
        let started = Instant::now();
        let mut snapshots =
            snapshots.map(|config| Snapshots::new(config, plan.steps().len(), &start));
        let generation = Generation {
            denoiser: &*denoiser,
            plan: &plan,
            start: &start,
            conditions,
            batch_size: self.batch_size,
        };
        let images = generation.run(
            &mut |first, observation| {
                if let Some(snapshots) = &mut snapshots {
                    snapshots.record(first, &observation);
                }
            },
            control,
        )?;
        let n_timesteps = model.schedule.n_timesteps();
        let what = if self.model.path.is_none() { "face" } else { "image" };
        let asked = self.wishes.summary();
        let provenance = self.provenance(name, &sampling, n_timesteps);
        let sampling = sampling.summary(n_timesteps);
        let noise = match &self.noise {
            Some(path) => format!("noise {}", path.display()),
            None => format!("seed {}", self.seed),
        };
        let mut sampled = Sampled {
            words: [counted(images.len() as u64, what), name.to_owned()]
                .into_iter()
                .chain(asked)
                .chain([sampling, noise])
                .collect(),
            images,
            snapshots: snapshots.map(Snapshots::into_frames).unwrap_or_default(),
            n_evaluations: plan.n_evaluations() * self.wishes.evaluations(),
            seconds: 0.0,
            provenance,
            files: Vec::new(),
        };
        self.write(&mut sampled)?;
        sampled.seconds = started.elapsed().as_secs_f64();
        Ok(sampled)
    }

    fn grid_columns(&self) -> usize {
        self.wishes.grid_columns().unwrap_or(self.columns)
    }

    fn strip_config(&self) -> SnapshotsConfig {
        SnapshotsConfig { n_images: self.strip_images, n_snapshots: self.strip_snapshots }
    }

    fn provenance(&self, name: &str, sampling: &SamplingConfig, n_timesteps: usize) -> Provenance {
        let provenance =
            Provenance::new().with("model", name).with_all(sampling.describe(n_timesteps));
        let provenance = self.wishes.describe(provenance);
        match &self.noise {
            Some(path) => provenance.with_path("noise", path),
            None => provenance.with("seed", self.seed),
        }
    }

    /// What is known only with the model, looked at before the work.
    fn check(&self, model: &Model, count: usize) -> Result<()> {
        let unet = &model.config.unet;
        memory::check("count", "so many images", unet.image_bytes(count))?;
        render::check_grid(count, unet.image_size, self.grid_columns(), &Layout::default())?;
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        let files = [&self.out, &self.strip, &self.save_tensors];
        files.into_iter().flatten().try_for_each(prepare_path)
    }

    fn write(&self, sampled: &mut Sampled) -> Result<()> {
        let layout = Layout::default();
        let texts = &sampled.provenance.texts;
        if let Some(path) = &self.out {
            let grid = render::grid(&sampled.images, self.grid_columns(), &layout)?;
            render::write_png(path, &grid, texts)?;
            sampled.files.push(path.clone());
        }
        if let Some(path) = &self.strip {
            render::write_png(path, &render::strip(&sampled.snapshots, &layout)?, texts)?;
            sampled.files.push(path.clone());
        }
        if let Some(path) = &self.save_tensors {
            let shape = sampled.images.shape();
            let view = TensorView { shape: &shape, data: sampled.images.data() };
            let metadata: BTreeMap<String, String> = texts.iter().cloned().collect();
            formats::write_safetensors(path, [("x_0", view)], &metadata, StoreAs::F32)?;
            sampled.files.push(path.clone());
        }
        Ok(())
    }

    fn start(&self, model: &Model, plan: &Plan) -> Result<Start> {
        match &self.noise {
            Some(path) => self.given_noise(path, model, plan),
            None => Ok(Start::Seed {
                seed: self.seed,
                count: self.count.or(self.wishes.n_images()?).unwrap_or(COUNT),
                image_shape: model.config.unet.image_size,
            }),
        }
    }

    /// `x_T` and, where it is there, `z` of a file, which fit the model and the steps.
    fn given_noise(&self, path: &Path, model: &Model, plan: &Plan) -> Result<Start> {
        let tensors = formats::read(path)?.tensors;
        let x_t = given_x_t(path, &tensors)?;
        if x_t.image_shape() != model.config.unet.image_size {
            let [c, h, w] = model.config.unet.image_size;
            let problem = format!(
                "`x_T` is {:?}; expected [N, {c}, {h}, {w}], the images of the model",
                x_t.shape()
            );
            return Err(Error::malformed(path, problem));
        }
        if x_t.is_empty() {
            return Err(Error::malformed(path, "`x_T` holds no image; expected at least one"));
        }
        let z = step_noise(path, &tensors, &x_t)?;
        let (x_t, z) = match self.count {
            None => (x_t, z),
            Some(count) if count <= x_t.len() => {
                let z = z.iter().map(|step| step.slice(0..count)).collect();
                (x_t.slice(0..count), z)
            }
            Some(count) => {
                let n = counted(x_t.len() as u64, "image");
                let allowed = format!("at most the {n} whose noise `{}` holds", path.display());
                return Err(Error::out_of_range("count", count, allowed));
            }
        };
        let n_steps = plan.steps().len();
        if plan.draws_noise() && z.len() < n_steps {
            let found = if tensors.get("z").is_none() {
                "no tensor `z`".to_owned()
            } else {
                format!("`z` holds the noise of {}", counted(z.len() as u64, "step"))
            };
            let problem = format!("{found}; the sampler draws noise in each of {n_steps}");
            let hint = "take fewer steps, or a sampler without noise";
            return Err(Error::malformed(path, problem).with_hint(hint));
        }
        Ok(Start::Given { x_t, z })
    }
}

/// Refuses a batch that cannot fit the memory.
pub(super) fn check_batch(
    unet: &crate::unet::UNetConfig,
    batch_size: usize,
    device: crate::device::DeviceKind,
) -> Result<()> {
    match device {
        crate::device::DeviceKind::Cpu => {
            let needed = unet.sampling_bytes(batch_size);
            memory::check("batch_size", "so many images at a time", needed)
        }
        _ => Ok(()),
    }
}

fn given_x_t(path: &Path, tensors: &NamedTensors) -> Result<Images> {
    let Some(tensor) = tensors.get("x_T") else {
        let found: Vec<&str> = tensors.names().take(5).collect();
        let problem = format!("no tensor `x_T`; it holds {}", found.join(", "));
        return Err(Error::malformed(path, problem)
            .with_hint("`x_T` [N, C, H, W] is the noise to start from, `z` that of the steps"));
    };
    let shape: [usize; 4] = tensor.shape().try_into().map_err(|_| {
        let problem = format!("`x_T` is {:?}; expected [N, C, H, W]", tensor.shape());
        Error::malformed(path, problem)
    })?;
    check_finite(path, "x_T", tensor.data())?;
    Images::from_vec(shape, tensor.data().to_vec())
}

/// The noise of the steps, where it is there.
fn step_noise(path: &Path, tensors: &NamedTensors, x_t: &Images) -> Result<Vec<Images>> {
    let Some(z) = tensors.get("z") else { return Ok(Vec::new()) };
    if z.shape().get(1..) != Some(&x_t.shape()) {
        let problem = format!(
            "`z` is {:?}; expected [S, N, C, H, W] to go with `x_T` of {:?}",
            z.shape(),
            x_t.shape()
        );
        return Err(Error::malformed(path, problem));
    }
    check_finite(path, "z", z.data())?;
    let steps = z.data().chunks_exact(x_t.data().len().max(1));
    steps.map(|step| Images::from_vec(x_t.shape(), step.to_vec())).collect()
}

fn check_finite(path: &Path, name: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => {
            Err(Error::malformed(path, format!("`{name}` holds {value}; expected finite numbers")))
        }
        None => Ok(()),
    }
}
