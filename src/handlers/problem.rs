//! Errors as `application/problem+json` (RFC 9457): the only place that knows status codes of errors.
//!
//! A detail names fields, positions and rules, never values of the request: they are personal data.

use std::any::Any;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::auth::AuthError;
use crate::records::commands::CommandError;

/// Things that are wrong with one body that a problem lists at most.
const LISTED: usize = 100;

/// What kind of problem it is; the slug is part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BodyMissing,
    BodyUnreadable,
    NotJson,
    BadRequest,
    UnknownEvent,
    InvalidDeclaration,
    InvalidAttachment,
    UnknownAttachment,
    DigestMismatch,
    RangeNotSatisfiable,
    Busy,
    InvalidId,
    KeyMissing,
    KeyInvalid,
    KeyMismatch,
    Unauthorized,
    Forbidden,
    NotFound,
    CursorInvalid,
    CursorExpired,
    TooManyWaiting,
    MethodNotAllowed,
    Conflict,
    InProgress,
    TooLarge,
    HeadersTooLarge,
    BodyTooSlow,
    UnsupportedEncoding,
    RateLimited,
    TimedOut,
    TooManyItems,
    UnsupportedType,
    KeyReused,
    Internal,
    Unavailable,
    Overloaded,
}

impl Kind {
    /// Its status, its slug and its title.
    pub(super) fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BodyMissing => (S::BAD_REQUEST, "body-missing", "The request has no body"),
            Self::BodyUnreadable => (S::BAD_REQUEST, "body-unreadable", "The body could not be read"),
            Self::NotJson => (S::BAD_REQUEST, "not-json", "The body is not acceptable JSON"),
            Self::BadRequest => (S::BAD_REQUEST, "bad-request", "The request is not understood"),
            Self::UnknownEvent => (S::BAD_REQUEST, "unknown-event", "The event is not known here"),
            Self::InvalidDeclaration => (S::BAD_REQUEST, "invalid-declaration", "The declaration is not acceptable"),
            Self::InvalidAttachment => (S::BAD_REQUEST, "invalid-attachment", "An attachment is not acceptable"),
            Self::UnknownAttachment => {
                (S::BAD_REQUEST, "unknown-attachment", "An attachment is not here, or not for you")
            }
            Self::DigestMismatch => {
                (S::UNPROCESSABLE_ENTITY, "digest-mismatch", "The bytes are not those of the digest in the path")
            }
            Self::RangeNotSatisfiable => {
                (S::RANGE_NOT_SATISFIABLE, "range-not-satisfiable", "There are no bytes in this range")
            }
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", "Too many large bodies are being worked on"),
            Self::InvalidId => (S::BAD_REQUEST, "invalid-id", "The id in the path is not one"),
            Self::KeyMissing => (S::BAD_REQUEST, "idempotency-key-missing", "A transaction id is needed"),
            Self::KeyInvalid => (S::BAD_REQUEST, "idempotency-key-invalid", "The transaction id is not acceptable"),
            Self::KeyMismatch => (S::BAD_REQUEST, "idempotency-key-mismatch", "Two transaction ids disagree"),
            Self::Unauthorized => (S::UNAUTHORIZED, "unauthorized", "A valid bearer token is needed"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "The token does not allow this"),
            Self::NotFound => (S::NOT_FOUND, "not-found", "There is no such thing, or not for you"),
            Self::CursorInvalid => (S::BAD_REQUEST, "invalid-cursor", "The cursor is none of ours"),
            Self::CursorExpired => (S::GONE, "cursor-expired", "The cursor is too old"),
            Self::TooManyWaiting => (S::SERVICE_UNAVAILABLE, "too-many-waiting", "Too many are waiting already"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here"),
            Self::Conflict => (S::CONFLICT, "conflict", "The record's state does not allow this"),
            Self::InProgress => (S::CONFLICT, "idempotency-in-progress", "The same request is being worked on"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::HeadersTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "The request's header is too large")
            }
            Self::BodyTooSlow => (S::REQUEST_TIMEOUT, "body-too-slow", "The body came too slowly"),
            Self::UnsupportedEncoding => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", "The body's encoding is not known here")
            }
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "rate-limited", "Too many requests"),
            Self::TimedOut => (S::SERVICE_UNAVAILABLE, "timed-out", "The answer took too long"),
            Self::TooManyItems => (S::PAYLOAD_TOO_LARGE, "too-many-items", "The list has too many items"),
            Self::UnsupportedType => (S::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has to be JSON"),
            Self::KeyReused => {
                (S::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The transaction id was used for another request")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here"),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "The service cannot do this now"),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", "Too much is waiting to be delivered"),
        }
    }
}

