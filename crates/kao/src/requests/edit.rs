//! Variations of pictures, and pictures with a part painted anew.

use super::destinations::check_distinct;
use super::pictures::{Animations, Destination, Drawing, MAX_FILES};
use super::sample::check_batch;
use super::selection::Selection;
use super::wishes::label;
use super::{Compute, Estimate, ModelSource, Provenance, Request, Wishes, check_at_least_one};
use crate::control::Control;
use crate::dataset::Fit;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::memory;
use crate::model::{Model, ModelConfig};
use crate::noise::ImageNumbers;
use crate::quantities::{counted, duration};
use crate::render::Sheet;
use crate::sampler::{Jumps, Route, SamplingConfig};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Step;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

mod prepared;
mod work;

/// Variations of each picture where no number is given.
const COUNT: usize = 8;
/// The strength of variations where none is given.
const STRENGTH: f64 = 0.5;
/// How often each part of the way is gone where a mask is given and nobody says. Of half faces that
/// the built-in model painted anew in 20 steps, the edge along the mask is 1.39 times as strong as
/// those beside it when the way is gone once, 1.12 times with 5 and 1.07 times with the 10 of RePaint,
/// which take twice as long.
const JUMPS: usize = 5;

/// Varies pictures: noise is added up to a strength, and taken away again (SDEdit, Meng et al. 2022).
/// With a mask, only a part of each picture is made anew, to go with the rest (RePaint, Lugmayr et
/// al. 2022).
///
/// Variation k of a seed has its noise whatever the other pictures and variations are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// Which model.
    pub model: ModelSource,
    /// The pictures: files of any size, which are prepared as
    /// [`Prepare`](super::Prepare) does.
    pub pictures: Vec<PathBuf>,
    /// How pictures that are not square become square.
    pub fit: Fit,
    /// The share of the steps that is taken, 0 to 1: with 0 the pictures stay what they are, with 1
    /// nothing of them is left. By default 0.5, with a mask 1.
    pub strength: Option<f64>,
    /// A picture whose white is made anew and whose black stays as it is; grey is changed by so large
    /// a share of the strength. It has the size of the picture, or its shape.
    pub mask: Option<PathBuf>,
    /// With a mask, how often each part of the way is gone, with noise added in between: RePaint has
    /// 10. By default 5 times.
    pub jumps: Option<usize>,
    /// Steps of such a part; by default 10 of 250, as RePaint has it.
    pub jump_length: Option<usize>,
    /// How to go from noise to images.
    #[serde(flatten)]
    pub sampling: SamplingConfig,
    /// What the images are asked to show.
    #[serde(flatten)]
    pub wishes: Wishes,
    /// How many variations of each picture; by default 8, or as many as tags are given for.
    pub count: Option<usize>,
    /// The number of the first variation.
    pub first: u64,
    /// The variations of these numbers, in the place of `first` and `count`.
    pub pick: Vec<u64>,
    /// Seed of the noise.
    pub seed: u64,
    /// Images at a time: memory grows with it, the images stay the same.
    pub batch_size: usize,
    /// A grid to write (.png), each row a picture and its variations; or a folder for a file of each
    /// variation.
    pub out: Option<PathBuf>,
    /// Variations in a row of the grid.
    pub columns: usize,
    /// Each pixel becomes a square of so many.
    pub scale: usize,
    /// Whether the number of each variation, or what it was asked to show, is written under it.
    pub labels: bool,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Edit {
    fn default() -> Self {
        Edit {
            model: ModelSource::default(),
            pictures: Vec::new(),
            fit: Fit::default(),
            strength: None,
            mask: None,
            jumps: None,
            jump_length: None,
            sampling: SamplingConfig::default(),
            wishes: Wishes::default(),
            count: None,
            first: 0,
            pick: Vec::new(),
            seed: 999,
            batch_size: 16,
            out: None,
            columns: 8,
            scale: 1,
            labels: false,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Edit`].
#[derive(Clone, Debug)]
pub struct Edited {
    /// The pictures as they were prepared, `[P, C, H, W]`.
    pub originals: Images,
    /// The variations, `[N, C, H, W]`: all of the first picture, then all of the next. Not clamped to
    /// [-1, 1]; none where each went to a file of its own.
    pub images: Images,
    /// How many variations there are.
    pub count: usize,
    /// How many of them were in the folder already.
    pub n_kept: usize,
    /// Evaluations of the network for each variation.
    pub n_evaluations: usize,
    /// Seconds that the work took, loading the model not included.
    pub seconds: f64,
    /// How the images came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// What was made of what, in a few words.
    words: Vec<String>,
}

impl Edited {
    /// One line: how many images of what, how they were made, and how long it took.
    pub fn summary(&self) -> String {
        let time = match self.seconds {
            seconds if seconds < 59.95 => format!("{seconds:.1} s"),
            seconds => duration(seconds),
        };
        format!("{} · {time}", self.words.join(" · "))
    }
}

impl Request for Edit {
    const COMMAND: &'static str = "edit";
    const POSITIONAL: &'static [&'static str] = &["pictures"];
    type Outcome = Edited;

    fn validate(&self) -> Result<()> {
        self.destination()?;
        if self.pictures.is_empty() {
            return Err(Error::invalid("pictures", "none given; expected one or more"));
        }
        if let Some(strength) = self.strength.filter(|strength| !(0.0..=1.0).contains(strength)) {
            let allowed = "between 0, which changes nothing, and 1, which leaves nothing";
            return Err(Error::out_of_range("strength", strength, allowed));
        }
        if self.mask.is_none() {
            for (field, n) in [("jumps", self.jumps), ("jump_length", self.jump_length)] {
                if n.is_some() {
                    return Err(Error::invalid(field, "only applies with a mask"));
                }
            }
        }
        self.jumps(1).validate()?;
        if self.jump_length.is_some() && self.jumps(1).times == 1 {
            let problem =
                "only applies where parts of the way are gone more than once, see `jumps`";
            return Err(Error::invalid("jump_length", problem));
        }
        self.wishes.validate()?;
        let [tags_from, guide] = self.wishes.inputs();
        let mut inputs = vec![
            ("model.path", self.model.path.as_deref()),
            ("mask", self.mask.as_deref()),
            tags_from,
            guide,
        ];
        inputs.extend(self.pictures.iter().map(|path| ("pictures", Some(path.as_path()))));
        check_distinct(&inputs, &[("out", self.out.as_deref())])?;
        self.sampling.validate()?;
        self.selection().validate()?;
        check_at_least_one(&[("columns", self.columns), ("batch_size", self.batch_size)])?;
        self.drawing().validate()?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let edit = self.of_model(&model)?;
        let way = edit.way(&NoiseSchedule::new(&model.schedule)?)?;
        let count = self.numbers()?.len().saturating_mul(self.pictures.len());
        Ok(edit.estimated(&model, &way, count))
    }

    fn run(&self, control: &dyn Control) -> Result<Edited> {
        self.model.check(control)?;
        self.validate()?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            work::edit(&self.of_model(&model.config)?, &model, control)
        })
    }
}

/// The way from the noisy pictures to images.
struct Way {
    /// The steps that are taken; none where the pictures stay what they are.
    steps: Vec<Step>,
    /// Whether it begins with noise alone.
    is_whole: bool,
    /// The plan, where there are steps.
    route: Option<Route>,
    jumps: Jumps,
}

impl Way {
    fn n_evaluations(&self) -> usize {
        self.route.as_ref().map_or(0, Route::n_evaluations)
    }
}

impl Edit {
    /// The same, with what is left open as the model has it.
    fn of_model(&self, model: &ModelConfig) -> Result<Self> {
        let sampling = self.sampling.of_model(&model.sampling);
        Ok(Edit { sampling, wishes: self.wishes.of_model(model.sampling.guide)?, ..self.clone() })
    }

    /// As [`run`](Request::run), on a model that is loaded already.
    ///
    /// # Errors
    /// As [`run`](Request::run).
    pub fn run_on(&self, model: &Model, control: &dyn Control) -> Result<Edited> {
        self.validate()?;
        work::edit(&self.of_model(&model.config)?, model, control)
    }

    fn destination(&self) -> Result<Option<Destination>> {
        self.out.as_ref().map(|path| Destination::of(path, Animations::No)).transpose()
    }

    fn drawing(&self) -> Drawing {
        Drawing { scale: self.scale, labels: self.labels }
    }

    fn selection(&self) -> Selection<'_> {
        Selection { first: self.first, count: self.count, pick: &self.pick }
    }

    fn strength(&self) -> f64 {
        self.strength.unwrap_or(if self.mask.is_some() { 1.0 } else { STRENGTH })
    }

    /// The jumps over a sequence of `n_steps`.
    fn jumps(&self, n_steps: usize) -> Jumps {
        Jumps {
            times: self.jumps.unwrap_or(if self.mask.is_some() { JUMPS } else { 1 }),
            length: self.jump_length.unwrap_or_else(|| Jumps::default_length(n_steps)),
        }
    }

    /// Which variations of each picture.
    fn numbers(&self) -> Result<ImageNumbers> {
        let Some(n) = self.wishes.n_images()? else { return self.selection().numbers(COUNT, None) };
        let of = || format!("the {} that tags are given for", counted(n as u64, "variation"));
        self.selection().numbers(n, Some((n, &of)))
    }

    /// The last steps of the sequence: as large a share of them as the strength says.
    fn way(&self, schedule: &NoiseSchedule) -> Result<Way> {
        let all = self.sampling.plan(schedule)?.steps().to_vec();
        let (n_all, strength) = (all.len(), self.strength());
        // Something is done unless nothing is asked for.
        let least = usize::from(strength > 0.0);
        let n_steps = ((strength * n_all as f64).round() as usize).clamp(least, n_all);
        let steps = all[n_all - n_steps..].to_vec();
        let jumps = self.jumps(n_all);
        let sampler = self.sampling.sampler();
        let route = match steps.is_empty() {
            true => None,
            false => Some(Route::new(schedule, &steps, jumps, |steps, is_followed| {
                let sampler = if is_followed { sampler.followed() } else { sampler };
                sampler.plan(schedule, steps, self.sampling.clipping())
            })?),
        };
        Ok(Way { steps, is_whole: strength == 1.0, route, jumps })
    }

    fn estimated(&self, model: &ModelConfig, way: &Way, count: usize) -> Estimate {
        let n_evaluations = way.n_evaluations().saturating_mul(count);
        let n_held = count.saturating_mul(2).saturating_add(self.pictures.len());
        let (batch_size, device) = (self.batch_size, self.compute.device);
        let alone = Estimate::sampling(&model.unet, n_evaluations, batch_size, n_held, device);
        self.wishes.added_to(alone, &model.unet)
    }

    /// What is known only with the model, looked at before the work.
    fn check(&self, model: &Model, numbers: &ImageNumbers) -> Result<()> {
        let unet = &model.config.unet;
        let count = numbers.len().saturating_mul(self.pictures.len());
        // The noisy images and what becomes of them.
        let n_held = count.saturating_mul(2).saturating_add(self.pictures.len());
        memory::check("count", "so many images", unet.image_bytes(n_held))?;
        check_batch(unet, self.batch_size.min(count), self.compute.device)?;
        if count > MAX_FILES {
            let allowed =
                format!("at most {}, {MAX_FILES} images in all", MAX_FILES / self.pictures.len());
            return Err(Error::out_of_range("count", numbers.len(), allowed));
        }
        let Some(destination) = self.destination()? else { return Ok(()) };
        let wishes = self.wishes.labels(self.labels)?;
        match destination {
            Destination::Folder(_) => {
                let last = numbers.get(numbers.len() - 1).to_string();
                let labels = wishes.into_iter().chain([last]);
                self.drawing().check_singles(labels, unet.image_size)?;
            }
            _ => {
                let names = names(&self.pictures);
                self.sheet(&names, numbers, &wishes).check(unet.image_size)?;
            }
        }
        destination.prepare()
    }

    /// The grid: each row a picture and its variations. Images are the pictures, then the variations
    /// of each.
    fn sheet(&self, names: &[String], numbers: &ImageNumbers, wishes: &[String]) -> Sheet {
        let n = numbers.len();
        let columns = self.columns.min(n);
        let (mut places, mut labels) = (Vec::new(), Vec::new());
        for (picture, name) in names.iter().enumerate() {
            for row in Vec::from_iter(0..n).chunks(columns.max(1)) {
                places.push(Some(picture));
                labels.push(name.clone());
                for column in 0..columns {
                    let variation = row.get(column);
                    places.push(variation.map(|at| names.len() + picture * n + at));
                    let label = variation.map(|&at| label(numbers.get(at), wishes));
                    labels.push(label.unwrap_or_default());
                }
            }
        }
        let labels = if self.labels { labels } else { Vec::new() };
        Sheet { places, labels, ..Sheet::grid(1, columns + 1, self.drawing().layout()) }
    }

    /// The same request with nothing that leaves the images as they are.
    fn command(&self) -> Edit {
        Edit {
            out: None,
            batch_size: Edit::default().batch_size,
            compute: Compute { threads: None, ..self.compute.clone() },
            ..self.clone()
        }
    }
}

/// What each picture is called: the stem of its name, with a number where others have the same.
fn names(pictures: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for path in pictures {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let mut free = std::iter::once(stem.clone()).chain(numbered);
        let name = free.find(|name| !names.contains(name));
        names.push(name.unwrap_or(stem));
    }
    names
}

/// Where a path leads, for the texts of pictures.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleConfig;

    fn way(strength: f64, steps: usize) -> Way {
        let sampling = SamplingConfig { steps: Some(steps), ..SamplingConfig::default() };
        let edit = Edit { strength: Some(strength), sampling, ..Edit::default() };
        edit.way(&NoiseSchedule::new(ScheduleConfig::default()).unwrap()).unwrap()
    }

    #[test]
    fn the_strength_is_the_share_of_the_steps() {
        for (strength, steps, expected) in
            [(0.0, 20, 0), (1e-9, 20, 1), (0.3, 20, 6), (0.5, 1, 1), (0.999, 20, 20), (1.0, 20, 20)]
        {
            let way = way(strength, steps);
            assert_eq!(way.steps.len(), expected, "{strength}");
            assert_eq!(way.n_evaluations(), expected);
            assert_eq!(way.is_whole, strength == 1.0);
        }
        // The last steps of the same sequence.
        let (all, half) = (way(1.0, 20), way(0.5, 20));
        assert_eq!(half.steps, all.steps[10..]);
    }

    #[test]
    fn pictures_of_one_name_are_told_apart() {
        let paths = ["a/x.png", "b/x.jpg", "x-2.png", "y"].map(PathBuf::from);
        assert_eq!(names(&paths), ["x", "x-2", "x-2-2", "y"]);
    }

    #[test]
    fn each_row_begins_with_its_picture() {
        let edit = Edit { columns: 2, labels: true, ..Edit::default() };
        let numbers = ImageNumbers::From { first: 5, count: 3 };
        let sheet = edit.sheet(&["a".to_owned(), "b".to_owned()], &numbers, &[]);
        let expected = [0, 2, 3, 0, 4, 9, 1, 5, 6, 1, 7, 9].map(|at| (at < 9).then_some(at));
        assert_eq!(sheet.places, expected);
        assert_eq!(sheet.labels.join(" "), "a 5 6 a 7  b 5 6 b 7 ");
        assert_eq!(sheet.n_columns, 3);
    }
}
