//! How far samples are from real pictures, and whether they copy them.

mod parts;

pub use parts::SampledPart;

use super::destinations::check_distinct;
use super::sample::check_batch;
use super::{
    Compute, Estimate, Evaluation, EvaluationConfig, ModelSource, Provenance, Request, Wishes,
    check_at_least_one, evaluate,
};
use crate::control::{Control, Report};
use crate::dataset::{Cache, CacheConfig, Folder, SplitConfig, Tags, common_size};
use crate::denoiser::Conditions;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::{Classifier, GroupAccuracy, MIN_SIDE, resolutions};
use crate::files::prepare_path;
use crate::images::Images;
use crate::memory;
use crate::model::{Model, ModelConfig};
use crate::noise::{ImageNumbers, NumberedNoise, Purpose};
use crate::quantities::counted;
use crate::render::{self, Layout};
use crate::sampler::{Generation, SamplingConfig, Start};
use crate::schedule::NoiseSchedule;
use crate::shard::Shard;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ops::Range;
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
    /// A folder of real pictures, that which the model was trained on; of files or of tar archives, or
    /// archives: `shards-{000..099}.tar`.
    pub data: PathBuf,
    /// Where these pictures are kept. The numbers are the same.
    pub cache: Cache,
    /// The folder for pictures that are kept on disk.
    pub cache_dir: Option<PathBuf>,
    /// Evaluate the pictures of this folder instead of samples of a model.
    pub samples: Option<PathBuf>,
    /// How many samples; of a folder, the first by name. By default 1024, or the whole folder.
    pub count: Option<usize>,
    /// A folder for samples that are made in parts: with `shard` those of one part are written there
    /// ([`sample_part`](Self::sample_part)), and without it all parts are read and evaluated.
    pub parts: Option<PathBuf>,
    /// Which part of the samples.
    pub shard: Option<Shard>,
    /// How to sample.
    #[serde(flatten)]
    pub sampling: SamplingConfig,
    /// Tags that every sample is asked for; samples are compared with the pictures that have them.
    pub tags: Option<String>,
    /// Tags that guidance leads away from.
    pub avoid: Option<String>,
    /// How strongly samples are led to what is asked for, as in [`Wishes`].
    pub guidance: Option<f64>,
    /// How far guided predictions are scaled back, as in [`Wishes`].
    pub guidance_rescale: f64,
    /// The noise levels between which guidance acts, as in [`Wishes`].
    pub guidance_interval: Option<[f64; 2]>,
    /// A weaker model to lead away from.
    pub guide: Option<PathBuf>,
    /// Ask each sample for the tags of one picture that training leaves out, and see whether it shows
    /// them.
    pub descriptions: bool,
    /// The model was not trained on the pictures of `data`, so descriptions come from all of them.
    pub unseen: bool,
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
            cache: Cache::default(),
            cache_dir: None,
            samples: None,
            count: None,
            parts: None,
            shard: None,
            sampling: SamplingConfig::default(),
            tags: None,
            avoid: None,
            guidance: None,
            guidance_rescale: 0.0,
            guidance_interval: None,
            guide: None,
            descriptions: false,
            unseen: false,
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
    /// How often samples show what they were asked for, by groups of tags.
    pub tags: Vec<TagAccuracy>,
    /// Different pictures whose tags samples were asked for; 0 without descriptions.
    pub n_described: usize,
    /// The names of the real pictures: neighbours are positions in this list.
    pub picture_names: Vec<String>,
    /// What was compared, and how the samples came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

/// How often images of one group of tags show what they were asked for, by Kao's classifier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TagAccuracy {
    /// Of the samples.
    pub samples: GroupAccuracy,
    /// Of the pictures whose tags were asked for: what a perfect model would reach.
    pub pictures: GroupAccuracy,
}

/// What is compared.
struct Compared {
    samples: Images,
    /// The real pictures, at the size of the samples.
    data: Folder,
    /// What the samples are.
    provenance: Provenance,
    tags: Vec<TagAccuracy>,
    /// Different pictures whose tags samples were asked for.
    n_described: usize,
}

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
        if self.samples.is_some() && self.parts.is_some() {
            return Err(Error::invalid("parts", "only applies to samples of a model"));
        }
        if self.shard.is_some() && self.parts.is_none() {
            let problem = "needs `parts`, the folder that the samples of each part go to";
            return Err(Error::invalid("shard", problem));
        }
        self.sampling.validate()?;
        self.check_wishes()?;
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
        let alone = Estimate::sampling(&model.unet, n_evaluations, batch_size, 3 * count, device);
        Ok(self.guided(&model)?.added_to(alone, &model.unet))
    }

    fn run(&self, control: &dyn Control) -> Result<Evaluated> {
        self.model.check(control)?;
        self.validate()?;
        if self.shard.is_some() {
            let problem = "one part has no distance; expected all parts";
            return Err(Error::invalid("shard", problem));
        }
        self.compute.run(|device| {
            let compared = match &self.samples {
                Some(dir) => self.pictures_as_samples(dir, control)?,
                None => self.sampled(device, control)?,
            };
            let Compared { samples, data, provenance, tags, n_described } = compared;
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
            let picture_names = names.collect();
            Ok(Evaluated { evaluation, tags, n_described, picture_names, provenance, files })
        })
    }
}

