//! `nearest`: the pictures of a folder that are most like an image.

use super::{
    AVOID, Context, Kind, MODEL, Made, SAMPLER, SPACING, STEPS, TAGS, TaskKind, at_most, field,
};
use crate::http::problem::Problem;
use crate::jobs::{Output, Work, Worker};
use crate::limits;
use kao::control::Control;
use kao::dataset::Folder;
use kao::eval::nearest;
use kao::requests::{Estimate, ModelSource, Request, Sample};
use kao::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Pictures that are named.
const N_NEAREST: usize = 12;

pub const KIND: TaskKind = TaskKind {
    name: "nearest",
    about: "Which pictures of a folder are most like an image of a model.",
    fields: &[
        field("data", Kind::Text, "The name of a folder of pictures."),
        MODEL,
        field("seed", Kind::Integer, "Seed of the image."),
        field("image", Kind::Integer, "Its number among the images of the seed."),
        SAMPLER,
        STEPS,
        SPACING,
        TAGS,
        AVOID,
        field("guidance", Kind::Number, "How strongly the image is led to what is asked for."),
    ],
    make,
};

struct NearestWork {
    data: PathBuf,
    data_name: String,
    source: ModelSource,
    model: String,
    sample: Sample,
}

fn make(mut given: Map<String, Value>, context: &Context<'_>) -> Made {
    let data = given.remove("data").and_then(|value| value.as_str().map(str::to_owned));
    let data_name = data.ok_or_else(|| Problem::invalid("data", "none given"))?;
    let image = given.remove("image").and_then(|value| value.as_u64()).unwrap_or(0);
    let (model, source, given) = super::sample::with_model(given, context)?;
    let sample: Sample = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    let mut sample = Sample { model: source.clone(), pick: vec![image], ..sample };
    sample.compute.device = context.device;
    sample.validate()?;
    at_most("steps", sample.sampling.steps.unwrap_or(1), limits::MAX_STEPS)?;
    let config = source.config()?;
    sample.wishes.conditions(&config.tags, 1)?;
    let data = context.places.data_folder(&data_name)?;
    Ok(Box::new(NearestWork { data, data_name, source, model, sample }))
}

impl Work for NearestWork {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(&self.sample).unwrap_or_default();
        request["data"] = self.data_name.clone().into();
        request["model"] = self.model.clone().into();
        request["image"] = self.sample.pick[0].into();
        request
    }

    fn command(&self) -> String {
        String::new()
    }

    fn estimate(&self) -> Result<Estimate> {
        self.sample.estimate()
    }

    fn n_images(&self) -> Option<usize> {
        Some(1)
    }

    fn run(&self, worker: &Worker<'_>, control: &dyn Control) -> Result<Output> {
        let model = worker.models.get(&self.source, control)?;
        let image = self.sample.run_on(&model, &self.source.name(), control)?.images;
        let folder = Folder::load(&self.data, model.config.unet.image_size, control)?;
        let pictures: Vec<_> =
            (0..folder.len()).map(|index| folder.picture_bytes(index)).collect::<Result<_>>()?;
        let pictures: Vec<&[u8]> = pictures.iter().map(|picture| &**picture).collect();
        let query = image.to_bytes_hwc(0);
        let found = nearest(&[&query], &pictures, N_NEAREST, control)?;
        let found = found.first().ok_or_else(|| Error::invalid("data", "holds no picture"))?;
        let named = found.iter().map(|neighbour| {
            json!({ "name": folder.pictures()[neighbour.index].name, "rms": neighbour.rms })
        });
        let facts = json!({ "nearest": named.collect::<Vec<_>>() });
        Ok(Output { facts, summary: format!("{} pictures", folder.len()), ..Output::default() })
    }
}
