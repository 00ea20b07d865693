//! `sample`: images from a model.

use super::{
    AVOID, Context, Field, Kind, MODEL, Made, SAMPLER, SPACING, STEPS, TAGS, TaskKind, at_most,
    check_values, field,
};
use crate::http::problem::Problem;
use crate::jobs::{Output, Set, Work, Worker};
use crate::limits;
use kao::Result;
use kao::control::Control;
use kao::model::BUILT_IN;
use kao::requests::{Estimate, ModelSource, Request, Sample};
use kao::sampler::SnapshotsConfig;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

pub const KIND: TaskKind = TaskKind {
    name: "sample",
    about: "Images from a model. Image k of a seed is the same whatever else is asked for.",
    fields: FIELDS,
    make,
};

/// The fields of a sampler, which other tasks have too.
pub const FIELDS: &[Field] = &[
    MODEL,
    field("seed", Kind::Integer, "Seed of the noise; by default 999."),
    field("first", Kind::Integer, "Number of the first image among all images of the seed."),
    field("pick", Kind::Integers, "The images of these numbers, in place of first and count."),
    field(
        "count",
        Kind::Integer,
        "How many images; by default as many as the grid of tags has, or 64.",
    ),
    SAMPLER,
    STEPS,
    SPACING,
    field("end", Kind::End, "Where the sequence ends: clean or first-timestep."),
    field("clip", Kind::Flag, "Clamp the predicted clean image to [-1, 1] at every step."),
    TAGS,
    AVOID,
    field("rows", Kind::Text, "A tag for each row of a grid."),
    field("columns_of", Kind::Text, "A tag for each column of the grid."),
    field("guidance", Kind::Number, "How strongly images are led to what is asked for; 1 is none."),
    field("guidance_rescale", Kind::Number, "Scales guided predictions back, 0 to 1."),
    field("guidance_interval", Kind::Interval, "The noise levels between which guidance acts."),
    field("guide", Kind::Text, "The name of a weaker model to lead away from."),
    field("columns", Kind::Integer, "Columns of the grid; by default 8."),
    field("snapshots", Kind::Integer, "Snapshots of the process, from noise to image."),
];

struct SampleWork {
    request: Sample,
    model: String,
    n_images: usize,
    n_snapshots: usize,
}

fn make(given: Map<String, Value>, context: &Context<'_>) -> Made {
    work(given, context).map(|work| Box::new(work) as Box<dyn Work>)
}

/// Takes the name of the model out of what is given, and finds the model.
pub fn with_model(
    mut given: Map<String, Value>,
    context: &Context<'_>,
) -> Result<(String, ModelSource, Map<String, Value>), Problem> {
    let name = given.remove("model");
    let (name, source) = context.places.model(name.as_ref().and_then(Value::as_str))?;
    Ok((name, source, given))
}

fn work(given: Map<String, Value>, context: &Context<'_>) -> Result<SampleWork, Problem> {
    let (model, source, mut given) = with_model(given, context)?;
    let guide = match given.remove("guide").as_ref().and_then(Value::as_str) {
        None => None,
        Some(name) => {
            let found = context.places.model(Some(name));
            let (_, source) =
                found.map_err(|problem| Problem { field: Some("guide".to_owned()), ..problem })?;
            Some(source.path.unwrap_or_else(|| PathBuf::from(BUILT_IN)))
        }
    };
    let n_snapshots = given.remove("snapshots").and_then(|value| value.as_u64()).unwrap_or(0);
    let mut request: Sample = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    request.model = source;
    request.compute.device = context.device;
    request.wishes.guide = guide;
    request.validate()?;
    let n_images = match request.pick.len() {
        0 => request.count.or(request.wishes.n_images()?).unwrap_or(64),
        n => n,
    };
    at_most("count", n_images, limits::MAX_IMAGES)?;
    at_most("steps", request.sampling.steps.unwrap_or(1), limits::MAX_STEPS)?;
    let n_snapshots = usize::try_from(n_snapshots).unwrap_or(usize::MAX);
    at_most("snapshots", n_snapshots, limits::MAX_SNAPSHOTS)?;
    let config = request.model.config()?;
    let words = format!("{n_images} images with {n_snapshots} snapshots");
    check_values(&config.unet, n_images.saturating_mul(n_snapshots + 1), &words)?;
    // What the model does not know is told now, not when the job has had to wait.
    if request.first == 0 && request.pick.is_empty() {
        request.wishes.conditions(&config.tags, n_images)?;
    }
    Ok(SampleWork { request, model, n_images, n_snapshots })
}

/// The command line of a request that is written to `out` there.
pub fn command<R: Request>(request: &R) -> String {
    request.command_line().map(|line| line.to_string()).unwrap_or_default()
}

impl SampleWork {
    /// The request that makes the image at this position alone.
    fn alone(&self, at: usize) -> Sample {
        let Sample { first, pick, .. } = &self.request;
        let number = pick.get(at).copied().unwrap_or(first.saturating_add(at as u64));
        let default = Sample::default();
        let (count, columns, out) = (None, default.columns, Some(PathBuf::from("image.png")));
        Sample { first: 0, pick: vec![number], count, columns, out, ..self.request.clone() }
    }
}

impl Work for SampleWork {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(&self.request).unwrap_or_default();
        request["model"] = self.model.clone().into();
        request
    }

    fn command(&self) -> String {
        command(&Sample { out: Some("grid.png".into()), ..self.request.clone() })
    }

    fn estimate(&self) -> Result<Estimate> {
        self.request.estimate()
    }

    fn batch_size(&self) -> usize {
        self.request.batch_size
    }

    fn n_images(&self) -> Option<usize> {
        Some(self.n_images)
    }

    fn run(&self, worker: &Worker<'_>, control: &dyn Control) -> Result<Output> {
        let model = worker.models.get(&self.request.model, control)?;
        let snapshots = (self.n_snapshots > 0)
            .then_some(SnapshotsConfig { n_images: self.n_images, n_snapshots: self.n_snapshots });
        let name = self.request.model.name();
        let sampled = self.request.run_observed(&model, &name, snapshots, control)?;
        let n_columns = self.request.wishes.grid_columns().unwrap_or(self.request.columns);
        let summary = sampled.summary();
        let facts = json!({
            "seconds": sampled.seconds,
            "evaluations_per_image": sampled.n_evaluations,
            "model": self.model,
        });
        let texts = sampled.provenance.texts;
        let mut set = Set::new("images", sampled.images, n_columns, texts);
        set.commands = (0..set.images.len()).map(|at| command(&self.alone(at))).collect();
        let snapshots = sampled.snapshots.into_iter().enumerate().map(|(index, images)| {
            Set::new(format!("snapshot-{index}"), images, n_columns, set.texts.clone())
        });
        let snapshots: Vec<Set> = snapshots.collect();
        let sets = [set].into_iter().chain(snapshots).map(Arc::new).collect();
        Ok(Output { sets, facts, summary })
    }
}
