//! The pages: files that are part of the program.

use crate::http::answer;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of the pages.
struct File {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal as $content_type:literal),+ $(,)?) => {
        &[$(File {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../page/", $name)),
        }),+]
    };
}

const FILES: &[File] = files! {
    "index.html" as "text/html; charset=utf-8",
    "style.css" as "text/css; charset=utf-8",
    "icon.svg" as "image/svg+xml",
    "app.js" as "text/javascript; charset=utf-8",
    "api.js" as "text/javascript; charset=utf-8",
    "dom.js" as "text/javascript; charset=utf-8",
    "faces.js" as "text/javascript; charset=utf-8",
    "plane.js" as "text/javascript; charset=utf-8",
    "sampling.js" as "text/javascript; charset=utf-8",
    "viewer.js" as "text/javascript; charset=utf-8",
    "create.js" as "text/javascript; charset=utf-8",
    "explore.js" as "text/javascript; charset=utf-8",
    "edit.js" as "text/javascript; charset=utf-8",
    "compare.js" as "text/javascript; charset=utf-8",
    "train.js" as "text/javascript; charset=utf-8",
    "chart.js" as "text/javascript; charset=utf-8",
    "data.js" as "text/javascript; charset=utf-8",
};

/// The page.
pub fn index(headers: &HeaderMap) -> Response {
    file("index.html", headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// A file of the pages. Browsers ask whether the one that they have is still good.
pub fn file(name: &str, headers: &HeaderMap) -> Option<Response> {
    let file = FILES.iter().find(|file| file.name == name)?;
    let tag = format!("\"{:016x}\"", fingerprint(file.bytes));
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let mut answer = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => answer::bytes(file.content_type, file.bytes.to_vec()),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Some(answer)
}

/// FNV-1a: tells versions of a file apart, nothing more.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_no_other_host() {
        for file in FILES {
            let text = String::from_utf8(file.bytes.to_vec()).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["http://", "https://", "src=\"//", "url(//", "eval(", "innerHTML"] {
                assert!(!text.contains(foreign), "{}: {foreign}", file.name);
            }
        }
    }

    #[test]
    fn only_files_of_the_pages_are_served() {
        let none = HeaderMap::new();
        for name in ["", "..", "../Cargo.toml", "/etc/passwd", "Index.html", "app.js/"] {
            assert!(file(name, &none).is_none(), "{name}");
        }
        assert!(file("app.js", &none).is_some());
    }
}
