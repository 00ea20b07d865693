//! Jobs: made, watched, cancelled, and what they leave.

use super::routes::Routes;
use super::{Answer, App, apart};
use crate::http::problem::Problem;
use crate::http::stream::{First, Parts, first_of};
use crate::http::{answer, query};
use crate::jobs::{Job, State as JobState, Work};
use crate::limits;
use crate::openapi::{Body as Described, Operation};
use crate::tasks::{self, Context};
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use kao::device::DeviceKind;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, channel};

/// Parts of a stream of events that wait for a slow reader.
const EVENTS_AHEAD: usize = 4;
/// After so long without an event, a line shows that the connection is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

pub fn add(routes: &mut Routes) {
    routes.add(
        Operation::post("/api/v1/jobs", "Ask for work: a kind, and a request of that kind")
            .takes(Described::Schema("NewJob"))
            .answers_with(202, Described::Schema("Job"))
            .fails_with(&[400, 413, 422, 429]),
        create,
    );
    routes.add(
        Operation::get(
            "/api/v1/jobs",
            "All jobs that are kept, the newest first, without their results",
        )
        .answers(Described::Schema("Jobs")),
        list,
    );
    routes.add(
        Operation::get("/api/v1/jobs/{id}", "How a job stands")
            .answers(Described::Schema("Job"))
            .fails_with(&[404]),
        show,
    );
    routes.add(
        Operation::delete("/api/v1/jobs/{id}", "Cancel a job; training saves first")
            .answers(Described::Schema("Job"))
            .fails_with(&[404]),
        cancel,
    );
    routes.add(
        Operation::get("/api/v1/jobs/{id}/events", "The job as it goes on, as server-sent events: job, progress, preview (images that are not finished), result (what is there before the end), message")
            .parameter("cancel", "boolean", "Cancel the job when this connection closes.")
            .answers(Described::Events)
            .fails_with(&[404]),
        events,
    );
    routes.add(
        Operation::get(
            "/api/v1/jobs/{id}/{set}/{file}",
            "A result: grid.png, or image k of the set as k.png",
        )
        .answers(Described::Png)
        .fails_with(&[404, 409]),
        result,
    );
    let sample = tasks::KINDS[0].fields;
    let operation = Operation::get("/api/v1/sample.png", "Samples, and answers with the picture")
        .fields(sample)
        .parameter("eta", "number", "Noise of the sampler, 0 to 1; alone it means DDIM.")
        .answers(Described::Png)
        .fails_with(&[422, 429]);
    routes.add(operation, sample_png);
}

/// Checks what is asked for and puts it into the queue.
async fn enqueue(
    app: &Arc<App>,
    kind: String,
    request: Map<String, Value>,
) -> Result<Arc<Job>, Problem> {
    let names = app.clone();
    let (work, seconds) = apart(move || {
        let upload = |id: &str| names.uploads.path(id);
        let context = Context { places: &names.places, upload: &upload, device: names.device };
        let work = tasks::kind(&kind)?.work(request, &context)?;
        let seconds = estimate(&*work, names.device)?;
        Ok((work, seconds))
    })
    .await?;
    app.queue.add(work, seconds)
}

/// Seconds that work takes on a CPU. How fast a GPU is nobody knows beforehand.
fn estimate(work: &dyn Work, device: DeviceKind) -> Result<f64, Problem> {
    let seconds = work.estimate()?.seconds();
    let is_bounded = !work.is_long() && device == DeviceKind::Cpu;
    if is_bounded && seconds > limits::MAX_JOB_SECONDS {
        let message = format!(
            "this would take about {}; at most {} are allowed",
            kao::quantities::estimate(seconds),
            kao::quantities::estimate(limits::MAX_JOB_SECONDS)
        );
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-long", message);
        return Err(problem.with_hint("take fewer images or fewer steps"));
    }
    Ok(seconds)
}

async fn create(State(app): State<Arc<App>>, request: Request) -> Answer {
    let mut given = app.bodies.read_object(request.into_body()).await?;
    let kind = match given.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => return Err(Problem::invalid("kind", "expected the name of a kind of task")),
    };
    let request = match given.remove("request") {
        Some(Value::Object(request)) => request,
        None => Map::new(),
        Some(_) => return Err(Problem::invalid("request", "expected an object")),
    };
    if let Some(other) = given.keys().next() {
        return Err(Problem::invalid(other, "no such field; expected kind, request"));
    }
    let job = enqueue(&app, kind, request).await?;
    let mut answer = answer::json(StatusCode::ACCEPTED, &job.to_json());
    if let Ok(at) = HeaderValue::from_str(&format!("/api/v1/jobs/{}", job.id)) {
        answer.headers_mut().insert(header::LOCATION, at);
    }
    Ok(answer)
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    let jobs = app.queue.jobs().into_iter().map(|job| {
        let mut job = job.to_json();
        // Whoever wants the results asks for the job.
        job["result"] = Value::Null;
        job
    });
    Ok(answer::json(StatusCode::OK, &json!({ "jobs": jobs.collect::<Vec<_>>() })))
}

