//! A model as an ONNX file: the network as a graph, and what else is known of it as texts.

use crate::error::{Error, Result};
use crate::model::Model;
use std::path::Path;

/// Writes the network of `model` to `path`. See [`UNet::to_graph`](crate::unet::UNet::to_graph) for
/// its inputs and output; the configuration, the noise schedule among it, is the text `kao` of the
/// file, as JSON.
///
/// # Errors
/// When the network is larger than an ONNX file can be, or the file cannot be written.
pub fn write_onnx(model: &Model, path: &Path) -> Result<()> {
    let config =
        serde_json::to_string(&model.config).map_err(|error| Error::malformed(path, error))?;
    let prediction = serde_json::to_value(model.config.prediction).unwrap_or_default();
    let prediction = prediction.as_str().unwrap_or_default().to_owned();
    let texts = [("kao", config), ("prediction", prediction)];
    model.network.unet().to_graph().write(path, "unet", &texts)
}
