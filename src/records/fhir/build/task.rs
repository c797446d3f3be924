//! The task: what is said of the registration rather than of the event. The service stamps its own facts into it later.

use serde_json::{Value, json};

use super::BuildError;
use super::input::Input;
use super::resource::{Bundle, COMPOSITION, SPECS};
use crate::records::fhir::identify::concept;

/// Members that become a text extension of the task.
const EXTENSIONS: [(&str, &str); 8] = [
    ("contactPhoneNumber", "contact-person-phone-number"),
    ("contactEmail", "contact-person-email"),
    ("informantsSignature", "informants-signature"),
    ("groomSignature", "groom-signature"),
    ("brideSignature", "bride-signature"),
    ("witnessOneSignature", "witness-one-signature"),
    ("witnessTwoSignature", "witness-two-signature"),
    ("inCompleteFields", "in-complete-fields"),
];

/// Members that become an identifier of the task. A tracking id and a registration number are not among them: a client
/// has none to give, and what stands there is believed.
const IDENTIFIERS: [(&str, &str); 5] = [
    ("draftId", "draft-id"),
    ("mosipAid", "mosip-aid"),
    ("paperFormID", "paper-form-id"),
    ("page", "paper-form-page"),
    ("book", "paper-form-book"),
];

/// Adds the task, with all of the registration that nobody took before.
pub(super) fn task(bundle: &mut Bundle<'_>, registration: &mut Input<'_>) -> Result<(), BuildError> {
    let given = registration.id("_fhirID")?.map(|id| (id, registration.place("_fhirID")));
    let mut task = bundle.resource("Task", "task", given)?;
    let incomplete = registration.peek("inCompleteFields").is_some_and(|fields| !fields.is_empty());
    task.set("status", if incomplete { "draft" } else { "requested" });
    task.set("code", concept(&format!("{SPECS}/types"), bundle.event.code()));
    task.set("focus", json!({ "reference": format!("Composition/{}", bundle.id_of(COMPOSITION)) }));
    task.set_some("lastModified", bundle.created);
    let mut identifiers = Vec::new();
    for (name, system) in IDENTIFIERS {
        let value = registration.word(name)?;
        identifiers.extend(value.map(|value| json!({ "system": format!("{SPECS}/id/{system}"), "value": value })));
    }
    task.set("identifier", identifiers);
    task.set("extension", json!([]));
    // Older clients say who is to be asked apart from who declares.
    let (informant, other) = (registration.word("informantType")?, registration.word("otherInformantType")?);
    task.extend("contact-person", "valueString", registration.word("contact")?.or(informant));
    task.extend("contact-relationship", "valueString", registration.word("contactRelationship")?.or(other));
    for (name, extension) in EXTENSIONS {
        task.extend(extension, "valueString", registration.word(name)?);
    }
    let (mut notes, mut spent) = (Vec::new(), None);
    let reasons = registration.each("status", |status| {
        if let Some(time) = status.integer("timeLoggedMS")? {
            spent = Some(spent.unwrap_or(0_i64).saturating_add(time));
        }
        notes.extend(status.each("comments", |comment| comment.copy(&[("comment", "text"), ("createdAt", "time")]))?);
        status.word("reason")
    })?;
    task.extend("timeLoggedMS", "valueInteger", spent);
    task.list("note", notes.into_iter().map(Value::Object).collect());
    let reasons: Vec<&str> = reasons.into_iter().flatten().collect();
    if !reasons.is_empty() {
        task.set("reason", json!({ "text": reasons.join("; ") }));
    }
    task.keep(registration.rest());
    bundle.add(task);
    Ok(())
}
