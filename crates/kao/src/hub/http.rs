//! The network.

use super::download::{Request, Response, Transport};
use std::time::Duration;

/// A client of HTTP, with the certificates of the web's authorities.
pub struct Client {
    agent: ureq::Agent,
}

impl Client {
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            // A server that sends a byte now and then would have no end.
            .timeout_recv_body(Some(Duration::from_secs(6 * 3600)))
            .user_agent(concat!("kao/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.new_agent() }
    }
}

impl Transport for Client {
    fn get(&self, request: &Request<'_>) -> Result<Response, String> {
        let Request { url, token, from } = *request;
        let mut call = self.agent.get(url);
        if let Some(token) = token {
            call = call.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            call = call.header("Range", format!("bytes={from}-"));
        }
        let response = call.call().map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().to_lowercase(), value.to_str().ok()?.to_owned()))
        });
        Ok(Response {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: Box::new(body.into_reader()),
        })
    }
}
