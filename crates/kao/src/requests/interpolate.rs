//! Images on the way from one image to the next.
//!
//! The noise that two images start from is interpolated, and each point in between is sampled like
//! any other noise. Noise of many dimensions has a length of about √n, and what lies on the straight
//! line between two of it is shorter, which networks have never seen; so the way leads along the
//! sphere.

use super::destinations::check_distinct;
use super::latents::default_guide;
use super::noise_file::GivenNoise;
use super::pictures::{Animations, Destination, Drawing, MAX_FILES};
use super::sample::check_batch;
use super::selection::Selection;
use super::{Compute, Estimate, ModelSource, Provenance, Request, Wishes, check_at_least_one};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::memory;
use crate::model::{Model, ModelConfig};
use crate::noise::ImageNumbers;
use crate::quantities::{counted, duration};
use crate::render::{Animation, AnimationFormat, Sheet};
use crate::sampler::SamplingConfig;
use crate::schedule::NoiseSchedule;
use path::Way;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

mod ends;
mod path;
mod work;

/// Samples images on the way between others: seeds, images of one seed, or noise of a file (which
/// may be that of encoded pictures). The images at the ends are those that [`Sample`] makes.
///
/// [`Sample`]: super::Sample
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interpolate {
    /// Which model.
    pub model: ModelSource,
    /// How to go from noise to images.
    #[serde(flatten)]
    pub sampling: SamplingConfig,
    /// What all images are asked to show; `rows`, `columns_of` and `tags_from` do not apply.
    #[serde(flatten)]
    pub wishes: Wishes,
    /// The seeds to go between, from one to the next; of each its image 0.
    pub between: Vec<u64>,
    /// In the place of `between`: images of `seed`, or of `latents`, to go between.
    pub images: Vec<u64>,
    /// Seed of `images`.
    pub seed: u64,
    /// A .safetensors file with `x_T` [N, C, H, W] to go between, in its order or that of `images`.
    pub latents: Option<PathBuf>,
    /// Images from each to the next, both of them among these.
    pub frames: usize,
    /// Of four images, all points of the plane between them, row by row, `frames` a side: the first
    /// two are its upper corners, the others its lower ones.
    pub plane: bool,
    /// The first of all these images.
    pub first: u64,
    /// These of them, in the place of all.
    pub pick: Vec<u64>,
    /// Images at a time: memory grows with it, the images stay the same.
    pub batch_size: usize,
    /// A grid to write (.png), a folder for a file of each image, or an animation (.gif, .apng,
    /// .webp).
    pub out: Option<PathBuf>,
    /// Columns of the grid; by default each row leads from one image to the next.
    pub columns: Option<usize>,
    /// Each pixel becomes a square of so many.
    pub scale: usize,
    /// Whether the number of each image is written under it.
    pub labels: bool,
    /// Pictures of an animation in a second.
    pub fps: u16,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Interpolate {
    fn default() -> Self {
        Interpolate {
            model: ModelSource::default(),
            sampling: SamplingConfig::default(),
            wishes: Wishes::default(),
            between: Vec::new(),
            images: Vec::new(),
            seed: 999,
            latents: None,
            frames: 16,
            plane: false,
            first: 0,
            pick: Vec::new(),
            batch_size: 16,
            out: None,
            columns: None,
            scale: 1,
            labels: false,
            fps: 10,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Interpolate`].
#[derive(Clone, Debug)]
pub struct Interpolated {
    /// The images, `[N, C, H, W]`, not clamped to [-1, 1]; none where each went to a file of its own.
    pub images: Images,
    /// How many images there are.
    pub count: usize,
    /// How many of them were in the folder already.
    pub n_kept: usize,
    /// How far each image is from the one before it: the root of the mean squared difference, where
    /// pixels go from 0 to 255.
    pub steps: Vec<f64>,
    /// Seconds that the work took, loading the model not included.
    pub seconds: f64,
    /// How the images came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

impl Interpolated {
    /// One line: how many images, how far they are from each other, and how long it took.
    pub fn summary(&self) -> String {
        let mut words = vec![counted(self.count as u64, "image")];
        let mut steps = self.steps.clone();
        steps.sort_by(f64::total_cmp);
        if let Some(largest) = steps.last() {
            let median = steps[steps.len() / 2];
            words.push(format!("steps of {median:.1} of 255, the largest {largest:.1}"));
        }
        words.push(match self.seconds {
            seconds if seconds < 59.95 => format!("{seconds:.1} s"),
            seconds => duration(seconds),
        });
        words.join(" · ")
    }
}

impl Request for Interpolate {
    const COMMAND: &'static str = "interpolate";
    type Outcome = Interpolated;

    fn validate(&self) -> Result<()> {
        self.destination()?;
        self.check_ends()?;
        if self.frames < 2 {
            let allowed = "at least 2, the images to go between";
            return Err(Error::out_of_range("frames", self.frames, allowed));
        }
        let wishes = &self.wishes;
        for (field, is_given) in [
            ("rows", wishes.rows.is_some()),
            ("columns_of", wishes.columns_of.is_some()),
            ("tags_from", wishes.tags_from.is_some()),
        ] {
            if is_given {
                let problem = "does not apply here: all images are asked to show the same";
                return Err(Error::invalid(field, problem));
            }
        }
        wishes.validate()?;
        let [_, guide] = wishes.inputs();
        let inputs = [
            ("model.path", self.model.path.as_deref()),
            ("latents", self.latents.as_deref()),
            guide,
        ];
        check_distinct(&inputs, &[("out", self.out.as_deref())])?;
        self.sampling.validate()?;
        self.selection().validate()?;
        let columns = ("columns", self.columns.unwrap_or(1));
        check_at_least_one(&[columns, ("batch_size", self.batch_size)])?;
        self.drawing().validate()?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let n_given = self.latents.as_deref().map(GivenNoise::count).transpose()?;
        let count = self.numbers(self.n_ends(n_given))?.len();
        let sampling = self.sampling.of_model(&model.sampling);
        let plan = sampling.plan(&NoiseSchedule::new(&model.schedule)?)?;
        let n_evaluations = plan.n_evaluations().saturating_mul(count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        // The noise and the images.
        let n_held = count.saturating_mul(2);
        let alone = Estimate::sampling(&model.unet, n_evaluations, batch_size, n_held, device);
        Ok(self.of_model(&model)?.wishes.added_to(alone, &model.unet))
    }

    fn run(&self, control: &dyn Control) -> Result<Interpolated> {
        self.model.check(control)?;
        self.validate()?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            work::interpolate(&self.of_model(&model.config)?, &model, control)
        })
    }
}

impl Interpolate {
    /// As [`run`](Request::run), on a model that is loaded already.
    ///
    /// # Errors
    /// As [`run`](Request::run).
    pub fn run_on(&self, model: &Model, control: &dyn Control) -> Result<Interpolated> {
        self.validate()?;
        work::interpolate(&self.of_model(&model.config)?, model, control)
    }

    /// The same, with what is left open as the model has it.
    fn of_model(&self, model: &ModelConfig) -> Result<Self> {
        let sampling = self.sampling.of_model(&model.sampling);
        let guide = default_guide(model, self.latents.as_deref());
        Ok(Interpolate { sampling, wishes: self.wishes.of_model(guide)?, ..self.clone() })
    }

    fn destination(&self) -> Result<Option<Destination>> {
        let of = |path: &PathBuf| Destination::of(path, Animations::Possible);
        self.out.as_ref().map(of).transpose()
    }

    fn drawing(&self) -> Drawing {
        Drawing { scale: self.scale, labels: self.labels }
    }

    fn selection(&self) -> Selection<'_> {
        Selection { first: self.first, count: None, pick: &self.pick }
    }

    /// Whether it is said between what to go, in one way.
    fn check_ends(&self) -> Result<()> {
        let Interpolate { between, images, latents, .. } = self;
        let few = |field: &str, n: usize| {
            let problem = format!("names {}; expected two or more", counted(n as u64, "image"));
            Err(Error::invalid(field, problem))
        };
        match (between.len(), images.len(), latents) {
            (0, 0, None) => {
                let problem = "none given; expected two or more seeds";
                let hint = "`images` goes between images of one seed, `latents` between those of a \
                            file";
                Err(Error::invalid("between", problem).with_hint(hint))
            }
            (1.., 1.., _) => Err(Error::invalid("images", "only applies without `between`")),
            (1.., _, Some(_)) => Err(Error::invalid("latents", "only applies without `between`")),
            (1, _, _) => Err(Error::invalid("between", "names 1 seed; expected two or more")),
            (n @ 1.., _, _) | (_, n @ 1.., _) if self.plane && n != 4 => Err(of_four(n)),
            (_, n @ 1, _) => few("images", n),
            _ => Ok(()),
        }
    }

    /// How many images to go between; `n_given` is how many the file has.
    fn n_ends(&self, n_given: Option<usize>) -> usize {
        match (self.between.len(), self.images.len()) {
            (0, 0) => n_given.unwrap_or(0),
            (n_between, n_images) => n_between.max(n_images),
        }
    }

    /// The way between so many images.
    fn way(&self, n_ends: usize) -> Way {
        match self.plane {
            true => Way::plane(self.frames),
            false => Way::new(n_ends, self.frames),
        }
    }

    /// Which of all images on the way.
    fn numbers(&self, n_ends: usize) -> Result<ImageNumbers> {
        let n = self.way(n_ends).len();
        if n > MAX_FILES {
            let problem = format!("{n} images in all; expected at most {MAX_FILES}");
            return Err(Error::invalid("frames", problem));
        }
        let of = || format!("the {} in all", counted(n as u64, "image"));
        self.selection().numbers(n, Some((n, &of)))
    }

    /// What is known only with the model, looked at before the work.
    fn check(
        &self,
        model: &Model,
        sheet: &Sheet,
        label: &dyn Fn(usize) -> String,
        count: usize,
    ) -> Result<()> {
        let unet = &model.config.unet;
        let images = unet.image_bytes(count.saturating_mul(2));
        memory::check("frames", "so many images", images)?;
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        let Some(destination) = self.destination()? else { return Ok(()) };
        match &destination {
            Destination::Picture(_) => sheet.check(unet.image_size)?,
            Destination::Folder(_) | Destination::Animation(..) => {
                // The frames of an animation are as large as the largest of them.
                let labels = (0..count).map(label);
                let largest = self.drawing().check_singles(labels, unet.image_size)?;
                if let Destination::Animation(_, format) = destination {
                    self.animation(format, count, &[]).check(largest)?;
                }
            }
        }
        destination.prepare()
    }

    fn animation<'a>(
        &self,
        format: AnimationFormat,
        n_frames: usize,
        texts: &'a [(String, String)],
    ) -> Animation<'a> {
        Animation { format, n_frames, frames_per_second: self.fps, rest_ms: 0, texts }
    }

    /// The grid: where nothing else is asked for, each row leads from one image to the next, and
    /// those in between end one row and begin another.
    fn sheet(&self, way: &Way, numbers: &ImageNumbers, names: &[String]) -> Sheet {
        let (count, drawing) = (numbers.len(), self.drawing());
        let label = |at: usize| label(way, numbers.get(at) as usize, names);
        if self.columns.is_some() || count != way.len() {
            return drawing.grid(count, self.columns.unwrap_or(8), label);
        }
        let rows = (0..way.n_legs()).flat_map(|leg| way.of_leg(leg));
        let places: Vec<usize> = rows.collect();
        let labels = match self.labels {
            true => places.iter().map(|&at| label(at)).collect(),
            false => Vec::new(),
        };
        let places = places.into_iter().map(Some).collect();
        Sheet { places, labels, ..Sheet::grid(1, self.frames, drawing.layout()) }
    }

    /// Whether the way ends where it began.
    fn is_loop(&self) -> bool {
        let ends = if self.between.is_empty() { &self.images } else { &self.between };
        let is_whole = self.first == 0 && self.pick.is_empty() && !self.plane;
        is_whole && ends.len() > 2 && ends.first() == ends.last()
    }

    /// The same request with nothing that leaves the images as they are.
    fn command(&self) -> Interpolate {
        let default = Interpolate::default();
        Interpolate {
            out: None,
            fps: default.fps,
            batch_size: default.batch_size,
            compute: Compute { threads: None, ..self.compute.clone() },
            ..self.clone()
        }
    }
}

/// What stands under an image: what is gone between is called by its name, the rest by its number.
fn label(way: &Way, number: usize, names: &[String]) -> String {
    let place = way.place(number);
    match place.end() {
        Some(end) => names[end].clone(),
        None => number.to_string(),
    }
}

fn of_four(n: usize) -> Error {
    let problem = format!("goes between four images; {} found", counted(n as u64, "image"));
    Error::invalid("plane", problem)
}
