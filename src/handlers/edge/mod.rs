//! What every request passes, whatever its route: limits, ids, encodings, and what is said to browsers.
//!
//! [`around`] promises for every route: an answer has `X-Request-Id` and `traceresponse`, and a problem names the request
//! as its `instance`; a header beyond the limits is 431; a body that makes no progress is 408; an answer that takes
//! longer than [`Settings::request`] after the request was read is 503; an authenticated principal has a rate, and is
//! told of it. Whoever asks to wait (`Prefer: wait=N`, or `?wait=N`) may wait so much longer; a body that is still being
//! read and an answer that is being streamed are under no deadline.
//!
//! It does not limit who sends no valid token: what stands before this service knows their addresses.

mod browser;
mod encoding;
mod ids;
mod pace;
mod rate;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_service::Service as _;
use tracing::Instrument as _;

use self::pace::Paced;
use self::rate::{Rates, Standing};
use super::problem::{self, Kind, Problem};
use super::validators;
use crate::auth::Principal;
use crate::metrics;

/// What one client may cost, and which pages may call.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a request's line and header.
    pub header_bytes: usize,
    /// Fields of a request's header.
    pub header_count: usize,
    /// How long an answer may take once the request was read.
    pub request: Duration,
    /// How long a body may pause.
    pub body_idle: Duration,
    /// What a body has to bring on average, in bytes per second.
    pub body_rate: u64,
    /// Requests per second of one principal; 0: without limit.
    pub requests_per_second: u32,
    /// Requests of one principal that may come at once.
    pub burst: u32,
    /// `Strict-Transport-Security: max-age`; 0: not sent.
    pub hsts_seconds: u32,
    /// Origins whose pages may call; `*` alone: all.
    pub origins: Vec<HeaderValue>,
}

/// The longest wait that is added to the deadline of an answer.
const WAIT_MAX: u64 = 60;

struct Edge {
    settings: Settings,
    rates: Option<Rates>,
}

/// What handlers know of the request as such. In its extensions.
#[derive(Clone)]
pub(super) struct Exchange {
    edge: Arc<Edge>,
    standing: Arc<OnceLock<Standing>>,
}

impl Exchange {
    /// Counts the request against its principal's rate. The country's callbacks are not limited: they were asked for.
    pub(super) fn admit(&self, principal: &Principal) -> Result<(), Problem> {
        let Some(rates) = self.edge.rates.as_ref().filter(|_| principal.record.is_none()) else {
            return Ok(());
        };
        let standing = *self.standing.get_or_init(|| rates.take(principal, Instant::now()));
        if standing.admitted {
            return Ok(());
        }
        metrics::refused("rate-limited");
        Err(Problem::retry(Kind::RateLimited, u32::try_from(standing.next).unwrap_or(u32::MAX)))
    }
}

/// Puts all of it around a router.
pub(super) fn around(router: Router, settings: &Settings) -> Router {
    let rates = Rates::new(settings.requests_per_second, settings.burst);
    let edge = Arc::new(Edge { settings: settings.clone(), rates });
    let router = router
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(encoding::unpack())
        .layer(encoding::pack())
        .layer(from_fn_with_state(edge, exchange));
    if settings.origins.is_empty() { router } else { router.layer(browser::cors(&settings.origins)) }
}

/// Whether a body failed for want of progress.
pub(super) fn too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let slow = pace::is_too_slow(error);
    if slow {
        metrics::refused("body-too-slow");
    }
    slow
}

/// Not an `async fn`, as is [`answer`]: what waits for the answer then holds no copy of the request's parts.
fn exchange(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> impl Future<Output = Response> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let id = ids::request_id(&parts.headers);
    let trace = ids::trace(&mut parts.headers);
    let route = parts.extensions.get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request", id = %id, trace = ids::trace_id(&trace), method = %parts.method, route = %route
    );
    let exchange = Exchange { edge: Arc::clone(&edge), standing: Arc::default() };
    parts.extensions.insert(exchange.clone());
    let answer = match check(&mut parts, &edge.settings) {
        Ok(()) => Ok(answer(parts, body, &edge.settings, next)),
        Err(problem) => Err(Box::new(problem)),
    };
    let answer = async move {
        let response = match answer {
            Ok(answer) => answer.await,
            Err(problem) => problem.into_response(),
        };
        let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
        tracing::debug!(status, ms, "answered");
        response
    };
    let answer = answer.instrument(span);
    async move {
        let mut response = problem::named(answer.await, &id);
        encoding::weaken(&mut response);
        let headers = response.headers_mut();
        browser::secure(headers, edge.settings.hsts_seconds);
        tell(headers, exchange.standing.get());
        headers.insert(HeaderName::from_static("traceresponse"), trace);
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(ids::REQUEST_ID, id);
        }
        response
    }
}

fn check(parts: &mut Parts, settings: &Settings) -> Result<(), Problem> {
    let line = parts.uri.path_and_query().map_or(0, |line| line.as_str().len());
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if parts.headers.len() > settings.header_count || line + fields.sum::<usize>() > settings.header_bytes {
        metrics::refused("headers-too-large");
        let (count, bytes) = (settings.header_count, settings.header_bytes);
        let detail = format!("at most {count} fields and, with the request line, {bytes} bytes are accepted");
        return Err(Problem::new(Kind::HeadersTooLarge).detail(detail));
    }
    encoding::negotiate(&mut parts.headers)
}

/// The handler's answer, unless it takes too long.
fn answer(parts: Parts, body: Body, settings: &Settings, mut next: Next) -> impl Future<Output = Response> + use<> {
    let patience = settings.request + Duration::from_secs(asked_wait(&parts).min(WAIT_MAX));
    let (body, ended) = Paced::new(body, settings.body_idle, settings.body_rate);
    let deadline = async move {
        // The sender is only ever dropped.
        ended.await.unwrap_or_default();
        tokio::time::sleep(patience).await;
    };
    let response = next.call(Request::from_parts(parts, Body::new(body)));
    async move {
        tokio::select! {
            response = response => response.unwrap_or_else(|never| match never {}),
            () = deadline => {
                metrics::refused("timed-out");
                tracing::warn!("a request took too long");
                let detail = "whether it was done is not known; the same request may be sent again under the same id";
                Problem::retry(Kind::TimedOut, 2).detail(detail).into_response()
            }
        }
    }
}

/// The seconds that the client asks to wait: RFC 7240 §4.3, or the query.
fn asked_wait(parts: &Parts) -> u64 {
    let preferred = validators::preferred_wait(&parts.headers).map_or(0, |wait| wait.as_secs());
    let waits = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("wait="));
    // One of more digits than a number has is long, too.
    let asked = waits.map(|text| text.parse().unwrap_or(WAIT_MAX)).max().unwrap_or(0);
    preferred.max(asked)
}

/// draft-ietf-httpapi-ratelimit-headers-11: the policy, and what is left of it.
fn tell(headers: &mut HeaderMap, standing: Option<&Standing>) {
    let Some(Standing { burst, window, remaining, next, .. }) = standing else {
        return;
    };
    let policy = format!(r#""principal";q={burst};w={window}"#);
    let left = format!(r#""principal";r={remaining};t={next}"#);
    for (name, text) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
