//! The HTTP interface: what is at which address, and its description.
//!
//! Every route is registered together with its description, so the OpenAPI document cannot say
//! anything else than what is there.

mod about;
mod data;
mod jobs;
mod routes;
mod runs;
mod uploads;

use crate::connections::Connections;
use crate::guard::{self, Guard};
use crate::http::answer;
use crate::http::body::Bodies;
use crate::http::problem::Problem;
use crate::jobs::Queue;
use crate::metrics::{Metrics, Now};
use crate::openapi::{self, Operation};
use crate::pages;
use crate::places::Places;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kao::device::DeviceKind;
use routes::Routes;
use std::sync::Arc;

/// What the handlers work with.
pub struct App {
    pub places: Places,
    pub device: DeviceKind,
    pub bodies: Bodies,
    pub guard: Guard,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    pub connections: Connections,
    pub uploads: uploads::Uploads,
    pub listing: data::LastListing,
}

impl App {
    pub fn new(places: Places, guard: Guard, device: DeviceKind) -> std::io::Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let queue = Queue::new(metrics.clone(), device);
        let first = places.model(None).map(|(_, source)| source).unwrap_or_default();
        queue.start(first)?;
        Ok(App {
            places,
            device,
            bodies: Bodies::default(),
            guard,
            queue,
            metrics,
            connections: Connections::default(),
            uploads: uploads::Uploads::default(),
            listing: data::LastListing::default(),
        })
    }
}

/// An answer, or why there is none.
type Answer = Result<Response, Problem>;

/// Calls `work`, which waits for the disk, without keeping other requests waiting.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let message = "the request ended in a panic, which is a fault of the program";
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "panic", message))
    })
}

/// All routes below `/api/v1`, with their descriptions.
fn interface() -> Routes {
    let mut routes = Routes::default();
    about::add(&mut routes);
    jobs::add(&mut routes);
    runs::add(&mut routes);
    data::add(&mut routes);
    uploads::add(&mut routes);
    routes
}

/// The operations of the interface.
pub fn operations() -> Vec<Operation> {
    interface().into_parts().1
}

/// Everything that the server answers.
pub fn router(app: Arc<App>) -> Router {
    let (router, _) = interface().into_parts();
    router
        .route("/", get(|headers: HeaderMap| async move { pages::index(&headers) }))
        .route("/static/{name}", get(page_file))
        .route("/api/v1/openapi.json", get(document))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::not_found("page") })
        .method_not_allowed_fallback(|| async {
            let message = "this address does not take that method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", message)
        })
        .layer(middleware::from_fn_with_state(app.clone(), guarded))
        .with_state(app)
}

async fn guarded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut answer = match app.guard.check(&request) {
        Ok(None) => next.run(request).await,
        Ok(Some(answer)) => answer,
        Err(problem) => problem.into_response(),
    };
    app.metrics.answered(answer.status().as_u16());
    guard::protect(answer.headers_mut());
    answer
}

async fn page_file(Path(name): Path<String>, headers: HeaderMap) -> Answer {
    pages::file(&name, &headers).ok_or_else(|| Problem::not_found("page"))
}

async fn document() -> Response {
    answer::json(StatusCode::OK, &openapi::document(&operations()))
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (waiting, running, kept_jobs, kept_bytes) = app.queue.counts();
    let open_connections = app.connections.n_open();
    let now = Now { waiting, running, kept_jobs, kept_bytes, open_connections };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.to_text(&now))
}