/// A problem, on its way to the client.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: Option<String>,
    challenge: Option<String>,
    retry_after: Option<u32>,
    faults: Vec<Fault>,
}

/// One thing that is wrong with a request's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What kind of problem it is by itself.
    pub(super) kind: Kind,
    /// Where: a JSON pointer (RFC 6901) into the request's body.
    pub(super) pointer: String,
    /// What, without any value.
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, pointer: pointer.into(), detail: detail.into() }
    }
}

impl Problem {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, detail: None, challenge: None, retry_after: None, faults: Vec::new() }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// 401 without a token (RFC 6750 §3.1: no error code then).
    pub(super) fn no_token() -> Self {
        Self { challenge: Some("Bearer".to_owned()), ..Self::new(Kind::Unauthorized) }
    }

    /// 403 for want of a scope.
    pub(super) fn insufficient(scope: &str) -> Self {
        let challenge = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
        Self { challenge: Some(challenge), ..Self::new(Kind::Forbidden) }.detail(format!("needs the scope {scope}"))
    }

    /// Jittered, so that a whole district that was refused does not come back in one moment.
    pub(super) fn overloaded() -> Self {
        Self::retry(Kind::Overloaded, rand::random_range(15..=60))
            .detail("nothing was written; the same request may be sent again after Retry-After seconds")
    }

    /// One that passes: the same request may be sent again after so long.
    pub(super) fn retry(kind: Kind, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(kind) }
    }

    /// All that is wrong with a request's content. One kind of fault is the problem's kind too, several are
    /// `bad-request`; the detail is that of the first.
    pub(super) fn faults(mut faults: Vec<Fault>) -> Self {
        let mut kinds = faults.iter().map(|fault| fault.kind);
        let first = kinds.next().unwrap_or(Kind::BadRequest);
        let kind = if kinds.all(|kind| kind == first) { first } else { Kind::BadRequest };
        let detail = faults.first().map(|fault| match faults.len() {
            1 => fault.detail.clone(),
            more if more > LISTED => format!("{}; errors lists the first {LISTED} of {more}", fault.detail),
            more => format!("{}; errors lists all {more}", fault.detail),
        });
        faults.truncate(LISTED);
        Self { detail, faults, ..Self::new(kind) }
    }

    /// One thing that is wrong.
    pub(super) fn fault(kind: Kind, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::faults(vec![Fault::new(kind, pointer, detail)])
    }

    /// The same, as a part of a larger body: `prefix` goes before every pointer.
    pub(super) fn under(mut self, prefix: &str) -> Self {
        for fault in &mut self.faults {
            fault.pointer.insert_str(0, prefix);
        }
        self
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.kind.parts().0
    }

    /// What is wrong, in words that hold no value of the request.
    pub(super) fn message(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.kind.parts().2)
    }

    /// The name of its kind.
    pub(super) fn slug(&self) -> &'static str {
        self.kind.parts().1
    }

    /// When to come back, in seconds.
    pub(super) fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// The problem document (RFC 9457).
    pub(super) fn document(&self) -> Value {
        let (status, slug, title) = self.kind.parts();
        let mut body = json!({
            "type": format!("urn:crvs-outbox:problem:{slug}"),
            "title": title,
            "status": status.as_u16(),
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.detail.clone().map(|detail| ("detail".to_owned(), detail.into())));
            if !self.faults.is_empty() {
                let errors = self.faults.iter().map(|f| json!({ "pointer": f.pointer, "detail": f.detail }));
                members.insert("errors".to_owned(), errors.collect());
            }
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.answer("application/problem+json", self.document().to_string());
        response.extensions_mut().insert(self);
        response
    }
}

impl Problem {
    /// The same, told in the words of a protocol that has its own: a JSON text.
    pub(super) fn told_as(&self, body: String) -> Response {
        self.answer("application/json", body)
    }

