//! Folders of diffusers with a `UNet2DModel`: what their entries and tensors are here.
//!
//! Every entry of a configuration is honoured, or refused with its name and value before any weights
//! are read; those that are left out are as the constructors of diffusers have them. `network` reads
//! the architecture, `scheduler` the noise schedule and how a model is to be sampled, and `names`
//! knows the tensors. The other way is `model::export`.

mod entries;
mod names;
mod network;
mod scheduler;

pub use names::{CLASSES, current_name, is_of_diffusers, name_there, tensors, to_kao};

use crate::error::{Error, Result, shortened};
use crate::formats::Metadata;
use crate::model::ModelConfig;
use crate::model::metadata::FOLDER;
use crate::vocabulary::{TagCount, Vocabulary};
use entries::Entries;
use scheduler::Scheduler;
use serde_json::{Map, Value};
use std::path::Path;

/// The configuration of the folder at `path`, where the metadata are of one.
pub fn configuration(path: &Path, metadata: &Metadata) -> Option<Result<ModelConfig>> {
    let folder = metadata.get(FOLDER)?.as_object()?;
    Some(read(path, folder))
}

fn read(path: &Path, folder: &Map<String, Value>) -> Result<ModelConfig> {
    if let Some(pipeline) = folder.get("pipeline").and_then(Value::as_object) {
        check_pipeline(path, pipeline)?;
    }
    let part = |name: &str| {
        let file = folder.get(&format!("{name}_file"))?.as_str()?;
        Some(Entries::new(path.join(file), folder.get(name)?.as_object()?))
    };
    let unet = part("unet").ok_or_else(|| Error::malformed(path, "no configuration"))?;
    let Scheduler { schedule, prediction, sampling } = match part("scheduler") {
        Some(entries) => scheduler::read(&entries)?,
        None => Scheduler::default(),
    };
    let unet = network::read(&unet, schedule.n_timesteps)?;
    let tags = classes(unet.n_tags)?;
    Ok(ModelConfig { tags, sampling, ..ModelConfig::new(unet, schedule, prediction) })
}

/// Refuses pipelines of which the network is only a part.
fn check_pipeline(path: &Path, pipeline: &Map<String, Value>) -> Result<()> {
    for (name, component) in pipeline {
        // A component is a library and a class.
        let Some([_, Value::String(class)]) = component.as_array().map(Vec::as_slice) else {
            continue;
        };
        let is_known = matches!(name.as_str(), "unet" | "scheduler");
        if !is_known || (name == "unet" && class != "UNet2DModel") {
            let file = path.join("model_index.json");
            let (name, class) = (shortened(name, 40), shortened(class, 60));
            let problem = format!(
                "`{name}` is {class}: Kao reads pipelines of a UNet2DModel and a scheduler alone"
            );
            return Err(Error::malformed(file, problem));
        }
    }
    Ok(())
}

/// Names for classes, which diffusers only numbers.
fn classes(n_classes: usize) -> Result<Vocabulary> {
    let tag = |number| TagCount { tag: format!("class {number}"), count: 0 };
    // More are refused when the configuration is checked.
    let n_classes = n_classes.min(1 << 17);
    Vocabulary::new((0..n_classes).map(tag).collect())
}
