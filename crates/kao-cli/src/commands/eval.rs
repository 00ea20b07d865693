//! `kao eval`

use crate::compute::{Compute, ModelArgument, check_batch_size};
use crate::destination;
use crate::memory;
use crate::output::{note, result};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use clap::Args;
use kao::dataset::{Folder, common_size};
use kao::eval::{MIN_SIDE, resolutions};
use kao::experiments::{
    EvaluateConfig, Evaluation, Nearness, SampleConfig, evaluate, sample_images,
};
use kao::quantities::counted;
use kao::render::{self, Layout};
use kao::sampler::Start;
use kao::{Error, Images, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Samples of a model where no number is given.
const COUNT: usize = 1024;
/// Sets below this size differ much by chance.
const SMALL_SET: usize = 256;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao eval --model run --data faces
  kao eval --model run --data faces --steps 10 --eta 1
  kao eval --model run --data faces --neighbours nn.png       the samples most like a picture
  kao eval --samples other/pictures --data faces --json

The distance is the sliced Wasserstein distance of Laplacian-pyramid patches (Karras et al. 2018),
times 1000, at each resolution. The floor is the distance of two sets of real pictures, each as
large as that of the samples. Distances of sets of different sizes cannot be compared, ratios
roughly. Neighbours are looked for among the pictures that training on the folder learns from;
real pictures that it leaves out are the scale.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Folder of real pictures, that which the model was trained on
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Evaluate the pictures of this folder instead of a model's samples
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["model", "sampler", "steps", "eta", "spacing", "end", "variance", "final_noise", "clip", "batch_size"]
    )]
    samples: Option<PathBuf>,
    /// How many samples; of a folder, the first by name [default: 1024, or the whole folder]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Seed of the samples' noise, and of which patches and pictures are compared
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Picture to write (.png): the samples that are most like a training picture, beside the five
    /// most like them
    #[arg(long, value_name = "FILE", alias = "neighbors")]
    neighbours: Option<PathBuf>,
    /// Samples in that picture, and in the JSON object
    #[arg(long, value_name = "N", default_value_t = 10)]
    rows: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// In that object, list the nearest training pictures of every sample too
    #[arg(long, requires = "json")]
    all_neighbours: bool,
    /// Images at a time: memory grows with it, the images stay the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    // What can be wrong is looked at before the work, not after it.
    for (flag, n) in [("--count", arguments.count), ("--rows", Some(arguments.rows))] {
        if n == Some(0) {
            return Err(Error::out_of_range(flag, 0, "at least 1"));
        }
    }
    arguments.model.check()?;
    if let Some(path) = &arguments.neighbours {
        render::check_png_path(path)?;
        destination::distinct(
            &[("--model", arguments.model.model.as_deref())],
            &[("--neighbours", Some(path))],
        )?;
    }
    let config = arguments.config()?;
    check_batch_size(arguments.batch_size)?;
    let device = arguments.compute.open()?;
    let (samples, data, texts) = match &arguments.samples {
        Some(dir) => arguments.pictures_as_samples(dir)?,
        None => arguments.sampled(&config, &device)?,
    };
    check_count(samples.len(), &arguments.data, &data)?;

    let config = EvaluateConfig { seed: arguments.seed, ..EvaluateConfig::default() };
    let terminal = Terminal::default();
    let evaluation = evaluate(&samples, &data, &config, &terminal)?;
    terminal.clear();
    if evaluation.n_compared < SMALL_SET {
        note(format!(
            "warning: sets of {} are small: chance weighs much, some thousand tell more",
            counted(evaluation.n_compared as u64, "picture")
        ));
    }

    if let Some(path) = &arguments.neighbours {
        let columns = evaluation.columns(&samples, &data, arguments.rows)?;
        let labels = ["sample", "nearest", "2nd", "3rd", "4th", "5th"];
        let labelled: Vec<(&str, &Images)> = labels.into_iter().zip(&columns).collect();
        let layout = Layout { scale: 2, ..Layout::default() };
        let picture = render::labelled_columns(&labelled, &layout)?;
        render::write_png(path, &picture, &texts)?;
    }
    if arguments.json {
        let settings: serde_json::Map<_, _> =
            texts.into_iter().map(|(key, value)| (key, json!(value))).collect();
        let mut object = json!(evaluation);
        object["settings"] = json!(settings);
        let order = evaluation.most_alike_first();
        let n_listed = if arguments.all_neighbours { order.len() } else { arguments.rows };
        let name = |index: usize| &data.pictures()[index].name;
        let neighbours = order.iter().take(n_listed).map(|&sample| {
            let nearest = evaluation.neighbours[sample].iter();
            let nearest = nearest.map(|near| json!({ "file": name(near.index), "rms": near.rms }));
            json!({ "sample": sample, "nearest": nearest.collect::<Vec<_>>() })
        });
        object["neighbours"] = neighbours.collect();
        if let Some(path) = &arguments.neighbours {
            object["picture"] = json!(path.display().to_string());
        }
        return result(object);
    }
    result(report(&evaluation))?;
    match &arguments.neighbours {
        Some(path) => result(path.display()),
        None => Ok(()),
    }
}

