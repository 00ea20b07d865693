//! Samplers side by side: every combination of methods, steps and η from the same noise, with what
//! each costs and how far its images are from real pictures.

mod chart;
mod combinations;
mod images;
mod page;
mod tables;

pub use combinations::PlannedComparison;
pub use images::ComparedImages;
pub use tables::Comparison;

use super::destinations::check_no_run;
use super::evaluate::check_size;
use super::evaluation::RealSets;
use super::sample::check_batch;
use super::series::{PlannedRun, Record, Series};
use super::{Compute, Estimate, ModelSource, Request, check_at_least_one};
use crate::control::Control;
use crate::dataset::Folder;
use crate::error::{Error, Result};
use crate::files::{atomic_write, check_folder};
use crate::images::Images;
use crate::memory;
use crate::model::Model;
use crate::quantities::{duration, estimate};
use crate::render::{self, Layout};
use crate::sampler::SamplingDefaults;
use crate::schedule::NoiseSchedule;
use crate::shard::{Shard, range_of};
use crate::timesteps::Spacing;
use combinations::Combination;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The stage of reports.
const STAGE: &str = "comparing";

/// Steps where none are given.
const STEPS: [usize; 3] = [10, 20, 50];

/// Images of a combination that the page shows, and their columns.
const SHOWN: [usize; 2] = [16, 4];

