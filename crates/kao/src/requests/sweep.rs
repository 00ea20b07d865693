//! The sweep: every run that the original published, side by side on one page.

use super::destinations::check_no_run;
use super::sample::check_batch;
use super::series::{PlannedRun, Record, Series, escape};
use super::{
    Compute, Estimate, ModelSource, Provenance, Request, Sample, Wishes, check_at_least_one,
};
use crate::control::{Control, Report};
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::files::check_folder;
use crate::memory;
use crate::model::Model;
use crate::quantities::duration;
use crate::render::{self, Layout};
use crate::sampler::{Ddim, SamplingConfig, SnapshotsConfig};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Spacing;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// The stage of reports.
const STAGE: &str = "sweep";

/// One run of the sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SweepRun {
    /// Steps.
    pub n_steps: usize,
    /// η of DDIM.
    pub eta: f64,
}

impl SweepRun {
    /// `s0100-eta0.5`: the stem of the run's files.
    pub fn name(&self) -> String {
        format!("s{:04}-eta{:.1}", self.n_steps, self.eta)
    }
}

/// S ∈ {10, 100, 1000} × η ∈ {0, 1}, and S = 100 with η ∈ {0.2, 0.5}; fewest steps first.
pub fn published_runs() -> Vec<SweepRun> {
    let pairs = [
        (10, 0.0),
        (10, 1.0),
        (100, 0.0),
        (100, 0.2),
        (100, 0.5),
        (100, 1.0),
        (1000, 0.0),
        (1000, 1.0),
    ];
    pairs.map(|(n_steps, eta)| SweepRun { n_steps, eta }).to_vec()
}

/// Makes every run that the original published into a folder: for each a grid and a strip, and one
/// `index.html` that shows them. The page is written anew after every run, and runs that an
/// interrupted sweep finished are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sweep {
    /// Which model.
    pub model: ModelSource,
    /// The folder.
    pub out: PathBuf,
    /// Images per run.
    pub count: usize,
    /// Columns of the grids.
    pub columns: usize,
    /// Seed of the noise, the same in all runs.
    pub seed: u64,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// Runs of more steps are left out.
    pub max_steps: Option<usize>,
    /// Images at a time.
    pub batch_size: usize,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep {
            model: ModelSource::default(),
            out: PathBuf::new(),
            count: 256,
            columns: 16,
            seed: 999,
            spacing: Spacing::Linear,
            max_steps: None,
            batch_size: 16,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Sweep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The page that shows all runs.
    pub page: PathBuf,
    /// Runs that an earlier sweep had finished.
    pub n_kept: usize,
    /// Runs that were made.
    pub n_made: usize,
}

/// The record of a run has nothing but how it came to be and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct NothingMore {}

impl Request for Sweep {
    const COMMAND: &'static str = "sweep";
    type Outcome = Swept;

    fn validate(&self) -> Result<()> {
        if self.out.as_os_str().is_empty() {
            return Err(Error::invalid("out", "none given; expected a folder to write to"));
        }
        check_at_least_one(&[
            ("count", self.count),
            ("columns", self.columns),
            ("batch_size", self.batch_size),
        ])?;
        if let Some(most) = self.max_steps
            && self.runs().is_empty()
        {
            let allowed = "at least 10, the steps of the shortest run";
            return Err(Error::out_of_range("max_steps", most, allowed));
        }
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let schedule = NoiseSchedule::new(&model.schedule)?;
        let mut n_evaluations = 0usize;
        for run in self.runs() {
            let plan = self.sampling(run).of_model(&model.sampling).plan(&schedule)?;
            n_evaluations = n_evaluations.saturating_add(plan.n_evaluations());
        }
        let n_evaluations = n_evaluations.saturating_mul(self.count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, self.count, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Swept> {
        self.validate()?;
        check_folder(&self.out)?;
        check_no_run(&self.out)?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            self.check(&model)?;
            self.model.report_default(control)?;
            self.sweep(&model, control)
        })
    }
}