/// The samples, the real pictures at their size, and in words what the samples are.
type Compared = (Images, Folder, Vec<(String, String)>);

impl Arguments {
    fn config(&self) -> Result<SampleConfig> {
        let sampling = self.sampling.config()?;
        Ok(SampleConfig { sampling, batch_size: self.batch_size, snapshots: None })
    }

    fn sampled(&self, config: &SampleConfig, device: &kao::device::Device) -> Result<Compared> {
        let (model, model_name) = self.model.load(device)?;
        let unet = &model.config.unet;
        let n_timesteps = model.schedule.n_timesteps();
        let count = self.count.unwrap_or(COUNT);
        check_size("--model", unet.image_size)?;
        config.sampling.plan(&model.schedule)?;
        memory::check("--count", "so many images", memory::images(count, unet))?;
        let together = memory::forward(self.batch_size.min(count), unet);
        memory::check("--batch-size", "so many images at a time", together)?;
        let data = self.real_pictures(unet.image_size)?;
        check_count(count, &self.data, &data)?;
        if let Some(path) = &self.neighbours {
            destination::file(path)?;
        }

        self.model.say_default();
        self.sampling.say_sampler();
        let start = Start::Seed { seed: self.seed, count, image_shape: unet.image_size };
        let terminal = Terminal::default();
        let sampled = sample_images(&model, config, &start, &terminal)?;
        terminal.clear();
        let mut texts = self.texts(count);
        texts.push(("model".to_owned(), model_name));
        texts.extend(config.sampling.describe(n_timesteps));
        Ok((sampled.images, data, texts))
    }

    fn pictures_as_samples(&self, dir: &Path) -> Result<Compared> {
        let [height, width] = common_size(dir, &Terminal::default())?;
        let shape = [3, height, width];
        check_size("--samples", shape)?;
        let pictures = Folder::load(dir, shape, &Terminal::default())?;
        let count = match self.count {
            Some(count) if count > pictures.len() => {
                let (n, dir) = (pictures.len(), dir.display());
                let allowed = format!("at most {n}, the pictures in `{dir}`");
                return Err(Error::out_of_range("--count", count, allowed));
            }
            count => count.unwrap_or(pictures.len()),
        };
        let samples = pictures.images(&Vec::from_iter(0..count))?;
        let data = self.real_pictures(shape)?;
        if let Some(path) = &self.neighbours {
            destination::file(path)?;
        }
        let mut texts = self.texts(count);
        texts.push(("samples".to_owned(), dir.display().to_string()));
        Ok((samples, data, texts))
    }

