//! What the benchmarks render, stamp and sign: the same bytes in every run.

use std::error::Error;

use crvs_outbox::outbox::Claimed;
use crvs_outbox::records::fhir::{Declaration, DeclarationError, Stamp};
use crvs_outbox::records::model::{ActionKind, ActionStatus, Status};
use crvs_outbox::records::queries::Source;
use crvs_outbox::samples;
use time::macros::datetime;
use uuid::Uuid;

/// What a benchmark fails with: a text for the person at the terminal.
pub(crate) type Failure = Box<dyn Error>;

const RECORD: Uuid = Uuid::from_u128(0x0194_2f3a_91c0_7b31_8a55_3c5d_7a10_0001);
const ACTION: Uuid = Uuid::from_u128(0x0194_2f3a_91c0_7b31_8a55_3c5d_7a10_0002);
const TRACKING_ID: &str = "B2X3ACD";

/// A claim on what a country is told of a registration.
pub(crate) fn message() -> Claimed {
    Claimed {
        id: 7,
        position: 7,
        due_at: datetime!(2026-11-01 12:00 UTC),
        lease: 1,
        kind: "registered".to_owned(),
        transaction_id: "registered__confirm_draft-0001".to_owned(),
        record_id: RECORD,
        action_id: ACTION,
        attempt: 1,
        rescues: 0,
        redelivery: 0,
        refused_for: None,
        initiator_id: "clerk".to_owned(),
        initiator_scopes: vec!["register".to_owned()],
        traceparent: None,
        old: false,
        probe: false,
    }
}

/// The action that the message is rendered from.
pub(crate) fn source(declaration: Option<String>) -> Source {
    Source {
        action_id: ACTION,
        record_id: RECORD,
        event: "birth".to_owned(),
        tracking_id: TRACKING_ID.to_owned(),
        transaction_id: "confirm_draft-0001".to_owned(),
        action: ActionKind::Register,
        action_status: ActionStatus::Accepted,
        record_status: Status::Registered,
        registration_number: Some("2026B2X3ACD".to_owned()),
        version: 1,
        created_by: "clerk".to_owned(),
        created_at: datetime!(2026-11-01 12:00 UTC),
        awaited: false,
        declaration,
    }
}

/// What a new record's declaration is stamped with.
pub(crate) fn stamp(event: &str) -> Stamp<'_> {
    Stamp {
        record_id: RECORD,
        event,
        tracking_id: TRACKING_ID,
        status: Status::Declared.reg_status(),
        registration_number: None,
        identifiers: &[],
    }
}

/// The URLs that a sample's one picture, stored elsewhere, is known by.
pub(crate) fn urls() -> Vec<String> {
    vec![format!("/attachments/{}", "5a".repeat(32))]
}

/// A birth as a record has it: stamped, with a URL for its picture.
pub(crate) fn stored() -> Result<String, DeclarationError> {
    Declaration::parse(samples::BIRTH)?.stamped(&stamp("birth"), &urls())
}
