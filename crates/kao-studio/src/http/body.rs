//! Bodies of requests: no larger than is allowed, no later, and together no more than memory bears.

use super::problem::Problem;
use crate::limits;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seconds after which there is likely to be room for a body again.
const RETRY_AFTER: u64 = 5;

/// All bodies that are being read, or are not done with yet.
#[derive(Debug, Default)]
pub struct Bodies {
    n_bytes: Arc<AtomicUsize>,
}

/// A body that is there. Its bytes count as long as it lives.
#[derive(Debug)]
pub struct Received {
    bytes: Vec<u8>,
    all: Arc<AtomicUsize>,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

impl Received {
    /// Adds what has come, where there is room for it.
    fn add(&mut self, part: &Bytes, limit: usize) -> Result<(), Problem> {
        if self.bytes.len() + part.len() > limit {
            let message = format!("the body is larger than {limit} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message));
        }
        let all = self.all.fetch_add(part.len(), Ordering::SeqCst) + part.len();
        if all > limits::MAX_ARRIVING_BYTES {
            self.all.fetch_sub(part.len(), Ordering::SeqCst);
            let message = "too much is being sent here at once";
            let busy = Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", message);
            return Err(Problem { retry_after: Some(RETRY_AFTER), ..busy });
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }
}

impl Bodies {
    /// The whole body.
    pub async fn read(&self, body: Body, limit: usize) -> Result<Received, Problem> {
        let received = Received { bytes: Vec::new(), all: self.n_bytes.clone() };
        match tokio::time::timeout(limits::BODY_TIME, collect(body, limit, received)).await {
            Ok(read) => read,
            Err(_) => {
                let message = "the body did not come in time";
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
            }
        }
    }

    /// The body as an object of JSON.
    pub async fn read_object(&self, body: Body) -> Result<Map<String, Value>, Problem> {
        let bytes = self.read(body, limits::MAX_JSON_BYTES).await?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", "expected an object"))
            }
            Err(error) => {
                let message = format!("the body is no JSON: {error}");
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", message))
            }
        }
    }
}

async fn collect(mut body: Body, limit: usize, mut read: Received) -> Result<Received, Problem> {
    while let Some(frame) = body.frame().await {
        let cut_short =
            |_| Problem::new(StatusCode::BAD_REQUEST, "bad-request", "the body was cut short");
        if let Ok(part) = frame.map_err(cut_short)?.into_data() {
            read.add(&part, limit)?;
        }
    }
    Ok(read)
}
