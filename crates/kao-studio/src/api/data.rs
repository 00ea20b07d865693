//! Folders of pictures: their pictures and tags, and what `prepare` found.

use super::routes::Routes;
use super::{Answer, App, apart};
use crate::http::problem::Problem;
use crate::http::{answer, query};
use crate::openapi::{Body, Operation};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use kao::dataset::{Fit, Picture, PrepareReport, REPORT_FILE, Tags};
use kao::files::read_to_string_regular;
use kao::render;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pictures of one answer.
const MAX_LIMIT: usize = 200;
/// Files of a folder that are looked at.
const MAX_FILES: usize = 500_000;
/// Folders within folders.
const MAX_DEPTH: usize = 8;
/// The largest report of a preparation.
const MAX_REPORT_BYTES: u64 = 64 << 20;
/// How long a list of files is taken to be right.
const FRESH: Duration = Duration::from_secs(20);
/// The side that pictures are shown at, at most.
const MAX_SIDE: u32 = 256;
/// Entries of a report that are sent.
const MAX_NAMED: usize = 200;

/// The ends of the names of pictures.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff"];

pub fn add(routes: &mut Routes) {
    routes.add(
        Operation::get("/api/v1/data", "The folders of pictures, by name")
            .answers(Body::Schema("Folders")),
        list,
    );
    routes.add(
        Operation::get("/api/v1/data/{folder}", "The pictures of a folder, some at a time")
            .parameter("offset", "integer", "The first of them.")
            .parameter("limit", "integer", "How many; at most 200.")
            .parameter("tag", "string", "Only pictures with this tag.")
            .answers(Body::Schema("Folder"))
            .fails_with(&[404, 422]),
        show,
    );
    routes.add(
        Operation::get("/api/v1/data/{folder}/pictures/{name}", "A picture, small, as PNG")
            .answers(Body::Png)
            .fails_with(&[404, 422]),
        picture,
    );
}

/// What is known of a folder's files.
pub struct Listing {
    names: Vec<String>,
    tags: Tags,
    counts: Vec<(String, u64)>,
}

/// The folder that was looked at last.
#[derive(Default)]
pub struct LastListing(Mutex<Option<(PathBuf, Instant, Arc<Listing>)>>);

impl LastListing {
    fn of(&self, folder: &FilePath) -> Result<Arc<Listing>, Problem> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, at, listing)) = &*last
            && path == folder
            && at.elapsed() < FRESH
        {
            return Ok(listing.clone());
        }
        let listing = Arc::new(Listing::read(folder)?);
        *last = Some((folder.to_path_buf(), Instant::now(), listing.clone()));
        Ok(listing)
    }
}

impl Listing {
    fn read(folder: &FilePath) -> Result<Self, Problem> {
        let mut names = Vec::new();
        find(folder, "", 0, &mut names);
        names.sort_unstable();
        let tags = Tags::read(folder, names.iter().map(String::as_str), None)?;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for tag in names.iter().flat_map(|name| tags.of(name)) {
            *counts.entry(tag).or_default() += 1;
        }
        let mut counts: Vec<(String, u64)> =
            counts.into_iter().map(|(tag, n)| (tag.to_owned(), n)).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(Listing { names, tags, counts })
    }
}

