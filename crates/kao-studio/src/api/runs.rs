//! Runs of training: how they stand, their losses, their sample grids.

use super::routes::Routes;
use super::{Answer, App, apart};
use crate::http::answer;
use crate::http::problem::Problem;
use crate::openapi::{Body, Operation};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use kao::files::read_regular;
use kao::train::summary::Summary;
use kao::train::{CONFIG_FILE, StepReport, TrainConfig};
use serde_json::{Value, json};
use std::path::Path as FilePath;
use std::sync::Arc;

/// Points of a curve that are sent.
const MAX_POINTS: usize = 600;
/// The largest sample grid that is sent.
const MAX_GRID_BYTES: u64 = 64 << 20;

pub fn add(routes: &mut Routes) {
    routes.add(
        Operation::get("/api/v1/runs", "The runs, by name").answers(Body::Schema("Runs")),
        list,
    );
    routes.add(
        Operation::get("/api/v1/runs/{run}", "How a run stands, and its losses")
            .answers(Body::Schema("Run"))
            .fails_with(&[404]),
        show,
    );
    routes.add(
        Operation::get("/api/v1/runs/{run}/samples/{step}", "A sample grid, as STEP.png")
            .answers(Body::Png)
            .fails_with(&[404]),
        sample,
    );
}

/// What a list says of a run.
fn outline(name: &str, summary: &Summary) -> Value {
    json!({
        "name": name,
        "running": summary.running,
        "step": summary.step,
        "total_steps": summary.total_steps,
        "epochs": summary.epochs,
        "validation_loss": summary.last_validation.as_ref().map(|at| at.validation_loss),
        "best_validation_loss": summary.best_validation.as_ref().map(|at| at.validation_loss),
        "images_per_second": summary.images_per_second,
        "seconds_left": summary.seconds_left,
        "has_checkpoint": summary.n_checkpoints > 0,
        "has_model": summary.model.is_some(),
        "newest_sample": summary.sample.as_deref().and_then(step_of),
    })
}

/// The step of a sample grid, from the name of its file.
fn step_of(path: &FilePath) -> Option<u64> {
    let name = path.file_stem()?.to_str()?;
    name.strip_prefix("step-")?.parse().ok()
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    let runs = apart(move || {
        let runs = app.places.runs().into_iter().map(|(name, path)| match Summary::of(path) {
            Ok(summary) => outline(&name, &summary),
            Err(error) => json!({ "name": name, "error": error.to_string() }),
        });
        Ok(runs.collect::<Vec<Value>>())
    });
    Ok(answer::json(StatusCode::OK, &json!({ "runs": runs.await? })))
}

async fn show(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer {
    let value = apart(move || {
        let path = app.places.run(&run)?;
        let summary = Summary::of(&path)?;
        let mut value = outline(&run, &summary);
        let config = TrainConfig::read(&path.join(CONFIG_FILE)).ok();
        let training = thinned(&summary.history.training);
        let curve = |of: fn(&StepReport) -> f64| {
            training.iter().map(|point| json!([point.step, of(point)])).collect::<Vec<_>>()
        };
        value["trend"] = json!(summary.trend);
        value["training_seconds"] = json!(summary.training_seconds);
        value["problems"] = json!(summary.problems);
        value["loss"] = json!(curve(|point| point.loss));
        value["learning_rate"] = json!(curve(|point| point.learning_rate));
        value["images_per_second_curve"] = json!(curve(|point| point.images_per_second));
        value["validations"] = json!(summary.history.validations);
        value["samples"] = json!(samples(&summary));
        value["config"] = config.map_or(Value::Null, |config| {
            json!({
                "steps": config.steps,
                "batch_size": config.batch_size,
                "learning_rate": config.learning_rate,
                "image_size": config.model.image_size,
                "parameters": config.model.parameter_count(),
                "tags": config.tags.len(),
                "seed": config.seed,
                "save_every": config.save_every,
            })
        });
        Ok(value)
    });
    Ok(answer::json(StatusCode::OK, &value.await?))
}

/// At most [`MAX_POINTS`] points, the last one among them.
fn thinned(points: &[StepReport]) -> Vec<StepReport> {
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let mut some: Vec<StepReport> = points.iter().step_by(every).copied().collect();
    if let Some(last) = points.last()
        && some.last().map(|point| point.step) != Some(last.step)
    {
        some.push(*last);
    }
    some
}

/// The steps of which there are sample grids.
fn samples(summary: &Summary) -> Vec<u64> {
    let folder = summary.sample.as_ref().and_then(|newest| newest.parent());
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut steps: Vec<u64> = paths.filter_map(|path| step_of(&path)).collect();
    steps.sort_unstable();
    steps
}

async fn sample(State(app): State<Arc<App>>, Path((run, step)): Path<(String, String)>) -> Answer {
    let bytes = apart(move || {
        let none = || Problem::not_found("sample grid");
        let step: u64 = step.strip_suffix(".png").and_then(|s| s.parse().ok()).ok_or_else(none)?;
        let path = app.places.run(&run)?;
        let newest = Summary::of(&path)?.sample.ok_or_else(none)?;
        let file = newest.with_file_name(format!("step-{step:08}.png"));
        if !file.is_file() {
            return Err(none());
        }
        Ok(read_regular(&file, MAX_GRID_BYTES)?)
    });
    // A run of the same name may take this one's place, so browsers do not keep its pictures.
    Ok(answer::png(bytes.await?))
}
