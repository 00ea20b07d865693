//! Fetching: what is asked of the server, and what is believed of its answers.

use super::cache::{is_commit, is_there};
use super::{Hub, Repository, WEIGHTS, is_name};
use crate::control::{Control, Report};
use crate::error::{Error, Result, shortened};
use crate::files::{atomic_write, read_to_string_regular};
use crate::locks::FolderLock;
use crate::quantities::size;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The address.
    pub url: &'a str,
    /// What opens repositories that are not public.
    pub token: Option<&'a str>,
    /// Bytes at the start that are not wanted.
    pub from: u64,
}

/// What a server answers.
pub struct Response {
    /// The status of HTTP.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// What follows them.
    pub body: Box<dyn Read>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

/// Asks a server, and follows no redirection.
pub trait Transport {
    /// # Errors
    /// In words, when the server does not answer.
    fn get(&self, request: &Request<'_>) -> Result<Response, String>;
}

/// Redirections that are followed.
const MAX_REDIRECTIONS: usize = 5;

/// Bytes of a list or a configuration.
const MAX_TEXT_BYTES: u64 = 8 << 20;

/// Files of weights.
const MAX_FILES: usize = 256;

/// Bytes that are read at a time, and between two reports.
const CHUNK: usize = 1 << 16;
const REPORT_BYTES: u64 = 1 << 20;

/// What a fetch works with.
struct Fetch<'a> {
    hub: &'a Hub,
    transport: &'a dyn Transport,
    repository: &'a Repository,
    control: &'a dyn Control,
    commit: String,
    /// The size of each file, as far as the server's list says.
    sizes: BTreeMap<String, Option<u64>>,
}

/// See [`Hub::fetch_through`].
pub(super) fn fetch(
    hub: &Hub,
    transport: &dyn Transport,
    repository: &Repository,
    control: &dyn Control,
) -> Result<PathBuf> {
    let mut fetch = Fetch {
        hub,
        transport,
        repository,
        control,
        commit: String::new(),
        sizes: BTreeMap::new(),
    };
    fetch.list()?;
    let folder = hub.repository(repository);
    std::fs::create_dir_all(&folder).map_err(|error| Error::io("create", &folder, error))?;
    let _lock = FolderLock::take(&folder, "another `kao fetch`")?;
    let snapshot = folder.join("snapshots").join(&fetch.commit);
    for name in fetch.files_of_model()? {
        fetch.file(&snapshot, &name)?;
        if name.ends_with(".json") && name.contains("index") && name != "model_index.json" {
            for part in fetch.listed_files(&snapshot.join(&name), &name)? {
                fetch.file(&snapshot, &part)?;
            }
        }
    }
    let reference = folder.join("refs").join(&repository.revision);
    if repository.revision != fetch.commit {
        let parent = reference.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
        atomic_write(&reference, |file| file.write_all(fetch.commit.as_bytes()))?;
    }
    Ok(snapshot)
}

impl Fetch<'_> {
    fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::invalid("model.path", format!("{}: {problem}", self.repository))
    }

    /// Asks for the list of files, and the commit that the revision is.
    fn list(&mut self) -> Result<()> {
        let Hub { endpoint, .. } = self.hub;
        let revision = self.repository.revision.replace('/', "%2F");
        let id = self.repository.id();
        let url = format!("{endpoint}/api/models/{id}/revision/{revision}?blobs=true");
        let (response, _) = self.get(&url, 0)?;
        let text = self.text(response)?;
        let list: Value =
            serde_json::from_str(&text).map_err(|_| self.wrong("the server's list is no JSON"))?;
        let commit = list.get("sha").and_then(Value::as_str).unwrap_or_default();
        if !is_commit(commit) {
            return Err(self.wrong("the server's list names no commit"));
        }
        self.commit = commit.to_owned();
        let files = list.get("siblings").and_then(Value::as_array).into_iter().flatten();
        for file in files {
            if let Some(name) = file.get("rfilename").and_then(Value::as_str) {
                self.sizes.insert(name.to_owned(), file.get("size").and_then(Value::as_u64));
            }
        }
        Ok(())
    }

    /// The files of a model among those of the list: a folder of diffusers, or one of Kao's.
    fn files_of_model(&self) -> Result<Vec<String>> {
        let has = |name: &str| self.sizes.contains_key(name);
        let network = ["unet/", ""].into_iter().find(|at| has(&format!("{at}config.json")));
        if let Some(network) = network {
            let weights = WEIGHTS.iter().flatten().map(|name| format!("{network}{name}"));
            if let Some(weights) = weights.into_iter().find(|name| has(name)) {
                let others = [
                    "model_index.json".to_owned(),
                    format!("{network}config.json"),
                    "scheduler/scheduler_config.json".to_owned(),
                    "scheduler_config.json".to_owned(),
                ];
                let others = others.into_iter().filter(|name| has(name));
                return Ok(others.chain([weights]).collect());
            }
        }
        if has("model.safetensors") {
            return Ok(vec!["model.safetensors".to_owned()]);
        }
        Err(self.wrong("no model of diffusers or Kao among its files"))
    }

    /// The files that a list of weights names, which lie beside it.
    fn listed_files(&self, list: &Path, name: &str) -> Result<Vec<String>> {
        let json: Value = serde_json::from_str(&read_to_string_regular(list, MAX_TEXT_BYTES)?)
            .map_err(|_| self.wrong(format!("`{name}` is no JSON")))?;
        let places = json.get("weight_map").and_then(Value::as_object).into_iter().flatten();
        let files: BTreeSet<&str> =
            places.map(|(_, file)| file.as_str().unwrap_or_default()).collect();
        let folder =
            name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let odd = files
            .iter()
            .find(|file| !is_name(file) || !self.sizes.contains_key(&format!("{folder}{file}")));
        match odd {
            Some(file) => {
                let file = shortened(file, 60);
                Err(self.wrong(format!("`{name}` names `{file}`, which is no file beside it")))
            }
            None if files.len() > MAX_FILES => {
                Err(self.wrong(format!("`{name}` names more than {MAX_FILES} files")))
            }
            None => Ok(files.into_iter().map(|file| format!("{folder}{file}")).collect()),
        }
    }

    /// Brings a file to its place.
    fn file(&self, snapshot: &Path, name: &str) -> Result<()> {
        let place = snapshot.join(name);
        if is_there(&place) {
            return Ok(());
        }
        let Hub { endpoint, .. } = self.hub;
        let id = self.repository.id();
        let url = format!("{endpoint}/{id}/resolve/{}/{name}", self.commit);
        let blobs = self.hub.repository(self.repository).join("blobs");
        for folder in [&blobs, place.parent().unwrap_or(snapshot)] {
            std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        }
        let (mut response, etag) = self.get(&url, 0)?;
        let etag = etag.ok_or_else(|| self.wrong(format!("`{name}` comes without a checksum")))?;
        let blob = blobs.join(&etag.text);
        if !is_there(&blob) {
            let partial = blobs.join(format!("{}.incomplete", etag.text));
            let done = std::fs::metadata(&partial).map_or(0, |metadata| metadata.len());
            if done > 0 {
                // Where the server goes on from there.
                response = self.get(&url, done)?.0;
            }
            let total = etag.size.or(self.sizes.get(name).copied().flatten());
            self.receive(response, &partial, Expected { name, done, total })?;
            if let Some(expected) = etag.sha256()
                && digest(&partial)? != expected
            {
                let _ = std::fs::remove_file(&partial);
                return Err(self.wrong(format!("`{name}` has another checksum than it should")));
            }
            std::fs::rename(&partial, &blob).map_err(|error| Error::io("write", &blob, error))?;
        }
        link(&blob, &place, name)
    }

    /// Writes what a server sends to `partial`, behind what is there already.
    fn receive(
        &self,
        response: Response,
        partial: &Path,
        Expected { name, done, total }: Expected<'_>,
    ) -> Result<()> {
        let refused = |error| Error::io("write", partial, error);
        let begins = match (response.status, response.header("content-range")) {
            (206, Some(range)) => begin_of(range),
            (206, None) => Some(done),
            _ => Some(0),
        };
        let Some(begins) = begins.filter(|&begins| begins == 0 || begins == done) else {
            return Err(self.wrong(format!("`{name}` is sent from another place than was asked")));
        };
        let declared = response.number("content-length").map(|length| begins + length);
        let is_text = name.ends_with(".json");
        let total = match (total.or(declared), is_text) {
            (Some(total), true) if total > MAX_TEXT_BYTES => {
                return Err(self.wrong(format!("`{name}` is {} long", size(total))));
            }
            (Some(total), _) => total,
            (None, true) => MAX_TEXT_BYTES,
            (None, false) => {
                return Err(self.wrong(format!("the server does not say how long `{name}` is")));
            }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(partial)
            .map_err(refused)?;
        file.set_len(begins).map_err(refused)?;
        file.seek(SeekFrom::End(0)).map_err(refused)?;
        let (mut n_bytes, mut reported) = (begins, 0);
        let mut body = response.body;
        let mut chunk = vec![0; CHUNK];
        loop {
            if n_bytes >= reported {
                let report = Report::progress("fetching", n_bytes, Some(total), "bytes");
                self.control.check(&Report { detail: name, ..report })?;
                reported = n_bytes + REPORT_BYTES;
            }
            let read = body.read(&mut chunk).map_err(|error| self.broken_off(name, &error))?;
            if read == 0 {
                break;
            }
            n_bytes += read as u64;
            if n_bytes > total {
                drop(file);
                let _ = std::fs::remove_file(partial);
                let problem = format!("`{name}` is longer than the {total} bytes it is said to be");
                return Err(self.wrong(problem));
            }
            file.write_all(&chunk[..read]).map_err(refused)?;
        }
        file.sync_all().map_err(refused)?;
        let is_exact = declared.is_some() || !is_text;
        if n_bytes < total && is_exact {
            return Err(self.broken_off(name, &format!("{n_bytes} of {total} bytes")));
        }
        Ok(())
    }

    fn broken_off(&self, name: &str, why: &dyn std::fmt::Display) -> Error {
        self.wrong(format!("`{name}` broke off: {why}"))
            .with_hint("the same command goes on where it stopped")
    }

    /// Asks for `url` without the first `from` bytes, through redirections; and the checksum that the
    /// first answer names.
    fn get(&self, url: &str, from: u64) -> Result<(Response, Option<Etag>)> {
        let mut url = url.to_owned();
        let mut etag = None;
        for _ in 0..=MAX_REDIRECTIONS {
            // The token is for the hub alone.
            let token = self.hub.token.as_deref().filter(|_| is_below(&url, &self.hub.endpoint));
            let request = Request { url: &url, token, from };
            let response = self
                .transport
                .get(&request)
                .map_err(|problem| self.wrong(shortened(&problem, 200)))?;
            etag = etag.or_else(|| Etag::of(&response));
            match response.status {
                200 | 206 => return Ok((response, etag)),
                301 | 302 | 303 | 307 | 308 => {
                    let to = response.header("location").unwrap_or_default();
                    url = redirected(&url, to)
                        .ok_or_else(|| self.wrong("the server leads to no address of the web"))?;
                }
                // Nothing is left to be sent.
                416 if from > 0 => {
                    let body = Box::new(std::io::empty());
                    let range = format!("bytes {from}-{from}/{from}");
                    let headers = vec![("content-range".to_owned(), range)];
                    return Ok((Response { status: 206, headers, body }, etag));
                }
                401 | 403 => {
                    let problem = "the server does not allow it, or has no such repository";
                    return Err(self.wrong(problem).with_hint("HF_TOKEN opens what is not public"));
                }
                404 => return Err(self.wrong("the server has no such repository or file")),
                status => return Err(self.wrong(format!("the server answered {status}"))),
            }
        }
        Err(self.wrong("the server leads in a circle"))
    }

    fn text(&self, response: Response) -> Result<String> {
        let mut text = String::new();
        let limit = MAX_TEXT_BYTES + 1;
        let read = response.body.take(limit).read_to_string(&mut text);
        match read {
            Ok(n) if n as u64 <= MAX_TEXT_BYTES => Ok(text),
            Ok(_) => Err(self.wrong("the server's list has no end")),
            Err(error) => Err(self.wrong(format!("the server's list broke off: {error}"))),
        }
    }
}

