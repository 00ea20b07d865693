//! `interpolate`: images on the way between others.

use super::sample::{self, command};
use super::{
    AVOID, Context, Field, Kind, MODEL, Made, SAMPLER, SPACING, STEPS, TAGS, TaskKind, at_most,
    check_values, field,
};
use crate::http::problem::Problem;
use crate::jobs::{Output, Set, SheetPlaces, Work, Worker};
use crate::limits;
use kao::control::Control;
use kao::requests::{Estimate, Interpolate, Request};
use kao::{Images, Result};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

pub const KIND: TaskKind = TaskKind {
    name: "interpolate",
    about: "Images on the way from one image to the next, through the noise that they start from.",
    fields: FIELDS,
    make,
};

const FIELDS: &[Field] = &[
    MODEL,
    field("between", Kind::Integers, "The seeds to go between; of each its image 0."),
    field("images", Kind::Integers, "In place of between: numbers of images of the seed."),
    field("seed", Kind::Integer, "Seed of images."),
    field("frames", Kind::Integer, "Images from each to the next, both of them among these."),
    field(
        "plane",
        Kind::Flag,
        "Of four images, all points of the plane between them, frames a side.",
    ),
    field("pick", Kind::Integers, "These of them, in place of all."),
    SAMPLER,
    STEPS,
    SPACING,
    TAGS,
    AVOID,
    field("guidance", Kind::Number, "How strongly images are led to what is asked for."),
    field("columns", Kind::Integer, "Columns of the grid; by default each row leads to the next."),
];

struct InterpolateWork {
    request: Interpolate,
    model: String,
    n_images: usize,
}

fn make(given: Map<String, Value>, context: &Context<'_>) -> Made {
    let (model, source, given) = sample::with_model(given, context)?;
    let mut request: Interpolate = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    request.model = source;
    request.compute.device = context.device;
    request.validate()?;
    let ways = request.between.len().max(request.images.len()) - 1;
    let n_images = match request.pick.len() {
        0 if request.plane => request.frames.saturating_mul(request.frames),
        0 => ways.saturating_mul(request.frames.saturating_sub(1)).saturating_add(1),
        n => n,
    };
    at_most("frames", n_images, limits::MAX_IMAGES)?;
    at_most("steps", request.sampling.steps.unwrap_or(1), limits::MAX_STEPS)?;
    let config = request.model.config()?;
    check_values(&config.unet, n_images, &format!("{n_images} images"))?;
    request.wishes.conditions(&config.tags, 1)?;
    Ok(Box::new(InterpolateWork { request, model, n_images }))
}

impl Work for InterpolateWork {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(&self.request).unwrap_or_default();
        request["model"] = self.model.clone().into();
        request
    }

    fn command(&self) -> String {
        let out = Some(PathBuf::from("interpolation.png"));
        command(&Interpolate { out, ..self.request.clone() })
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
        let done = self.request.run_on(&model, control)?;
        let facts = json!({
            "seconds": done.seconds,
            "steps": done.steps,
            "model": self.model,
        });
        let summary = done.summary();
        let Interpolate { between, images, frames, columns, plane, pick, .. } = &self.request;
        let n_ends = between.len().max(images.len());
        let n_on_the_way = match plane {
            true => frames.saturating_mul(*frames),
            false => n_ends.saturating_sub(1).saturating_mul(frames.saturating_sub(1)) + 1,
        };
        let is_all = pick.is_empty() || pick.len() == n_on_the_way;
        let n_columns = columns.unwrap_or(if is_all { *frames } else { pick.len().min(8) });
        let mut set = Set::new("images", done.images, n_columns, done.provenance.texts);
        if is_all && columns.is_none() && !plane && n_ends > 2 {
            // Each row leads from one end to the next, so that those between stand there twice.
            let of_row = |row: usize| row * (frames - 1)..=(row + 1) * (frames - 1);
            let places = (0..n_ends - 1).flat_map(of_row).map(Some).collect();
            let [_, c, h, w] = set.images.shape();
            let others = Images::zeros([0, c, h, w]);
            set.sheet = Some(SheetPlaces { others, places, n_columns: *frames });
        }
        set.commands = (0..set.images.len())
            .map(|at| {
                let number = self.request.pick.get(at).copied().unwrap_or(at as u64);
                let out = Some(PathBuf::from("image.png"));
                command(&Interpolate {
                    pick: vec![number],
                    columns: None,
                    out,
                    ..self.request.clone()
                })
            })
            .collect();
        Ok(Output { sets: vec![Arc::new(set)], facts, summary })
    }
}