/// Makes the images of every combination of samplers, steps and η into a folder, each from the same
/// noise: for each a grid; and a page that shows the first images of all side by side, with their
/// cost and their distance from real pictures, as a table and a chart. The same numbers are there as
/// CSV and JSON. Combinations that an interrupted comparison finished are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compare {
    /// Which model.
    pub model: ModelSource,
    /// The folder.
    pub out: PathBuf,
    /// The samplers, by name.
    pub samplers: Vec<String>,
    /// Numbers of steps; by default 10, 20 and 50.
    pub steps: Vec<usize>,
    /// Evaluations of the network for each image, in the place of steps: each sampler takes as many
    /// steps as they allow.
    pub evaluations: Vec<usize>,
    /// Values of η, for the samplers that have it; by default the one that each has by default.
    pub etas: Vec<f64>,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// A folder of real pictures, to measure how far the images are from them.
    pub data: Option<PathBuf>,
    /// Images of each combination.
    pub count: usize,
    /// Columns of the grids.
    pub columns: usize,
    /// Of the combinations only those of a shard. The page, the chart and the tables are of all, and
    /// made without it, when the combinations of all shards are there.
    pub shard: Option<Shard>,
    /// Seed of the noise, and of which patches and pictures are compared.
    pub seed: u64,
    /// Images at a time: memory grows with it, the images stay the same.
    pub batch_size: usize,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Compare {
    fn default() -> Self {
        Compare {
            model: ModelSource::default(),
            out: PathBuf::new(),
            samplers: ["ddim", "dpm++", "heun"].map(str::to_owned).to_vec(),
            steps: Vec::new(),
            evaluations: Vec::new(),
            etas: Vec::new(),
            spacing: Spacing::default(),
            data: None,
            count: 64,
            columns: 16,
            shard: None,
            seed: 999,
            batch_size: 16,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Compare`].
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The page that shows everything; none of a shard.
    pub page: Option<PathBuf>,
    /// The numbers of each combination, in the order in which they were asked for.
    pub comparisons: Vec<Comparison>,
    /// The files that were written, the page among them.
    pub files: Vec<PathBuf>,
    /// Combinations that an earlier comparison had finished.
    pub n_kept: usize,
    /// Combinations that were made.
    pub n_made: usize,
}

/// What the record of a combination has besides how it came to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    distance: Option<f64>,
    floor: Option<f64>,
}

/// The real pictures that images are compared with.
struct Real {
    sets: RealSets,
    fingerprint: String,
}

impl Request for Compare {
    const COMMAND: &'static str = "compare";
    type Outcome = Compared;

    fn validate(&self) -> Result<()> {
        if self.out.as_os_str().is_empty() {
            return Err(Error::invalid("out", "none given; expected a folder to write to"));
        }
        check_at_least_one(&[
            ("count", self.count),
            ("columns", self.columns),
            ("batch_size", self.batch_size),
        ])?;
        if self.data.is_some() && self.count < 2 {
            return Err(Error::out_of_range("count", self.count, "at least 2, better 256"));
        }
        self.combinations(&SamplingDefaults::default())?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let schedule = NoiseSchedule::new(&model.schedule)?;
        let mut n_evaluations = 0usize;
        for combination in self.combinations_of_shard(&model.sampling)? {
            let plan = combination.sampling_of(self.spacing, &model.sampling).plan(&schedule)?;
            n_evaluations = n_evaluations.saturating_add(plan.n_evaluations());
        }
        let n_evaluations = n_evaluations.saturating_mul(self.count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        // The images, and two sets of pictures that they are compared with.
        let n_images = self.count.saturating_mul(if self.data.is_some() { 3 } else { 1 });
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, n_images, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Compared> {
        self.model.check(control)?;
        self.validate()?;
        check_folder(&self.out)?;
        check_no_run(&self.out)?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            let combinations = self.combinations_of_shard(&model.config.sampling)?;
            self.check(&model, &combinations)?;
            let real = self.real(&model, control)?;
            self.model.report_default(control)?;
            self.compare(&model, &combinations, real.as_ref(), control)
        })
    }
}

impl Compare {
    fn combinations_of_shard(&self, defaults: &SamplingDefaults) -> Result<Vec<Combination>> {
        let all = self.combinations(defaults)?;
        Ok(all[range_of(self.shard, all.len())].to_vec())
    }

    /// What can be wrong is looked at before the first images, not after an hour.
    fn check(&self, model: &Model, combinations: &[Combination]) -> Result<()> {
        let unet = &model.config.unet;
        memory::check("count", "so many images", unet.image_bytes(self.count))?;
        render::check_grid(self.count, unet.image_size, self.columns, &Layout::default())?;
        check_batch(unet, self.batch_size.min(self.count), self.compute.device)?;
        let n_timesteps = model.schedule.n_timesteps();
        if let Some(most) =
            combinations.iter().map(|of| of.n_steps).max().filter(|n| *n > n_timesteps)
        {
            let field = if self.evaluations.is_empty() { "steps" } else { "evaluations" };
            let allowed = format!("at most {n_timesteps} steps, the timesteps of the model");
            return Err(Error::out_of_range(field, most, allowed));
        }
        for combination in combinations {
            let sampling = combination.sampling_of(self.spacing, &model.config.sampling);
            sampling.plan(&model.schedule)?;
        }
        Ok(())
    }

    fn real(&self, model: &Model, control: &dyn Control) -> Result<Option<Real>> {
        let Some(data) = &self.data else { return Ok(None) };
        let shape = model.config.unet.image_size;
        check_size("model.path", shape)?;
        let folder = Folder::load(data, shape, control)?;
        let sets = RealSets::new(&folder, self.count, self.seed)?;
        Ok(Some(Real { sets, fingerprint: folder.fingerprint() }))
    }

    fn planned_run(
        &self,
        combination: &Combination,
        model: &Model,
        fingerprint: &str,
        real: Option<&Real>,
    ) -> PlannedRun {
        let name = combination.name();
        let description = self.describe(combination, model, fingerprint, real);
        let picture = |what: &str| self.out.join(format!("{what}-{name}.png"));
        let pictures = ["grid", "first"].map(picture);
        PlannedRun { name, description, pictures }
    }

    fn compare(
        &self,
        model: &Model,
        combinations: &[Combination],
        real: Option<&Real>,
        control: &dyn Control,
    ) -> Result<Compared> {
        let series = Series::begin(&self.out, STAGE, Self::COMMAND, self.shard, control)?;
        let fingerprint = model.fingerprint();
        let planned = |of| self.planned_run(of, model, &fingerprint, real);
        let planned: Vec<PlannedRun> = combinations.iter().map(planned).collect();
        let kept = series.kept::<Measured>(&planned)?;
        let n_kept = kept.iter().flatten().count();
        let n_left = combinations.len() - n_kept;
        self.say_how_long(&series, model, real, combinations, &kept)?;

        let defaults = &model.config.sampling;
        let mut pace = Pace::new(self.n_left(combinations, &kept, defaults));
        let mut comparisons = Vec::new();
        for (index, (combination, kept)) in combinations.iter().zip(kept).enumerate() {
            let (planned, is_new) = (&planned[index], kept.is_none());
            let record = match kept {
                Some(record) => record,
                None => {
                    let detail = detail(index, combinations.len(), combination);
                    let record = self.make(model, combination, planned, real, &detail, control)?;
                    series.remember(planned, &record)?;
                    record
                }
            };
            let Record { seconds, more, .. } = record;
            let comparison = Comparison::new(self, combination, defaults, seconds, more);
            if is_new {
                pace.made(comparison.evaluations);
                series.say(&told(&comparison, seconds, pace.seconds_left()))?;
            }
            comparisons.push(comparison);
            if is_new && self.shard.is_none() {
                self.write(&comparisons)?;
            }
        }
        let files = match self.shard {
            None => self.write(&comparisons)?,
            Some(_) => planned.iter().flat_map(|planned| planned.pictures.clone()).collect(),
        };
        let page = files.first().filter(|_| self.shard.is_none()).cloned();
        Ok(Compared { page, comparisons, files, n_kept, n_made: n_left })
    }

    /// Evaluations of the network for an image of each combination that was not made before.
    fn n_left(
        &self,
        all: &[Combination],
        kept: &[Option<Record<Measured>>],
        defaults: &SamplingDefaults,
    ) -> usize {
        let left = all.iter().zip(kept).filter(|(_, record)| record.is_none());
        left.map(|(of, _)| of.n_evaluations(self.spacing, defaults)).sum()
    }

    /// Says how long what is left will take: sampling and measuring distances, both measured.
    fn say_how_long(
        &self,
        series: &Series<'_>,
        model: &Model,
        real: Option<&Real>,
        combinations: &[Combination],
        kept: &[Option<Record<Measured>>],
    ) -> Result<()> {
        let n_left = kept.iter().filter(|record| record.is_none()).count();
        if n_left == 0 {
            return Ok(());
        }
        let mut other_seconds = 0.0;
        if let Some(real) = real {
            let started = Instant::now();
            real.sets.average(real.sets.one(), &crate::control::Unattended)?;
            other_seconds = started.elapsed().as_secs_f64() * n_left as f64;
        }
        let n_evaluations =
            self.n_left(combinations, kept, &model.config.sampling).saturating_mul(self.count);
        let batch_size = self.batch_size.min(self.count);
        series.say_how_long(model, n_left, n_evaluations, batch_size, other_seconds)
    }

    /// Makes the images of a combination, measures them and writes their pictures.
    fn make(
        &self,
        model: &Model,
        combination: &Combination,
        planned: &PlannedRun,
        real: Option<&Real>,
        detail: &str,
        control: &dyn Control,
    ) -> Result<Record<Measured>> {
        let made = self.make_images(model, combination, real, detail, control)?;
        let [grid, first] = &planned.pictures;
        self.write_pictures(&made.images, &planned.description, [grid, first])?;
        let description = planned.description.clone();
        Ok(Record { description, seconds: made.seconds, more: made.measured })
    }

    fn write_pictures(
        &self,
        images: &Images,
        description: &[(String, String)],
        [grid, first]: [&Path; 2],
    ) -> Result<()> {
        let layout = Layout::default();
        render::write_png(grid, &render::grid(images, self.columns, &layout)?, description)?;
        let [n_shown, n_columns] = SHOWN;
        let shown = images.slice(0..images.len().min(n_shown));
        render::write_png(first, &render::grid(&shown, n_columns, &layout)?, description)
    }

    /// The page, the chart and the tables, of the combinations that are made. The page comes first.
    fn write(&self, comparisons: &[Comparison]) -> Result<Vec<PathBuf>> {
        let chart = chart::svg(comparisons);
        // A path that is not Unicode has no command line that repeats it.
        let command = self.command_line().ok().map(|command| command.to_string());
        let page = page::html(self, command.as_deref(), comparisons, chart.as_deref())?;
        let mut texts = vec![
            ("index.html", page),
            ("compare.csv", tables::csv(comparisons)),
            ("compare.json", tables::json(self, command.as_deref(), comparisons)?),
        ];
        texts.extend(chart.map(|chart| ("chart.svg", chart)));
        let mut files = Vec::new();
        for (name, text) in texts {
            let path = self.out.join(name);
            atomic_write(&path, |file| file.write_all(text.as_bytes()))?;
            files.push(path);
        }
        Ok(files)
    }
}

/// Which combination of how many it is, for reports.
fn detail(index: usize, n: usize, combination: &Combination) -> String {
    format!("{} of {n}, {}", index + 1, combination.name())
}

/// How fast evaluations of the network are made, other work between them included.
struct Pace {
    started: Instant,
    n_made: usize,
    n_left: usize,
}

impl Pace {
    fn new(n_left: usize) -> Self {
        Pace { started: Instant::now(), n_made: 0, n_left }
    }

    /// So many more are made.
    fn made(&mut self, n: usize) {
        self.n_made += n;
        self.n_left = self.n_left.saturating_sub(n);
    }

    /// What is left at the mean pace.
    fn seconds_left(&self) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        seconds * self.n_left as f64 / self.n_made.max(1) as f64
    }
}

/// A combination that was made in so many seconds, and how long the rest takes at the mean pace.
fn told(comparison: &Comparison, seconds: f64, left: f64) -> String {
    let mut words = format!("{}: {}", comparison.name, duration(seconds));
    if let Some(ratio) = comparison.ratio() {
        words += &format!(", {ratio:.2} times the floor");
    }
    match left > 0.0 {
        true => format!("{words}; about {} left", estimate(left)),
        false => words,
    }
}
