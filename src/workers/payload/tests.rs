//! One message in every format.

use serde_json::{Value, json};
use time::macros::datetime;
use uuid::Uuid;

use super::*;
use crate::records::model::{ActionKind, ActionStatus, Status, Step};

const BUNDLE: &str =
    r#"{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition"}}]}"#;
const FLAT: &str = r#"{"child.firstName":"Ada"}"#;

fn message() -> Claimed {
    Claimed {
        id: 7,
        position: 7,
        due_at: datetime!(2026-11-01 12:00 UTC),
        lease: 1,
        kind: "registered".to_owned(),
        transaction_id: "registered__confirm_draft-0001".to_owned(),
        record_id: Uuid::from_u128(1),
        action_id: Uuid::from_u128(2),
        attempt: 3,
        rescues: 0,
        redelivery: 0,
        refused_for: None,
        initiator_id: "clerk".to_owned(),
        initiator_scopes: Vec::new(),
        traceparent: None,
        old: true,
        probe: false,
    }
}

fn source() -> Source {
    Source {
        action_id: Uuid::from_u128(2),
        record_id: Uuid::from_u128(1),
        event: "birth".to_owned(),
        tracking_id: "B2X3ACD".to_owned(),
        transaction_id: "draft-0001".to_owned(),
        action: ActionKind::Register,
        action_status: ActionStatus::Accepted,
        record_status: Status::Registered,
        registration_number: Some("2026B2X3ACD".to_owned()),
        version: 1,
        created_by: "clerk".to_owned(),
        created_at: datetime!(2026-11-01 12:00 UTC),
        awaited: false,
        declaration: None,
    }
}

fn rendered(format: Format, declaration: Option<&str>) -> (Payload, Value) {
    let source = Source { declaration: declaration.map(str::to_owned), ..source() };
    let payload = render(format, &message(), &source, None).unwrap();
    let again = render(format, &Claimed { attempt: 9, ..message() }, &source, None);
    assert_eq!(payload, again.unwrap(), "the same at each attempt");
    let body = serde_json::from_slice(&payload.body).unwrap();
    (payload, body)
}

fn data() -> Value {
    json!({
        "event": "birth",
        "record": {"id": Uuid::from_u128(1), "trackingId": "B2X3ACD", "status": "registered", "version": 1,
                   "registrationNumber": "2026B2X3ACD"},
        "action": {"id": Uuid::from_u128(2), "action": "register", "status": "accepted", "transactionId": "draft-0001",
                   "createdBy": "clerk", "createdAt": "2026-11-01T12:00:00Z"},
    })
}

#[test]
fn a_cloud_event_has_the_messages_id_and_the_records() {
    let (payload, body) = rendered(Format::Cloudevents, None);
    assert_eq!((payload.path.as_str(), payload.content_type), ("", "application/cloudevents+json"));
    assert_eq!(
        body,
        json!({"specversion": "1.0", "id": "registered__confirm_draft-0001", "source": "/crvs-outbox",
               "type": "org.crvs.record.registered.v1", "subject": Uuid::from_u128(1), "time": "2026-11-01T12:00:00Z",
               "datacontenttype": "application/json", "kind": "registered", "data": data()})
    );
    let (_, with) = rendered(Format::Cloudevents, Some(FLAT));
    assert_eq!(with["data"]["declaration"], json!({"child.firstName": "Ada"}));
}

#[test]
fn a_cloud_events_type_is_what_the_action_did() {
    for (step, word) in [
        (Step::Notify, "in-progress"),
        (Step::Declare, "declared"),
        (Step::Validate, "validated"),
        (Step::Register, "waiting-validation"),
        (Step::Confirm, "registered"),
        (Step::Refuse, "rejected"),
        (Step::Reject, "rejected"),
        (Step::MarkNotDuplicate, "not-duplicate"),
        (Step::Archive, "archived"),
    ] {
        let (action, action_status) = step.appends();
        // A record that is marked as no duplicate stays declared where the step that it resumes follows.
        let source = Source { action, action_status, record_status: Status::Declared, ..source() };
        let payload = render(Format::Cloudevents, &message(), &source, None).unwrap();
        let body: Value = serde_json::from_slice(&payload.body).unwrap();
        assert_eq!(body["type"], format!("org.crvs.record.{word}.v1"), "{step:?}");
    }
}

