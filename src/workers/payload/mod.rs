//! What is sent: a pure function of the action that a message is rendered from, so that every attempt has the same
//! bytes.
//!
//! | format | request | body |
//! |---|---|---|
//! | `cloudevents` | `POST {url}` | a structured `CloudEvent` 1.0 |
//! | `opencrvs-search` | `POST {url}/record` | the record and the transaction id |
//! | `opencrvs-metrics` | `POST {url}/events/{event}/{kind}` | the record and the message's id |
//! | `opencrvs-audit` | `POST {url}/audit/events` | the action, the message's id, the record's ids |
//! | `opencrvs-notification` | `POST {url}/{event}/{kind}` | the record |
//! | `opencrvs-event-registration` | `POST {url}/event-registration` | the record |
//! | `opencrvs-trigger` | `POST {url}/trigger/events/{event}/actions/{ACTION}` | the event document, as of the action |
//!
//! The record is the declaration's FHIR bundle, stamped with its ids and status; of a flat declaration, which has no
//! bundle, it is what a `CloudEvent` has as its data.
//!
//! Audit and metrics need no personal data: destinations that subscribe to nothing else get no declaration, unless they
//! are configured with a format that has the record in it.

mod cloudevents;
pub(super) mod opencrvs;

use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::outbox::destination::Format;
use crate::outbox::{Claimed, Effect};
use crate::records::fhir::{Declaration, DeclarationError, Form, Stamp};
use crate::records::queries::Source;

/// Why a message cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The stored declaration is not readable any more.
    #[error("the stored declaration cannot be stamped")]
    Declaration(#[from] DeclarationError),
    /// The event's document is not there.
    #[error("there is no event document")]
    NoDocument,
    /// It is not JSON.
    #[error("the payload cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// A rendered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// What follows the destination's URL.
    pub path: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Headers of the format.
    pub headers: HeaderMap,
    /// A JSON object.
    pub body: Vec<u8>,
}

impl Payload {
    fn json(path: String, body: Vec<u8>) -> Self {
        Self { path, content_type: "application/json", headers: HeaderMap::new(), body }
    }
}

/// Whether a destination gets the declaration.
pub fn carries_declaration(format: Format, effects: &[Effect]) -> bool {
    match format {
        Format::Cloudevents => effects.iter().any(|effect| !matches!(effect, Effect::Audit | Effect::Metrics)),
        Format::OpencrvsAudit | Format::OpencrvsTrigger => false, // the latter's document has it
        Format::OpencrvsSearch
        | Format::OpencrvsMetrics
        | Format::OpencrvsNotification
        | Format::OpencrvsEventRegistration => true,
    }
}

/// A message with what it is rendered from.
struct Subject<'a> {
    message: &'a Claimed,
    source: &'a Source,
    declaration: Option<&'a Stamped<'a>>,
}

/// A declaration with the facts of its record in it.
enum Stamped<'a> {
    /// A flat one, into which nothing is stamped.
    Flat(&'a RawValue),
    Bundle(Box<RawValue>),
}

impl Stamped<'_> {
    fn json(&self) -> &RawValue {
        match self {
            Self::Flat(json) => json,
            Self::Bundle(json) => json,
        }
    }
}

/// Bytes that a payload has besides the declaration, about.
const AROUND: usize = 1024;

/// The bundle, or what stands for it: passed through, not built anew.
#[derive(Serialize)]
#[serde(untagged)]
enum Record<'a> {
    Bundle(&'a RawValue),
    Data(cloudevents::Data<'a>),
}

impl<'a> Subject<'a> {
    fn declaration(&self) -> Option<&'a RawValue> {
        self.declaration.map(Stamped::json)
    }

    fn record(&self) -> Record<'a> {
        match self.declaration {
            Some(Stamped::Bundle(bundle)) => Record::Bundle(bundle),
            Some(Stamped::Flat(_)) | None => Record::Data(cloudevents::data(self)),
        }
    }

    /// A body, in one piece of memory as a rule.
    fn json(&self, value: &impl Serialize) -> Result<Vec<u8>, PayloadError> {
        let declared = self.declaration().map_or(0, |json| json.get().len());
        let mut body = Vec::with_capacity(declared + AROUND);
        serde_json::to_writer(&mut body, value)?;
        Ok(body)
    }
}

/// Renders a message: with the declaration if its source has it. `document` is the event's as of the action, for the format
/// that sends it.
pub fn render(
    format: Format,
    message: &Claimed,
    source: &Source,
    document: Option<String>,
) -> Result<Payload, PayloadError> {
    let declaration = source.declaration.as_deref().map(|text| stamp(text, source)).transpose()?;
    let subject = Subject { message, source, declaration: declaration.as_ref() };
    match format {
        Format::Cloudevents => cloudevents::render(&subject),
        Format::OpencrvsSearch => opencrvs::search(&subject),
        Format::OpencrvsMetrics => opencrvs::metrics(&subject),
        Format::OpencrvsAudit => opencrvs::audit(&subject),
        Format::OpencrvsNotification => opencrvs::notification(&subject),
        Format::OpencrvsEventRegistration => opencrvs::event_registration(&subject),
        Format::OpencrvsTrigger => document.map(|text| opencrvs::trigger(source, text)).ok_or(PayloadError::NoDocument),
    }
}

fn stamp<'a>(text: &'a str, source: &Source) -> Result<Stamped<'a>, PayloadError> {
    let declaration = Declaration::parse(text)?;
    let stamp = Stamp {
        record_id: source.record_id,
        event: &source.event,
        tracking_id: &source.tracking_id,
        status: source.record_status.reg_status(),
        registration_number: source.registration_number.as_deref(),
        identifiers: &[],
    };
    Ok(match declaration.form() {
        Form::Bundle => Stamped::Bundle(RawValue::from_string(declaration.stamped(&stamp, &[])?)?),
        Form::Flat => Stamped::Flat(declaration.json()),
    })
}

#[cfg(test)]
mod tests;
