//! Pictures that are sent here: read by the decoders of `prepare`, kept for a while.

use super::routes::Routes;
use super::{Answer, App, apart};
use crate::http::answer;
use crate::http::problem::Problem;
use crate::limits;
use crate::openapi::{Body, Operation};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use kao::dataset::{DecodeError, Picture};
use kao::files::read_regular;
use kao::{Error, render};
use serde_json::json;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// A file of pixels that were decoded is no larger.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub fn add(routes: &mut Routes) {
    routes.add(
        Operation::post("/api/v1/uploads", "Send a picture: JPEG, PNG, GIF, WebP, BMP or TIFF")
            .takes(Body::Picture)
            .answers_with(201, Body::Schema("Upload"))
            .fails_with(&[413, 422, 429]),
        create,
    );
    routes.add(
        Operation::get("/api/v1/uploads/{upload}", "A picture that was sent, as PNG")
            .answers(Body::Png)
            .fails_with(&[404]),
        show,
    );
}

/// The pictures that were sent, the newest last. They lie in a folder of the server's own, as PNG
/// files that it has written itself, and go with it.
pub struct Uploads {
    kept: Mutex<Kept>,
    /// One picture is decoded at a time, whatever memory that takes.
    decoding: Semaphore,
}

#[derive(Default)]
struct Kept {
    folder: Option<TempDir>,
    last: u64,
    files: VecDeque<(String, PathBuf)>,
}

impl Default for Uploads {
    fn default() -> Self {
        Uploads { kept: Mutex::default(), decoding: Semaphore::new(1) }
    }
}

impl Uploads {
    /// The file of the picture of this name.
    pub fn path(&self, id: &str) -> Option<PathBuf> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.files.iter().find(|(known, _)| known == id).map(|(_, path)| path.clone())
    }

    fn keep(&self, png: &[u8]) -> kao::Result<String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| Error::io("create", "a folder for pictures", error);
        if kept.folder.is_none() {
            kept.folder = Some(TempDir::with_prefix("kao-studio-").map_err(failed)?);
        }
        kept.last += 1;
        let id = kept.last.to_string();
        let folder = kept.folder.as_ref().map(|folder| folder.path().to_path_buf());
        let path = folder.unwrap_or_default().join(format!("picture-{id}.png"));
        std::fs::write(&path, png).map_err(|error| Error::io("write", &path, error))?;
        kept.files.push_back((id.clone(), path));
        while kept.files.len() > limits::MAX_UPLOADS {
            if let Some((_, oldest)) = kept.files.pop_front() {
                let _ = std::fs::remove_file(oldest);
            }
        }
        Ok(id)
    }
}

async fn create(State(app): State<Arc<App>>, request: Request) -> Answer {
    let bytes = app.bodies.read(request.into_body(), limits::MAX_UPLOAD_BYTES).await?;
    let uploads = app.clone();
    // It is never closed, so there is always one to come.
    let _one = uploads.uploads.decoding.acquire().await.ok();
    let value = apart(move || {
        let picture = decode(&bytes)?;
        drop(bytes);
        let [width, height] = [picture.width(), picture.height()];
        let picture =
            render::Picture::from_rgb(width as usize, height as usize, picture.into_bytes())?;
        let png = render::png_bytes(&picture, &[("Software", "kao")])?;
        let id = app.uploads.keep(&png)?;
        Ok(json!({ "id": id, "width": width, "height": height }))
    });
    Ok(answer::json(StatusCode::CREATED, &value.await?))
}

fn decode(bytes: &[u8]) -> Result<Picture, Problem> {
    Picture::decode_up_to(bytes, limits::MAX_UPLOAD_PIXELS).map_err(|error| match error {
        DecodeError::TooManyPixels { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", error.to_string())
        }
        _ => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", error.to_string()),
    })
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let path = app.uploads.path(&id).ok_or_else(|| Problem::not_found("picture"))?;
    let bytes = apart(move || Ok(read_regular(&path, MAX_FILE_BYTES)?));
    Ok(answer::png(bytes.await?))
}
