//! A server with a model, a folder of pictures and a folder of runs.

use kao::control::Unattended;
use kao::requests::{Draw, Prepare, Request};
use kao_studio::{Options, Studio};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tempfile::TempDir;

pub struct Server {
    pub host: String,
    folder: TempDir,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Server::with_faces(120, 32)
    }

    /// With so many drawn faces of this size.
    pub fn with_faces(count: u64, size: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("data/faces");
        Draw { count, out, size, seed: 1, ..Draw::default() }.run(&Unattended).unwrap();
        a_prepared_folder(folder.path());
        let path = |name: &str| Some(folder.path().join(name));
        let options = Options {
            host: "127.0.0.1".to_owned(),
            runs: path("runs"),
            data: path("data"),
            ..Options::default()
        };
        let studio = Studio::bind(options).unwrap();
        let host = studio.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stops = Arc::new(AtomicBool::new(false));
        let flag = stops.clone();
        let thread = std::thread::spawn(move || {
            studio.serve(&|| flag.load(Ordering::SeqCst)).unwrap();
        });
        Server { host, folder, stops, thread: Some(thread) }
    }

    pub fn url(&self, page: &str) -> String {
        format!("http://{}/#/{page}", self.host)
    }
}

/// Pictures as `kao prepare` leaves them: some, one that is there twice, one that is broken.
fn a_prepared_folder(folder: &Path) {
    let raw_dir = folder.join("raw");
    let draw = Draw { count: 12, out: raw_dir.clone(), size: 48, seed: 2, ..Draw::default() };
    draw.run(&Unattended).unwrap();
    let one = std::fs::read(raw_dir.join("face-000000.png")).unwrap();
    std::fs::write(raw_dir.join("twice.png"), &one).unwrap();
    std::fs::write(raw_dir.join("broken.png"), &one[..one.len() / 2]).unwrap();
    let out_dir = folder.join("data/prepared");
    Prepare { raw_dir, out_dir, size: 32, ..Prepare::default() }.run(&Unattended).unwrap();
}

impl Server {
    /// A picture that somebody may choose.
    pub fn picture(&self) -> PathBuf {
        self.folder.path().join("data/faces/face-000000.png")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}
