//! Bodies of requests: no larger than is allowed, and no later.

use super::problem::Problem;
use crate::limits;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

/// The whole body.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(limits::BODY_TIME, Limited::new(body, limit).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let message = format!("the body is larger than {limit} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message))
        }
        Ok(Err(_)) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", "the body was cut short"))
        }
        Err(_) => {
            let message = "the body did not come in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}

/// The body as an object of JSON.
pub async fn read_object(body: Body) -> Result<Map<String, Value>, Problem> {
    let bytes = read(body, limits::MAX_JSON_BYTES).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", "expected an object")),
        Err(error) => {
            let message = format!("the body is no JSON: {error}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", message))
        }
    }
}