fn found(app: &App, id: &str) -> Result<Arc<Job>, Problem> {
    let job = id.parse().ok().and_then(|id| app.queue.job(id));
    job.ok_or_else(|| {
        Problem::not_found("job").with_hint("the oldest jobs are forgotten, with their results")
    })
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    Ok(answer::json(StatusCode::OK, &found(&app, &id)?.to_json()))
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let job = found(&app, &id)?;
    app.queue.cancel(&job);
    Ok(answer::json(StatusCode::OK, &job.to_json()))
}

async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let job = found(&app, &id)?;
    let pairs = query::pairs(query.as_deref())?;
    let cancels = query::value(&pairs, "cancel").is_some_and(|value| value != "false");
    let (sender, receiver) = channel(EVENTS_AHEAD);
    // Counted before the answer is on its way, so that no preview is missed.
    let listening = job.listen();
    tokio::spawn(async move {
        let is_whole = tell(&job, &sender).await;
        drop(listening);
        if !is_whole && cancels && job.is_unwatched() {
            app.queue.cancel(&job);
        }
    });
    let mut answer = Response::new(Body::new(Parts(receiver)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// Sends what becomes known of a job until its end. False when nobody reads any more.
///
/// What is sent is the newest state: whoever reads slowly sees fewer steps, and nothing piles up.
async fn tell(job: &Job, sender: &Sender<Bytes>) -> bool {
    let mut changes = job.changes();
    let (mut state, mut progress) = (None, Value::Null);
    let (mut n_messages, mut n_previews) = (0, 0);
    let (mut n_parts, mut n_sets) = (0, 0);
    loop {
        changes.borrow_and_update();
        let now = job.snapshot();
        let mut events = String::new();
        let mut event = |name: &str, data: &Value| {
            events.push_str(&format!("event: {name}\ndata: {data}\n\n"));
        };
        let n_new = now.n_messages.saturating_sub(n_messages).min(now.messages.len());
        for message in &now.messages[now.messages.len() - n_new..] {
            event("message", &json!({ "text": message }));
        }
        n_messages = now.n_messages;
        if now.progress != progress {
            event("progress", &now.progress);
            progress = now.progress;
        }
        if let Some(output) = now.output.as_ref().filter(|_| now.n_parts != n_parts) {
            event("result", &output.to_json_from(n_sets));
            (n_parts, n_sets) = (now.n_parts, output.sets.len());
        }
        if let Some(preview) = now.preview.filter(|_| now.n_previews != n_previews) {
            let mut preview = preview.to_json();
            preview["set"] = now.output.as_ref().map_or(0, |output| output.sets.len()).into();
            event("preview", &preview);
            n_previews = now.n_previews;
        }
        if state != Some((now.state, now.n_before)) {
            event("job", &job.to_json());
            state = Some((now.state, now.n_before));
        }
        if !events.is_empty() && sender.send(events.into()).await.is_err() {
            return false;
        }
        if now.state.is_final() {
            return true;
        }
        let changed = tokio::time::timeout(SIGN_OF_LIFE, changes.changed());
        match first_of(changed, sender.closed()).await {
            First::One(Ok(_)) => {}
            First::One(Err(_)) => {
                if sender.send(Bytes::from_static(b":\n\n")).await.is_err() {
                    return false;
                }
            }
            First::Other(()) => return false,
        }
    }
}

async fn result(
    State(app): State<Arc<App>>,
    Path((id, set, file)): Path<(String, String, String)>,
) -> Answer {
    let job = found(&app, &id)?;
    let output = job.output().ok_or_else(|| {
        let message = format!("the job is {}, it has no results", job.state().name());
        Problem::new(StatusCode::CONFLICT, "not-done", message)
    })?;
    let bytes = apart(move || {
        let none = || Problem::not_found("picture");
        let set = output.set(&set).ok_or_else(none)?;
        if file == "grid.png" {
            return Ok(set.grid_png()?);
        }
        let index = file.strip_suffix(".png").and_then(|index| index.parse().ok());
        Ok(index.and_then(|index| set.image_png(index)).ok_or_else(none)??)
    });
    Ok(answer::png(bytes.await?))
}

/// Cancels a job when whoever waits for it has gone.
struct Awaited<'a>(&'a Arc<App>, &'a Arc<Job>);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.1.state().is_final() {
            self.0.queue.cancel(self.1);
        }
    }
}

async fn sample_png(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let kind = &tasks::KINDS[0];
    let mut given = tasks::from_query(kind.fields, query::pairs(query.as_deref())?)?;
    let says_which = ["rows", "columns_of", "pick"].iter().any(|field| given.contains_key(*field));
    if !says_which {
        given.entry("count").or_insert(1.into());
    }
    let job = enqueue(&app, kind.name.to_owned(), given).await?;
    let awaited = Awaited(&app, &job);
    let mut changes = job.changes();
    while !job.state().is_final() {
        if changes.changed().await.is_err() {
            break;
        }
    }
    drop(awaited);
    let snapshot = job.snapshot();
    match (snapshot.state, snapshot.output, snapshot.problem) {
        (JobState::Done, Some(output), _) => {
            let bytes = apart(move || Ok(output.sets[0].grid_png()?));
            Ok(answer::png(bytes.await?))
        }
        (_, _, Some(problem)) => Err(problem),
        _ => Err(Problem::new(StatusCode::CONFLICT, "cancelled", "the job was cancelled")),
    }
}