    fn answer(&self, content_type: &'static str, body: String) -> Response {
        let status = self.status();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(challenge) = self.challenge.as_ref().and_then(|c| HeaderValue::from_str(c).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.kind == Kind::UnsupportedEncoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        if let AuthError::KeysUnavailable(_) = &error {
            tracing::error!(error = &error as &dyn std::error::Error, "tokens cannot be verified");
            return Self::retry(Kind::Unavailable, 5);
        }
        let description = error.description();
        let challenge = format!(r#"Bearer error="invalid_token", error_description="{description}""#);
        Self { challenge: Some(challenge), ..Self::new(Kind::Unauthorized) }.detail(description)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        if error.is_contention() {
            return Self::retry(Kind::InProgress, 1);
        }
        match error {
            CommandError::NotFound => Self::new(Kind::NotFound),
            CommandError::Refused(refused) => Self::new(Kind::Conflict).detail(refused.to_string()),
            CommandError::AlreadyDecided
            | CommandError::Superseded
            | CommandError::NumberTaken
            | CommandError::WrongTrackingId => Self::new(Kind::Conflict).detail(error.to_string()),
            CommandError::Declaration(invalid) => {
                Self::fault(Kind::InvalidDeclaration, "/declaration", invalid.to_string())
            }
            CommandError::UnknownAttachment { pointer } => Self::faults(vec![super::attachments::unknown(&pointer)]),
            CommandError::Database(error) => error.into(),
            CommandError::NotTried => Self::retry(Kind::Unavailable, 2),
            CommandError::NoTrackingId | CommandError::Reply(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a command failed");
                Self::new(Kind::Internal)
            }
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        // A server's text can quote a row: its code is enough.
        let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        let connectionless = matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
        tracing::error!(sqlstate = code.as_deref(), connectionless, "the database failed");
        // Class 57: the server is going down or coming up; 53: out of resources.
        let passing = connectionless || code.is_some_and(|c| c.starts_with("57") || c.starts_with("53"));
        if passing { Self::retry(Kind::Unavailable, 2) } else { Self::new(Kind::Internal) }
    }
}

/// Says in a problem which request it is about (RFC 9457 §3.1.5). Other answers stay as they are.
pub(super) fn named(mut response: Response, request_id: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let mut document = problem.document();
    if let Some(members) = document.as_object_mut() {
        members.insert("instance".to_owned(), format!("urn:crvs-outbox:request:{request_id}").into());
    }
    // What it replaces may have been packed.
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
        response.headers_mut().remove(name);
    }
    *response.body_mut() = document.to_string().into();
    response
}

pub(super) async fn no_such_route() -> Problem {
    Problem::new(Kind::NotFound)
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed)
}

/// The panic's text stays here: it may quote anything.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Problem::new(Kind::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The slugs in the code above, so that nobody has to list them again.
    fn slugs() -> BTreeSet<&'static str> {
        let source = include_str!("problem.rs");
        let code = source.split("fn parts(self)").nth(1).unwrap().split("\n}\n").next().unwrap();
        let slugs = code.split("(S::").skip(1).map(|arm| arm.split('"').nth(1).unwrap());
        slugs.collect()
    }

    #[test]
    fn every_problem_is_explained_and_every_explained_problem_exists() {
        let docs = include_str!("../../docs/problems.md");
        let rows = docs.lines().filter_map(|line| line.strip_prefix("| `"));
        let explained: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        assert_eq!(slugs(), explained);
    }

    #[test]
    fn faults_of_several_kinds_are_a_bad_request_that_lists_them() {
        let event = || Fault::new(Kind::UnknownEvent, "/event", "known events: birth");
        let one = Problem::faults(vec![event()]).under("/items/3");
        assert_eq!(one.kind(), Kind::UnknownEvent);
        assert_eq!(one.document()["errors"], json!([{ "pointer": "/items/3/event", "detail": "known events: birth" }]));
        let two = Problem::faults(vec![event(), Fault::new(Kind::BadRequest, "/action", "unknown")]);
        assert_eq!(two.kind(), Kind::BadRequest);
        assert_eq!(two.document()["errors"].as_array().unwrap().len(), 2);
        let many = Problem::faults((0..100_000).map(|_| event()).collect()).document();
        assert_eq!(many["errors"].as_array().unwrap().len(), LISTED);
        assert!(many["detail"].as_str().unwrap().ends_with("the first 100 of 100000"));
    }
}
