//! One exchange over HTTP. No database, no decision.
//!
//! The deadline covers the whole of it, the body included; redirects are not followed; at most [`BODY_MAX`] bytes of
//! an answer are read, or [`AMENDED_MAX`], counted after decompression; heads of answers are bounded by the HTTP library
//! (400 KiB and 100 headers over HTTP/1.1, 16 KiB over HTTP/2) and a larger one breaks the connection off; the request
//! always has a `Content-Length` and is never chunked, since country configs copy our headers into requests of their own.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RANGE, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

use super::egress::client::{self, Client, NotBegun};
use super::egress::failure::{REFUSED_ADDRESS, class};
use crate::outbox::retry::Answer;

/// Bytes of an answer that are read as a rule: what may be a verdict is short.
pub const BODY_MAX: usize = 64 * 1024;

/// Bytes of an answer that are read where it may bring a declaration.
pub const AMENDED_MAX: usize = 4 * 1024 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");

/// A client that goes anywhere, for the sandbox, whose peer is the gateway that called it.
pub fn client() -> reqwest::Result<reqwest::Client> {
    client::unguarded()
}

/// What is sent.
pub struct Request {
    /// Where to.
    pub url: String,
    /// The message's transaction id, sent as `Idempotency-Key`.
    pub transaction_id: String,
    /// Which attempt this is, from 1, sent as `Webhook-Attempt`: Standard Webhooks has no header for it, and its own
    /// names start so. Receivers must not dedupe by it: it differs between the attempts of one message.
    pub attempt: i32,
    /// A bearer token.
    pub token: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The destination's own headers. Those that may not be configured (see [`may_configure`]) are not sent.
    pub headers: HeaderMap,
    /// Headers of the format and of the signature.
    pub own_headers: HeaderMap,
    /// The body's media type.
    pub content_type: &'static str,
    /// JSON.
    pub body: Vec<u8>,
    /// Bytes of the answer that are read, after decompression; a longer one is cut off.
    pub answer_max: usize,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest holds personal data and credentials.
        let mut shown = f.debug_struct("Request");
        shown.field("transaction_id", &self.transaction_id).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Whether a destination may be configured with a header of this name. Not those that we set ourselves, nor those
/// that say how a message is framed or what the other side may answer with: whoever sets them would break deliveries,
/// or smuggle a second request into one. `Authorization` only where we send no token of our own.
pub fn may_configure(name: &HeaderName, sends_token: bool) -> bool {
    let ours = [
        CONTENT_TYPE,
        IDEMPOTENCY_KEY,
        TRACEPARENT,
        HeaderName::from_static("x-correlation-id"),
        HeaderName::from_static("tracestate"),
        ACCEPT_ENCODING,
    ];
    let framing = [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        TRANSFER_ENCODING,
        TE,
        TRAILER,
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("http2-settings"),
        PROXY_AUTHORIZATION,
        UPGRADE,
        EXPECT,
        HOST,
        RANGE,
    ];
    let taken = ours.contains(name) || framing.contains(name) || name.as_str().starts_with("webhook-");
    !taken && (*name != AUTHORIZATION || !sends_token)
}

/// What came of it.
#[derive(Debug)]
pub struct Exchange {
    /// The answer's status and hint, or that there was none.
    pub answer: Answer,
    /// Its body, as much of it as was to be read.
    pub body: Vec<u8>,
    /// Class of the failure where there was no whole answer.
    pub error: Option<&'static str>,
    /// How long it took.
    pub duration: Duration,
}

/// Sends a request and reads the answer, within `timeout`.
pub async fn exchange(client: &Client, request: Request, timeout: Duration) -> Exchange {
    let (started, max) = (Instant::now(), request.answer_max);
    let outcome = match begin(client, request) {
        Ok(Some(ready)) => tokio::time::timeout(timeout, send(ready, max)).await.unwrap_or(Err("timeout")),
        Ok(None) => Ok((Answer::Status { code: 200, retry_after: None }, Vec::new())),
        Err(error) => Err(error),
    };
    let duration = started.elapsed();
    match outcome {
        Ok((answer, body)) => Exchange { answer, body, error: None, duration },
        Err(error) => Exchange { answer: Answer::Transport, body: Vec::new(), error: Some(error), duration },
    }
}

/// Makes the request; `None` where none is sent.
fn begin(client: &Client, mut request: Request) -> Result<Option<RequestBuilder>, &'static str> {
    let headers = headers(&mut request).ok_or("unsendable-header")?;
    let begun = client.request(reqwest::Method::POST, &request.url).map_err(|not_begun| match not_begun {
        NotBegun::Refused(_) => REFUSED_ADDRESS,
        NotBegun::Url => "unsendable-request",
    })?;
    let ready = begun.headers(headers).body(request.body);
    Ok(client.sends().then_some(ready))
}

async fn send(ready: RequestBuilder, max: usize) -> Result<(Answer, Vec<u8>), &'static str> {
    let mut response = ready.send().await.map_err(|e| class(&e))?;
    let answer = Answer::Status { code: response.status().as_u16(), retry_after: retry_after(response.headers()) };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| class(&e))? {
        body.extend_from_slice(chunk.get(..max - body.len()).unwrap_or(&chunk));
        if body.len() >= max {
            break;
        }
    }
    Ok((answer, body))
}

/// All headers; takes those that are the request's own.
fn headers(request: &mut Request) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        if may_configure(name, request.token.is_some()) {
            headers.append(name, value.clone());
        }
    }
    headers.extend(std::mem::take(&mut request.own_headers));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(request.content_type));
    headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&request.transaction_id).ok()?);
    headers.insert(WEBHOOK_ATTEMPT, HeaderValue::from(request.attempt));
    if let Some(token) = &request.token {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    if let Some(trace) = request.traceparent.as_ref().and_then(|t| HeaderValue::from_str(t).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
    Some(headers)
}

/// Seconds or an HTTP date (RFC 9110 §10.2.3). More seconds than can be counted are as many as can be.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = time::PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
    Duration::try_from(at - time::OffsetDateTime::now_utc()).ok()
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
        for huge in ["18446744073709551615", "18446744073709551616", "99999999999999999999999999999999999999999"] {
            assert_eq!(with(huge), Some(Duration::from_secs(u64::MAX)), "{huge}");
        }
        for nonsense in ["soon", "", " ", "-1", "+5", "1.5", "0x10"] {
            assert_eq!(with(nonsense), None, "{nonsense:?}");
        }
    }
}