impl Evaluate {
    /// Checks what is asked of the model; how many samples that are.
    fn check_sampling(&self, model: &Model) -> Result<usize> {
        let unet = &model.config.unet;
        let count = self.count.unwrap_or(COUNT);
        check_size("model.path", unet.image_size)?;
        memory::check("count", "so many images", unet.image_bytes(count))?;
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        Ok(count)
    }

    fn load_data(&self, shape: [usize; 3], control: &dyn Control) -> Result<Folder> {
        let cache = CacheConfig { cache: self.cache, dir: self.cache_dir.clone() };
        Folder::load_with(&self.data, shape, &cache, control)
    }

    fn data_of(&self, model: &Model, control: &dyn Control) -> Result<Folder> {
        let data = self.load_data(model.config.unet.image_size, control)?;
        self.with_tags(data, model, control)
    }

    fn sampled(&self, device: &Device, control: &dyn Control) -> Result<Compared> {
        let model = self.model.load(device, control)?;
        self.sampling.of_model(&model.config.sampling).plan(&model.schedule)?;
        let count = self.check_sampling(&model)?;
        let data = self.data_of(&model, control)?;
        self.check_count(count, &data)?;
        self.prepare_path()?;

        self.model.report_default(control)?;
        let described = self.described(&data, count)?;
        let guide = self.guided(&model.config)?.load_guide(&model.config, device)?;
        let samples = match self.parts(&model, guide.as_ref(), Some(&data), count)? {
            Some(parts) => parts.together()?,
            None => {
                let conditions = self.conditions(&model, described.as_ref(), count)?;
                self.sample(&model, guide.as_ref(), &conditions, 0..count, control)?
            }
        };
        let provenance = self.provenance_of(&model, count)?;
        let (tags, n_described) = match described {
            Some((pictures, asked)) => (
                judged(&samples, &data.images(&pictures)?, &asked)?,
                HashSet::<usize>::from_iter(pictures).len(),
            ),
            None => (Vec::new(), 0),
        };
        Ok(Compared { samples, data, provenance, tags, n_described })
    }

    /// How samples of the model come to be.
    fn provenance_of(&self, model: &Model, count: usize) -> Result<Provenance> {
        let sampling = self.sampling.of_model(&model.config.sampling);
        let provenance = self
            .provenance(count)
            .with("model", self.model.name())
            .with_all(sampling.describe(model.schedule.n_timesteps()));
        let provenance = match self.unseen {
            true => provenance.with("descriptions", "of all pictures"),
            false => provenance,
        };
        Ok(self.guided(&model.config)?.describe(provenance))
    }

    /// What each of `count` samples is asked for.
    fn conditions(
        &self,
        model: &Model,
        described: Option<&Described>,
        count: usize,
    ) -> Result<Conditions> {
        match described {
            Some((_, tags)) => Ok(Conditions::new(numbers_of(tags, &model.config.tags))),
            None => self.wishes().conditions(&model.config.tags, count),
        }
    }

    /// Makes the samples with numbers in `range`.
    fn sample(
        &self,
        model: &Model,
        guide: Option<&Model>,
        conditions: &Conditions,
        range: Range<usize>,
        control: &dyn Control,
    ) -> Result<Images> {
        let sampling = self.sampling.of_model(&model.config.sampling);
        let plan = sampling.plan(&model.schedule)?;
        let (wishes, image_shape) = (self.guided(&model.config)?, model.config.unet.image_size);
        if range.is_empty() {
            let [c, h, w] = image_shape;
            return Ok(Images::zeros([0, c, h, w]));
        }
        let conditions = match conditions.is_none() {
            true => Conditions::none(),
            false => conditions.chosen(range.clone()),
        };
        let numbers = ImageNumbers::From { first: range.start as u64, count: range.len() };
        let noise = NumberedNoise { seed: self.seed, purpose: Purpose::Sampling, numbers };
        let generation = Generation {
            denoiser: &*wishes.guided(model, guide)?,
            plan: &plan,
            start: &Start::Numbered { noise, image_shape },
            conditions: &conditions,
            batch_size: self.batch_size,
        };
        generation.run(&mut |_, _| {}, control)
    }

    /// What samples are asked for.
    fn wishes(&self) -> Wishes {
        Wishes {
            tags: self.tags.clone(),
            avoid: self.avoid.clone(),
            guidance: self.guidance,
            guidance_rescale: self.guidance_rescale,
            guidance_interval: self.guidance_interval,
            guide: self.guide.clone(),
            ..Wishes::default()
        }
    }

