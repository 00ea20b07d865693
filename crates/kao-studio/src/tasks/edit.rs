//! `edit`: variations of a picture that was sent here, and pictures with a part painted anew.

use super::sample::{command, with_model};
use super::{
    AVOID, Context, Field, Kind, MODEL, Made, SAMPLER, SPACING, STEPS, TAGS, TaskKind, at_most,
    check_values, field,
};
use crate::http::problem::Problem;
use crate::jobs::{Output, Set, SheetPlaces, Work, Worker};
use crate::limits;
use kao::Result;
use kao::control::{Control, Report};
use kao::requests::{Edit, Estimate, Request};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Variations where no number is given.
const COUNT: usize = 8;

pub const KIND: TaskKind = TaskKind {
    name: "edit",
    about: "Variations of a picture that was sent here, or with a mask a part of it made anew.",
    fields: FIELDS,
    make,
};

const FIELDS: &[Field] = &[
    field("picture", Kind::Text, "The id of a picture that was sent to /api/v1/uploads."),
    field("mask", Kind::Text, "The id of another, whose white is made anew."),
    MODEL,
    field("strength", Kind::Number, "The share of the steps that is taken, 0 to 1."),
    field("jumps", Kind::Integer, "With a mask, how often each part of the way is gone."),
    field("count", Kind::Integer, "How many variations; by default 8."),
    field("seed", Kind::Integer, "Seed of the noise."),
    SAMPLER,
    SPACING,
    STEPS,
    TAGS,
    AVOID,
    field("guidance", Kind::Number, "How strongly images are led to what is asked for."),
];

/// Texts that name files as whoever sent the pictures does. Where they lie here is nobody's business,
/// and in the terminal they have these names. `names` are of files here, and what they are shown as.
pub fn with_shown_names(
    texts: Vec<(String, String)>,
    names: &[(&PathBuf, &PathBuf)],
) -> Vec<(String, String)> {
    texts.into_iter().map(|(key, text)| (key, renamed(&text, names))).collect()
}

fn renamed(text: &str, names: &[(&PathBuf, &PathBuf)]) -> String {
    let path = |path: &PathBuf| path.display().to_string();
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    names.iter().fold(text.to_owned(), |text, (here, shown)| {
        let text = text.replace(&path(here), &path(shown));
        match (name(here), name(shown)) {
            (Some(here), Some(shown)) => text.replace(&here, &shown),
            _ => text,
        }
    })
}

/// Reports with these names, as texts have them.
pub struct WithShownNames<'a> {
    pub control: &'a dyn Control,
    pub names: &'a [(&'a PathBuf, &'a PathBuf)],
}

impl Control for WithShownNames<'_> {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        let message = report.message.map(|message| renamed(message, self.names));
        self.control.report(&Report { message: message.as_deref(), ..*report })
    }

    fn wants_previews(&self) -> bool {
        self.control.wants_previews()
    }
}

struct EditWork {
    request: Edit,
    model: String,
    picture: String,
    mask: Option<String>,
    n_images: usize,
}

/// The file of a picture that a field names.
pub fn sent(
    given: &mut Map<String, Value>,
    name: &str,
    context: &Context<'_>,
) -> Result<Option<(String, PathBuf)>, Problem> {
    let id = given.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let Some(id) = id else { return Ok(None) };
    match (context.upload)(&id) {
        Some(path) => Ok(Some((id, path))),
        None => {
            let problem = "no picture of this id is kept; send it to /api/v1/uploads first";
            Err(Problem::invalid(name, problem))
        }
    }
}

fn make(mut given: Map<String, Value>, context: &Context<'_>) -> Made {
    let picture = sent(&mut given, "picture", context)?;
    let mask = sent(&mut given, "mask", context)?;
    let (model, source, given) = with_model(given, context)?;
    let mut request: Edit = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    let (picture, path) = picture.ok_or_else(|| Problem::invalid("picture", "none given"))?;
    let (mask, mask_path) = mask.unzip();
    (request.model, request.pictures, request.mask) = (source, vec![path], mask_path);
    request.compute.device = context.device;
    let n_images = *request.count.get_or_insert(COUNT);
    request.validate()?;
    at_most("count", n_images, limits::MAX_IMAGES)?;
    at_most("steps", request.sampling.steps.unwrap_or(1), limits::MAX_STEPS)?;
    at_most("jumps", request.jumps.unwrap_or(1), limits::MAX_STEPS)?;
    let config = request.model.config()?;
    check_values(&config.unet, n_images, &format!("{n_images} variations"))?;
    request.wishes.conditions(&config.tags, n_images)?;
    Ok(Box::new(EditWork { request, model, picture, mask, n_images }))
}

impl EditWork {
    /// The request with the names that the pictures have for whoever sent them.
    fn shown(&self) -> Edit {
        let pictures = vec![PathBuf::from("picture.png")];
        let mask = self.mask.as_ref().map(|_| PathBuf::from("mask.png"));
        let out = Some(PathBuf::from("variations.png"));
        Edit { pictures, mask, out, ..self.request.clone() }
    }
}

impl Work for EditWork {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(self.shown()).unwrap_or_default();
        request["model"] = self.model.clone().into();
        request["picture"] = self.picture.clone().into();
        request["mask"] = self.mask.clone().into();
        request
    }

    fn command(&self) -> String {
        command(&self.shown())
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
        let shown = self.shown();
        let here = self.request.pictures.iter().chain(&self.request.mask);
        let names: Vec<_> = here.zip(shown.pictures.iter().chain(&shown.mask)).collect();
        let control = WithShownNames { control, names: &names };
        let edited = self.request.run_on(&model, &control)?;
        let facts = json!({
            "seconds": edited.seconds,
            "evaluations_per_image": edited.n_evaluations,
            "model": self.model,
        });
        let summary = edited.summary();
        let texts = with_shown_names(edited.provenance.texts, &names);
        let mut set = Set::new("images", edited.images, self.request.columns, texts.clone());
        let n = set.images.len();
        let n_columns = self.request.columns.clamp(1, n.max(1));
        // Each row begins with the picture.
        let row = |first: usize| {
            let place = move |at: usize| (at < n).then_some(at + 1);
            [Some(0)].into_iter().chain((first..first + n_columns).map(place))
        };
        let places = (0..n).step_by(n_columns).flat_map(row).collect();
        let others = edited.originals.clone();
        set.sheet = Some(SheetPlaces { others, places, n_columns: n_columns + 1 });
        set.commands = (0..set.images.len())
            .map(|at| {
                let out = Some(PathBuf::from("variation.png"));
                command(&Edit { pick: vec![at as u64], count: None, out, ..shown.clone() })
            })
            .collect();
        let original = Set::new("original", edited.originals, 1, texts);
        Ok(Output { sets: vec![Arc::new(set), Arc::new(original)], facts, summary })
    }
}
