//! The sweep: every run that the original published, side by side on one page.

use super::sampling::{SampleConfig, sample_images};
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::files::read_to_string_regular;
use crate::locks::FolderLock;
use crate::model::Model;
use crate::quantities::duration;
use crate::render::{self, Layout};
use crate::sampler::{Ddim, SamplingConfig, SnapshotsConfig, Start};
use crate::timesteps::Spacing;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

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

/// A sweep.
#[derive(Clone, Debug)]
pub struct SweepConfig {
    /// The runs.
    pub runs: Vec<SweepRun>,
    /// Images per run.
    pub count: usize,
    /// Columns of the grids.
    pub n_columns: usize,
    /// Seed of the noise, the same in all runs.
    pub seed: u64,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// Images per pass through the network.
    pub batch_size: usize,
    /// The model in words, for pictures and page.
    pub model_name: String,
}

/// The stage of reports.
const STAGE: &str = "sweep";

/// What the sweep remembers of a finished run, beside its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    description: Vec<(String, String)>,
    seconds: f64,
}

/// Makes all runs into `folder`: for each a grid and a strip, and one `index.html` that shows them.
/// The page is written anew after every run, and runs that an interrupted sweep finished are kept.
///
/// # Errors
/// When there is no run, a run does not fit the model, a file cannot be written, or `control` stops
/// it.
pub fn sweep(
    model: &Model,
    config: &SweepConfig,
    folder: &Path,
    control: &dyn Control,
) -> Result<PathBuf> {
    let n_timesteps = model.schedule.n_timesteps();
    check(config, n_timesteps)?;
    std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    let _lock = FolderLock::take(folder, "another `kao sweep`")?;
    let fingerprint = model.fingerprint();
    let start = Start::Seed {
        seed: config.seed,
        count: config.count,
        image_shape: model.config.unet.image_size,
    };
    let page = folder.join("index.html");
    let mut finished: Vec<(SweepRun, Record)> = Vec::new();
    for (index, run) in config.runs.iter().enumerate() {
        let name = run.name();
        let sampling = SamplingConfig {
            sampler: Some(Ddim { eta: run.eta }.into()),
            steps: Some(run.n_steps),
            spacing: config.spacing,
            ..SamplingConfig::default()
        };
        let description = describe(config, &sampling, n_timesteps, &fingerprint);
        let record_path = folder.join(format!("{name}.json"));
        let [grid_path, strip_path] =
            ["grid", "strip"].map(|what| folder.join(format!("{what}-{name}.png")));
        // The record alone proves nothing: another sweep may have been stopped between writing a
        // picture and its record, and pictures may have been deleted.
        if let Some(record) = read_record(&record_path, &description)
            && [&grid_path, &strip_path].into_iter().all(|path| is_of(path, &description))
        {
            control.check(&Report::message(STAGE, &format!("{name}: done before")))?;
            finished.push((*run, record));
            continue;
        }
        let started = Instant::now();
        let detail = format!("run {} of {}, {name}", index + 1, config.runs.len());
        let named = |report: &Report<'_>| {
            control.report(&Report { stage: STAGE, detail: &detail, ..*report })
        };
        let sampling = SampleConfig {
            sampling,
            batch_size: config.batch_size,
            snapshots: Some(SnapshotsConfig::default()),
        };
        let sampled = sample_images(model, &sampling, &start, &named)?;
        let seconds = started.elapsed().as_secs_f64();

        let layout = Layout::default();
        let grid = render::grid(&sampled.images, config.n_columns, &layout)?;
        render::write_png(&grid_path, &grid, &description)?;
        let strip = render::strip(&sampled.snapshots, &layout)?;
        render::write_png(&strip_path, &strip, &description)?;
        let record = Record { description, seconds };
        let json = serde_json::to_string_pretty(&record)
            .map_err(|error| Error::malformed(&record_path, error))?;
        atomic_write(&record_path, |file| file.write_all(json.as_bytes()))?;
        finished.push((*run, record));
        let html = html(config, &finished);
        atomic_write(&page, |file| file.write_all(html.as_bytes()))?;
        let message = format!("{name}: {}", duration(seconds));
        control.check(&Report::message(STAGE, &message))?;
    }
    let html = html(config, &finished);
    atomic_write(&page, |file| file.write_all(html.as_bytes()))?;
    Ok(page)
}

/// What can be wrong is looked at before the first run, not after an hour.
fn check(config: &SweepConfig, n_timesteps: usize) -> Result<()> {
    for (what, n) in
        [("count", config.count), ("columns", config.n_columns), ("batch size", config.batch_size)]
    {
        if n == 0 {
            return Err(Error::out_of_range(what, 0, "at least 1"));
        }
    }
    let Some(longest) = config.runs.iter().map(|run| run.n_steps).max() else {
        return Err(Error::invalid("runs", "none are left; expected at least one"));
    };
    if longest > n_timesteps {
        return Err(Error::invalid(
            "runs",
            format!("one has {longest} steps, but the model has {n_timesteps} timesteps"),
        )
        .with_hint(format!("leave longer runs out with `--max-steps {n_timesteps}`")));
    }
    Ok(())
}

fn describe(
    config: &SweepConfig,
    sampling: &SamplingConfig,
    n_timesteps: usize,
    fingerprint: &str,
) -> Vec<(String, String)> {
    let own = [
        ("Software", concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("model", config.model_name.clone()),
        // A model of the same name may have been trained on since.
        ("model_fingerprint", fingerprint.to_owned()),
        ("count", config.count.to_string()),
        ("columns", config.n_columns.to_string()),
        ("seed", config.seed.to_string()),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    own.chain(sampling.describe(n_timesteps)).collect()
}

/// The record of a run that was finished with the same description.
fn read_record(path: &Path, description: &[(String, String)]) -> Option<Record> {
    const MAX_BYTES: u64 = 1 << 20;
    let text = read_to_string_regular(path, MAX_BYTES).ok()?;
    let record: Record = serde_json::from_str(&text).ok()?;
    (record.description == description).then_some(record)
}

/// Whether the picture at `path` says that it was made as `description` does.
fn is_of(path: &Path, description: &[(String, String)]) -> bool {
    let Ok(texts) = render::read_png_text(path) else { return false };
    // Pictures cannot hold zero bytes.
    let expected = description.iter().map(|(key, text)| (key.clone(), text.replace('\0', " ")));
    texts == expected.collect()
}

fn html(config: &SweepConfig, finished: &[(SweepRun, Record)]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Kao: steps and η</title>\n<style>{STYLE}</style>\n\
         <h1>Steps and η</h1>\n\
         <p>{} images of seed {} per run, {:?} spacing, model <code>{}</code>. Every run starts \
         from the same noise.</p>\n",
        config.count,
        config.seed,
        config.spacing,
        escape(&config.model_name)
    );
    html.push_str("<table>\n<tr><th>run</th><th>steps</th><th>η</th><th>seconds</th><th>per image</th></tr>\n");
    for (run, record) in finished {
        let SweepRun { n_steps, eta } = run;
        let per_image = record.seconds / config.count.max(1) as f64;
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
            run.n_steps, run.eta, record.seconds, config.count
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_runs_are_eight_of_different_names() {
        let names: std::collections::BTreeSet<String> =
            published_runs().iter().map(SweepRun::name).collect();
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
