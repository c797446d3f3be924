//! A country config that speaks the wire of the real ones: it takes the stamped bundle at `/event-registration`, and
//! calls the service back with the token that it was sent.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::receivers::{authorized, bearer, transaction_id};
use super::{Fate, Mode, State, ledger};

const NAME: &str = "country-config";

/// Tries of a late callback, a second apart.
const LATE_TRIES: usize = 60;

/// What a country config reads in a bundle.
struct Registration {
    record_id: Uuid,
    tracking_id: String,
}

/// Takes a registration.
pub(super) async fn event_registration(Shared(state): Shared<State>, headers: HeaderMap, body: Bytes) -> Response {
    if !authorized(&state, &headers).await {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(registration) = read(&body) else {
        // As the real one: a bundle it does not understand is its own error.
        return (StatusCode::INTERNAL_SERVER_ERROR, "not a registration").into_response();
    };
    let id = transaction_id(&headers).unwrap_or_default().to_owned();
    let fate = state.fate();
    if fate == Fate::FailsBefore || must_fail(&state, &id).await {
        let noted = ledger::note_failure(&state.db, NAME, &id).await;
        return if noted.is_ok() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR }
            .into_response();
    }
    if ledger::happen(&state.db, NAME, &id, "event-registration", Some(registration.record_id)).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let token = bearer(&headers).unwrap_or_default().to_owned();
    let answer = answer(&state, registration, token).await;
    if fate == Fate::FailsAfter { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { answer }
}

async fn must_fail(state: &State, id: &str) -> bool {
    state.settings.mode == Mode::FailThenConfirm
        && ledger::failures(&state.db, NAME, id).await.is_ok_and(|n| n < state.settings.failures)
}

async fn answer(state: &State, registration: Registration, token: String) -> Response {
    match state.settings.mode {
        Mode::Accept => {
            (StatusCode::OK, axum::Json(json!({ "registrationNumber": number(&registration) }))).into_response()
        }
        Mode::Reject => {
            (StatusCode::BAD_REQUEST, axum::Json(json!({ "reason": "the sandbox rejects" }))).into_response()
        }
        Mode::Silent => StatusCode::ACCEPTED.into_response(),
        Mode::Later => {
            tokio::spawn(confirm_later(state.clone(), registration, token));
            StatusCode::ACCEPTED.into_response()
        }
        // The callback first, the answer after it: so does the stock country config, on every record.
        Mode::Confirm | Mode::FailThenConfirm => if confirm(state, &registration, &token).await {
            StatusCode::ACCEPTED
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        .into_response(),
    }
}

async fn confirm_later(state: State, registration: Registration, token: String) {
    tokio::time::sleep(state.settings.delay).await;
    for _ in 0..LATE_TRIES {
        if confirm(&state, &registration, &token).await {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// True if the service took it.
async fn confirm(state: &State, registration: &Registration, token: &str) -> bool {
    let url = format!("{}/records/{}/confirm", state.settings.gateway, registration.record_id);
    let body = json!({ "registrationNumber": number(registration), "trackingId": registration.tracking_id });
    let sent = state.client.post(url).bearer_auth(token).json(&body).send().await;
    sent.is_ok_and(|response| response.status().is_success())
}

/// The year and the tracking id, as the stock country config numbers registrations.
fn number(registration: &Registration) -> String {
    format!("{}{}", time::OffsetDateTime::now_utc().year(), registration.tracking_id)
}

/// Reads a stamped bundle, or the envelope that a flat declaration comes in.
fn read(body: &[u8]) -> Option<Registration> {
    let sent: Value = serde_json::from_slice(body).ok()?;
    if let Some(record) = sent.get("record") {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        return Some(Registration {
            record_id: text("id")?.parse().ok()?,
            tracking_id: text("trackingId")?.to_owned(),
        });
    }
    let entries = sent.get("entry")?.as_array()?;
    let resources: Vec<&Value> = entries.iter().filter_map(|entry| entry.get("resource")).collect();
    let is = |resource: &Value, kind: &str| resource.get("resourceType").is_some_and(|t| t == kind);
    let composition = resources.first().filter(|r| is(r, "Composition"))?;
    let task = resources.iter().find(|r| is(r, "Task") && r.get("extension").is_some())?;
    let is_tracking_id =
        |i: &&Value| i.get("system").and_then(Value::as_str).is_some_and(|s| s.ends_with("-tracking-id"));
    let tracking_id = task.get("identifier")?.as_array()?.iter().find(is_tracking_id)?.get("value")?.as_str()?;
    Some(Registration {
        record_id: composition.get("id")?.as_str()?.parse().ok()?,
        tracking_id: tracking_id.to_owned(),
    })
}
