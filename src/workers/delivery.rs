//! One exchange over HTTP. No database, no decision.
//!
//! The deadline covers the whole of it, the body included; redirects are not followed; at most [`BODY_MAX`] bytes of
//! an answer are read; the request always has a `Content-Length` and is never chunked, since country configs copy our
//! headers into requests of their own.

use std::error::Error as _;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::outbox::retry::Answer;

/// Bytes of an answer that are read; longer ones are cut off.
pub const BODY_MAX: usize = 64 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The one client: no redirects, no proxies from the environment, connections kept.
pub fn client() -> reqwest::Result<reqwest::Client> {
    let builder = || {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("crvs-outbox/", env!("CARGO_PKG_VERSION")))
    };
    // A machine without CA certificates can still reach plain http destinations.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// What is sent.
#[derive(Debug)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// The message's transaction id, sent as `Idempotency-Key`.
    pub transaction_id: String,
    /// A bearer token.
    pub token: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// JSON.
    pub body: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Exchange {
    /// The answer's status and hint, or that there was none.
    pub answer: Answer,
    /// Its body, up to [`BODY_MAX`] bytes.
    pub body: Vec<u8>,
    /// Class of the failure where there was no whole answer.
    pub error: Option<&'static str>,
    /// How long it took.
    pub duration: Duration,
}

/// Sends a request and reads the answer, within `timeout`.
pub async fn exchange(client: &reqwest::Client, request: Request, timeout: Duration) -> Exchange {
    let started = Instant::now();
    let outcome = tokio::time::timeout(timeout, send(client, request)).await.unwrap_or(Err("timeout"));
    let duration = started.elapsed();
    match outcome {
        Ok((answer, body)) => Exchange { answer, body, error: None, duration },
        Err(error) => Exchange { answer: Answer::Transport, body: Vec::new(), error: Some(error), duration },
    }
}

async fn send(client: &reqwest::Client, request: Request) -> Result<(Answer, Vec<u8>), &'static str> {
    let headers = headers(&request).ok_or("unsendable-header")?;
    let sent = client.post(&request.url).headers(headers).body(request.body).send();
    let mut response = sent.await.map_err(|e| class(&e))?;
    let answer = Answer::Status { code: response.status().as_u16(), retry_after: retry_after(response.headers()) };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| class(&e))? {
        body.extend_from_slice(chunk.get(..BODY_MAX - body.len()).unwrap_or(&chunk));
        if body.len() >= BODY_MAX {
            break;
        }
    }
    Ok((answer, body))
}

fn headers(request: &Request) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let key = HeaderValue::from_str(&request.transaction_id).ok()?;
    headers.insert(HeaderName::from_static("idempotency-key"), key);
    if let Some(token) = &request.token {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    if let Some(trace) = request.traceparent.as_ref().and_then(|t| HeaderValue::from_str(t).ok()) {
        headers.insert(HeaderName::from_static("traceparent"), trace);
    }
    Some(headers)
}

/// Seconds or an HTTP date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = time::PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
    Duration::try_from(at - time::OffsetDateTime::now_utc()).ok()
}

/// A class, never a text: texts can hold URLs and what a peer said.
fn class(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        return "timeout";
    }
    if error.is_connect() {
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if text.contains("certificate") || text.contains("tls") || text.contains("TLS") {
                return "tls";
            }
            if text.contains("dns error") || text.contains("lookup") {
                return "dns";
            }
            source = cause.source();
        }
        return "connect";
    }
    if error.is_builder() { "unsendable-request" } else { "connection-lost" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers)
        };
        assert_eq!(with("120"), Some(Duration::from_mins(2)));
        assert!(with("Fri, 31 Dec 2199 23:59:59 GMT").is_some_and(|d| d > Duration::from_hours(1)));
        assert_eq!(with("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(with("soon"), None);
    }
}
