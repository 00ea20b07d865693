//! Images from a model.

use super::destinations::{check_distinct, check_no_model_of_a_run};
use super::latents::{default_guide, warn_of_differences};
use super::noise_file::GivenNoise;
use super::other_noise::OtherNoise;
use super::pictures::{Animations, Destination, Drawing, MAX_FILES};
use super::selection::Selection;
use super::wishes::label;
use super::{Compute, Estimate, ModelSource, Provenance, Request, Wishes, check_at_least_one};
use crate::control::{Control, Report};
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::files::prepare_path;
use crate::images::Images;
use crate::memory;
use crate::model::Model;
use crate::noise::ImageNumbers;
use crate::quantities::{counted, duration};
use crate::render::{self, Animation, AnimationFormat, Sheet};
use crate::sampler::{Plan, SamplingConfig, SnapshotOf, SnapshotsConfig};
use crate::shard::{Shard, range_of};
use serde::{Deserialize, Serialize};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::time::Instant;
use work::Work;

mod work;

/// Images where no number is given.
const COUNT: usize = 64;
/// The last picture of an animated process stays longer.
const REST_MS: u16 = 1500;

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
    /// Of these images only those of a shard, where each goes to a file of its own.
    pub shard: Option<Shard>,
    /// The number of the first image.
    pub first: u64,
    /// The images of these numbers, in the place of `first` and `count`.
    pub pick: Vec<u64>,
    /// Seed of the noise.
    pub seed: u64,
    /// A .safetensors file to take noise from: `x_T` [N, C, H, W], and `z` [S, N, C, H, W] for the
    /// steps. `torch` is PyTorch's generator for the CPU with this seed, as a pipeline of diffusers
    /// draws from it, and `original` what the original's program leaves of it.
    pub noise: Option<PathBuf>,
    /// Images at a time: memory grows with it, the images stay the same.
    pub batch_size: usize,
    /// A grid to write (.png), a folder for a file of each image, or an animation of the process
    /// (.gif, .apng, .webp). Images that are in the folder already, made the same way, are kept.
    pub out: Option<PathBuf>,
    /// Columns of the grid.
    pub columns: usize,
    /// Each pixel becomes a square of so many.
    pub scale: usize,
    /// Whether the number of each image, or what it was asked to show, is written under it.
    pub labels: bool,
    /// A strip to write (.png): snapshots of the process, from noise to image.
    pub strip: Option<PathBuf>,
    /// Images in the strip.
    pub strip_images: usize,
    /// Snapshots in the strip.
    pub strip_snapshots: usize,
    /// What the strip and an animation show: the state of the sampler, or the x̂_0 predicted from it.
    pub strip_of: SnapshotOf,
    /// Pictures of an animation; at most one for each step, and the noise.
    pub frames: usize,
    /// Pictures of an animation in a second.
    pub fps: u16,
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
            shard: None,
            first: 0,
            pick: Vec::new(),
            seed: 999,
            noise: None,
            batch_size: 16,
            out: None,
            columns: 8,
            scale: 1,
            labels: false,
            strip: None,
            strip_images: n_images,
            strip_snapshots: n_snapshots,
            strip_of: SnapshotOf::State,
            frames: 60,
            fps: 10,
            save_tensors: None,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Sample`].
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The images, `[N, C, H, W]`, not clamped to [-1, 1]; none where each went to a file of its own.
    pub images: Images,
    /// How many images there are.
    pub count: usize,
    /// How many of them were in the folder already.
    pub n_kept: usize,
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
        let destination = self.destination()?;
        self.strip.as_ref().map_or(Ok(()), render::check_png_path)?;
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
        self.selection().validate()?;
        check_at_least_one(&[
            ("columns", self.columns),
            ("batch_size", self.batch_size),
            ("frames", self.frames),
        ])?;
        self.drawing().validate()?;
        self.strip_config().validate()?;
        if matches!(destination, Some(Destination::Folder(_))) {
            // Images that are kept are not sampled, so there is no process to show.
            let only = "only applies where all images go to one file";
            for (field, path) in [("strip", &self.strip), ("save_tensors", &self.save_tensors)] {
                if path.is_some() {
                    return Err(Error::invalid(field, only));
                }
            }
        }
        if self.shard.is_some() && !matches!(destination, Some(Destination::Folder(_))) {
            let only = "only applies where each image goes to a file of its own";
            let hint = format!("give `out` as a folder, with a `{MAIN_SEPARATOR}` at its end");
            return Err(Error::invalid("shard", only).with_hint(hint));
        }
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let schedule = crate::schedule::NoiseSchedule::new(&model.schedule)?;
        let n_given = self.noise.as_deref().map(|path| self.n_given(path)).transpose()?;
        let count = range_of(self.shard, self.numbers(n_given)?.len()).len();
        let sampling = self.sampling.of_model(&model.sampling);
        let evaluations = sampling.plan(&schedule)?.n_evaluations();
        let n_evaluations = evaluations.saturating_mul(count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        let n_held = match self.destination()? {
            Some(Destination::Folder(_)) => count.min(batch_size),
            _ => count,
        };
        let alone = Estimate::sampling(&model.unet, n_evaluations, batch_size, n_held, device);
        let guide = default_guide(&model, self.noise.as_deref());
        Ok(self.wishes.of_model(guide)?.added_to(alone, &model.unet))
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
        self.run_observed(model, name, snapshots, control)
    }

    /// As [`run_on`](Self::run_on), with snapshots of the process where they are asked for, whether
    /// a strip is written or not.
    ///
    /// # Errors
    /// As [`run`](Request::run).
    pub fn run_observed(
        &self,
        model: &Model,
        name: &str,
        snapshots: Option<SnapshotsConfig>,
        control: &dyn Control,
    ) -> Result<Sampled> {
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
        // What the request leaves open is as the model has it.
        let sampling = self.sampling.of_model(&model.config.sampling);
        let guide = default_guide(&model.config, self.noise.as_deref());
        let wishes = self.wishes.of_model(guide)?;
        let request = &Sample { sampling, wishes, ..self.clone() };
        let plan = sampling.plan(&model.schedule)?;
        let image_shape = model.config.unet.image_size;
        let given = self.noise.as_deref().map(|path| self.given(path, model, &plan)).transpose()?;
        if let (Some(given), Some(path)) = (&given, &self.noise) {
            given.check(path, &plan)?;
        }
        let numbers = self.numbers(given.as_ref().map(|given| given.x_t.len()))?;
        let labels = request.wishes.labels(self.labels)?;
        self.check(model, &numbers, &labels, &plan)?;
        let conditions = match conditions.is_none() {
            true => request.wishes.conditions_of(&model.config.tags, &numbers)?,
            false => conditions.clone(),
        };
        let guide = request.wishes.load_guide(&model.config, &model.network.device())?;
        let denoiser = request.wishes.guided(model, guide.as_ref())?;
        if let Some(warning) = model.schedule.leftover_warning() {
            control.check(&Report::message("sampling", &format!("warning: {warning}")))?;
        }
        if let Some(path) = self.noise.as_ref().filter(|path| OtherNoise::of(path).is_none()) {
            warn_of_differences(path, model, &sampling, control)?;
        }
        let started = Instant::now();
        let mut work = Work {
            request,
            name,
            n_timesteps: model.schedule.n_timesteps(),
            image_shape,
            plan: &plan,
            denoiser: &*denoiser,
            numbers,
            conditions,
            given,
            models: None,
        };
        let destination = self.destination()?;
        if work.numbers.len() == 1 || matches!(destination, Some(Destination::Folder(_))) {
            let models = [Some(model), guide.as_ref()].into_iter().flatten();
            work.models = Some(models.map(Model::fingerprint).collect());
        }
        let mut sampled = match destination {
            Some(Destination::Folder(folder)) => work.into_folder(&folder, control)?,
            destination => work.together(destination, snapshots, control)?,
        };
        sampled.seconds = started.elapsed().as_secs_f64();
        Ok(sampled)
    }

    fn destination(&self) -> Result<Option<Destination>> {
        let of = |path: &PathBuf| Destination::of(path, Animations::Possible);
        self.out.as_ref().map(of).transpose()
    }

    fn selection(&self) -> Selection<'_> {
        Selection { first: self.first, count: self.count, pick: &self.pick }
    }

    fn drawing(&self) -> Drawing {
        Drawing { scale: self.scale, labels: self.labels }
    }

    /// For how many images `noise` has any.
    fn n_given(&self, path: &Path) -> Result<usize> {
        match OtherNoise::of(path) {
            Some(noise) => Ok(noise.count(self.count.or(self.wishes.n_images()?).unwrap_or(COUNT))),
            None => GivenNoise::count(path),
        }
    }

    /// The noise that `noise` names.
    fn given(&self, path: &Path, model: &Model, plan: &Plan) -> Result<GivenNoise> {
        let Some(noise) = OtherNoise::of(path) else {
            return GivenNoise::read(path, model.config.unet.image_size);
        };
        if noise == OtherNoise::Torch && !(self.first == 0 && self.pick.is_empty()) {
            let problem = "all images come from one generator, so none is by itself: only `count`";
            return Err(Error::invalid("noise", format!("torch: {problem}")));
        }
        noise.draw(self.seed, self.n_given(path)?, &model.config.unet, plan)
    }

    /// Which images; `n_given` is for how many of them `noise` has any.
    fn numbers(&self, n_given: Option<usize>) -> Result<ImageNumbers> {
        let of_noise = || {
            let (n, path) = (n_given.unwrap_or(0), self.noise.as_deref().unwrap_or(Path::new("")));
            let n = counted(n as u64, "image");
            format!("the {n} whose noise `{}` holds", path.display())
        };
        let n_wished = self.wishes.n_images()?;
        let of_wishes = || {
            let n = counted(n_wished.unwrap_or(0) as u64, "image");
            format!("the {n} that tags are given for")
        };
        let is_plain = self.first == 0 && self.pick.is_empty();
        match (n_given, n_wished) {
            // Whether the images are as many as the wishes is looked at with those.
            (Some(n), None) => self.selection().numbers(COUNT, Some((n, &of_noise))),
            (Some(n), Some(wished)) if n < wished => {
                self.selection().numbers(COUNT, Some((n, &of_noise)))
            }
            (_, Some(wished)) if !is_plain => {
                self.selection().numbers(COUNT, Some((wished, &of_wishes)))
            }
            (_, wished) => self.selection().numbers(wished.unwrap_or(COUNT), None),
        }
    }

    fn grid_columns(&self) -> usize {
        self.wishes.grid_columns().unwrap_or(self.columns)
    }

    fn strip_config(&self) -> SnapshotsConfig {
        SnapshotsConfig { n_images: self.strip_images, n_snapshots: self.strip_snapshots }
    }

    fn animation<'a>(
        &self,
        format: AnimationFormat,
        n_frames: usize,
        texts: &'a [(String, String)],
    ) -> Animation<'a> {
        Animation { format, n_frames, frames_per_second: self.fps, rest_ms: REST_MS, texts }
    }

    /// What is known only with the model, looked at before the work.
    fn check(
        &self,
        model: &Model,
        numbers: &ImageNumbers,
        labels: &[String],
        plan: &Plan,
    ) -> Result<()> {
        let unet = &model.config.unet;
        let (count, drawing) = (numbers.len(), self.drawing());
        let n_states = plan.steps().len() + 1;
        let mut n_held = count;
        let destination = self.destination()?;
        match &destination {
            Some(Destination::Folder(_)) => {
                if count > MAX_FILES {
                    let allowed = format!("at most {MAX_FILES}, the files of one folder");
                    return Err(Error::out_of_range("count", count, allowed));
                }
                let last = numbers.get(count - 1).to_string();
                drawing.check_singles(labels.iter().cloned().chain([last]), unet.image_size)?;
                n_held = count.min(self.batch_size);
            }
            Some(Destination::Animation(_, format)) => {
                let n_frames = self.frames.min(n_states);
                n_held = count.saturating_mul(n_frames + 1);
                memory::check("count", "so many images", unet.image_bytes(n_held))?;
                let size = self.sheet(numbers, labels).size(unet.image_size)?;
                self.animation(*format, n_frames, &[]).check(size)?;
            }
            _ => {}
        }
        if self.strip.is_some() {
            let (n_rows, n_columns) =
                (self.strip_images.min(count), self.strip_snapshots.min(n_states));
            n_held = n_held.saturating_add(n_rows.saturating_mul(n_columns));
            render::check_strip([n_columns, n_rows], unet.image_size, &drawing.layout())?;
        }
        memory::check("count", "so many images", unet.image_bytes(n_held))?;
        if !matches!(destination, Some(Destination::Folder(_))) {
            self.sheet(numbers, labels).check(unet.image_size)?;
        }
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        if let Some(path) = &self.save_tensors {
            check_no_model_of_a_run(path)?;
        }
        destination.map_or(Ok(()), |destination| destination.prepare())?;
        [&self.strip, &self.save_tensors].into_iter().flatten().try_for_each(prepare_path)
    }

    /// The grid of the images of these numbers.
    fn sheet(&self, numbers: &ImageNumbers, wishes: &[String]) -> Sheet {
        let label = |k: usize| label(numbers.get(k), wishes);
        self.drawing().grid(numbers.len(), self.grid_columns(), label)
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
