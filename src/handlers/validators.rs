//! Conditional and patient reads: `ETag`, `If-None-Match` (RFC 9110) and `Prefer: wait` (RFC 7240).

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, header};

use crate::records::attachments::hex;

/// The longest wait that is granted.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A strong validator of these bytes.
pub(super) fn etag(body: &[u8]) -> String {
    let half = digest(&SHA256, body).as_ref().iter().take(16).copied().collect::<Vec<u8>>();
    format!("\"{}\"", hex(&half))
}

/// What the client has already.
pub(super) enum Known {
    /// Says nothing of it.
    Nothing,
    /// Something, whatever it is (`*`).
    Anything,
    /// These, without the `W/` of weak ones: `If-None-Match` compares weakly.
    These(Vec<String>),
}

impl Known {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut tags = Vec::new();
        for value in headers.get_all(header::IF_NONE_MATCH) {
            // Ours hold no comma, so what is between commas in another's is not taken for one of ours.
            for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                if tag == "*" {
                    return Self::Anything;
                }
                tags.push(tag.strip_prefix("W/").unwrap_or(tag).to_owned());
            }
        }
        if tags.is_empty() { Self::Nothing } else { Self::These(tags) }
    }

    /// Whether the client has this one.
    pub(super) fn has(&self, etag: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anything => true,
            Self::These(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}

/// How long the client would like to wait, capped; `None` if it does not say so, or not so that it is understood.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let mut preferences = headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    preferences
        // The first counts (RFC 7240 section 2).
        .find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("wait").then_some(value)
        })
        .filter(|value| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()))
        .map(|value| value.parse().map_or(LONGEST_WAIT, Duration::from_secs).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_wait_is_preferred_in_whole_seconds_and_capped() {
        let wait = |values: &[&'static str]| preferred_wait(&with("prefer", values)).map(|w| w.as_secs());
        assert_eq!(wait(&["wait=30"]), Some(30));
        assert_eq!(wait(&["respond-async, Wait = \"5\" ; x=y"]), Some(5));
        assert_eq!(wait(&["return=minimal", "wait=7", "wait=9"]), Some(7));
        assert_eq!(wait(&["wait=86400"]), Some(60));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(60));
        for none in ["wait", "wait=", "wait=-1", "wait=1.5", "await=3", ""] {
            assert_eq!(wait(&[none]), None, "{none}");
        }
    }

    #[test]
    fn what_the_client_has_is_compared_weakly() {
        let tag = etag(b"x");
        assert_eq!(tag.len(), 34);
        assert_ne!(tag, etag(b"y"));
        assert!(!Known::of(&HeaderMap::new()).has(&tag));
        assert!(Known::of(&with("if-none-match", &["*"])).has(&tag));
        let these = Known::of(&with("if-none-match", &["\"a\", W/\"b\"", "\"c\""]));
        assert!(["\"a\"", "\"b\"", "\"c\""].iter().all(|t| these.has(t)));
        assert!(!these.has(&tag));
    }
}
