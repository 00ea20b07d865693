//! The server: connections, and how it begins and ends.

use crate::api::{self, App};
use crate::connections::{Connection, most_connections};
use crate::guard::Guard;
use crate::limits;
use crate::metrics::Metrics;
use crate::patience::Patient;
use crate::places::Places;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kao::device::DeviceKind;
use kao::{Error, Result};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// How often the server looks whether it should end.
const PAUSE: Duration = Duration::from_millis(50);
/// How long listeners have to learn how the last job ended.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// What a connection holds of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Threads for what waits for the disk.
const BLOCKING_THREADS: usize = 4;

/// What `kao studio` is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Models by name.
    pub models: Vec<(String, PathBuf)>,
    /// The folder of runs.
    pub runs: Option<PathBuf>,
    /// The folder of folders of pictures.
    pub data: Option<PathBuf>,
    /// The address or name to listen on.
    pub host: String,
    /// The port; 0 takes any that is free.
    pub port: u16,
    /// What requests have to show; one is made where the host is not this machine alone.
    pub token: Option<String>,
    /// The device that networks run on.
    pub device: DeviceKind,
}

/// A server that listens, and serves when it is told to.
pub struct Studio {
    app: Arc<App>,
    listener: TcpListener,
    url: String,
}

impl Studio {
    /// Listens.
    ///
    /// # Errors
    /// When a model, a folder or the token is no good, the port is taken, or there is no such device.
    pub fn bind(options: Options) -> Result<Self> {
        let Options { models, runs, data, host, port, token, device } = options;
        // Nobody should learn from a job that has waited that there is no such device.
        device.open()?;
        let places = Places::new(models, runs, data)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let listener = TcpListener::bind((bare, port)).map_err(|error| {
            let problem = format!("cannot listen on {host}, port {port}: {error}");
            let hint = "name another port; with 0 any that is free is taken";
            Error::invalid("port", problem).with_hint(hint)
        })?;
        let failed = |error| Error::io("open", "the connection", error);
        let port = listener.local_addr().map_err(failed)?.port();
        listener.set_nonblocking(true).map_err(failed)?;
        let guard = Guard::new(&host, port, token)?;
        let shown = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let token = guard.token().map(|token| format!("?token={token}")).unwrap_or_default();
        let url = format!("http://{shown}:{port}/{token}");
        let app = App::new(places, guard, device).map_err(failed)?;
        Ok(Studio { app: Arc::new(app), listener, url })
    }

    /// The address to open, with the token where there is one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Serves until `stop` says so. Then jobs that wait are cancelled, the one that runs comes to
    /// its end or saves, and the server ends.
    ///
    /// # Errors
    /// When the system gives no threads or no connections.
    pub fn serve(self, stop: &dyn Fn() -> bool) -> Result<()> {
        let failed = |error| Error::io("serve", "connections", error);
        let Studio { app, listener, .. } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .map_err(failed)?;
        let router = api::router(app.clone());
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            let accepting = tokio::spawn(accept(listener, router, app.clone()));
            while !stop() {
                tokio::time::sleep(PAUSE).await;
            }
            app.queue.close();
            while !app.queue.is_at_its_end() {
                tokio::time::sleep(PAUSE).await;
            }
            accepting.abort();
            tokio::time::sleep(LAST_WORDS).await;
            Ok::<(), Error>(())
        })?;
        runtime.shutdown_timeout(LAST_WORDS);
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router, app: Arc<App>) {
    let most = most_connections();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The system has no more files to give: those that are silent give theirs back.
            app.connections.make_room();
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        Metrics::add(&app.metrics.connections, 1);
        if app.connections.n_open() >= most && !app.connections.make_room() {
            continue;
        }
        let _ = stream.set_nodelay(true);
        let id = app.connections.next_id();
        let has_asked = Arc::new(AtomicBool::new(false));
        let task =
            tokio::spawn(serve_one(stream, router.clone(), app.clone(), id, has_asked.clone()));
        let handle = task.abort_handle();
        // On this one thread, the task has not begun yet.
        app.connections.add(id, Connection { handle, has_asked });
    }
}

/// Takes a connection off the list, however it ends.
struct Open(Arc<App>, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.remove(self.1);
    }
}

async fn serve_one(
    stream: TcpStream,
    router: Router,
    app: Arc<App>,
    id: u64,
    has_asked: Arc<AtomicBool>,
) {
    let _open = Open(app, id);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        has_asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    // Errors are those of clients: they leave, or speak something else.
    let stream = Patient::new(stream, limits::TAKING_TIME);
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
