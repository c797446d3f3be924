//! Examples of requests and answers. Those of requests are sent by a test, and accepted.

use serde_json::{Value, json};

use crate::samples;

/// A client's transaction.
pub(super) const TRANSACTION_ID: &str = "draft-0001";

/// A record.
pub(super) const RECORD_ID: &str = "019ab7c2-5d0e-7c43-9a51-2b7f0e6d3c18";

/// A requested action of it.
const ACTION_ID: &str = "019ab7c2-5d0e-7c43-9a51-2b8ad41c0e77";

/// The digest of [`PNG`]'s bytes.
pub(super) const DIGEST: &str = "497790947d4666760ce38f3c00e852c71fdb66cae849bae8e9ede352719e1581";

/// A picture of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/// A body with its name and what it shows.
pub(super) type Example = (&'static str, &'static str, Value);

/// What operations may be sent, by their ids.
pub(super) fn requests() -> Vec<(&'static str, Vec<Example>)> {
    let events = samples::ALL.into_iter().zip(["A birth", "A death", "A marriage"]);
    let mut submissions: Vec<_> = events
        .map(|((event, text), summary)| {
            let declaration = serde_json::from_str::<Value>(text).unwrap_or_default();
            (event, summary, json!({ "event": event, "action": "declare", "declaration": declaration }))
        })
        .collect();
    let flat = json!({
        "event": "birth",
        "declaration": { "child.firstName": "Ada", "child.dateOfBirth": "2026-11-01" },
        "attachments": [{ "type": "PROOF_OF_BIRTH", "contentType": "image/png", "data": PNG }],
        "comment": "Read to the mother and confirmed by her.",
    });
    submissions.push(("flat", "A flat declaration with an attachment", flat));
    let corrected = json!({ "declaration": { "child.firstName": "Ada Augusta", "child.dateOfBirth": "2026-11-01" } });
    let correction = vec![("corrected", "A corrected declaration", corrected)];
    let looked_at = |comment| vec![("comment", "With a comment", json!({ "comment": comment }))];
    vec![
        ("submitRecord", submissions),
        ("submitRecords", vec![("two", "Two drafts", json!({ "items": [draft("draft-0003"), draft("draft-0004")] }))]),
        ("notifyRecord", correction.clone()),
        ("declareRecord", correction),
        ("validateRecord", looked_at("The evidence is complete.")),
        ("registerRecord", looked_at("Approved.")),
        ("markNotDuplicate", looked_at("The other record is of her twin.")),
        ("rejectRecord", vec![("reason", "With a reason", json!({ "reason": "The proof of birth cannot be read." }))]),
        ("archiveRecord", vec![("reason", "With a reason", json!({ "reason": "Declared in error." }))]),
        ("queryTransactions", vec![("two", "Of two requests", json!({ "ids": [TRANSACTION_ID, "draft-0002"] }))]),
        ("graphql", vec![("confirm", "A confirmation, as country configs of 1.7 send it", graphql())]),
        ("confirmRegistration16", vec![("number", "With the number", confirmation())]),
        ("decideActions", vec![("accept", "A registration is accepted; not as a batch", acceptance())]),
        ("verifyToken", vec![("token", "A token", json!({ "token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln" }))]),
        ("confirmRegistration", vec![("number", "With the number", json!({ "registrationNumber": "2026B00000017" }))]),
    ]
}

fn graphql() -> Value {
    json!({
        "query": "mutation confirmRegistration($id: ID!, $details: ConfirmRegistrationInput!) { \
            confirmRegistration(id: $id, details: $details) }",
        "variables": { "id": RECORD_ID, "details": { "registrationNumber": "2026B00000018" } },
    })
}

fn confirmation() -> Value {
    json!({ "compositionId": RECORD_ID, "registrationNumber": "2026B00000019" })
}

fn acceptance() -> Value {
    let transaction = "b2395970-84de-4085-a4e1-54a90caa9e7e";
    json!({ "json": {
        "eventId": RECORD_ID, "actionId": ACTION_ID, "transactionId": transaction, "registrationNumber": "2026B00000020",
    } })
}

/// The record that an accepted verdict of tRPC answers with.
fn event_document() -> Value {
    let mut registered = event_action("REGISTER");
    registered["createdByUserType"] = json!("system");
    registered["originalActionId"] = json!(ACTION_ID);
    registered["registrationNumber"] = json!("2026B00000020");
    json!({
        "id": RECORD_ID,
        "type": "birth",
        "trackingId": "B2X3ACD",
        "createdAt": "2026-11-24T09:14:07.202Z",
        "updatedAt": "2026-11-24T09:14:08.011Z",
        "actions": [event_action("CREATE"), event_action("DECLARE"), registered],
    })
}

