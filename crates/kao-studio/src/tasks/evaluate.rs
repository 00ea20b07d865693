//! `evaluate`: how far samples are from the pictures of a folder.

use super::sample::{command, with_model};
use super::{Context, Kind, MODEL, Made, SAMPLER, SPACING, STEPS, TaskKind, at_most, field};
use crate::http::problem::Problem;
use crate::jobs::{Output, Work, Worker};
use crate::limits;
use kao::Result;
use kao::control::Control;
use kao::requests::{Estimate, Evaluate, Request};
use serde_json::{Map, Value, json};

/// Samples where no number is given.
const COUNT: usize = 64;
/// The most samples.
const MAX_COUNT: usize = 2048;

pub const KIND: TaskKind = TaskKind {
    name: "evaluate",
    about: "How far samples are from the pictures of a folder (sliced Wasserstein distance), and how \
            far two sets of the pictures are from each other.",
    fields: &[
        field("data", Kind::Text, "The name of a folder of pictures."),
        MODEL,
        field("count", Kind::Integer, "How many samples; by default 64, better a thousand."),
        field("seed", Kind::Integer, "Seed of the noise, and of which patches are compared."),
        SAMPLER,
        STEPS,
        SPACING,
    ],
    make,
};

struct EvaluateWork {
    request: Evaluate,
    model: String,
    data: String,
}

fn make(mut given: Map<String, Value>, context: &Context<'_>) -> Made {
    let data = given.remove("data").and_then(|value| value.as_str().map(str::to_owned));
    let data = data.ok_or_else(|| Problem::invalid("data", "none given"))?;
    let (model, source, given) = with_model(given, context)?;
    let mut request: Evaluate = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    (request.model, request.data) = (source, context.places.data_folder(&data)?);
    request.compute.device = context.device;
    at_most("count", *request.count.get_or_insert(COUNT), MAX_COUNT)?;
    at_most("steps", request.sampling.steps.unwrap_or(1), limits::MAX_STEPS)?;
    request.validate()?;
    Ok(Box::new(EvaluateWork { request, model, data }))
}

impl Work for EvaluateWork {
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
        self.request.count
    }

    fn run(&self, _: &Worker<'_>, control: &dyn Control) -> Result<Output> {
        let evaluation = self.request.run(control)?.evaluation;
        let facts = json!({
            "distance": evaluation.average.samples,
            "floor": evaluation.average.floor,
            "n_compared": evaluation.n_compared,
            "levels": evaluation.levels,
        });
        let average = evaluation.average;
        let summary = format!("distance {:.1}, floor {:.1}", average.samples, average.floor);
        Ok(Output { facts, summary, ..Output::default() })
    }
}