impl Sweep {
    /// The runs.
    fn runs(&self) -> Vec<SweepRun> {
        let most = self.max_steps.unwrap_or(usize::MAX);
        published_runs().into_iter().filter(|run| run.n_steps <= most).collect()
    }

    fn sampling(&self, run: SweepRun) -> SamplingConfig {
        SamplingConfig {
            sampler: Some(Ddim { eta: run.eta }.into()),
            steps: Some(run.n_steps),
            spacing: Some(self.spacing),
            ..SamplingConfig::default()
        }
    }

    /// What can be wrong is looked at before the first run, not after an hour.
    fn check(&self, model: &Model) -> Result<()> {
        let unet = &model.config.unet;
        memory::check("count", "so many images", unet.image_bytes(self.count))?;
        render::check_grid(self.count, unet.image_size, self.columns, &Layout::default())?;
        check_batch(unet, self.batch_size.min(self.count), self.compute.device)?;
        let n_timesteps = model.schedule.n_timesteps();
        let longest = self.runs().iter().map(|run| run.n_steps).max().unwrap_or(0);
        if longest > n_timesteps {
            let problem = format!(
                "one run has {longest} steps, but the model has {n_timesteps} timesteps; leave \
                 longer runs out"
            );
            return Err(Error::invalid("max_steps", problem));
        }
        for run in self.runs() {
            self.sampling(run).of_model(&model.config.sampling).plan(&model.schedule)?;
        }
        Ok(())
    }

    fn sweep(&self, model: &Model, control: &dyn Control) -> Result<Swept> {
        let folder = &self.out;
        let series = Series::begin(folder, STAGE, Self::COMMAND, None, control)?;
        let fingerprint = model.fingerprint();
        let page = folder.join("index.html");
        let runs = self.runs();
        let planned: Vec<PlannedRun> = runs
            .iter()
            .map(|run| {
                let (name, n_timesteps) = (run.name(), model.schedule.n_timesteps());
                let sampling = self.sampling(*run).of_model(&model.config.sampling);
                let description = self.describe(&sampling, n_timesteps, &fingerprint);
                let picture = |what| folder.join(format!("{what}-{name}.png"));
                let pictures = ["grid", "strip"].map(picture);
                PlannedRun { name, description, pictures }
            })
            .collect();
        let kept = series.kept::<NothingMore>(&planned)?;
        let n_kept = kept.iter().flatten().count();
        let is_left = runs.iter().zip(&kept).filter(|(_, record)| record.is_none());
        let n_steps: usize = is_left.map(|(run, _)| run.n_steps).sum();
        let (n_left, n_evaluations) = (runs.len() - n_kept, n_steps * self.count);
        let batch_size = self.batch_size.min(self.count);
        series.say_how_long(model, n_left, n_evaluations, batch_size, 0.0)?;

        let mut finished: Vec<(SweepRun, Record<NothingMore>)> = Vec::new();
        for (index, (run, kept)) in runs.iter().zip(kept).enumerate() {
            if let Some(record) = kept {
                finished.push((*run, record));
                continue;
            }
            let planned = &planned[index];
            let (name, description) = (&planned.name, &planned.description);
            let started = Instant::now();
            let detail = format!("run {} of {}, {name}", index + 1, runs.len());
            let named = |report: &Report<'_>| {
                control.report(&Report { stage: STAGE, detail: &detail, ..*report })
            };
            let request = Sample {
                model: self.model.clone(),
                sampling: self.sampling(*run),
                count: Some(self.count),
                seed: self.seed,
                batch_size: self.batch_size,
                compute: self.compute.clone(),
                wishes: Wishes::unguided(),
                ..Sample::default()
            };
            let (conditions, snapshots) = (Conditions::none(), Some(SnapshotsConfig::default()));
            let model_name = self.model.name();
            let sampled = request.run_with(model, &model_name, &conditions, snapshots, &named)?;
            let seconds = started.elapsed().as_secs_f64();

            let layout = Layout::default();
            let [grid_path, strip_path] = &planned.pictures;
            let grid = render::grid(&sampled.images, self.columns, &layout)?;
            render::write_png(grid_path, &grid, description)?;
            let strip = render::strip(&sampled.snapshots, &layout)?;
            render::write_png(strip_path, &strip, description)?;
            let (description, more) = (description.clone(), NothingMore {});
            let record = Record { description, seconds, more };
            series.remember(planned, &record)?;
            finished.push((*run, record));
            let html = html(self, &finished);
            atomic_write(&page, |file| file.write_all(html.as_bytes()))?;
            series.say(&format!("{name}: {}", duration(seconds)))?;
        }
        let html = html(self, &finished);
        atomic_write(&page, |file| file.write_all(html.as_bytes()))?;
        Ok(Swept { page, n_kept, n_made: runs.len() - n_kept })
    }

    fn describe(
        &self,
        sampling: &SamplingConfig,
        n_timesteps: usize,
        fingerprint: &str,
    ) -> Vec<(String, String)> {
        let provenance = Provenance::new()
            .with("model", self.model.name())
            // A model of the same name may have been trained on since.
            .with("model_fingerprint", fingerprint)
            .with("count", self.count)
            .with("columns", self.columns)
            .with("seed", self.seed);
        provenance.with_all(sampling.describe(n_timesteps)).texts
    }
}

