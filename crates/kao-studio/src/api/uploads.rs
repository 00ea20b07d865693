//! Pictures that are sent here: read by the decoders of `prepare`, kept for a while.

use super::routes::Routes;
use super::{Answer, App, apart};
use crate::http::problem::Problem;
use crate::http::{answer, body};
use crate::limits;
use crate::openapi::{Body, Operation};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use kao::dataset::Picture;
use kao::files::read_regular;
use kao::{Error, render};
use serde_json::json;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// A file of pixels that were decoded is no larger.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub fn add(routes: &mut Routes) {
    routes.add(
        Operation::post("/api/v1/uploads", "Send a picture: JPEG, PNG, GIF, WebP, BMP or TIFF")
            .takes(Body::Picture)
            .answers_with(201, Body::Schema("Upload"))
            .fails_with(&[413, 422]),
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
#[derive(Default)]
pub struct Uploads(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    folder: Option<TempDir>,
    last: u64,
    files: VecDeque<(String, PathBuf)>,
}

impl Uploads {
    /// The file of the picture of this name.
    pub fn path(&self, id: &str) -> Option<PathBuf> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.files.iter().find(|(known, _)| known == id).map(|(_, path)| path.clone())
    }

    fn keep(&self, png: &[u8]) -> kao::Result<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    let bytes = body::read(request.into_body(), limits::MAX_UPLOAD_BYTES).await?;
    let value = apart(move || {
        let picture = Picture::decode(&bytes).map_err(|error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", error.to_string())
        })?;
        let [width, height] = [picture.width(), picture.height()];
        if u64::from(width) * u64::from(height) > limits::MAX_UPLOAD_PIXELS {
            let problem = format!(
                "{width} × {height} pixels; at most {} are taken",
                limits::MAX_UPLOAD_PIXELS
            );
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", problem));
        }
        let picture =
            render::Picture::from_rgb(width as usize, height as usize, picture.into_bytes())?;
        let png = render::png_bytes(&picture, &[("Software", "kao")])?;
        let id = app.uploads.keep(&png)?;
        Ok(json!({ "id": id, "width": width, "height": height }))
    });
    Ok(answer::json(StatusCode::CREATED, &value.await?))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let path = app.uploads.path(&id).ok_or_else(|| Problem::not_found("picture"))?;
    let bytes = apart(move || Ok(read_regular(&path, MAX_FILE_BYTES)?));
    Ok(answer::png(bytes.await?))
}
