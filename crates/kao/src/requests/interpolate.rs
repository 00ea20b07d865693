//! Images on the way from one image to the next.
//!
//! The noise that two images start from is interpolated, and each point in between is sampled like
//! any other noise. Noise of many dimensions has a length of about √n, and what lies on the straight
//! line between two of it is shorter, which networks have never seen; so the way leads along the
//! sphere.

use super::destinations::check_distinct;
use super::noise_file::GivenNoise;
use super::pictures::{Animations, Destination, Drawing, Inputs, MAX_FILES, Single, remaining};
use super::sample::check_batch;
use super::selection::Selection;
use super::{Compute, Estimate, ModelSource, Provenance, Request, Wishes, check_at_least_one};
use crate::control::Control;
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::memory;
use crate::model::Model;
use crate::noise::{ImageNumbers, NoiseSource, NumberedNoise, Purpose};
use crate::quantities::{counted, duration};
use crate::render::{self, Animation, Sheet};
use crate::sampler::{Generation, SamplingConfig, Start};
use crate::schedule::NoiseSchedule;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

mod path;

use path::{InterpolatedNoise, Place, Way};

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
        let evaluations = plan.n_evaluations() * self.wishes.evaluations();
        let n_evaluations = evaluations.saturating_mul(count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        // The noise and the images.
        let n_held = count.saturating_mul(2);
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, n_held, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Interpolated> {
        self.model.check(control)?;
        self.validate()?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            // What is left open is as the model has it.
            let sampling = self.sampling.of_model(&model.config.sampling);
            Interpolate { sampling, ..self.clone() }.interpolate(&model, control)
        })
    }
}

impl Interpolate {
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

    /// Which of all images on the way.
    fn numbers(&self, n_ends: usize) -> Result<ImageNumbers> {
        let n = Way::new(n_ends, self.frames).len();
        if n > MAX_FILES {
            let problem = format!("{n} images in all; expected at most {MAX_FILES}");
            return Err(Error::invalid("frames", problem));
        }
        let of = || format!("the {} in all", counted(n as u64, "image"));
        self.selection().numbers(n, Some((n, &of)))
    }

    /// The ends of the way: what they are called, and their noise.
    fn ends(&self, given: Option<&GivenNoise>) -> Result<Ends> {
        let numbered = |seed: u64, number: u64| NumberedNoise {
            seed,
            purpose: Purpose::Sampling,
            numbers: ImageNumbers::These(vec![number]),
        };
        if let Some(given) = given {
            let n = given.x_t.len();
            let path = self.latents.as_deref().unwrap_or(Path::new(""));
            if let Some(image) = self.images.iter().find(|image| **image >= n as u64) {
                let n = counted(n as u64, "image");
                let allowed = format!("below the {n} of `{}`", path.display());
                return Err(Error::out_of_range("images", image, allowed));
            }
            if n < 2 && self.images.is_empty() {
                let problem = "`x_T` holds 1 image; expected two or more to go between";
                return Err(Error::malformed(path, problem));
            }
            let all = Vec::from_iter(0..n);
            // Below n.
            let chosen: Vec<usize> = self.images.iter().map(|&image| image as usize).collect();
            let chosen = if chosen.is_empty() { all } else { chosen };
            let names = chosen.iter().map(|image| format!("image {image}")).collect();
            let GivenNoise { x_t, z } = given.chosen(&chosen);
            return Ok(Ends { names, x_t, noise: EndNoise::Given(z) });
        }
        let named: Vec<(String, NumberedNoise)> = match self.between.is_empty() {
            true => {
                let images = self.images.iter();
                images.map(|&k| (format!("image {k}"), numbered(self.seed, k))).collect()
            }
            false => {
                let seeds = self.between.iter();
                seeds.map(|&seed| (format!("seed {seed}"), numbered(seed, 0))).collect()
            }
        };
        let (names, noise) = named.into_iter().unzip();
        Ok(Ends { names, x_t: Images::zeros([0; 4]), noise: EndNoise::Seeds(noise) })
    }