    /// Checks what samples are asked for, as far as that is known without the model.
    fn check_wishes(&self) -> Result<()> {
        if self.unseen && !self.descriptions {
            let problem = "only applies with `descriptions`, which it gives more pictures";
            return Err(Error::invalid("unseen", problem));
        }
        if self.samples.is_some() {
            let of_models = [
                ("tags", self.tags.is_some()),
                ("avoid", self.avoid.is_some()),
                ("guidance", self.guidance.is_some()),
                ("guidance_rescale", self.guidance_rescale != 0.0),
                ("guidance_interval", self.guidance_interval.is_some()),
                ("guide", self.guide.is_some()),
                ("descriptions", self.descriptions),
            ];
            if let Some((field, _)) = of_models.iter().find(|(_, is_given)| *is_given) {
                return Err(Error::invalid(*field, "only applies to samples of a model"));
            }
        }
        if !self.descriptions {
            return self.wishes().validate();
        }
        if self.tags.is_some() {
            let problem = "only applies without `descriptions`, which ask for tags too";
            return Err(Error::invalid("tags", problem));
        }
        self.wishes().config().validate()
    }

    /// What samples of `model` are asked for, and how they are guided.
    fn guided(&self, model: &ModelConfig) -> Result<Wishes> {
        let wishes = Wishes { asks_for_others: self.descriptions, ..self.wishes() };
        wishes.of_model(model.sampling.guide)
    }

    /// `data` with the tags of its pictures, where they are asked for; with tags that samples are asked
    /// for, only the pictures that have them.
    fn with_tags(&self, data: Folder, model: &Model, control: &dyn Control) -> Result<Folder> {
        if !self.descriptions && self.tags.is_none() {
            return Ok(data);
        }
        let names = data.pictures().iter().map(|picture| picture.name.as_str());
        let tags = Tags::read(&self.data, names, None)?;
        for warning in tags.warnings() {
            control.check(&Report::message("reading", &format!("warning: {warning}")))?;
        }
        let data = data.with_tags(tags);
        let Some(asked) = &self.tags else { return Ok(data) };
        let vocabulary = &model.config.tags;
        let asked = vocabulary.find("tags", asked)?;
        let has_all = |index: &usize| {
            let tags = data.tags_of(*index);
            asked.iter().all(|&number| tags.contains(&vocabulary.tags()[number].tag))
        };
        let chosen: Vec<usize> = (0..data.len()).filter(has_all).collect();
        data.subset(&chosen)
    }

    /// Pictures that training leaves out, or all where the model has seen none, in a fixed order and
    /// again from the first where there are fewer than `count`, and the tags of each.
    fn described(&self, data: &Folder, count: usize) -> Result<Option<Described>> {
        if !self.descriptions {
            return Ok(None);
        }
        let split = data.split(&SplitConfig::default())?;
        let of_training = if self.unseen { split.train } else { Vec::new() };
        let held_out: Vec<usize> = split
            .test
            .into_iter()
            .chain(split.validation)
            .chain(of_training)
            .filter(|&index| !data.tags_of(index).is_empty())
            .collect();
        if held_out.is_empty() {
            let which = if self.unseen { "" } else { " that training leaves out" };
            let problem = format!("no picture{which} has tags; expected some");
            return Err(Error::malformed(&self.data, problem));
        }
        let chosen: Vec<usize> = held_out.into_iter().cycle().take(count).collect();
        let tags = chosen.iter().map(|&index| data.tags_of(index).to_vec()).collect();
        Ok(Some((chosen, tags)))
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
        let data = self.load_data(shape, control)?;
        self.prepare_path()?;
        let provenance = self.provenance(count).with_path("samples", dir);
        Ok(Compared { samples, data, provenance, tags: Vec::new(), n_described: 0 })
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
                let hint = "a grid is one picture: where a folder is named to write to (`DIR/`), \
                            `kao sample` gives each image a file of its own";
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

/// Positions of pictures in a folder, and their tags.
type Described = (Vec<usize>, Vec<Vec<String>>);

/// The numbers of those of `tags` that the model knows.
fn numbers_of(tags: &[Vec<String>], vocabulary: &Vocabulary) -> Vec<Vec<usize>> {
    let of_one = |tags: &Vec<String>| {
        let mut numbers: Vec<usize> =
            tags.iter().filter_map(|tag| vocabulary.number(tag)).collect();
        numbers.sort_unstable();
        numbers
    };
    tags.iter().map(of_one).collect()
}

/// How often `samples`, and the pictures whose tags they were asked for, show these tags.
fn judged(samples: &Images, pictures: &Images, asked: &[Vec<String>]) -> Result<Vec<TagAccuracy>> {
    let classifier = Classifier::of_faces()?;
    let [samples, pictures] = [samples, pictures]
        .map(|images| Ok::<_, Error>(classifier.accuracies(&classifier.judge(images)?, asked)));
    let pairs = samples?.into_iter().zip(pictures?);
    Ok(pairs.map(|(samples, pictures)| TagAccuracy { samples, pictures }).collect())
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