fn html(sweep: &Sweep, finished: &[(SweepRun, Record<NothingMore>)]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Kao: steps and η</title>\n<style>{STYLE}</style>\n\
         <h1>Steps and η</h1>\n\
         <p>{} images of seed {} per run, {:?} spacing, model <code>{}</code>. Every run starts \
         from the same noise.</p>\n",
        sweep.count,
        sweep.seed,
        sweep.spacing,
        escape(&sweep.model.name())
    );
    html.push_str("<table>\n<tr><th>run</th><th>steps</th><th>η</th><th>seconds</th><th>per image</th></tr>\n");
    for (run, record) in finished {
        let SweepRun { n_steps, eta } = run;
        let per_image = record.seconds / sweep.count.max(1) as f64;
        // Writing to a string cannot fail.
        let _ = writeln!(
            html,
            "<tr><td><a href=\"#{0}\">{0}</a></td><td>{n_steps}</td><td>{eta}</td>\
             <td>{1:.1}</td><td>{per_image:.3} s</td></tr>",
            run.name(),
            record.seconds
        );
    }
    html.push_str("</table>\n<div class=\"runs\">\n");
    for (run, record) in finished {
        let name = run.name();
        let _ = writeln!(
            html,
            "<section id=\"{name}\">\n<h2>S = {}, η = {}</h2>\n<p>{:.1} s</p>\n\
             <a href=\"grid-{name}.png\"><img src=\"grid-{name}.png\" alt=\"grid of {} samples\"></a>\n\
             <a href=\"strip-{name}.png\"><img src=\"strip-{name}.png\" alt=\"from noise to image\"></a>\n\
             </section>",
            run.n_steps, run.eta, record.seconds, sweep.count
        );
    }
    html.push_str("</div>\n</html>\n");
    html
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem;max-width:110rem}\
    table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #8884}\
    .runs{display:grid;grid-template-columns:repeat(auto-fit,minmax(30rem,1fr));gap:2rem}\
    img{max-width:100%;image-rendering:pixelated;display:block;margin:.5rem 0}\
    @media(prefers-color-scheme:dark){body{background:#16161a;color:#e8e8ea}a{color:#9cf}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_runs_are_eight_of_different_names() {
        let names: std::collections::BTreeSet<String> =
            published_runs().iter().map(SweepRun::name).collect();
        assert_eq!(names.len(), 8);
    }
}
