//! `POST /token`: a token for one record in exchange for another token (RFC 8693), in the form that OpenCRVS's auth
//! service has it: its names of the grant and of the token's type beside those of the RFC, and the parameters in the query
//! or in a form, as the RFC has it, each of them once.
//!
//! What may be exchanged for what is [`crate::auth::narrowed`]'s to say. Here: what was asked, whether there is such a
//! record and such a requested action, and the answer. An unknown one is answered as one that the subject's token may not
//! decide: what exists is not told.
//!
//! Errors are those of OAuth (RFC 6749 §5.2), as clients of a token endpoint expect them, with the statuses of OpenCRVS:
//! 401 `unauthorized_client` where it is about the subject's token, 400 for the rest. What is not about this request (a
//! rate, a database that is away, a body that is too large) is a problem as everywhere.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use super::AppState;
use super::body;
use super::edge::Exchange as Edge;
use super::openapi::exchange::{ExchangeForm, OAuthErrors, RecordToken};
use super::openapi::problems::ExchangeProblems;
use super::openapi::tags;
use super::problem::{Kind, Problem};
use crate::auth::{self, AuthError, Exchanged, Principal, Refusal, Target};
use crate::records::queries;

/// The grant, as OpenCRVS names it and as RFC 8693 does.
const GRANT_TYPES: [&str; 2] =
    ["urn:opencrvs:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:token-exchange"];
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const RECORD_TOKEN: &str = "urn:opencrvs:oauth:token-type:single_record_token";

/// Largest body, in bytes: a token is 16 KiB at most.
const BODY_MAX: usize = 64 * 1024;

const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Why there is no token, in the words of RFC 6749 §5.2 and RFC 8693 §2.2.2, or of a problem.
#[derive(Debug)]
pub(super) enum NoToken {
    Request(&'static str),
    GrantType,
    Target,
    Scope,
    Subject(&'static str),
    Problem(Box<Problem>),
}

/// There is no such record or action, or none that is the subject's to decide.
const NOT_THEIRS: NoToken =
    NoToken::Request("the record or the action is not known, or the subject token may not decide it");

impl IntoResponse for NoToken {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::Problem(problem) => return ([NO_STORE], *problem).into_response(),
            Self::Request(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::GrantType => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "only token exchange is supported here")
            }
            Self::Target => (StatusCode::BAD_REQUEST, "invalid_target", "the token is for this service only"),
            Self::Scope => {
                (StatusCode::BAD_REQUEST, "invalid_scope", "the subject token holds none of the scopes asked for")
            }
            Self::Subject(why) => (StatusCode::UNAUTHORIZED, "unauthorized_client", why),
        };
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = (status, [NO_STORE], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 wants one with every 401.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Problem> for NoToken {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<sqlx::Error> for NoToken {
    fn from(error: sqlx::Error) -> Self {
        Problem::from(error).into()
    }
}

/// Exchange a token
///
/// For an integration that confirms or rejects a registration later: a token for one record in exchange for its own, in the
/// form of OpenCRVS's auth service (RFC 8693). It never grants what the subject token does not hold: that needs
/// `record.confirm-registration` or `record.reject-registration` itself, or is a token for the same record, which the new
/// one does not outlive. The parameters may be in the query too, each of them once; `audience`, if it is there, is this
/// service's own, and `resource` and `actor_token` are not supported. An unknown record is answered as one that the subject
/// token may not decide.
#[utoipa::path(
    post, path = "/token", operation_id = "exchangeToken", tag = tags::COUNTRY,
    request_body(content = ExchangeForm, content_type = "application/x-www-form-urlencoded"),
    responses(RecordToken, OAuthErrors, ExchangeProblems),
)]
pub(super) async fn exchange(State(state): State<AppState>, request: Request) -> Result<Response, NoToken> {
    let (parts, body) = request.into_parts();
    let parameters = Parameters::read(&parts, body).await?;
    let (target, subject_token) = parameters.asked(&state)?;
    let subject = Box::pin(verified(&state, &parts, subject_token)).await?;
    let event = known(&state, target).await?.ok_or(NOT_THEIRS)?;
    let narrowed = auth::narrowed(&subject, target, &event, parameters.get("scope"));
    let exchange = narrowed.map_err(|refusal| match refusal {
        Refusal::NotTheirs => NOT_THEIRS,
        Refusal::Scope => NoToken::Scope,
    })?;
    let minted = state.minter.for_exchange(&exchange).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a token could not be minted");
        Problem::new(Kind::Internal)
    })?;
    minted.as_ref().map(answer).ok_or(NoToken::Subject("the subject token has expired"))
}

