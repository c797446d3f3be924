//! What is sent: a pure function of the action that a message is rendered from, so that every attempt has the same
//! bytes.
//!
//! `event`: a JSON envelope, with the declaration for destinations that subscribe to more than audit and metrics.
//! `event-registration`: the declaration's bundle, stamped with the status; a flat declaration goes in the envelope.

use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::outbox::destination::Format;
use crate::outbox::{Claimed, Effect};
use crate::records::fhir::{self, Declaration, DeclarationError, Stamp};
use crate::records::model::{ActionKind, ActionStatus, Status};
use crate::records::queries::Source;

/// Why a message cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The stored declaration is not readable any more.
    #[error("the stored declaration cannot be stamped")]
    Declaration(#[from] DeclarationError),
    /// It is not JSON.
    #[error("the payload cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Whether a destination gets the declaration: audit and metrics need no personal data and get none.
pub fn carries_declaration(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| !matches!(effect, Effect::Audit | Effect::Metrics))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    transaction_id: &'a str,
    kind: &'a str,
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

/// The path after the destination's URL.
pub fn path(format: Format) -> &'static str {
    match format {
        Format::OpencrvsEventRegistration => "/event-registration",
        _ => "",
    }
}

/// Renders a message.
pub fn render(
    format: Format,
    message: &Claimed,
    source: &Source,
    declaration: Option<String>,
) -> Result<Vec<u8>, PayloadError> {
    let stamped = declaration.map(|text| stamp(&text, source)).transpose()?;
    match (format, stamped) {
        (Format::OpencrvsEventRegistration, Some((fhir::Form::Bundle, text))) => Ok(text.into_bytes()),
        (_, stamped) => envelope(message, source, stamped.map(|(_, text)| text)),
    }
}

fn stamp(text: &str, source: &Source) -> Result<(fhir::Form, String), PayloadError> {
    let declaration = Declaration::parse(text)?;
    let stamp = Stamp {
        record_id: source.record_id,
        event: &source.event,
        tracking_id: &source.tracking_id,
        status: source.record_status.reg_status(),
        registration_number: source.registration_number.as_deref(),
        identifiers: &[],
    };
    Ok((declaration.form(), declaration.stamped(&stamp, &[])?))
}

fn envelope(message: &Claimed, source: &Source, declaration: Option<String>) -> Result<Vec<u8>, PayloadError> {
    let declaration = declaration.map(RawValue::from_string).transpose()?;
    let envelope = Envelope {
        transaction_id: &message.transaction_id,
        kind: &message.kind,
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
        declaration: declaration.as_deref(),
    };
    Ok(serde_json::to_vec(&envelope)?)
}
