//! Who gets in: the address that a request names, where it comes from, and the token.
//!
//! A page on any site can make the browser send requests here. One whose name an attacker lets
//! point to this machine (DNS rebinding) is told by `Host`; one that posts across sites by `Origin`
//! and `Sec-Fetch-Site`. Where the server can be reached from other machines, everything needs a
//! token besides.

use crate::http::problem::Problem;
use crate::http::query;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use kao::{Error, Result};
use std::net::IpAddr;

/// What pages may load: what this server serves, nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
                      data: blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The bytes of a token that is made here.
const TOKEN_BYTES: usize = 16;

/// What a request has to show.
#[derive(Clone, Debug)]
pub struct Guard {
    host: String,
    port: u16,
    token: Option<String>,
    /// What the machine calls itself, where the system tells.
    machine: Option<String>,
}

impl Guard {
    /// Demands a token where the server can be reached from elsewhere; makes one where none is
    /// given.
    pub fn new(host: &str, port: u16, token: Option<String>) -> Result<Self> {
        if let Some(token) = &token {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
            if !(8..=128).contains(&token.len()) || !token.chars().all(is_plain) {
                let problem = "expected 8 to 128 letters, digits, `-`, `_`, `.` or `~`";
                return Err(Error::invalid("token", problem));
            }
        }
        let token = match token {
            None if !is_loopback(host) => Some(new_token()?),
            token => token,
        };
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let machine = machine.map(|name| name.trim().to_ascii_lowercase());
        Ok(Guard { host: host.to_owned(), port, token, machine })
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Looks whether a request gets in. `Ok(Some(answer))` answers it at once.
    pub fn check(&self, request: &Request) -> Result<Option<Response>, Problem> {
        let (headers, uri) = (request.headers(), request.uri());
        let host = self.check_host(headers, uri)?;
        check_origin(headers, host)?;
        check_site(request.method(), request.uri().path(), headers)?;
        self.check_token(headers, uri)
    }

    /// The host that the request names, which must be one of this server's own. An address in
    /// numbers can be no name that an attacker lets point here.
    fn check_host<'r>(&self, headers: &'r HeaderMap, uri: &'r Uri) -> Result<&'r str, Problem> {
        let named = headers.get_all(header::HOST).iter().collect::<Vec<_>>();
        let named = match (&named[..], uri.authority()) {
            ([host], None) => host.to_str().ok(),
            _ => None,
        };
        let wrong = || {
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", "this is another host")
                .with_hint("open the address that `kao studio` printed")
        };
        let named = named.ok_or_else(wrong)?;
        let (name, port) = match named.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => {
                (name, port.parse::<u16>().map_err(|_| wrong())?)
            }
            _ => (named, 80),
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_own = match bare.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || !is_loopback(&self.host),
            Err(_) => {
                let name = name.to_ascii_lowercase();
                name == "localhost"
                    || name == self.host.to_ascii_lowercase()
                    || self.token.is_some() && Some(&name) == self.machine.as_ref()
            }
        };
        // Behind a tunnel the port may be another one; the name is what counts there.
        match is_own && (port == self.port || self.token.is_some()) {
            true => Ok(named),
            false => Err(wrong()),
        }
    }

    fn check_token(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<Response>, Problem> {
        let Some(token) = &self.token else { return Ok(None) };
        if uri.path() == "/healthz" {
            return Ok(None);
        }
        let cookie_name = self.cookie_name();
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookie = cookies.filter_map(|value| value.to_str().ok()).find_map(|cookies| {
            let mut cookies = cookies.split(';').filter_map(|cookie| cookie.trim().split_once('='));
            cookies.find(|(name, _)| *name == cookie_name).map(|(_, value)| value)
        });
        if [bearer, cookie].into_iter().flatten().any(|given| is_same(given, token)) {
            return Ok(None);
        }
        // The printed address brings the token once; it goes into a cookie and out of the address.
        if uri.path() == "/"
            && let Some(given) = query::value(&query::pairs(uri.query())?, "token")
            && is_same(given, token)
        {
            let cookie = format!(
                "{cookie_name}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
            );
            let mut answer = StatusCode::SEE_OTHER.into_response();
            answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                answer.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            return Ok(Some(answer));
        }
        let message = "a token is needed, and none or a wrong one was given";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with_hint("open the address that `kao studio` printed, which has the token in it"))
    }

    /// Cookies know no ports, so the port is in the name.
    fn cookie_name(&self) -> String {
        format!("kao-studio-{}", self.port)
    }
}

/// A page of another origin may not ask for anything.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let own = [format!("http://{host}"), format!("https://{host}")];
    match own.iter().any(|own| origin.as_bytes() == own.as_bytes()) {
        true => Ok(()),
        false => Err(Problem::forbidden("the request comes from a page of another origin")),
    }
}

/// Browsers say whether a request comes from another site, or from another server of this machine, also
/// where they send no `Origin`, as for images. Following a link to the pages is all that is allowed:
/// what computes must not, also when a frame is led there.
fn check_site(method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    let is_foreign = is("sec-fetch-site", "cross-site") || is("sec-fetch-site", "same-site");
    let is_link = method == Method::GET
        && path == "/"
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document");
    match is_foreign && !is_link {
        true => Err(Problem::forbidden("the request comes from a page of another site")),
        false => Ok(()),
    }
}

