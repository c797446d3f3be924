//! Examples of requests and answers. Those of requests are sent by a test, and accepted.

use serde_json::{Value, json};

use crate::samples;

/// A client's transaction.
pub(super) const TRANSACTION_ID: &str = "draft-0001";

/// A record.
pub(super) const RECORD_ID: &str = "019ab7c2-5d0e-7c43-9a51-2b7f0e6d3c18";

/// An attachment: the picture of the sample birth.
pub(super) const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

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
        ("notifyRecord", correction.clone()),
        ("declareRecord", correction),
        ("validateRecord", looked_at("The evidence is complete.")),
        ("registerRecord", looked_at("Approved.")),
        ("markNotDuplicate", looked_at("The other record is of her twin.")),
        ("rejectRecord", vec![("reason", "With a reason", json!({ "reason": "The proof of birth cannot be read." }))]),
        ("archiveRecord", vec![("reason", "With a reason", json!({ "reason": "Declared in error." }))]),
        ("confirmRegistration", vec![("number", "With the number", json!({ "registrationNumber": "2026B00000017" }))]),
    ]
}

/// The answer to a write.
pub(super) fn transaction() -> Value {
    json!({
        "transactionId": TRANSACTION_ID,
        "record": {
            "id": RECORD_ID,
            "trackingId": "B2X3ACD",
            "event": "birth",
            "status": "waiting_validation",
            "registrationNumber": null,
            "version": 1,
            "possibleDuplicates": [],
        },
        "deliveries": [
            { "destination": "search", "kind": "index", "state": "queued" },
            { "destination": "country-config", "kind": "event_registration", "state": "queued" },
        ],
    })
}
