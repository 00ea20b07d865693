//! What an answer says when something is wrong: one type, which becomes a status and JSON in one
//! place.

use super::answer;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kao::{Error, ErrorKind};
use serde_json::{Value, json};

/// Why a request is not done.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// A stable word for programs: `invalid`, `not-found`, `busy`, `forbidden`.
    pub code: &'static str,
    pub message: String,
    /// The field of the request that it is about.
    pub field: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Seconds after which it is worth to try again.
    pub retry_after: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let (field, hint, retry_after) = (None, None, None);
        Problem { status, code, message: message.into(), field, hint, retry_after }
    }

    /// The value of a field cannot be used.
    pub fn invalid(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        let field = field.into();
        let message = format!("{}: {problem}", kao::error::shortened(&field, 80));
        Problem {
            field: Some(kao::error::shortened(&field, 80).into_owned()),
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
        }
    }

    pub fn not_found(what: &str) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not-found", format!("there is no such {what}"))
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "hint": self.hint,
        })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code, field) = match error.kind() {
            ErrorKind::Invalid { field, .. } | ErrorKind::SameFile { field, .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", Some(field.clone()))
            }
            ErrorKind::Malformed { .. } | ErrorKind::Newer { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "malformed", None)
            }
            ErrorKind::Interrupted => (StatusCode::CONFLICT, "cancelled", None),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "failed", None),
        };
        let hint = error.hint().map(str::to_owned);
        Problem { field, hint, ..Problem::new(status, code, error.to_string()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.to_json() });
        let mut response = answer::json(self.status, &body);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
