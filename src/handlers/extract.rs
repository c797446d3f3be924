//! What every handler needs of a request, each part refused with a problem of its own.

use std::borrow::Cow;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use uuid::Uuid;

use super::AppState;
use super::edge::Exchange;
use super::problem::{Kind, Problem};
use crate::auth::{Principal, Right};
use crate::records::commands::Initiator;

/// The authenticated caller, and what of their headers goes on with a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) traceparent: Option<String>,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let principal = Box::pin(state.verifier.verify(token)).await?;
        if let Some(exchange) = parts.extensions.get::<Exchange>() {
            exchange.admit(&principal)?;
        }
        Ok(Self { principal, traceparent: traceparent(&parts.headers) })
    }
}

impl Caller {
    pub(super) fn initiator(&self) -> Initiator {
        Initiator { id: self.principal.id.clone(), scopes: self.principal.scopes.as_slice().to_vec() }
    }

    /// The submitter, `record.read`, or the token of that record. A record's token reads nothing else, whoever's
    /// name is on it.
    pub(super) fn may_read(&self, record_id: Uuid, event: &str, created_by: &str) -> bool {
        match &self.principal.record {
            Some(grant) => grant.record_id == record_id,
            None => self.principal.id == created_by || self.principal.scopes.allows(Right::Read, event),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    // One that comes twice is not for us to choose from (RFC 9110 §5.3).
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::no_token());
    };
    let (scheme, token) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(Problem::no_token)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Problem::no_token()) }
}

/// W3C trace context, version 00; anything else is dropped rather than passed on.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else {
        return None;
    };
    let lower_hex =
        |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let valid = *version == "00" && lower_hex(trace, 32) && lower_hex(span, 16) && lower_hex(flags, 2);
    let zero = |s: &str| s.bytes().all(|b| b == b'0');
    let valid = valid && !zero(trace) && !zero(span);
    valid.then(|| value.to_owned())
}

/// A record's id in the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordId(pub(super) Uuid);

impl FromRequestParts<AppState> for RecordId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let invalid = || Problem::new(Kind::InvalidId).detail("a record's id is a UUID");
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(invalid());
        };
        text.parse().map(Self).map_err(|_not_a_uuid: uuid::Error| invalid())
    }
}

/// The transaction id of an item of a batch: its member `transactionId`.
pub(super) fn item_transaction_id(in_body: Option<&str>) -> Result<String, Problem> {
    let id =
        in_body.ok_or_else(|| Problem::new(Kind::KeyMissing).detail("each item needs the member transactionId"))?;
    if is_transaction_id(id) { Ok(id.to_owned()) } else { Err(Problem::new(Kind::KeyInvalid).detail(FORM)) }
}

/// The transaction id of a request: the header `Idempotency-Key`, or the body's `transactionId`; both must agree.
pub(super) fn transaction_id(headers: &HeaderMap, in_body: Option<&str>) -> Result<String, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let in_header = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let text = value.to_str().map_err(|_not_ascii| Problem::new(Kind::KeyInvalid).detail(FORM))?;
            Some(key(text)?)
        }
        (Some(_), Some(_)) => {
            return Err(Problem::new(Kind::KeyInvalid).detail("Idempotency-Key is there twice"));
        }
    };
    let id = match (in_header, in_body) {
        (Some(a), Some(b)) if *a != *b => {
            return Err(Problem::new(Kind::KeyMismatch).detail("Idempotency-Key and transactionId differ"));
        }
        (Some(id), _) => id,
        (None, Some(id)) => id.into(),
        (None, None) => {
            return Err(
                Problem::new(Kind::KeyMissing).detail("send the header Idempotency-Key or the member transactionId")
            );
        }
    };
    if is_transaction_id(&id) { Ok(id.into_owned()) } else { Err(Problem::new(Kind::KeyInvalid).detail(FORM)) }
}

const FORM: &str = "a transaction id is 8 to 128 characters of A-Z a-z 0-9 . _ : -";

/// The IETF draft (draft-ietf-httpapi-idempotency-key-header) makes the header a structured field of one String (RFC 9651
/// §4.2): in quotes, with escapes, and parameters after it, which mean nothing here. Many send it bare: that is taken as
/// it is.
fn key(text: &str) -> Result<Cow<'_, str>, Problem> {
    let text = text.trim();
    if !text.starts_with('"') {
        return Ok(text.into());
    }
    let item = sfv::Parser::new(text).parse::<sfv::Item>().ok();
    let string = item.as_ref().and_then(|item| item.bare_item.as_string());
    let string =
        string.ok_or_else(|| Problem::new(Kind::KeyInvalid).detail("Idempotency-Key is no string (RFC 9651)"))?;
    Ok(string.as_str().to_owned().into())
}

/// The form of a transaction id.
pub(super) fn is_transaction_id(id: &str) -> bool {
    (8..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with_key(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append("idempotency-key", HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_transaction_id_comes_from_the_header_or_the_body_and_both_agree() {
        let none = HeaderMap::new();
        assert_eq!(transaction_id(&with_key("draft-0001"), None).unwrap(), "draft-0001");
        assert_eq!(transaction_id(&with_key("\"draft-0001\""), Some("draft-0001")).unwrap(), "draft-0001");
        assert_eq!(transaction_id(&none, Some("draft-0001")).unwrap(), "draft-0001");
        let kind = |headers: &HeaderMap, body: Option<&str>| transaction_id(headers, body).unwrap_err().kind();
        assert_eq!(kind(&none, None), Kind::KeyMissing);
        assert_eq!(kind(&with_key("draft-0001"), Some("draft-0002")), Kind::KeyMismatch);
        for good in [r#" "draft-0001""#, r#""draft-0001";v=1;of="a \"phone\"";q"#] {
            assert_eq!(transaction_id(&with_key(good), Some("draft-0001")).unwrap(), "draft-0001", "{good}");
        }
        let bad = [
            r#""draft\-0001""#,
            r#""draft\"0001""#,
            r#""draft-0001"x"#,
            r#""draft-0001";"#,
            r#""draft-0001", "draft-0001""#,
        ];
        for bad in bad.into_iter().chain(["draft-0001;v=1"]) {
            assert_eq!(kind(&with_key(bad), None), Kind::KeyInvalid, "{bad}");
        }
        for bad in ["", "short", "has a space", "slash/is/ours", "\"draft-0001"] {
            assert_eq!(kind(&with_key(bad), None), Kind::KeyInvalid, "{bad}");
        }
        let long = "x".repeat(129);
        assert_eq!(kind(&none, Some(&long)), Kind::KeyInvalid);
        let mut twice = with_key("draft-0001");
        twice.append("idempotency-key", HeaderValue::from_static("draft-0001"));
        assert_eq!(kind(&twice, None), Kind::KeyInvalid);
    }

    #[test]
    fn only_a_well_formed_trace_context_goes_on() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_static(value));
            traceparent(&headers)
        };
        assert!(with("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_some());
        assert!(with("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01").is_none());
        assert!(with("a citizen's name").is_none());
    }
}
