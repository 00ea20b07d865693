//! Fetching from a server on this machine, a good one and bad ones.

use super::*;
use crate::control::Unattended;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server does with a request: status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);
/// What a bad server makes of a good one's answer.
type Change = Box<dyn Fn(&Asked, Answer) -> Answer + Send + Sync>;
type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A request as the server sees it.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    headers: BTreeMap<String, String>,
}

impl Asked {
    fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.strip_suffix('-')).map_or(0, |from| from.parse().unwrap())
    }
}

/// A server on this machine.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn new(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, handler): (_, Arc<Handler>) = (Arc::clone(&asked), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &*handler, &seen);
            }
        });
        Server { address, asked }
    }

    fn hub(&self, cache: &Path) -> Hub {
        Hub {
            endpoint: self.address.clone(),
            cache: cache.to_path_buf(),
            token: Some("secret".to_owned()),
            offline: false,
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(stream: TcpStream, handler: &Handler, seen: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let asked = Asked { path, headers };
    seen.lock().unwrap().push(asked.clone());
    let (status, headers, body) = handler(&asked);
    let mut stream = reader.into_inner();
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&body);
}

/// A client that speaks to servers on this machine.
struct Plain;

impl Transport for Plain {
    fn get(&self, request: &Request<'_>) -> Result<Response, String> {
        let rest = request.url.strip_prefix("http://").ok_or("not http")?;
        let (host, path) = rest.split_once('/').ok_or("no path")?;
        let mut stream = TcpStream::connect(host).map_err(|error| error.to_string())?;
        let mut head = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n");
        if let Some(token) = request.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if request.from > 0 {
            head += &format!("Range: bytes={}-\r\n", request.from);
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).map_err(|error| error.to_string())?;
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).map_err(|error| error.to_string())?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: Vec<_> =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(u64::MAX, |(_, value)| value.parse().unwrap());
        let status = status.parse().map_err(|_| "no status")?;
        Ok(Response { status, headers, body: Box::new(reader.take(length)) })
    }
}

/// The files of a repository.
fn files() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("model_index.json", b"{}".to_vec()),
        ("unet/config.json", b"{\"a\": 1}".to_vec()),
        ("unet/diffusion_pytorch_model.safetensors", (0..200_000u32).map(|i| i as u8).collect()),
        ("scheduler/scheduler_config.json", b"{\"b\": 2}".to_vec()),
        ("README.md", b"words".to_vec()),
        ("../../outside", b"evil".to_vec()),
    ])
}

