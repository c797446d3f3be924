//! What is said to browsers: which pages may call (CORS), and what they must not do with an answer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Names that pages may send.
const SENT: [HeaderName; 11] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::RANGE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("traceparent"),
    super::ids::REQUEST_ID,
];

/// Names that pages may read.
const READ: [HeaderName; 12] = [
    header::LOCATION,
    header::ETAG,
    header::RETRY_AFTER,
    header::ALLOW,
    header::WWW_AUTHENTICATE,
    header::CONTENT_RANGE,
    HeaderName::from_static("idempotency-replayed"),
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("traceresponse"),
    super::ids::REQUEST_ID,
];

/// Lets pages of these origins call; tokens go in a header, so there are no credentials to allow.
pub(super) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let all = origins == [HeaderValue::from_static("*")];
    let allowed = if all { AllowOrigin::any() } else { AllowOrigin::list(origins.to_vec()) };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT])
        .allow_headers(SENT)
        .expose_headers(READ)
        .max_age(Duration::from_hours(2))
}

/// Adds what the handler has not said otherwise: answers are personal data and no pages.
pub(super) fn secure(headers: &mut HeaderMap, hsts_seconds: u32) {
    const DEFAULTS: [(HeaderName, HeaderValue); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(value);
    }
    if hsts_seconds > 0
        && let Ok(value) = HeaderValue::from_str(&format!("max-age={hsts_seconds}"))
    {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(value);
    }
}
