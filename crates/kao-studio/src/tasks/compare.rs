//! `compare`: samplers, steps and η side by side, from the same noise.

use super::sample::{command, with_model};
use super::{Context, Kind, MODEL, Made, SPACING, TaskKind, at_most, check_values, field};
use crate::http::problem::Problem;
use crate::jobs::{Output, Set, Work, Worker};
use crate::limits;
use kao::Result;
use kao::control::Control;
use kao::requests::{
    Compare, ComparedImages, Comparison, Estimate, PlannedComparison, Request, Sample,
};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Images of each combination where no number is given.
const COUNT: usize = 8;
/// The folder of the command line.
const FOLDER: &str = "compared";

pub const KIND: TaskKind = TaskKind {
    name: "compare",
    about: "Every combination of samplers, steps and η from the same noise, with what each costs and, \
            with pictures, how far its images are from them. Each is a set of the result, there as soon \
            as it is made.",
    fields: &[
        MODEL,
        field("samplers", Kind::Names, "The samplers; by default ddim, dpm++ and heun."),
        field("steps", Kind::Integers, "Numbers of steps; by default 10, 20 and 50."),
        field(
            "evaluations",
            Kind::Integers,
            "Evaluations of the network for each image, in the place of steps.",
        ),
        field("etas", Kind::Numbers, "Values of η, for the samplers that have it."),
        SPACING,
        field("data", Kind::Text, "The name of a folder of pictures to measure the distance from."),
        field(
            "count",
            Kind::Integer,
            "Images of each combination; by default 8, for distances 256.",
        ),
        field("columns", Kind::Integer, "Columns of the grids; by default 16."),
        field("seed", Kind::Integer, "Seed of the noise, and of which patches are compared."),
    ],
    make,
};

struct CompareWork {
    request: Compare,
    model: String,
    data: Option<String>,
    planned: Vec<PlannedComparison>,
}

fn make(mut given: Map<String, Value>, context: &Context<'_>) -> Made {
    let data = given.remove("data").and_then(|value| value.as_str().map(str::to_owned));
    let (model, source, mut given) = with_model(given, context)?;
    given.entry("count").or_insert(COUNT.into());
    let mut request: Compare = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    request.model = source;
    request.data = data.as_deref().map(|name| context.places.data_folder(name)).transpose()?;
    request.out = PathBuf::from(FOLDER);
    request.compute.device = context.device;
    request.validate()?;
    at_most("count", request.count, limits::MAX_IMAGES)?;
    for (field, numbers) in [("steps", &request.steps), ("evaluations", &request.evaluations)] {
        at_most(field, numbers.iter().copied().max().unwrap_or(0), limits::MAX_STEPS)?;
    }
    let planned = request.planned()?;
    at_most("samplers", planned.len(), limits::MAX_COMBINATIONS)?;
    let n_images = planned.len() * request.count;
    let words = format!("{} combinations of {} images", planned.len(), request.count);
    check_values(&request.model.config()?.unet, n_images, &words)?;
    Ok(Box::new(CompareWork { request, model, data, planned }))
}

/// The request that makes the image of this number alone.
fn alone(sample: &Sample, number: u64) -> Sample {
    let out = Some(PathBuf::from("image.png"));
    Sample { pick: vec![number], count: None, out, ..sample.clone() }
}

impl CompareWork {
    /// What is known when these are made.
    fn facts(&self, made: &[Comparison]) -> Value {
        let compared = made.iter().map(|of| {
            let mut of_it = json!(of);
            of_it["ratio"] = of.ratio().into();
            of_it
        });
        json!({
            "planned": self.planned,
            "comparisons": compared.collect::<Vec<_>>(),
            "model": self.model,
        })
    }
}

impl Work for CompareWork {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(&self.request).unwrap_or_default();
        request["model"] = self.model.clone().into();
        request["data"] = self.data.clone().into();
        request
    }

    fn command(&self) -> String {
        command(&self.request)
    }

    fn estimate(&self) -> Result<Estimate> {
        self.request.estimate()
    }

    fn batch_size(&self) -> usize {
        self.request.batch_size
    }

    fn n_images(&self) -> Option<usize> {
        Some(self.request.count)
    }

    fn n_made(&self) -> usize {
        self.request.count * self.planned.len()
    }

    fn run(&self, worker: &Worker<'_>, control: &dyn Control) -> Result<Output> {
        let model = worker.models.get(&self.request.model, control)?;
        (worker.hand_over)(None, self.facts(&[]));
        let mut made = Vec::new();
        self.request.run_on(&model, control, &mut |compared| {
            let ComparedImages { comparison, images, texts, sample } = compared;
            let mut set = Set::new(comparison.name.clone(), images, self.request.columns, texts);
            let numbers = 0..set.images.len() as u64;
            set.commands = numbers.map(|number| command(&alone(&sample, number))).collect();
            made.push(comparison);
            (worker.hand_over)(Some(set), self.facts(&made));
            Ok(())
        })?;
        let [n, count] = [made.len(), self.request.count];
        let summary = format!("{n} combinations of {count} images from the same noise");
        Ok(Output { sets: Vec::new(), facts: self.facts(&made), summary })
    }
}
