//! Receivers for search, audit, metrics, notification and webhooks: any name is one.

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Fate, State, ledger};

/// Where a request came to; what its format adds to the path does not matter here.
#[derive(Deserialize)]
pub(super) struct At {
    destination: String,
}

/// Where the formats have the record's id; the last two are those of flat declarations.
const RECORD_ID: [&str; 6] = [
    "/subject",
    "/additionalData/compositionId",
    "/record/entry/0/resource/id",
    "/entry/0/resource/id",
    "/record/record/id",
    "/record/id",
];

/// The consequence and the record, in whatever format: a ledger needs no more. What does not name its consequence has
/// it at the start of its id.
fn what(id: &str, body: &Value) -> (String, Option<Uuid>) {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let of_id = id.split_once("__").map(|(kind, _)| kind);
    let kind = text("/kind").or_else(|| text("/action")).or(of_id).unwrap_or("unknown");
    (kind.to_owned(), RECORD_ID.into_iter().find_map(text).and_then(|id| id.parse().ok()))
}

/// Takes one message: 401 without a good token, 400 without an id, else its effect happens once.
pub(super) async fn receive(
    Shared(state): Shared<State>,
    Path(at): Path<At>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Value>,
) -> StatusCode {
    if !authorized(&state, &headers).await {
        return StatusCode::UNAUTHORIZED;
    }
    let Some(id) = transaction_id(&headers) else {
        return StatusCode::BAD_REQUEST;
    };
    let (kind, record) = what(id, &body);
    let destination = at.destination;
    let fate = state.fate();
    let done = if fate == Fate::FailsBefore {
        ledger::note_failure(&state.db, &destination, id).await
    } else {
        ledger::happen(&state.db, &destination, id, &kind, record).await.map(drop)
    };
    match (fate, done) {
        (Fate::Fine, Ok(())) => StatusCode::OK,
        (Fate::FailsBefore | Fate::FailsAfter, _) | (Fate::Fine, Err(_)) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Whether the request carries a token of the service.
pub(super) async fn authorized(state: &State, headers: &HeaderMap) -> bool {
    let Some(verifier) = &state.verifier else {
        return true;
    };
    let Some(token) = bearer(headers) else {
        return false;
    };
    match verifier.verify(token).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the sandbox refused a token");
            false
        }
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

pub(super) fn transaction_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("idempotency-key")?.to_str().ok()
}
