//! `train`: a run of training; and `plan`: what it would take.

use super::{Context, Field, Kind, Made, TaskKind, field};
use crate::http::problem::Problem;
use crate::jobs::{Output, Work, Worker};
use kao::control::{Control, Report};
use kao::model::BUILT_IN;
use kao::requests::{Estimate, Request, Train};
use kao::train::reports::TRAINING;
use kao::{Error, Result};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread::ThreadId;

pub const TRAIN: TaskKind = TaskKind {
    name: "train",
    about: "Trains a model on a folder of pictures. Other jobs go first between its steps; to cancel \
            it saves it, and with resume it goes on.",
    fields: FIELDS,
    make: |given, context| work(given, context, false),
};

pub const PLAN: TaskKind = TaskKind {
    name: "plan",
    about: "What a training would take: pictures, memory, disk, and the time, measured in a few steps.",
    fields: FIELDS,
    make: |given, context| work(given, context, true),
};

const FIELDS: &[Field] = &[
    field("name", Kind::Text, "The name of the run: a new one, or with resume one that is there."),
    field("data", Kind::Text, "The name of a folder of pictures."),
    field("resume", Kind::Flag, "Go on from the newest checkpoint."),
    field(
        "preset",
        Kind::Text,
        "tiny, small64, anime64 or diffusers64; by default that which fits the pictures.",
    ),
    field("from", Kind::Text, "The name of a model to begin with."),
    field("steps", Kind::Integer, "Training steps in all."),
    field("batch_size", Kind::Integer, "Pictures per step."),
    field("learning_rate", Kind::Number, "The highest learning rate."),
    field("save_every", Kind::Integer, "Steps between validations, sample grids and checkpoints."),
    field("log_every", Kind::Integer, "Steps between lines of the log."),
    field("sample_count", Kind::Integer, "Images in a sample grid."),
    field("seed", Kind::Integer, "Random seed."),
    field("no_tags", Kind::Flag, "Train without the tags of the pictures."),
    field("min_tag_count", Kind::Integer, "Leave out tags that fewer pictures have."),
    field("no_flip", Kind::Flag, "Do not mirror pictures at random."),
];

struct TrainWork {
    request: Train,
    /// The name of the run.
    name: String,
    /// Whether it is only to be told what it would take.
    is_plan: bool,
}

fn work(mut given: Map<String, Value>, context: &Context<'_>, is_plan: bool) -> Made {
    let mut text =
        |field: &str| given.remove(field).and_then(|value| value.as_str().map(str::to_owned));
    let (name, data, from) = (text("name").unwrap_or_default(), text("data"), text("from"));
    let mut request: Train = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    let in_field = |field: &str| {
        let field = field.to_owned();
        move |problem: Problem| Problem { field: Some(field), ..problem }
    };
    request.out = match request.resume {
        true => context.places.run(&name).map_err(in_field("name"))?,
        false => context.places.new_run(&name)?,
    };
    request.data = data.map(|name| context.places.data_folder(&name)).transpose()?;
    request.from = match from {
        None => None,
        Some(name) => {
            let (_, source) = context.places.model(Some(&name)).map_err(in_field("from"))?;
            Some(source.path.unwrap_or_else(|| PathBuf::from(BUILT_IN)))
        }
    };
    request.compute.device = context.device;
    request.validate()?;
    if !request.resume && request.data.is_none() {
        return Err(Problem::invalid("data", "none given; expected the name of a folder"));
    }
    // What does not fit the preset or the model is told now, not when the job has had to wait.
    request.estimate()?;
    Ok(Box::new(TrainWork { request, name, is_plan }))
}

impl TrainWork {
    /// What the run would take, measured in a few steps.
    fn plan(&self, control: &dyn Control) -> Result<Output> {
        let planned = self.request.dry_run(control)?;
        let config = planned.config();
        let speed = planned.measured_speed(control)?;
        let seconds = config.estimated_seconds(planned.n_steps_before(), speed);
        let facts = json!({
            "steps": config.steps,
            "batch_size": config.batch_size,
            "image_size": config.model.image_size,
            "tags": config.tags.len(),
            "estimate": planned.estimate()?,
            "images_per_second": speed,
            "seconds": seconds,
        });
        let summary = format!("about {}", kao::quantities::estimate(seconds));
        Ok(Output { facts, summary, ..Output::default() })
    }
}

impl Work for TrainWork {
    fn kind(&self) -> &'static str {
        if self.is_plan { PLAN.name } else { TRAIN.name }
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(&self.request).unwrap_or_default();
        request["name"] = self.name.clone().into();
        request
    }

    fn command(&self) -> String {
        let line = super::sample::command(&self.request);
        if self.is_plan { format!("{line} --dry-run") } else { line }
    }

    fn estimate(&self) -> Result<Estimate> {
        match self.is_plan {
            true => self.request.estimate_of_measuring(),
            false => self.request.estimate(),
        }
    }

    fn exclusive(&self) -> Option<&str> {
        (!self.is_plan).then_some(self.name.as_str())
    }

    fn is_long(&self) -> bool {
        !self.is_plan
    }

    fn run(&self, worker: &Worker<'_>, control: &dyn Control) -> Result<Output> {
        if self.is_plan {
            return self.plan(control);
        }
        let control = LettingOthersGo {
            job: control,
            let_others_go: worker.let_others_go,
            thread: std::thread::current().id(),
        };
        let trained = self.request.run(&control)?;
        if trained.stopped_early {
            return Err(Error::interrupted());
        }
        let facts = json!({
            "run": self.name,
            "steps": trained.n_steps,
        });
        let summary = format!("{} steps", trained.n_steps);
        Ok(Output { facts, summary, ..Output::default() })
    }
}

/// Passes reports on to the job, and between training steps lets jobs that are short go first.
struct LettingOthersGo<'a> {
    job: &'a dyn Control,
    let_others_go: &'a (dyn Fn() + Sync),
    /// The thread that works. Reports may come from others while pictures are read.
    thread: ThreadId,
}

impl Control for LettingOthersGo<'_> {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        let answer = self.job.report(report);
        let is_step = report.stage == TRAINING && !report.values.is_empty();
        if is_step && std::thread::current().id() == self.thread {
            (self.let_others_go)();
        }
        answer
    }
}