    fn interpolate(&self, model: &Model, control: &dyn Control) -> Result<Interpolated> {
        let unet = &model.config.unet;
        let image_shape = unet.image_size;
        let plan = self.sampling.plan(&model.schedule)?;
        let read = |path: &Path| GivenNoise::read(path, image_shape);
        let given = self.latents.as_deref().map(read).transpose()?;
        if let (Some(given), Some(path)) = (&given, &self.latents) {
            given.check(path, &plan)?;
        }
        let Ends { names, x_t: ends, noise } = self.ends(given.as_ref())?;
        let way = Way::new(names.len(), self.frames);
        let numbers = self.numbers(names.len())?;
        let sheet = self.sheet(&way, &numbers, &names);
        self.check(model, &sheet, numbers.len())?;
        let same = self.wishes.conditions(&model.config.tags, 1)?;
        let guide = self.wishes.load_guide(&model.config, &model.network.device())?;
        let denoiser = self.wishes.guided(model, guide.as_ref())?;
        self.model.report_default(control)?;
        let started = Instant::now();

        let ends = match &noise {
            EndNoise::Given(_) => ends,
            EndNoise::Seeds(seeds) => {
                let [c, h, w] = image_shape;
                let mut ends = Images::zeros([0, c, h, w]);
                for noise in seeds {
                    ends.append(&noise.initial(0, 1, image_shape))?;
                }
                ends
            }
        };
        let noise = Arc::new(noise);
        let start = |positions: &[usize]| {
            let places: Vec<Place> =
                positions.iter().map(|&at| way.place(numbers.get(at) as usize)).collect();
            let x_t = path::between(&ends, &places);
            Start::Images {
                x_t,
                noise: Arc::new(InterpolatedNoise { noise: noise.clone(), places }),
            }
        };
        let models = [Some(model), guide.as_ref()].into_iter().flatten();
        let models: Vec<String> = models.map(Model::fingerprint).collect();
        let single = |at: usize| {
            let number = numbers.get(at) as usize;
            let place = way.place(number);
            let inputs = models.iter().fold(Inputs::default(), |inputs, model| inputs.text(model));
            let inputs = inputs.numbers(same.of(0)).numbers(same.avoided_of(0));
            let inputs = [place.from, place.to].into_iter().fold(inputs, |inputs, end| {
                let inputs = inputs.values(ends.image(end));
                match &*noise {
                    EndNoise::Given(z) => {
                        z.iter().fold(inputs, |inputs, z| inputs.values(z.image(end)))
                    }
                    EndNoise::Seeds(_) => inputs,
                }
            });
            let command = Interpolate { first: 0, pick: vec![number as u64], ..self.command() };
            let command = Interpolate { columns: None, ..command };
            let provenance = self.provenance(model, &command);
            Single {
                path: PathBuf::from(format!("frame-{number:05}.png")),
                provenance: provenance.with("frame", number).with("inputs", inputs.digits()),
                label: label(&way, number, &names),
            }
        };
        let generate = |positions: &[usize], done: &mut dyn FnMut(usize, Images) -> Result<()>| {
            let start = start(positions);
            let conditions = match same.is_none() {
                true => Conditions::none(),
                false => same.chosen(positions.iter().map(|_| 0)),
            };
            let generation = Generation {
                denoiser: &*denoiser,
                plan: &plan,
                start: &start,
                conditions: &conditions,
                batch_size: self.batch_size,
            };
            generation.run_batches(&mut |_, _| {}, done, control)
        };

        let count = numbers.len();
        let [c, h, w] = image_shape;
        let mut outcome = Interpolated {
            images: Images::zeros([0, c, h, w]),
            count,
            n_kept: 0,
            steps: Vec::new(),
            seconds: 0.0,
            provenance: match count {
                1 => single(0).provenance,
                _ => self.provenance(model, &self.command()),
            },
            files: Vec::new(),
        };
        let destination = self.destination()?;
        if let Some(Destination::Folder(folder)) = &destination {
            let in_folder = |at: usize| {
                let single = single(at);
                Single { path: folder.join(&single.path), ..single }
            };
            let to_do = remaining(count, &in_folder, control)?;
            if !to_do.is_empty() {
                generate(&to_do, &mut |first, images| {
                    (0..images.len()).try_for_each(|k| {
                        in_folder(to_do[first + k]).write(&images, k, &self.drawing())
                    })
                })?;
            }
            outcome.n_kept = count - to_do.len();
            outcome.files.push(folder.clone());
        } else {
            let mut images = outcome.images.with_room_for(count)?;
            generate(&Vec::from_iter(0..count), &mut |_, batch| images.append(&batch))?;
            outcome.images = images;
            outcome.steps = path::distances(&outcome.images);
            self.write(&mut outcome, destination, &sheet, model)?;
        }
        outcome.seconds = started.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// What is known only with the model, looked at before the work.
    fn check(&self, model: &Model, sheet: &Sheet, count: usize) -> Result<()> {
        let unet = &model.config.unet;
        let images = unet.image_bytes(count.saturating_mul(2));
        memory::check("frames", "so many images", images)?;
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        let Some(destination) = self.destination()? else { return Ok(()) };
        match &destination {
            Destination::Picture(_) => sheet.check(unet.image_size)?,
            Destination::Folder(_) | Destination::Animation(..) => {
                let alone = self.drawing().grid(1, 1, |_| String::new());
                let size = alone.size(unet.image_size)?;
                if let Destination::Animation(_, format) = destination {
                    self.animation(format, count, &[]).check(size)?;
                }
            }
        }
        destination.prepare()
    }

    fn animation<'a>(
        &self,
        format: crate::render::AnimationFormat,
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

    fn write(
        &self,
        outcome: &mut Interpolated,
        destination: Option<Destination>,
        sheet: &Sheet,
        model: &Model,
    ) -> Result<()> {
        match destination {
            Some(Destination::Picture(path)) => {
                let picture = sheet.draw(&outcome.images)?;
                render::write_png(&path, &picture, &outcome.provenance.texts)?;
                outcome.files.push(path);
            }
            Some(Destination::Animation(path, format)) => {
                let out = path.file_name().map(PathBuf::from);
                let command = Interpolate { out, fps: self.fps, ..self.command() };
                let texts = self.provenance(model, &command).texts;
                // A way that ends where it began shows that image once, as it loops.
                let is_loop = match (self.between.as_slice(), self.images.as_slice()) {
                    ([first, .., last], _) | (_, [first, .., last]) => first == last,
                    _ => false,
                };
                let is_whole = self.first == 0 && self.pick.is_empty();
                let n_frames =
                    outcome.count - usize::from(is_loop && is_whole && outcome.count > 2);
                // Labels of the grid may stand in other places.
                let labels: Vec<String> = match self.labels {
                    true => {
                        let places = sheet.places.iter().flatten();
                        let mut labels = vec![String::new(); outcome.count];
                        for (place, label) in places.zip(&sheet.labels) {
                            labels[*place].clone_from(label);
                        }
                        labels
                    }
                    false => vec![String::new(); outcome.count],
                };
                let drawing = self.drawing();
                let alone = |at: usize| Sheet {
                    places: vec![Some(at)],
                    other_labels: labels.clone(),
                    ..drawing.grid(1, 1, |_| labels[at].clone())
                };
                self.animation(format, n_frames, &texts)
                    .write(&path, |at| alone(at).draw(&outcome.images))?;
                outcome.files.push(path);
            }
            Some(Destination::Folder(_)) | None => {}
        }
        Ok(())
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

    fn provenance(&self, model: &Model, command: &Interpolate) -> Provenance {
        let listed =
            |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let provenance = Provenance::new().with_command(command).with("model", self.model.name());
        let n_timesteps = model.schedule.n_timesteps();
        let provenance =
            self.wishes.describe(provenance.with_all(self.sampling.describe(n_timesteps)));
        let provenance = match (&self.latents, self.between.is_empty()) {
            (Some(path), _) => provenance.with_path("latents", path),
            (None, true) => provenance.with("seed", self.seed),
            (None, false) => provenance.with("between", listed(&self.between)),
        };
        let provenance = match self.images.is_empty() {
            true => provenance,
            false => provenance.with("images", listed(&self.images)),
        };
        provenance.with("frames", self.frames)
    }
}

/// Between what to go.
struct Ends {
    /// What each is called in labels.
    names: Vec<String>,
    /// x_T of each; none where it is to be drawn.
    x_t: Images,
    noise: EndNoise,
}

/// Where the noise of the steps of the ends comes from.
#[derive(Debug)]
enum EndNoise {
    /// Each end is image 0 of its own source.
    Seeds(Vec<NumberedNoise>),
    /// The noise of each step.
    Given(Vec<Images>),
}

impl NoiseSource for EndNoise {
    fn fill(&self, step_index: usize, end: usize, z: &mut [f32]) {
        match self {
            EndNoise::Seeds(seeds) => seeds[end].fill(step_index, 0, z),
            EndNoise::Given(steps) => z.copy_from_slice(steps[step_index].image(end)),
        }
    }
}

/// What stands under an image: what is gone between is called by its name, the rest by its number.
fn label(way: &Way, number: usize, names: &[String]) -> String {
    let place = way.place(number);
    match place.share {
        0.0 => names[place.from].clone(),
        _ => number.to_string(),
    }
}
