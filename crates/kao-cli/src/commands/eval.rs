//! `kao eval`

use crate::cache::CacheArguments;
use crate::compute::{Compute, ModelArgument, set_threads};
use crate::output::{note, result};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use crate::shard::ShardArgument;
use crate::wishes::TagArguments;
use clap::Args;
use kao::Result;
use kao::eval::GroupAccuracy;
use kao::quantities::counted;
use kao::requests::{
    DistanceAndFloor, Evaluate, Evaluated, Evaluation, Nearness, Request, TagAccuracy, Wishes,
};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao eval --model run --data faces
  kao eval --model run --data faces --steps 10 --eta 1
  kao eval --model run --data faces --neighbours nn.png       the samples most like a picture
  kao eval --samples other/pictures --data faces --json
  kao eval --model run --data faces --tags girl                against the pictures of girls
  kao eval --model run --data faces --descriptions            does it show what is asked for?
  kao eval --model run --data faces --parts parts --shard 0/4   a quarter of the samples

The distance is the sliced Wasserstein distance of Laplacian-pyramid patches (Karras et al. 2018),
times 1000, at each resolution. The floor is the distance of two sets of real pictures, each as
large as that of the samples. Distances of sets of different sizes cannot be compared, ratios
roughly. The kernel distance (that of KID, on features of a small classifier of drawn faces that
comes with Kao) is about 0 for real pictures whatever the sizes; it sees what the other does not,
such as a little noise or blur, and compares with values of Kao alone. Neighbours are looked for
among the pictures that training on the folder learns from; real pictures that it leaves out are the
scale.

With --parts, samples are made in parts, by as many processes as there are shards; when all are
done, the same command without --shard evaluates them.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Folder of real pictures, that which the model was trained on, or of tar archives of them; or a
    /// pattern of archives
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    cache: CacheArguments,
    /// Evaluate the pictures of this folder instead of a model's samples
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["model", "sampler", "steps", "eta", "spacing", "end", "variance", "final_noise", "clip", "unclipped", "batch_size"]
    )]
    samples: Option<PathBuf>,
    /// How many samples; of a folder, the first by name [default: 1024, or the whole folder]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    /// Folder for samples that are made in parts: with --shard, one part is written there; without
    /// it, all parts are read and evaluated
    #[arg(long, value_name = "DIR", conflicts_with = "samples")]
    parts: Option<PathBuf>,
    #[command(flatten)]
    shard: ShardArgument,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    tags: TagArguments,
    /// Ask each sample for the tags of a picture that training leaves out, with a guidance of 2 unless
    /// --guidance says otherwise, and tell how often it shows them: as a classifier of drawn faces sees
    /// it, which is tested on those pictures too
    #[arg(long, help_heading = "Tags", conflicts_with_all = ["tags", "samples"])]
    descriptions: bool,
    /// The model was not trained on --data: take descriptions from all its pictures, and not only
    /// from those that training would leave out
    #[arg(long, help_heading = "Tags", requires = "descriptions")]
    unseen: bool,
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

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Evaluate> {
        let Wishes { tags, avoid, guidance, guidance_rescale, guidance_interval, guide, .. } =
            self.tags.add_to(Wishes::default());
        Ok(Evaluate {
            tags,
            avoid,
            guidance,
            guidance_rescale,
            guidance_interval,
            guide,
            model: self.model.request(),
            data: self.data.clone(),
            cache: self.cache.cache,
            cache_dir: self.cache.cache_dir.clone(),
            samples: self.samples.clone(),
            count: self.count,
            parts: self.parts.clone(),
            shard: self.shard.request()?,
            sampling: self.sampling.request()?,
            descriptions: self.descriptions,
            unseen: self.unseen,
            seed: self.seed,
            neighbours: self.neighbours.clone(),
            rows: self.rows,
            batch_size: self.batch_size,
            compute: self.compute.request(),
        })
    }

    /// What was found, as one JSON object.
    fn json(&self, evaluated: Evaluated) -> Value {
        let Evaluated { evaluation, tags, n_described, picture_names, provenance, files } =
            evaluated;
        let mut object = json!(evaluation);
        if self.descriptions {
            object["tags"] = json!(tags);
            object["n_described"] = json!(n_described);
        }
        let settings: serde_json::Map<_, _> =
            provenance.texts.into_iter().map(|(key, value)| (key, json!(value))).collect();
        object["settings"] = json!(settings);
        let order = evaluation.most_alike_first();
        let n_listed = if self.all_neighbours { order.len() } else { self.rows };
        let neighbours = order.iter().take(n_listed).map(|&sample| {
            let nearest = evaluation.neighbours[sample].iter();
            let nearest =
                nearest.map(|near| json!({ "file": picture_names[near.index], "rms": near.rms }));
            json!({ "sample": sample, "nearest": nearest.collect::<Vec<_>>() })
        });
        object["neighbours"] = neighbours.collect();
        if let Some(path) = files.first() {
            object["picture"] = json!(path.display().to_string());
        }
        object
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.compute.threads)?;
    let words = arguments.samples.is_none().then(|| arguments.sampling.note()).flatten();
    let terminal = Terminal::beginning_with(words);
    if request.shard.is_some() {
        let part = request.sample_part(&terminal)?;
        terminal.clear();
        let kept = if part.is_kept { ", made before" } else { "" };
        note(format!("{}{kept}", counted(part.n_samples as u64, "sample")));
        result(part.path.display())?;
        note("hint: when all shards are done, the same command without --shard evaluates them");
        return Ok(());
    }
    let evaluated = request.run(&terminal)?;
    terminal.clear();
    if arguments.json {
        return result(arguments.json(evaluated));
    }
    result(report(&evaluated.evaluation))?;
    if arguments.descriptions {
        result(accuracies(&evaluated.tags, evaluated.n_described))?;
    }
    evaluated.files.iter().try_for_each(|file| result(file.display()))
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
    if let Some(kernel) = evaluation.kernel {
        lines.push("\nkernel distance, of what is shown and of how cleanly\n".to_owned());
        for (name, distance) in [("structure", kernel.structure), ("texture", kernel.texture)] {
            let DistanceAndFloor { samples, floor } = distance;
            lines.push(format!("{name:<10} {samples:>9.4} {floor:>9.4}"));
        }
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

/// How often samples show what they were asked for, as a table.
fn accuracies(tags: &[TagAccuracy], n_described: usize) -> String {
    let mut lines = vec![
        format!(
            "\nsamples that show what they were asked for, the tags of {}, and how these show them\n",
            counted(n_described as u64, "picture")
        ),
        format!("{:<16} {:>7} {:>9} {:>9}", "", "asked", "samples", "pictures"),
    ];
    let percent = |accuracy: &GroupAccuracy| match accuracy.accuracy() {
        Some(share) => format!("{:.1} %", 100.0 * share),
        None => "-".to_owned(),
    };
    for TagAccuracy { samples, pictures } in tags {
        lines.push(format!(
            "{:<16} {:>7} {:>9} {:>9}",
            samples.group,
            samples.n_asked,
            percent(samples),
            percent(pictures)
        ));
    }
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
