//! `kao studio`: it listens, gives the bytes of the terminal, and ends in good order.
#![cfg(all(unix, feature = "studio"))]

use crate::fixture::{command, kao, names, workplace};
use kao::render::{Picture, write_png};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that was started as the words say, and its port.
fn start(folder: &Path, arguments: &str) -> (Child, u16) {
    start_with(&mut command(folder, arguments))
}

fn start_with(command: &mut Command) -> (Child, u16) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.rsplit(':').next().and_then(|rest| rest.split('/').next()?.parse().ok());
    (child, port.unwrap_or_else(|| panic!("no address: {line}")))
}

/// Tells the program to end, and waits until it has.
fn stop(mut child: Child, signal: &str) -> (Option<i32>, String) {
    let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    (child.wait().unwrap().code(), words)
}

/// The body of an answer whose status is a good one.
fn ask(port: u16, method: &str, path: &str, body: &str) -> Vec<u8> {
    ask_with(port, method, path, body.as_bytes())
}

fn ask_with(port: u16, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 20"), "{method} {path}: {text}");
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    answer.split_off(at + 4)
}

/// Starts an example of the help, and ends it again.
pub fn serves(folder: &Path, arguments: &str) {
    let words: Vec<&str> = arguments.split(' ').filter(|word| *word != "--open").collect();
    let (child, _) = start(folder, &format!("{} --port 0", words.join(" ")));
    let (code, words) = stop(child, "-TERM");
    assert_eq!(code, Some(0), "kao {arguments}: {words}");
}

#[test]
fn an_address_gives_the_file_of_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (child, port) = start(folder, "studio --port 0");
    let answer = ask(port, "GET", "/api/v1/sample.png?seed=7&steps=3", "");
    let (code, words) = stop(child, "-TERM");
    assert_eq!(code, Some(0), "{words}");
    kao(folder, "sample --count 1 --seed 7 --steps 3 --out face.png").ok();
    assert!(answer == std::fs::read(folder.join("face.png")).unwrap());
}

/// The job of this kind, at its end.
fn job(port: u16, kind: &str, request: &Value) -> Value {
    let body = json!({ "kind": kind, "request": request }).to_string();
    let mut job: Value = serde_json::from_slice(&ask(port, "POST", "/api/v1/jobs", &body)).unwrap();
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    while matches!(job["state"].as_str(), Some("waiting" | "running")) {
        std::thread::sleep(Duration::from_millis(10));
        job = serde_json::from_slice(&ask(port, "GET", &path, "")).unwrap();
    }
    assert_eq!(job["state"], "done", "{job}");
    job
}