fn event_action(kind: &str) -> Value {
    json!({
        "id": "019ab7c2-5d0e-7c43-9a51-2b89a81f5d02",
        "transactionId": TRANSACTION_ID,
        "type": kind,
        "status": "Accepted",
        "createdAt": "2026-11-24T09:14:07.202Z",
        "createdBy": "registrar",
        "createdByUserType": "user",
        "createdByRole": "LOCAL_REGISTRAR",
        "declaration": {},
        "annotation": {},
    })
}

fn draft(id: &str) -> Value {
    let declaration = json!({ "child.firstName": "Ada", "child.dateOfBirth": "2026-11-01" });
    json!({ "transactionId": id, "event": "birth", "action": "declare", "declaration": declaration })
}

/// What operations answer, by their ids.
pub(super) fn answers() -> Vec<(&'static str, Value)> {
    let mut full = record();
    full["createdAt"] = json!("2026-11-24T09:14:07.202118Z");
    full["updatedAt"] = json!("2026-11-24T09:14:07.202118Z");
    full["declaration"] = json!({ "child.firstName": "Ada", "child.dateOfBirth": "2026-11-01" });
    full["attachments"] =
        json!([{ "type": "PROOF_OF_BIRTH", "contentType": "image/png", "size": 70, "sha256": DIGEST }]);
    let mut found = record();
    found["createdAt"] = json!("2026-11-24T09:14:07.202118Z");
    found["updatedAt"] = json!("2026-11-24T09:14:07.202118Z");
    found["createdBy"] = json!("registrar");
    let cursor = "AeQF5AUAsPudvwYA";
    vec![
        ("readRecord", full),
        ("readHistory", json!([action()])),
        ("graphql", json!({ "data": { "confirmRegistration": RECORD_ID } })),
        ("confirmRegistration16", json!({})),
        ("decideActions", json!({ "result": { "data": { "json": event_document() } } })),
        ("readTransaction", transaction()),
        (
            "submitRecords",
            json!({
                "items": [{ "transactionId": TRANSACTION_ID, "status": 202, "replayed": false, "body": transaction() }],
                "cursor": cursor,
            }),
        ),
        ("findRecords", json!({ "records": [found], "cursor": null })),
        ("countRecords", json!({ "counts": { "waiting_validation": 1 }, "more": [] })),
        ("queryTransactions", json!({ "transactions": [change()], "unknown": ["draft-0002"] })),
        ("verifyToken", json!({ "valid": false })),
        ("readChanges", json!({ "changes": [change()], "cursor": cursor, "more": false })),
    ]
}

fn change() -> Value {
    json!({
        "transactionId": TRANSACTION_ID,
        "recordId": RECORD_ID,
        "trackingId": "B2X3ACD",
        "event": "birth",
        "status": "waiting_validation",
        "registrationNumber": null,
        "version": 1,
        "settled": false,
    })
}

fn record() -> Value {
    json!({
        "id": RECORD_ID,
        "trackingId": "B2X3ACD",
        "event": "birth",
        "status": "waiting_validation",
        "registrationNumber": null,
        "version": 1,
        "possibleDuplicates": [],
    })
}

fn action() -> Value {
    json!({
        "id": ACTION_ID,
        "transactionId": TRANSACTION_ID,
        "action": "register",
        "status": "requested",
        "recordStatus": "waiting_validation",
        "version": 1,
        "registrationNumber": null,
        "reason": null,
        "comment": "Read to the mother and confirmed by her.",
        "createdBy": "registrar",
        "createdAt": "2026-11-24T09:14:07.202118Z",
        "callbackDueAt": "2026-11-27T09:14:08.011402Z",
        "possibleDuplicates": [],
        "deliveries": [{
            "destination": "country-config",
            "kind": "event_registration",
            "state": "delivered",
            "attempts": 1,
            "lastError": null,
            "finishedAt": "2026-11-24T09:14:08.011402Z",
        }],
    })
}

/// The answer to a write.
pub(super) fn transaction() -> Value {
    json!({
        "transactionId": TRANSACTION_ID,
        "settled": false,
        "record": record(),
        "deliveries": [
            { "destination": "search", "kind": "index", "state": "queued" },
            { "destination": "country-config", "kind": "event_registration", "state": "queued" },
        ],
    })
}