fn list(files: &BTreeMap<&'static str, Vec<u8>>) -> Answer {
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, bytes)| serde_json::json!({ "rfilename": name, "size": bytes.len() }))
        .collect();
    let json = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
    (200, vec![], json.to_string().into_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a good server answers.
fn good(asked: &Asked) -> Answer {
    let files = files();
    if asked.path.starts_with("/api/models/someone/cats/revision/main") {
        return list(&files);
    }
    let place = format!("/someone/cats/resolve/{COMMIT}/");
    let name = asked.path.strip_prefix(place.as_str()).or(asked.path.strip_prefix("/cdn/"));
    let Some(bytes) = name.and_then(|name| files.get(name)) else {
        return (404, vec![], vec![]);
    };
    let is_large = bytes.len() > 1000;
    if is_large && !asked.path.starts_with("/cdn/") {
        let headers = vec![
            ("Location", format!("/cdn/{}", name.unwrap())),
            ("X-Linked-Etag", format!("\"{}\"", sha256(bytes))),
            ("X-Linked-Size", bytes.len().to_string()),
        ];
        return (302, headers, vec![]);
    }
    let from = asked.from();
    if from >= bytes.len() {
        return (416, vec![], vec![]);
    }
    let part = bytes[from..].to_vec();
    let etag = format!("\"{}\"", &sha256(bytes)[..40]);
    let mut headers = vec![("ETag", etag), ("Content-Length", part.len().to_string())];
    if from > 0 {
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        headers.push(("Content-Range", range));
    }
    (if from > 0 { 206 } else { 200 }, headers, part)
}

fn cats() -> Repository {
    Repository::of(Path::new("hf:someone/cats")).unwrap().unwrap()
}

fn fetched(server: &Server, cache: &Path) -> Result<PathBuf> {
    server.hub(cache).fetch_through(&Plain, &cats(), &Unattended)
}

#[test]
fn names_of_repositories() {
    let parse = |text: &str| Repository::of(Path::new(text)).unwrap();
    let one = parse("hf:google/ddpm-cifar10-32").unwrap();
    assert_eq!(one.to_string(), "hf:google/ddpm-cifar10-32");
    assert_eq!(parse("hf:a/b@refs/pr/1").unwrap().to_string(), "hf:a/b@refs/pr/1");
    for text in [
        "hf:",
        "hf:a",
        "hf:../b",
        "hf:a/..",
        "hf:a/b/c",
        "hf:a/b@",
        "hf:a/b@../x",
        "hf:a b/c",
        "hf:a--b/c",
        "hf:.a/b",
        "hf:a/b@x y",
        "hf:a/b%2f",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(Repository::of(Path::new("models/cats")).is_none());
}

#[test]
fn a_model_is_fetched_once_and_used_without_the_server() {
    let server = Server::new(good);
    let cache = tempfile::tempdir().unwrap();
    let hub = server.hub(cache.path());
    assert!(hub.needed(&cats()).unwrap_err().hint().unwrap().contains("kao fetch hf:someone/cats"));
    let folder = fetched(&server, cache.path()).unwrap();
    assert_eq!(hub.cached(&cats()).unwrap(), folder);
    for (name, bytes) in files() {
        let wanted = !matches!(name, "README.md" | "../../outside");
        match std::fs::read(folder.join(name)) {
            Ok(found) => assert!(wanted && found == bytes, "{name}"),
            Err(_) => assert!(!wanted, "{name}"),
        }
    }
    // As the hub's own tools have it.
    let root = cache.path().join("models--someone--cats");
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(folder, root.join("snapshots").join(COMMIT));
    let link = std::fs::read_link(folder.join("unet/config.json")).unwrap();
    assert!(link.starts_with("../../../blobs"), "{link:?}");
    // The token is for the server, and the list is all that is asked again.
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.headers["authorization"] == "Bearer secret"));
    fetched(&server, cache.path()).unwrap();
    assert_eq!(server.asked().len(), asked.len() + 1);
    let offline = Hub { offline: true, ..hub };
    assert_eq!(offline.needed(&cats()).unwrap(), folder);
    assert!(offline.fetch(&cats(), &Unattended).unwrap_err().to_string().contains("OFFLINE"));
    let by_commit = Repository { revision: COMMIT.to_owned(), ..cats() };
    assert_eq!(offline.cached(&by_commit).unwrap(), folder);
}

#[test]
fn what_broke_off_is_gone_on_with() {
    let n_large = Arc::new(Mutex::new(0));
    let server = Server::new(move |asked| {
        let (status, headers, mut body) = good(asked);
        if asked.path.contains("/cdn/") {
            let mut n_large = n_large.lock().unwrap();
            *n_large += 1;
            if *n_large == 1 {
                body.truncate(70_000);
            }
        }
        (status, headers, body)
    });
    let cache = tempfile::tempdir().unwrap();
    let error = fetched(&server, cache.path()).unwrap_err();
    assert!(error.to_string().contains("70000 of 200000 bytes"), "{error}");
    assert!(error.hint().unwrap().contains("goes on"), "{error:?}");
    // Nothing is seen under its name before it is whole.
    assert!(server.hub(cache.path()).cached(&cats()).is_none());
    let folder = fetched(&server, cache.path()).unwrap();
    let name = "unet/diffusion_pytorch_model.safetensors";
    assert_eq!(std::fs::read(folder.join(name)).unwrap(), files()[name]);
    let asked = server.asked();
    assert!(asked.iter().any(|asked| asked.from() == 70_000), "{asked:?}");
}

/// What is said of a server that answers otherwise where `change` says so, and what it leaves.
fn refusal(
    change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static,
) -> (String, tempfile::TempDir) {
    let server = Server::new(move |asked| change(asked, good(asked)));
    let cache = tempfile::tempdir().unwrap();
    let error = fetched(&server, cache.path()).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.chars().count() < 500, "{text}");
    assert!(server.hub(cache.path()).cached(&cats()).is_none() || text.contains("index"), "{text}");
    (text, cache)
}

