//! `encode`: the noise from which DDIM makes a picture that was sent here, and what it is decoded
//! to.

use super::edit::{WithShownNames, sent, with_shown_names};
use super::sample::{command, with_model};
use super::{Context, Kind, MODEL, Made, TaskKind, at_most, field};
use crate::http::problem::Problem;
use crate::jobs::{Output, Set, Work, Worker};
use crate::limits;
use kao::Result;
use kao::control::Control;
use kao::requests::{Encode, Estimate, Request};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

pub const KIND: TaskKind = TaskKind {
    name: "encode",
    about: "The noise from which DDIM makes a picture that was sent here, and what it is decoded to.",
    fields: &[
        field("picture", Kind::Text, "The id of a picture that was sent to /api/v1/uploads."),
        MODEL,
        field("steps", Kind::Integer, "Steps; by default 50."),
    ],
    make,
};

struct EncodeWork {
    request: Encode,
    model: String,
    picture: String,
}

fn make(mut given: Map<String, Value>, context: &Context<'_>) -> Made {
    let picture = sent(&mut given, "picture", context)?;
    let (picture, path) = picture.ok_or_else(|| Problem::invalid("picture", "none given"))?;
    let (model, source, given) = with_model(given, context)?;
    let request: Encode = serde_json::from_value(Value::Object(given))
        .map_err(|error| Problem::invalid("request", error))?;
    // Beside the picture, in the server's own folder.
    let out = path.with_extension("safetensors");
    let mut request = Encode { model: source, pictures: vec![path], out, ..request };
    request.compute.device = context.device;
    request.validate()?;
    at_most("steps", request.steps, limits::MAX_STEPS)?;
    Ok(Box::new(EncodeWork { request, model, picture }))
}

impl EncodeWork {
    /// The request with the names that files have for whoever sent the picture.
    fn shown(&self) -> Encode {
        let pictures = vec![PathBuf::from("picture.png")];
        Encode { pictures, out: PathBuf::from("noise.safetensors"), ..self.request.clone() }
    }
}

impl Work for EncodeWork {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn request(&self) -> Value {
        let mut request = serde_json::to_value(self.shown()).unwrap_or_default();
        request["model"] = self.model.clone().into();
        request["picture"] = self.picture.clone().into();
        request
    }

    fn command(&self) -> String {
        command(&self.shown())
    }

    fn estimate(&self) -> Result<Estimate> {
        self.request.estimate()
    }

    fn n_images(&self) -> Option<usize> {
        Some(1)
    }

    fn run(&self, _: &Worker<'_>, control: &dyn Control) -> Result<Output> {
        let shown = self.shown();
        let mut names = vec![(&self.request.out, &shown.out)];
        names.extend(self.request.pictures.iter().zip(&shown.pictures));
        let encoded = self.request.run(&WithShownNames { control, names: &names });
        let _ = std::fs::remove_file(&self.request.out);
        let encoded = encoded?;
        let texts = with_shown_names(encoded.provenance.texts, &names);
        let facts = json!({
            "seconds": encoded.seconds,
            "evaluations_per_image": encoded.n_evaluations,
            "error": encoded.error,
            "psnr": encoded.psnr,
            "model": self.model,
        });
        let summary =
            format!("{:.1} dB between the picture and what its noise is decoded to", encoded.psnr);
        let set = |name: &str, images| Arc::new(Set::new(name, images, 1, texts.clone()));
        let sets = vec![
            set("images", encoded.decoded),
            set("noise", encoded.noise),
            set("original", encoded.originals),
        ];
        Ok(Output { sets, facts, summary })
    }
}
