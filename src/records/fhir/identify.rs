//! What is written into Tasks and into the child: numbers, status, and who they are about.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::shape::{array, codes, codings, says};
use super::splice::{Array, Edits, Object};
use super::{DeclarationError, Entry, Stamp};

const TYPES: &str = "http://opencrvs.org/specs/types";
pub(super) const REG_STATUS: &str = "http://opencrvs.org/specs/reg-status";
pub(super) const IDENTIFIER_TYPE: &str = "http://opencrvs.org/specs/identifier-type";

/// A resource that has a list of identifiers: a Task or a Patient.
pub(super) struct Identified<'t> {
    pub(super) resource: Object<'t>,
    identifiers: Option<Array<'t>>,
}

impl<'t> Identified<'t> {
    pub(super) fn of(entry: Entry<'t>) -> Result<Self, DeclarationError> {
        let path = format!("{}/identifier", entry.path);
        let found = entry.resource.get("identifier");
        let identifiers = found.map(|piece| array(piece, &path)).transpose()?;
        Ok(Self { resource: entry.resource, identifiers })
    }

    /// Updates the identifiers that are there, and adds those that are not.
    pub(super) fn identify(&self, wanted: &[Identifier<'_>], edits: &mut Edits) {
        let present: Vec<_> = self.identifiers.iter().flat_map(Array::objects).collect();
        let mut missing = Vec::new();
        for identifier in wanted {
            let mut found = present.iter().filter(|object| identifier.is(object)).peekable();
            if found.peek().is_none() {
                missing.push(identifier.json());
            }
            found.for_each(|object| edits.set(object, "value", identifier.value));
        }
        match &self.identifiers {
            Some(array) => edits.append(array, &missing),
            None => edits.put(&self.resource, "identifier", &Value::from(missing)),
        }
    }

    /// Gives a Task what a country config reads in it: identifiers, extensions and the status.
    pub(super) fn stamp(&self, stamp: &Stamp<'_>, edits: &mut Edits) {
        self.identify(&task_identifiers(stamp), edits);
        if self.resource.get("extension").is_none() {
            edits.put(&self.resource, "extension", &json!([]));
        }
        let status = codings(&self.resource, "businessStatus");
        if !matches!(status.as_slice(), [coding] if codes(coding, REG_STATUS, stamp.status)) {
            let status = concept(REG_STATUS, stamp.status);
            edits.put(&self.resource, "businessStatus", &status);
        }
    }
}

/// One identifier that a resource is to have, told by its system or by its type.
pub(super) struct Identifier<'a> {
    name: Name<'a>,
    value: &'a str,
}

enum Name<'a> {
    System(String),
    Type(&'a str),
}

impl Identifier<'_> {
    /// Only the first coding tells a type, so that no element is two identifiers at once.
    fn is(&self, element: &Object<'_>) -> bool {
        match &self.name {
            Name::System(system) => says(element, "system", system),
            Name::Type(code) => {
                let codings = codings(element, "type");
                codings.first().is_some_and(|coding| codes(coding, IDENTIFIER_TYPE, code))
            }
        }
    }

    pub(super) fn json(&self) -> Value {
        let value = self.value;
        match &self.name {
            Name::System(system) => json!({ "system": system, "value": value }),
            Name::Type(code) => json!({ "type": concept(IDENTIFIER_TYPE, code), "value": value }),
        }
    }
}

pub(super) fn task_identifiers<'a>(stamp: &Stamp<'a>) -> Vec<Identifier<'a>> {
    let identifier = |what: &str, value| {
        let system = format!("http://opencrvs.org/specs/id/{}-{what}", stamp.event);
        Identifier { name: Name::System(system), value }
    };
    let number = stamp.registration_number;
    let number = number.map(|number| identifier("registration-number", number));
    std::iter::once(identifier("tracking-id", stamp.tracking_id)).chain(number).collect()
}

/// One of each type, since two would be written to the same place.
pub(super) fn child_identifiers<'a>(stamp: &Stamp<'a>) -> Vec<Identifier<'a>> {
    let pairs = stamp.identifiers.iter().map(|(code, value)| (code.as_str(), value.as_str()));
    let last: BTreeMap<_, _> = pairs.collect();
    let identifiers = last.into_iter();
    identifiers.map(|(code, value)| Identifier { name: Name::Type(code), value }).collect()
}

/// The least that a country config accepts as a Task, for a bundle that came without one.
pub(super) fn new_task(stamp: &Stamp<'_>, focus: &str) -> Value {
    let identifiers: Vec<_> = task_identifiers(stamp).iter().map(Identifier::json).collect();
    json!({ "resource": {
        "resourceType": "Task",
        "status": "requested",
        "code": concept(TYPES, &stamp.event.to_uppercase()),
        "focus": { "reference": focus },
        "identifier": identifiers,
        "extension": [],
        "businessStatus": concept(REG_STATUS, stamp.status),
    } })
}

/// A FHIR `CodeableConcept` of one code.
pub(super) fn concept(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code }] })
}
