//! Receivers for search, audit, metrics, notification and webhooks: any name is one.

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use uuid::Uuid;

use super::{Fate, State, ledger};

#[derive(Deserialize)]
pub(super) struct Envelope {
    kind: String,
    record: Record,
}

#[derive(Deserialize)]
struct Record {
    id: Uuid,
}

/// Takes one message: 401 without a good token, 400 without an id, else its effect happens once.
pub(super) async fn receive(
    Shared(state): Shared<State>,
    Path(destination): Path<String>,
    headers: HeaderMap,
    axum::Json(envelope): axum::Json<Envelope>,
) -> StatusCode {
    if !authorized(&state, &headers).await {
        return StatusCode::UNAUTHORIZED;
    }
    let Some(id) = transaction_id(&headers) else {
        return StatusCode::BAD_REQUEST;
    };
    let fate = state.fate();
    let done = if fate == Fate::FailsBefore {
        ledger::note_failure(&state.db, &destination, id).await
    } else {
        ledger::happen(&state.db, &destination, id, &envelope.kind, Some(envelope.record.id)).await.map(drop)
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
