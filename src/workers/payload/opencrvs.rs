//! What OpenCRVS's services take of its workflow service: the requests of pull request 7559; and of its events service: the
//! triggers of 1.9.
//!
//! Its workflow names a transaction by the action and the client's id, `register_draft-0001`: ours, without the
//! consequence before it. Search gets that; metrics and audit, which write several consequences of one transaction, get
//! the whole id, and what it correlates with as a header.

use reqwest::header::{HeaderName, HeaderValue};
use serde::Serialize;
use uuid::Uuid;

use super::{Payload, PayloadError, Record, Subject};
use crate::records::event_document;
use crate::records::queries::Source;

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WithRecord<'a> {
    record: Record<'a>,
    transaction_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Audit<'a> {
    action: &'a str,
    transaction_id: &'a str,
    additional_data: AuditData<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditData<'a> {
    composition_id: Uuid,
    tracking_id: &'a str,
}

fn with_record(subject: &Subject<'_>, path: String, transaction_id: &str) -> Result<Payload, PayloadError> {
    Ok(Payload::json(path, subject.json(&WithRecord { record: subject.record(), transaction_id })?))
}

/// The transaction of which a message is a consequence: its id is `{kind}__{transaction}`.
fn transaction<'a>(subject: &Subject<'a>) -> &'a str {
    let id = subject.message.transaction_id.as_str();
    id.strip_prefix(&subject.message.kind).and_then(|rest| rest.strip_prefix("__")).unwrap_or(id)
}

fn correlated(mut payload: Payload, subject: &Subject<'_>) -> Payload {
    // A transaction id has no character that a header could not hold.
    if let Ok(id) = HeaderValue::from_str(transaction(subject)) {
        payload.headers.insert(CORRELATION_ID, id);
    }
    payload
}

/// What OpenCRVS calls a kind: there, what is rejected is sent for updates.
pub(in crate::workers) fn word(kind: &str) -> &str {
    if kind == "rejected" { "sent-for-updates" } else { kind }
}

/// `{event}/{kind}`: both are words of ours, without a character that a path would have to escape.
fn event_and_kind(subject: &Subject<'_>) -> String {
    format!("{}/{}", subject.source.event, word(&subject.message.kind))
}

pub(super) fn search(subject: &Subject<'_>) -> Result<Payload, PayloadError> {
    with_record(subject, "/record".to_owned(), transaction(subject))
}

pub(super) fn metrics(subject: &Subject<'_>) -> Result<Payload, PayloadError> {
    let path = format!("/events/{}", event_and_kind(subject));
    Ok(correlated(with_record(subject, path, &subject.message.transaction_id)?, subject))
}

pub(super) fn audit(subject: &Subject<'_>) -> Result<Payload, PayloadError> {
    let body = Audit {
        action: &subject.message.kind,
        transaction_id: &subject.message.transaction_id,
        additional_data: AuditData {
            composition_id: subject.source.record_id,
            tracking_id: &subject.source.tracking_id,
        },
    };
    Ok(correlated(Payload::json("/audit/events".to_owned(), subject.json(&body)?), subject))
}

pub(super) fn notification(subject: &Subject<'_>) -> Result<Payload, PayloadError> {
    Ok(Payload::json(format!("/{}", event_and_kind(subject)), subject.json(&subject.record())?))
}

pub(super) fn event_registration(subject: &Subject<'_>) -> Result<Payload, PayloadError> {
    Ok(Payload::json("/event-registration".to_owned(), subject.json(&subject.record())?))
}

/// The body is the event's document, passed through.
pub(super) fn trigger(source: &Source, document: String) -> Payload {
    let path = format!("/trigger/events/{}/actions/{}", source.event, event_document::word(source.action));
    Payload::json(path, document.into_bytes())
}
