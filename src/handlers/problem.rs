//! Errors as `application/problem+json` (RFC 9457): the only place that knows status codes of errors.
//!
//! A detail names fields, positions and rules, never values of the request: they are personal data.

use std::any::Any;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::auth::AuthError;
use crate::records::commands::CommandError;

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
}

impl Problem {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, detail: None, challenge: None, retry_after: None }
    }

    #[cfg(test)]
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

    pub(super) fn retry(kind: Kind, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(kind) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.parts();
        let mut body = json!({
            "type": format!("urn:crvs-outbox:problem:{slug}"),
            "title": title,
            "status": status.as_u16(),
        });
        if let (Some(detail), Some(members)) = (self.detail, body.as_object_mut()) {
            members.insert("detail".to_owned(), detail.into());
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge.and_then(|c| HeaderValue::from_str(&c).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
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
            CommandError::Declaration(invalid) => Self::new(Kind::InvalidDeclaration).detail(invalid.to_string()),
            CommandError::Database(error) => error.into(),
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
