//! What this server has: models, samplers, limits.

use super::routes::Routes;
use super::{Answer, App, apart};
use crate::http::answer;
use crate::limits;
use crate::openapi::{Body, Operation};
use crate::tasks;
use axum::extract::State;
use axum::http::StatusCode;
use kao::sampler::Sampler;
use kao::schedule::NoiseSchedule;
use kao::timesteps::Spacing;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn add(routes: &mut Routes) {
    let operation = Operation::get("/api/v1/about", "What this server has and allows");
    routes.add(operation.answers(Body::Schema("About")), about);
    let operation = Operation::get("/api/v1/models", "The models, by name");
    routes.add(operation.answers(Body::Schema("Models")), models);
}

async fn about(State(app): State<Arc<App>>) -> Answer {
    let samplers = Sampler::all().into_iter().map(|sampler| {
        let description = sampler.description();
        json!({
            "name": description.name,
            "title": description.title,
            "about": description.about,
            "settings": sampler.settings(),
            "default_steps": sampler.default_steps(1000),
        })
    });
    let spacings: Vec<&str> = Spacing::ALL.iter().map(|spacing| spacing.name()).collect();
    let kinds: Vec<&str> = tasks::KINDS.iter().map(|kind| kind.name).collect();
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": app.device.name(),
        "has_runs": app.places.has_runs(),
        "has_data": app.places.has_data(),
        "tasks": kinds,
        "samplers": samplers.collect::<Vec<_>>(),
        "spacings": spacings,
        "limits": {
            "images": limits::MAX_IMAGES,
            "steps": limits::MAX_STEPS,
            "snapshots": limits::MAX_SNAPSHOTS,
            "combinations": limits::MAX_COMBINATIONS,
            "seconds": limits::MAX_JOB_SECONDS,
            "waiting": limits::MAX_WAITING,
            "upload_bytes": limits::MAX_UPLOAD_BYTES,
            "upload_pixels": limits::MAX_UPLOAD_PIXELS,
        },
    });
    Ok(answer::json(StatusCode::OK, &value))
}

async fn models(State(app): State<Arc<App>>) -> Answer {
    let models = apart(move || {
        let models = app.places.models().into_iter().map(|(name, source)| {
            let config = source.config().and_then(|config| {
                let schedule = NoiseSchedule::new(&config.schedule)?;
                Ok((config, schedule.leftover_warning()))
            });
            match config {
                Err(error) => json!({ "name": name, "error": error.to_string() }),
                Ok((config, warning)) => json!({
                    "name": name,
                    "image_size": config.unet.image_size,
                    "parameters": config.unet.parameter_count(),
                    "timesteps": config.schedule.n_timesteps,
                    "schedule": config.schedule.to_string(),
                    "prediction": config.prediction,
                    "warning": warning,
                    "tags": config.tags.tags().iter().map(|tag| {
                        json!({ "tag": tag.tag, "count": tag.count })
                    }).collect::<Vec<_>>(),
                    "sampling": {
                        "steps": config.sampling.steps,
                        "guidance": config.sampling.guide.map(|guide| guide.guidance),
                        "spacing": config.sampling.spacing.unwrap_or_default().name(),
                    },
                    "training": config.training,
                }),
            }
        });
        Ok(models.collect::<Vec<Value>>())
    });
    Ok(answer::json(StatusCode::OK, &json!({ "models": models.await? })))
}