/// Adds to an answer what keeps browsers from doing more with it than is meant.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Whether only this machine can reach a server on `host`.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that does not depend on where two texts differ.
fn is_same(given: &str, expected: &str) -> bool {
    let difference = given.bytes().zip(expected.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == expected.len() && std::hint::black_box(difference) == 0
}

fn new_token() -> Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::invalid("token", error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const TOKEN: &str = "0123456789abcdef";

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
        let builder = axum::http::Request::builder().method(method).uri(uri);
        let builder = headers.iter().fold(builder, |b, (name, value)| b.header(*name, *value));
        builder.body(Body::empty()).unwrap()
    }

    fn status(guard: &Guard, headers: &[(&str, &str)]) -> u16 {
        match guard.check(&request("GET", "/api/v1/models", headers)) {
            Ok(_) => 200,
            Err(problem) => problem.status.as_u16(),
        }
    }

    #[test]
    fn another_host_is_refused() {
        let guard = Guard::new("127.0.0.1", 7860, None).unwrap();
        assert_eq!(guard.token(), None);
        for host in ["127.0.0.1:7860", "localhost:7860", "LOCALHOST:7860", "[::1]:7860"] {
            assert_eq!(status(&guard, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example:7860",
            "localhost.evil.example:7860",
            "127.0.0.1:80",
            "127.0.0.1",
            "192.168.1.7:7860",
            "localhost:7860:7860",
            "127.0.0.1:7860@evil.example",
            "",
        ] {
            assert_eq!(status(&guard, &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status(&guard, &[]), 421);
        let twice = [("host", "localhost:7860"), ("host", "evil.example")];
        assert_eq!(status(&guard, &twice), 421);
    }

    #[test]
    fn another_origin_is_refused() {
        let guard = Guard::new("localhost", 7860, None).unwrap();
        let with = |name, value| status(&guard, &[("host", "localhost:7860"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:7860"), 200);
        for origin in
            ["http://evil.example", "null", "http://localhost:7861", "", "http://localhost"]
        {
            assert_eq!(with("origin", origin), 403, "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "cross-site"), 403);
        assert_eq!(with("sec-fetch-site", "same-origin"), 200);
        let link = [
            ("host", "localhost:7860"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(guard.check(&request("GET", "/", &link)).is_ok());
        assert!(guard.check(&request("POST", "/", &link)).is_err());
        for path in ["/api/v1/jobs", "/api/v1/sample.png?steps=2", "/api/v1/models"] {
            assert!(guard.check(&request("GET", path, &link)).is_err(), "{path}");
        }
        let mut frame = link;
        frame[3].1 = "iframe";
        assert!(guard.check(&request("GET", "/", &frame)).is_err());
        assert_eq!(with("sec-fetch-site", "same-site"), 403);
        assert_eq!(with("sec-fetch-site", "none"), 200);
    }

    #[test]
    fn other_machines_need_a_token() {
        let made = Guard::new("0.0.0.0", 7860, None).unwrap();
        assert_eq!(made.token().unwrap().len(), 32);
        assert_ne!(made.token(), Guard::new("0.0.0.0", 7860, None).unwrap().token());
        let guard = Guard::new("0.0.0.0", 7860, Some(TOKEN.into())).unwrap();
        let host = ("host", "192.168.1.7:7860");
        let with = |name, value: &str| status(&guard, &[host, (name, value)]);
        assert_eq!(status(&guard, &[host]), 401);
        assert_eq!(with("authorization", &format!("Bearer {TOKEN}")), 200);
        assert_eq!(with("cookie", &format!("a=b; kao-studio-7860={TOKEN}")), 200);
        for wrong in ["", "0123456789abcdeX", "0123456789abcde", "0123456789abcdef0"] {
            assert_eq!(with("authorization", &format!("Bearer {wrong}")), 401, "{wrong}");
            assert_eq!(with("cookie", &format!("kao-studio-7860={wrong}")), 401, "{wrong}");
        }
        assert_eq!(with("cookie", &format!("kao-studio-7861={TOKEN}")), 401);
        assert_eq!(status(&guard, &[("host", "evil.example:7860")]), 421);
    }

    #[test]
    fn the_token_of_the_address_goes_into_a_cookie_that_scripts_cannot_read() {
        let guard = Guard::new("0.0.0.0", 7860, Some(TOKEN.into())).unwrap();
        let host = [("host", "192.168.1.7:7860")];
        let open = |uri: &str| guard.check(&request("GET", uri, &host));
        let answer = open(&format!("/?token={TOKEN}")).unwrap().unwrap();
        assert_eq!(answer.status(), 303);
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
        assert!(open("/?token=wrong").is_err());
        assert!(open(&format!("/api/v1/models?token={TOKEN}")).is_err());
        assert!(open("/healthz").is_ok());
    }

    #[test]
    fn tokens_that_fit_no_cookie_are_refused() {
        for token in ["", "short", "with space", "with;semicolon", &"a".repeat(129)] {
            assert!(Guard::new("127.0.0.1", 1, Some(token.to_owned())).is_err(), "{token}");
        }
    }
}
