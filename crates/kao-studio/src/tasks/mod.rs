//! The requests that can be made, as work for the queue.
//!
//! Each kind lists its fields in one table: what is read from JSON or a query, what the OpenAPI
//! document says, and what is refused by name all come from there. No field is a path: models, data
//! and pictures are names.

mod compare;
mod edit;
mod encode;
mod evaluate;
mod fields;
mod interpolate;
mod nearest;
mod sample;
mod train;

pub use fields::{Field, Kind, from_query, schema};

use crate::http::problem::Problem;
use crate::jobs::Work;
use crate::limits;
use crate::places::Places;
use kao::device::DeviceKind;
use kao::unet::UNetConfig;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Work, or what is wrong with what was asked for.
type Made = Result<Box<dyn Work>, Problem>;

/// A kind of task.
pub struct TaskKind {
    pub name: &'static str,
    pub about: &'static str,
    pub fields: &'static [Field],
    make: fn(Map<String, Value>, &Context<'_>) -> Made,
}

/// What a task may name.
pub struct Context<'a> {
    pub places: &'a Places,
    /// The file of the picture that was sent here under this id.
    pub upload: &'a dyn Fn(&str) -> Option<PathBuf>,
    /// What networks run on, whatever is asked for.
    pub device: DeviceKind,
}

/// All kinds.
pub const KINDS: &[TaskKind] = &[
    sample::KIND,
    edit::KIND,
    encode::KIND,
    evaluate::KIND,
    compare::KIND,
    interpolate::KIND,
    train::TRAIN,
    train::PLAN,
    nearest::KIND,
];

const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, about }
}

// Fields of several tasks.
const MODEL: Field =
    field("model", Kind::Text, "The name of a model; without it the first of the list.");
const SAMPLER: Field = field("sampler", Kind::Sampler, "The method; by default DPM-Solver++.");
const STEPS: Field = field(
    "steps",
    Kind::Integer,
    "Steps; by default all with DDPM, else as the model says, or 20.",
);
const SPACING: Field = field("spacing", Kind::Spacing, "How the visited timesteps are spread.");
const TAGS: Field = field("tags", Kind::Text, "Tags of every image, separated by commas.");
const AVOID: Field = field("avoid", Kind::Text, "Tags that guidance leads away from.");

/// Refuses more than the server does at once.
fn at_most(field: &str, found: usize, most: usize) -> Result<(), Problem> {
    match found <= most {
        true => Ok(()),
        false => {
            Err(Problem::invalid(field, format!("{found} found; at most {most} are made here")))
        }
    }
}

/// Refuses more images of a network than are kept. `words` say how many there are.
fn check_values(unet: &UNetConfig, n_images: usize, words: &str) -> Result<(), Problem> {
    let values: usize = unet.image_size.iter().product();
    let all = values.saturating_mul(n_images);
    match all <= limits::MAX_RESULT_VALUES {
        true => Ok(()),
        false => {
            let most = limits::MAX_RESULT_VALUES;
            Err(Problem::invalid(
                "count",
                format!("{words} are {all} values; at most {most} are kept"),
            ))
        }
    }
}

/// The kind of this name.
pub fn kind(name: &str) -> Result<&'static TaskKind, Problem> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        Problem::invalid("kind", format!("must be one of {}", names.join(", ")))
    })
}

impl TaskKind {
    /// The work that is asked for, checked as far as can be without doing it.
    pub fn work(&self, given: Map<String, Value>, context: &Context<'_>) -> Made {
        fields::check(self.fields, &given)?;
        (self.make)(given, context)
    }
}
