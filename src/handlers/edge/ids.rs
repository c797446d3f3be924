//! By what a request is known: its id and its trace (W3C Trace Context).

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::handlers::extract;

/// The header of both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The client's id if it is well-formed – 16 to 64 hexadecimal digits and hyphens, which spell nobody's name in a
/// log – else a new UUID.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let well_formed =
        |id: &&str| (16..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    given.filter(well_formed).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The request's `traceparent`. One that is missing or malformed is replaced by a new trace, so that the deliveries of
/// one request can always be told to belong together. It says "sampled": whether to is the receivers' to decide.
pub(super) fn trace(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(value) = extract::traceparent(headers).and_then(|text| HeaderValue::from_str(&text).ok()) {
        return value;
    }
    // Neither may be zero: a v4 UUID never is.
    let (trace, span) = (Uuid::new_v4(), rand::random::<u64>() | 1);
    let made = HeaderValue::from_str(&format!("00-{}-{span:016x}-01", trace.simple()));
    let value = made.unwrap_or_else(|_not_ascii| HeaderValue::from_static(""));
    headers.insert(TRACEPARENT, value.clone());
    value
}

/// The trace id within it.
pub(super) fn trace_id(traceparent: &HeaderValue) -> &str {
    traceparent.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_that_spells_nothing_is_taken_over() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        for good in ["4bf92f3577b34da6a3ce929d0e0e4736", "0197A000-0000-7000-8000-000000000000"] {
            assert_eq!(with(good), good);
        }
        for bad in ["Wilhelmina-Adjei-Mensah", "1234", "4bf92f35 77b34da6a3ce929d", ""] {
            assert!(with(bad).parse::<Uuid>().is_ok(), "{bad}");
        }
    }

    #[test]
    fn a_trace_that_is_missing_is_made() {
        let mut headers = HeaderMap::new();
        let made = trace(&mut headers);
        assert_eq!(extract::traceparent(&headers).as_deref(), made.to_str().ok());
        assert_eq!(trace(&mut headers), made);
        assert_eq!(trace_id(&made).len(), 32);
    }
}
