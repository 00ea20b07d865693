//! A server on a free port, and a client that writes what it is told.

use kao::control::Unattended;
use kao::requests::{Draw, Request};
use kao_studio::{Options, Studio};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server that ends with the test.
pub struct Server {
    pub port: u16,
    pub url: String,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// With the built-in model, on this machine alone.
    pub fn start() -> Self {
        Server::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let host =
            if options.host.is_empty() { "127.0.0.1".to_owned() } else { options.host.clone() };
        let studio = Studio::bind(Options { host, port: 0, ..options }).unwrap();
        let url = studio.url().to_owned();
        let after = url.rsplit(':').next().unwrap();
        let port = after.split('/').next().unwrap().parse().unwrap();
        let stops = Arc::new(AtomicBool::new(false));
        let flag = stops.clone();
        let thread = std::thread::spawn(move || {
            studio.serve(&|| flag.load(Ordering::SeqCst)).unwrap();
        });
        Server { port, url, stops, thread: Some(thread) }
    }

    /// Tells the server to end, and waits until it has.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends `bytes` and returns all that comes back.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // A server that has heard enough does not read the rest.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        Answer::parse(&self.raw(&[head.as_bytes(), body].concat()))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, value: &Value) -> Answer {
        self.ask(
            "POST",
            path,
            &[("Content-Type", "application/json")],
            value.to_string().as_bytes(),
        )
    }

    /// With a folder of pictures, `faces`, and a folder of runs. The folder ends with its owner.
    pub fn with_data() -> (Self, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("data/faces");
        let draw = Draw { count: 24, out, size: 32, seed: 1, ..Draw::default() };
        draw.run(&Unattended).unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let server =
            Server::with(Options { runs: path("runs"), data: path("data"), ..Options::default() });
        (server, folder)
    }

    /// Sends a picture, and returns its id.
    pub fn send(&self, picture: &[u8]) -> String {
        let answer = self.ask("POST", "/api/v1/uploads", &[], picture);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Makes a job and waits for its end.
    pub fn job(&self, kind: &str, request: Value) -> Value {
        let answer =
            self.post("/api/v1/jobs", &serde_json::json!({ "kind": kind, "request": request }));
        assert_eq!(answer.status, 202, "{}", answer.text());
        self.end_of(answer.json()["id"].as_str().unwrap())
    }

    pub fn end_of(&self, id: &str) -> Value {
        self.wait_for(id, |job| !matches!(job["state"].as_str(), Some("waiting" | "running")))
    }

    pub fn wait_for(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let job = self.get(&format!("/api/v1/jobs/{id}")).json();
            if is_so(&job) {
                return job;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "{job}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
            body = unchunked(&body);
        }
        Answer { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    /// The field that an error is about.
    pub fn field(&self) -> Option<String> {
        self.json()["error"]["field"].as_str().map(str::to_owned)
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let start = end + 2;
        if size == 0 || bytes.len() < start + size {
            break;
        }
        whole.extend_from_slice(&bytes[start..start + size]);
        bytes = &bytes[(start + size + 2).min(bytes.len())..];
    }
    whole
}