/// The bundle, stamped.
fn bundle() -> Value {
    serde_json::from_str(stamp(BUNDLE, &source()).unwrap().json().get()).unwrap()
}

#[test]
fn opencrvs_services_get_what_its_workflow_sends() {
    let (search, body) = rendered(Format::OpencrvsSearch, Some(BUNDLE));
    assert_eq!((search.path.as_str(), search.content_type), ("/record", "application/json"));
    assert_eq!(body, json!({"record": bundle(), "transactionId": "confirm_draft-0001"}));
    assert_eq!(body["record"]["entry"][0]["resource"]["id"], json!(Uuid::from_u128(1)));

    let (metrics, body) = rendered(Format::OpencrvsMetrics, Some(BUNDLE));
    assert_eq!(metrics.path, "/events/birth/registered");
    assert_eq!(metrics.headers["x-correlation-id"], "confirm_draft-0001");
    assert_eq!(body, json!({"record": bundle(), "transactionId": "registered__confirm_draft-0001"}));

    let (audit, body) = rendered(Format::OpencrvsAudit, None);
    assert_eq!(audit.path, "/audit/events");
    assert_eq!(audit.headers["x-correlation-id"], "confirm_draft-0001");
    assert_eq!(
        body,
        json!({"action": "registered", "transactionId": "registered__confirm_draft-0001",
               "additionalData": {"compositionId": Uuid::from_u128(1), "trackingId": "B2X3ACD"}})
    );

    let (notification, body) = rendered(Format::OpencrvsNotification, Some(BUNDLE));
    assert_eq!((notification.path.as_str(), body), ("/birth/registered", bundle()));

    let (registration, body) = rendered(Format::OpencrvsEventRegistration, Some(BUNDLE));
    assert_eq!((registration.path.as_str(), body), ("/event-registration", bundle()));
    for payload in [search, notification, registration] {
        assert!(payload.headers.is_empty(), "only metrics and audit are correlated");
    }
}

#[test]
fn a_trigger_is_the_events_document_as_it_is() {
    let document = r#"{ "id": 1.50 }"#;
    let payload = render(Format::OpencrvsTrigger, &message(), &source(), Some(document.to_owned())).unwrap();
    assert_eq!(payload.path, "/trigger/events/birth/actions/REGISTER");
    assert_eq!((payload.content_type, payload.body.as_slice()), ("application/json", document.as_bytes()));
    let without = render(Format::OpencrvsTrigger, &message(), &source(), None);
    assert!(matches!(without, Err(PayloadError::NoDocument)));
}

#[test]
fn a_flat_declaration_has_no_bundle_and_goes_as_data() {
    let (_, body) = rendered(Format::OpencrvsEventRegistration, Some(FLAT));
    assert_eq!((&body["record"], &body["declaration"]["child.firstName"]), (&data()["record"], &json!("Ada")));
    let (_, body) = rendered(Format::OpencrvsSearch, Some(FLAT));
    assert_eq!(body["record"]["action"], data()["action"]);
}

#[test]
fn who_needs_no_personal_data_gets_none() {
    use Effect::{Audit, Metrics, Search};
    assert!(!carries_declaration(Format::Cloudevents, &[Audit, Metrics]));
    assert!(carries_declaration(Format::Cloudevents, &[Audit, Search]));
    assert!(!carries_declaration(Format::OpencrvsAudit, &[Audit]));
    assert!(carries_declaration(Format::OpencrvsMetrics, &[Metrics]));
}
