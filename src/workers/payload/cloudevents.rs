//! `CloudEvents` 1.0.2, structured mode (JSON format): <https://github.com/cloudevents/spec>.
//!
//! The id is the message's transaction id, the same at each attempt; `type` is what the action did, the same in all of
//! its messages; `kind`, an extension, is the consequence that this message is.

use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Payload, PayloadError, Subject};
use crate::records::model::{ActionKind, ActionStatus, Status};

const SOURCE: &str = "/crvs-outbox";

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    r#type: String,
    subject: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    datacontenttype: &'static str,
    kind: &'a str,
    data: Data<'a>,
}

/// The record, the action, and the declaration where it is carried.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    event: &'a str,
    record: Record<'a>,
    action: Action<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    declaration: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    id: Uuid,
    tracking_id: &'a str,
    status: Status,
    version: i32,
    registration_number: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Action<'a> {
    id: Uuid,
    #[serde(rename = "action")]
    kind: ActionKind,
    status: ActionStatus,
    transaction_id: &'a str,
    created_by: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

pub(super) fn render(subject: &Subject<'_>) -> Result<Payload, PayloadError> {
    let event = Event {
        specversion: "1.0",
        id: &subject.message.transaction_id,
        source: SOURCE,
        r#type: format!("org.crvs.record.{}.v1", word(subject.source.action, subject.source.action_status)),
        subject: subject.source.record_id,
        time: subject.source.created_at,
        datacontenttype: "application/json",
        kind: &subject.message.kind,
        data: data(subject),
    };
    let body = subject.json(&event)?;
    Ok(Payload { content_type: "application/cloudevents+json", ..Payload::json(String::new(), body) })
}

/// The data of a message.
pub(super) fn data<'a>(subject: &Subject<'a>) -> Data<'a> {
    let source = subject.source;
    Data {
        event: &source.event,
        record: Record {
            id: source.record_id,
            tracking_id: &source.tracking_id,
            status: source.record_status,
            version: source.version,
            registration_number: source.registration_number.as_deref(),
        },
        action: Action {
            id: source.action_id,
            kind: source.action,
            status: source.action_status,
            transaction_id: &source.transaction_id,
            created_by: &source.created_by,
            created_at: source.created_at,
        },
        declaration: subject.declaration(),
    }
}

/// What an action did. Not the record's status: what is marked as no duplicate stays `declared`, and is not declared
/// again.
fn word(action: ActionKind, status: ActionStatus) -> &'static str {
    match (action, status) {
        (ActionKind::Notify, _) => "in-progress",
        (ActionKind::Declare, _) => "declared",
        (ActionKind::Validate, _) => "validated",
        (ActionKind::Register, ActionStatus::Requested) => "waiting-validation",
        (ActionKind::Register, ActionStatus::Accepted) => "registered",
        (ActionKind::Register, ActionStatus::Rejected) | (ActionKind::Reject, _) => "rejected",
        (ActionKind::MarkNotDuplicate, _) => "not-duplicate",
        (ActionKind::Archive, _) => "archived",
    }
}
