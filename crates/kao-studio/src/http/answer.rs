//! Answers: JSON, pictures, bytes.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

/// An answer of JSON.
pub fn json(status: StatusCode, value: &Value) -> Response {
    let mut answer = bytes("application/json", value.to_string().into_bytes());
    *answer.status_mut() = status;
    answer
}

/// An answer of bytes of this type.
pub fn bytes(content_type: &'static str, bytes: Vec<u8>) -> Response {
    let mut answer = Response::new(Body::from(bytes));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A picture.
pub fn png(bytes: Vec<u8>) -> Response {
    self::bytes("image/png", bytes)
}