#[test]
fn bad_servers_do_no_harm() {
    let of_weights = |asked: &Asked| asked.path.contains("/cdn/");
    let of_list = |asked: &Asked| asked.path.starts_with("/api/");
    let cases: [(&str, Change); 13] = [
        (
            "has another checksum",
            Box::new(move |asked, (status, headers, mut body)| {
                if of_weights(asked) {
                    body[5] ^= 1;
                }
                (status, headers, body)
            }),
        ),
        (
            "longer than the 200000 bytes",
            Box::new(move |asked, (status, mut headers, mut body)| {
                if of_weights(asked) {
                    headers.retain(|(name, _)| *name != "Content-Length");
                    body.extend(vec![7; 500_000]);
                }
                (status, headers, body)
            }),
        ),
        (
            "broke off",
            Box::new(move |asked, (status, headers, mut body)| {
                if of_weights(asked) {
                    body.truncate(10);
                }
                (status, headers, body)
            }),
        ),
        (
            "leads in a circle",
            Box::new(move |asked, answer| match of_weights(asked) {
                true => (302, vec![("Location", asked.path.clone())], vec![]),
                false => answer,
            }),
        ),
        (
            "leads to no address of the web",
            Box::new(move |asked, answer| match of_weights(asked) {
                true => (302, vec![("Location", "file:///etc/passwd".to_owned())], vec![]),
                false => answer,
            }),
        ),
        (
            "no such repository",
            Box::new(
                move |asked, answer| {
                    if of_list(asked) { (404, vec![], vec![]) } else { answer }
                },
            ),
        ),
        (
            "does not allow it",
            Box::new(
                move |asked, answer| {
                    if of_list(asked) { (401, vec![], vec![]) } else { answer }
                },
            ),
        ),
        (
            "answered 500",
            Box::new(
                move |asked, answer| {
                    if of_list(asked) { (500, vec![], vec![]) } else { answer }
                },
            ),
        ),
        (
            "is no JSON",
            Box::new(
                move |asked, answer| {
                    if of_list(asked) { (200, vec![], b"<html>".to_vec()) } else { answer }
                },
            ),
        ),
        (
            "has no end",
            Box::new(
                move |asked, answer| {
                    if of_list(asked) { (200, vec![], vec![b' '; 9 << 20]) } else { answer }
                },
            ),
        ),
        (
            "names no commit",
            Box::new(move |asked, answer| {
                let json = br#"{"sha":"../../x","siblings":[]}"#.to_vec();
                if of_list(asked) { (200, vec![], json) } else { answer }
            }),
        ),
        (
            "no model of diffusers or Kao",
            Box::new(move |asked, answer| {
                let json = format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"a.bin"}}]}}"#);
                if of_list(asked) { (200, vec![], json.into_bytes()) } else { answer }
            }),
        ),
        (
            "without a checksum",
            Box::new(move |asked, (status, mut headers, body)| {
                if asked.path.ends_with("config.json") {
                    headers.retain(|(name, _)| *name != "ETag");
                    headers.push(("ETag", "\"../../../x\"".to_owned()));
                }
                (status, headers, body)
            }),
        ),
    ];
    for (expected, change) in cases {
        let (text, _) = refusal(change);
        assert!(text.contains(expected), "{text} lacks {expected}");
    }
}

#[test]
fn lists_of_weights_name_files_beside_them_alone() {
    for (place, expected) in
        [("../evil.safetensors", "names `../evil.safetensors`"), ("b.safetensors", "names `b.")]
    {
        let name = "unet/diffusion_pytorch_model.safetensors.index.json";
        let index = format!(r#"{{"weight_map":{{"conv_in.weight":"{place}"}}}}"#);
        let (text, _) = refusal(move |asked, answer| {
            if asked.path.starts_with("/api/") {
                let mut files = files();
                files.remove("unet/diffusion_pytorch_model.safetensors");
                files.insert(name, index.clone().into_bytes());
                return list(&files);
            }
            if asked.path.ends_with(name) {
                let body = index.clone().into_bytes();
                let length = body.len().to_string();
                let headers = vec![("ETag", "\"abc\"".to_owned()), ("Content-Length", length)];
                return (200, headers, body);
            }
            answer
        });
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_token_stays_with_the_hub() {
    let elsewhere = Server::new(good);
    let other = elsewhere.address.clone();
    let server = Server::new(move |asked| {
        let (status, mut headers, body) = good(asked);
        for (name, value) in &mut headers {
            if *name == "Location" {
                *value = format!("{other}{value}");
            }
        }
        (status, headers, body)
    });
    let cache = tempfile::tempdir().unwrap();
    fetched(&server, cache.path()).unwrap();
    let asked = elsewhere.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|asked| !asked.headers.contains_key("authorization")), "{asked:?}");
}

#[cfg(feature = "hub")]
#[test]
fn the_client_of_the_network_does_the_same() {
    let server = Server::new(good);
    let cache = tempfile::tempdir().unwrap();
    let folder = server.hub(cache.path()).fetch(&cats(), &Unattended).unwrap();
    let name = "unet/diffusion_pytorch_model.safetensors";
    assert_eq!(std::fs::read(folder.join(name)).unwrap(), files()[name]);
    assert!(server.asked().iter().any(|asked| asked.headers["authorization"] == "Bearer secret"));
    assert!(server.hub(cache.path()).fetch(&cats(), &Unattended).is_ok());
}