fn answer(exchanged: &Exchanged) -> Response {
    let body = json!({
        "access_token": exchanged.token,
        "issued_token_type": RECORD_TOKEN,
        "token_type": "Bearer",
        "expires_in": exchanged.expires_in.as_secs(),
        "scope": exchanged.scopes.join(" "),
    });
    ([NO_STORE], Json(body)).into_response()
}

/// Whose token it is; counted against their rate like any other request of theirs.
async fn verified(state: &AppState, parts: &Parts, token: &str) -> Result<Principal, NoToken> {
    let subject = state.verifier.verify(token).await.map_err(|error| match error {
        AuthError::KeysUnavailable(_) => NoToken::from(Problem::from(error)),
        AuthError::Malformed
        | AuthError::AlgorithmNotAllowed
        | AuthError::UnknownIssuer
        | AuthError::UnknownKey
        | AuthError::BadSignature
        | AuthError::Expired
        | AuthError::NotYetValid
        | AuthError::WrongAudience
        | AuthError::MissingClaim(_) => NoToken::Subject(error.description()),
    })?;
    if let Some(edge) = parts.extensions.get::<Edge>() {
        edge.admit(&subject)?;
    }
    Ok(subject)
}

/// The event of a record, if there is such a record and, where one is named, such a requested action on it.
async fn known(state: &AppState, target: Target) -> Result<Option<String>, NoToken> {
    let mut conn = state.db.acquire().await?;
    let record = queries::record(&mut conn, target.record_id()).await.map_err(Problem::from)?;
    let Some(record) = record else {
        return Ok(None);
    };
    let requested = match target.action_id() {
        Some(action) => queries::is_requested(&mut conn, target.record_id(), action).await?,
        None => true,
    };
    Ok(requested.then_some(record.view.event))
}

/// The parameters of a request, each of them once. Those without a value are as those that are not there (RFC 6749 §3.2).
struct Parameters(HashMap<String, String>);

impl Parameters {
    async fn read(parts: &Parts, body: Body) -> Result<Self, NoToken> {
        let bytes = match body::whole(parts, body, BODY_MAX).await {
            Err(problem) if problem.kind() == Kind::BodyUnreadable => {
                return Err(NoToken::Request("the body could not be read"));
            }
            read => read?,
        };
        if !bytes.is_empty() && !is_form(&parts.headers) {
            return Err(NoToken::Request("send the parameters as application/x-www-form-urlencoded"));
        }
        let query = parts.uri.query().unwrap_or_default();
        Self::of([query.as_bytes(), &bytes])
    }

    fn of(encoded: [&[u8]; 2]) -> Result<Self, NoToken> {
        let mut parameters = HashMap::new();
        for (name, value) in encoded.into_iter().flat_map(form_urlencoded::parse) {
            if !value.is_empty() && parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(NoToken::Request("a parameter is there twice"));
            }
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The record that a token is asked for, and the token that is offered for it.
    fn asked(&self, state: &AppState) -> Result<(Target, &str), NoToken> {
        match self.get("grant_type") {
            Some(grant) if GRANT_TYPES.contains(&grant) => {}
            Some(_) => return Err(NoToken::GrantType),
            None => return Err(NoToken::Request("grant_type is missing")),
        }
        let token = self.get("subject_token").ok_or(NoToken::Request("subject_token is missing"))?;
        if self.get("subject_token_type") != Some(ACCESS_TOKEN) {
            return Err(NoToken::Request("subject_token_type has to be urn:ietf:params:oauth:token-type:access_token"));
        }
        if self.get("requested_token_type") != Some(RECORD_TOKEN) {
            let why = "requested_token_type has to be urn:opencrvs:oauth:token-type:single_record_token";
            return Err(NoToken::Request(why));
        }
        if self.get("actor_token").is_some() || self.get("actor_token_type").is_some() {
            return Err(NoToken::Request("actor_token is not supported"));
        }
        let elsewhere = self.get("audience").is_some_and(|audience| audience != state.minter.gateway_audience());
        if elsewhere || self.get("resource").is_some() {
            return Err(NoToken::Target);
        }
        Ok((self.target()?, token))
    }

    fn target(&self) -> Result<Target, NoToken> {
        let id = |text: &str| text.parse::<Uuid>().map_err(|_no_uuid| NoToken::Request("an id is a UUID"));
        match (self.get("record_id"), self.get("event_id"), self.get("action_id")) {
            (Some(record), None, None) => Ok(Target::Record(id(record)?)),
            (None, Some(event), Some(action)) => Ok(Target::Action { event_id: id(event)?, action_id: id(action)? }),
            _ => Err(NoToken::Request("either record_id, or event_id and action_id, are needed")),
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split([';', ',']).next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