    fn real_pictures(&self, shape: [usize; 3]) -> Result<Folder> {
        Folder::load(&self.data, shape, &Terminal::default())
    }

    fn texts(&self, count: usize) -> Vec<(String, String)> {
        vec![
            ("Software".to_owned(), concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("data".to_owned(), self.data.display().to_string()),
            ("count".to_owned(), count.to_string()),
            ("seed".to_owned(), self.seed.to_string()),
        ]
    }
}

fn check_size(flag: &str, [_, height, width]: [usize; 3]) -> Result<()> {
    if resolutions([height, width]).is_empty() {
        let problem = format!(
            "images of {height} × {width} pixels found; expected at least {MIN_SIDE} × {MIN_SIDE}"
        );
        return Err(Error::invalid(flag, problem));
    }
    Ok(())
}

/// Refuses what `evaluate` would, before the samples are made.
fn check_count(n_samples: usize, dir: &Path, data: &Folder) -> Result<()> {
    const LEAST: usize = 4;
    if data.len() < LEAST {
        let found = counted(data.len() as u64, "picture");
        let problem = format!("{found} found; expected at least {LEAST}, better thousands");
        return Err(Error::malformed(dir, problem));
    }
    if n_samples < 2 {
        return Err(Error::out_of_range("--count", n_samples, "at least 2, better a thousand"));
    }
    Ok(())
}

fn report(evaluation: &Evaluation) -> String {
    let Evaluation { n_samples, n_pictures, n_compared, .. } = evaluation;
    let mut lines = vec![
        format!(
            "{n_compared} of {n_samples} samples against two sets of {n_compared} of {n_pictures} \
             different pictures"
        ),
        "sliced Wasserstein distance × 1000, of Laplacian levels\n".to_owned(),
        format!("{:<10} {:>9} {:>9} {:>8}", "level", "samples", "floor", "ratio"),
    ];
    let levels = evaluation.levels.iter().map(|level| {
        let [height, width] = level.resolution;
        (format!("{height} x {width}"), level.distance)
    });
    for (name, distance) in levels.chain([("average".to_owned(), evaluation.average)]) {
        let ratio = match distance.ratio() {
            ratio if ratio.is_finite() => format!("{ratio:.2}"),
            _ => "-".to_owned(),
        };
        lines.push(format!(
            "{name:<10} {:>9.2} {:>9.2} {ratio:>8}",
            distance.samples, distance.floor
        ));
    }
    lines.push("\nnearest training picture, root mean squared difference of 0 to 255\n".to_owned());
    lines.push(format!("{:<10} {:>9} {:>9} {:>8}", "", "pictures", "median", "least"));
    let row = |name: &str, nearness: &Nearness| {
        let Nearness { n, median, least, .. } = nearness;
        format!("{name:<10} {n:>9} {median:>9.2} {least:>8.2}")
    };
    lines.push(row("samples", &evaluation.samples));
    lines.extend(evaluation.held_out.as_ref().map(|nearness| row("held-out", nearness)));
    lines.push(format!("\n{}", judgement(evaluation)));
    lines.join("\n")
}

/// Whether there are copies, in one line.
fn judgement(evaluation: &Evaluation) -> String {
    let (Some(held_out), Some(bound)) = (&evaluation.held_out, evaluation.close_below) else {
        return "no picture of the folder is held out, so nothing tells how near is too near"
            .to_owned();
    };
    let samples = &evaluation.samples;
    let share = |nearness: &Nearness| nearness.n_close as f64 / nearness.n as f64;
    let verdict = match samples.n_close {
        0 => "no copies",
        _ if share(samples) > share(held_out) => "there may be copies, see --neighbours",
        _ => "no more than among real ones, no sign of copying",
    };
    format!(
        "{verdict}: {} of {} samples and {} of {} held-out pictures are nearer than {bound:.2}, \
         half the held-out median",
        samples.n_close, samples.n, held_out.n_close, held_out.n
    )
}
