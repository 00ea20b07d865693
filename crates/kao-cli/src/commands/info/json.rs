//! What `kao info` tells, as JSON.

use crate::output::result;
use kao::formats::Contents;
use kao::model::{self, ModelConfig};
use kao::train::checkpoint;
use kao::train::summary::Summary;
use kao::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Prints one object.
pub fn tell(object: &Value) -> Result<()> {
    result(format!("{object:#}"))
}

/// The texts of a picture that Kao made.
pub fn picture(path: &Path, texts: impl IntoIterator<Item = (String, String)>) -> Value {
    let texts: Map<String, Value> =
        texts.into_iter().map(|(key, text)| (key, Value::from(text))).collect();
    json!({ "path": path.display().to_string(), "kind": "picture", "texts": texts })
}

/// A run directory, with the tensors of its model if they are asked for.
pub fn run(summary: &Summary, tensors: bool) -> Result<Value> {
    let unwritable = |error| Error::malformed(&summary.path, error);
    let mut object = serde_json::to_value(summary).map_err(unwritable)?;
    object["kind"] = json!("run");
    if let (true, Some(model)) = (tensors, &summary.model) {
        object["tensors"] = list(&model::peek(model)?);
    }
    Ok(object)
}

/// A model or a checkpoint; `kind` says which, or that the file holds neither.
pub fn weights_file(path: &Path, tensors: bool) -> Result<Value> {
    let contents = model::peek(path)?;
    let mut object = json!({
        "path": path.display().to_string(),
        "format": contents.format.to_string(),
        "file_bytes": contents.file_bytes,
        "n_tensors": contents.tensors.len(),
        "notes": contents.notes,
    });
    for key in ["epoch", "global_step", "pytorch-lightning_version"] {
        if let Some(value) = contents.metadata.get(key) {
            object[key] = json!(value.to_string());
        }
    }
    if contents.metadata.contains_key(checkpoint::METADATA_KEY) {
        object["kind"] = json!("checkpoint");
        object["position"] = json!(checkpoint::position(path, &contents.metadata)?);
    } else {
        match ModelConfig::from_metadata(path, contents.format, &contents.metadata) {
            Ok(config) => {
                object["kind"] = json!("model");
                object["parameters"] = json!(config.unet.parameter_count());
                object["config"] = json!(config);
            }
            Err(error) => {
                object["kind"] = json!("tensors");
                object["problem"] = json!(error.to_string());
            }
        }
    }
    if tensors {
        object["tensors"] = list(&contents);
    }
    Ok(object)
}

fn list(contents: &Contents) -> Value {
    let tensor = |tensor: &kao::formats::TensorInfo| {
        json!({
            "name": tensor.name,
            "shape": tensor.shape,
            "dtype": tensor.dtype.to_string(),
        })
    };
    contents.tensors.iter().map(tensor).collect()
}