/// Adds the pictures of a folder and those within, below the folder where the search began. Links
/// are not followed.
fn find(folder: &FilePath, prefix: &str, depth: usize, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else {
            continue;
        };
        if names.len() >= MAX_FILES || name.starts_with('.') {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            find(&entry.path(), &format!("{prefix}{name}/"), depth + 1, names);
        } else if kind.is_file() {
            let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
            if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
                names.push(format!("{prefix}{name}"));
            }
        }
    }
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    let folders = apart(move || {
        let folders = app.places.data().into_iter().map(
            |(name, path)| json!({ "name": name, "is_prepared": path.join(REPORT_FILE).is_file() }),
        );
        Ok(folders.collect::<Vec<Value>>())
    });
    Ok(answer::json(StatusCode::OK, &json!({ "folders": folders.await? })))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let pairs = query::pairs(query.as_deref())?;
    let number = |name: &str, default: usize| match query::value(&pairs, name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| Problem::invalid(name, "expected a whole number")),
    };
    let (offset, limit) = (number("offset", 0)?, number("limit", 60)?.min(MAX_LIMIT));
    let tag = query::value(&pairs, "tag").map(str::to_owned);
    let value = apart(move || {
        let folder = app.places.data_folder(&name).map_err(|_| Problem::not_found("folder"))?;
        let listing = app.listing.of(&folder)?;
        let has_it = |name: &&String| match &tag {
            None => true,
            Some(tag) => listing.tags.of(name).iter().any(|own| own == tag),
        };
        let chosen: Vec<&String> = listing.names.iter().filter(has_it).collect();
        let pictures = chosen
            .iter()
            .skip(offset)
            .take(limit)
            .map(|name| json!({ "name": name, "tags": listing.tags.of(name) }));
        Ok(json!({
            "name": name,
            "count": listing.names.len(),
            "chosen": chosen.len(),
            "pictures": pictures.collect::<Vec<_>>(),
            "tags": listing.counts.iter().take(MAX_NAMED).map(|(tag, n)| {
                json!({ "tag": tag, "count": n })
            }).collect::<Vec<_>>(),
            "n_tags": listing.counts.len(),
            "report": report(&folder),
        }))
    });
    Ok(answer::json(StatusCode::OK, &value.await?))
}

/// What `prepare` said when it made the folder.
fn report(folder: &FilePath) -> Value {
    let text = read_to_string_regular(folder.join(REPORT_FILE), MAX_REPORT_BYTES);
    let report = text.ok().and_then(|text| serde_json::from_str::<PrepareReport>(&text).ok());
    let Some(report) = report else { return Value::Null };
    json!({
        "complete": report.complete,
        "size": report.size,
        "read": report.n_read,
        "written": report.n_written,
        "enlarged": report.n_enlarged,
        "n_duplicates": report.duplicates.len(),
        "duplicates": report.duplicates.iter().take(MAX_NAMED).collect::<Vec<_>>(),
        "n_skipped": report.skipped.len(),
        "skipped": report.skipped.iter().take(MAX_NAMED).collect::<Vec<_>>(),
    })
}

async fn picture(
    State(app): State<Arc<App>>,
    Path((folder, name)): Path<(String, String)>,
) -> Answer {
    let bytes = apart(move || {
        let folder = app.places.data_folder(&folder).map_err(|_| Problem::not_found("folder"))?;
        let listing = app.listing.of(&folder)?;
        // What is not listed does not exist.
        let known =
            listing.names.binary_search(&name).map_err(|_| Problem::not_found("picture"))?;
        let path = folder.join(&listing.names[known]);
        let picture = Picture::read(&path).map_err(|error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", error.to_string())
        })?;
        small_png(picture)
    });
    Ok(answer::png(bytes.await?))
}

/// The picture, no larger than [`MAX_SIDE`].
pub fn small_png(picture: Picture) -> Result<Vec<u8>, Problem> {
    let [width, height] = [picture.width(), picture.height()];
    let longer = width.max(height);
    let scaled = |side: u32| {
        let scaled = u64::from(side) * u64::from(MAX_SIDE) / u64::from(longer.max(1));
        u32::try_from(scaled).unwrap_or(MAX_SIDE).max(1)
    };
    let picture = match longer > MAX_SIDE {
        true => picture.fit(scaled(width), scaled(height), Fit::Stretch)?,
        false => picture,
    };
    let [width, height] = [picture.width() as usize, picture.height() as usize];
    let rgb = match picture.channels() {
        3 => picture.into_bytes(),
        _ => picture.into_bytes().into_iter().flat_map(|value| [value; 3]).collect(),
    };
    let picture = render::Picture::from_rgb(width, height, rgb)?;
    Ok(render::png_bytes(&picture, &[("Software", "kao")])?)
}