#[test]
fn the_command_line_of_a_job_writes_the_file_of_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    kao(folder, "draw --count 2 --size 64 --out faces").ok();
    std::fs::copy(folder.join("faces/face-000000.png"), folder.join("picture.png")).unwrap();
    let mask = Picture::from_rgb(64, 64, [[255; 3], [0; 3]].concat().repeat(64 * 32)).unwrap();
    write_png(folder.join("mask.png"), &mask, &[("Software", "a test")]).unwrap();
    let (child, port) = start(folder, "studio --port 0");
    let send = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let answer = ask_with(port, "POST", "/api/v1/uploads", &bytes);
        serde_json::from_slice::<Value>(&answer).unwrap()["id"].clone()
    };
    let (picture, mask) = (send("picture.png"), send("mask.png"));
    let noisy = json!({ "name": "ddim", "eta": 0.5 });
    for (kind, request) in [
        ("sample", json!({ "count": 1, "steps": 3 })),
        ("sample", json!({ "count": 5, "steps": 2, "seed": 7, "columns": 3 })),
        ("sample", json!({ "first": 4, "count": 2, "steps": 2, "sampler": noisy, "clip": true })),
        ("sample", json!({ "pick": [9], "steps": 2, "sampler": "euler" })),
        ("sample", json!({ "count": 2, "steps": 3, "spacing": "quadratic" })),
        ("interpolate", json!({ "between": [3, 17], "frames": 3, "steps": 2 })),
        ("interpolate", json!({ "between": [3, 17, 42], "frames": 3, "steps": 2 })),
        ("interpolate", json!({ "images": [1, 2, 3, 4], "plane": true, "frames": 3, "steps": 2 })),
        (
            "interpolate",
            json!({ "between": [1, 2, 3, 4], "plane": true, "frames": 9, "pick": [40], "steps": 2 }),
        ),
        ("edit", json!({ "picture": picture, "count": 3, "steps": 4, "strength": 0.5 })),
        (
            "edit",
            json!({ "picture": picture, "count": 9, "steps": 2, "seed": 3, "sampler": noisy }),
        ),
        ("edit", json!({ "picture": picture, "mask": mask, "count": 1, "steps": 2 })),
    ] {
        let job = job(port, kind, &request);
        let command = job["command"].as_str().unwrap().strip_prefix("kao ").unwrap();
        kao(folder, command).ok();
        let words: Vec<&str> = command.split(' ').collect();
        let out = words[1 + words.iter().position(|word| *word == "--out").unwrap()];
        let path = format!("/api/v1/jobs/{}/images/grid.png", job["id"].as_str().unwrap());
        let served = ask(port, "GET", &path, "");
        assert!(served == std::fs::read(folder.join(out)).unwrap(), "kao {command}");
    }
    let request = json!({ "samplers": ["ddim", "unipc"], "steps": [2, 3], "count": 3, "seed": 4 });
    let job = job(port, "compare", &request);
    let command = job["command"].as_str().unwrap().strip_prefix("kao ").unwrap();
    kao(folder, command).ok();
    let sets = job["result"]["sets"].as_array().unwrap();
    assert_eq!(sets.len(), 4);
    for name in sets.iter().map(|set| set["name"].as_str().unwrap()) {
        let path = format!("/api/v1/jobs/{}/{name}/grid.png", job["id"].as_str().unwrap());
        let served = ask(port, "GET", &path, "");
        let file = folder.join(format!("compared/grid-{name}.png"));
        assert!(served == std::fs::read(file).unwrap(), "kao {command}: {name}");
    }
    let (code, words) = stop(child, "-TERM");
    assert_eq!(code, Some(0), "{words}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_page_is_opened_in_the_browser() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let browser = folder.join("xdg-open");
    std::fs::write(&browser, "#!/bin/sh\nprintf %s \"$1\" > opened.new\nmv opened.new opened\n")
        .unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut open = command(folder, "studio --port 0 --open");
    let (child, port) = start_with(open.env("PATH", path));
    let started = Instant::now();
    let opened = loop {
        match std::fs::read_to_string(folder.join("opened")) {
            Ok(opened) => break opened,
            Err(_) => assert!(started.elapsed() < Duration::from_secs(30), "nothing is opened"),
        }
    };
    assert_eq!(opened, format!("http://127.0.0.1:{port}/"));
    stop(child, "-TERM");
}

#[test]
fn the_end_saves_a_training() {
    let folder = workplace();
    let folder = folder.path();
    std::fs::create_dir(folder.join("data")).unwrap();
    std::fs::rename(folder.join("faces"), folder.join("data/faces")).unwrap();
    let (child, port) = start(folder, "studio --port 0 --runs runs --data data");
    let request = r#"{"kind":"train","request":{"name":"first","data":"faces","preset":"tiny",
        "batch_size":4,"log_every":1,"sample_count":0}}"#;
    ask(port, "POST", "/api/v1/jobs", request);
    let log = folder.join("runs/first/logs/log.jsonl");
    let started = Instant::now();
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("gradient_norm") {
        assert!(started.elapsed() < Duration::from_secs(300), "the run does not move");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, words) = stop(child, "-TERM");
    assert_eq!(code, Some(0), "{words}");
    assert!(!names(&folder.join("runs/first/checkpoints")).is_empty());
    // The terminal goes on with it.
    kao(folder, "train --resume --dry-run --out runs/first").ok();
}

#[test]
fn what_cannot_be_served_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (arguments, expected) in [
        ("studio --model a=nowhere", "nowhere"),
        ("studio --model ../x.safetensors=", "NAME=PATH"),
        ("studio --data nowhere", "nowhere"),
        ("studio --token short", "--token"),
        ("studio --host no.such.host.invalid", "cannot listen"),
        ("studio --port 70000", "--port"),
        ("studio --port 0 --device abacus", "--device"),
        #[cfg(not(feature = "cuda"))]
        ("studio --port 0 --device cuda", "--device: cuda found; this build of Kao was compiled"),
    ] {
        let ran = kao(folder, arguments);
        assert!(matches!(ran.code, Some(1 | 2)), "{arguments}: {ran:?}");
        assert!(ran.err.contains(expected), "{arguments}: {ran:?}");
        ran.error();
    }
    let (child, port) = start(folder, "studio --port 0");
    let ran = kao(folder, &format!("studio --port {port}"));
    assert!(ran.error().contains("--port: cannot listen"), "{ran:?}");
    stop(child, "-TERM");
}