/// What is known of a file before it comes.
#[derive(Clone, Copy)]
struct Expected<'a> {
    name: &'a str,
    /// Bytes that are there from an earlier attempt.
    done: u64,
    total: Option<u64>,
}

/// A file's checksum as a server names it, and its size.
struct Etag {
    text: String,
    size: Option<u64>,
}

impl Etag {
    fn of(response: &Response) -> Option<Self> {
        let linked = response.header("x-linked-etag");
        let text = linked.or_else(|| response.header("etag"))?;
        let text = text.trim_start_matches("W/").trim_matches('"');
        is_name(text)
            .then(|| Etag { text: text.to_owned(), size: response.number("x-linked-size") })
    }

    /// The SHA-256 of the content, where it is one: of large files it is.
    fn sha256(&self) -> Option<&str> {
        let is_hex = |c: char| c.is_ascii_hexdigit();
        (self.text.len() == 64 && self.text.chars().all(is_hex)).then_some(&self.text)
    }
}

fn digest(path: &Path) -> Result<String> {
    let unreadable = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        digest.update(&chunk[..read]);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The first byte of `bytes FIRST-LAST/TOTAL`.
fn begin_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Whether an address is at `endpoint`.
fn is_below(url: &str, endpoint: &str) -> bool {
    url.strip_prefix(endpoint).is_some_and(|rest| rest.starts_with('/'))
}

/// The address that `location` means at `url`; none that gives secrecy up.
fn redirected(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if location.starts_with('/') && !location.starts_with("//") {
        let host = rest.split('/').next()?;
        return Some(format!("{scheme}://{host}{location}"));
    }
    let (to, rest) = location.split_once("://")?;
    let is_web = to == "https" || (to == "http" && scheme == "http");
    (is_web && !rest.is_empty()).then(|| location.to_owned())
}

/// Gives the blob its name in a snapshot.
fn link(blob: &Path, place: &Path, name: &str) -> Result<()> {
    let refused = |error| Error::io("write", place, error);
    // Whatever is there is no file: a link to nothing, perhaps.
    if place.symlink_metadata().is_ok() {
        std::fs::remove_file(place).map_err(refused)?;
    }
    #[cfg(unix)]
    {
        // From snapshots/COMMIT/NAME to blobs, one step up for each folder of the name besides.
        let up = "../".repeat(name.matches('/').count() + 2);
        let file = blob.file_name().unwrap_or_default().to_string_lossy();
        std::os::unix::fs::symlink(format!("{up}blobs/{file}"), place).map_err(refused)
    }
    #[cfg(not(unix))]
    {
        let _ = name;
        std::fs::rename(blob, place).map_err(refused)
    }
}
