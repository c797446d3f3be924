//! A declaration as its text: what the service reads in it, and the few places it writes to.
//!
//! A declaration is a FHIR R4 document bundle, or a flat object of fields. Of a bundle this reads no
//! more than has to be known: the composition, the tasks, the child and the attachments.
//! [`Declaration::stamped`] puts the record's own facts where an OpenCRVS country config looks for
//! them, and URLs in the place of attachments. It promises that nothing else of the text changes by a
//! byte, and that stamping again with the same facts changes nothing at all.
//!
//! It does not promise that the bundle is valid FHIR, nor that `data` is base64. The text is expected
//! to have passed [`crate::json::digest`], which refuses what readers could disagree about. What is
//! read has no `Debug` form, because it is personal data, and errors name places only.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use uuid::Uuid;

use super::splice::{Array, Edits, Object, Piece};

const TYPES: &str = "http://opencrvs.org/specs/types";
const REG_STATUS: &str = "http://opencrvs.org/specs/reg-status";
const IDENTIFIER_TYPE: &str = "http://opencrvs.org/specs/identifier-type";

/// Why a text is no declaration, or cannot be stamped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// Neither a bundle nor a flat declaration is anything but an object.
    #[error("a declaration has to be a JSON object")]
    NotAnObject,
    /// The bundle's `type` is not `document`.
    #[error("the bundle's type has to be \"document\"")]
    NotADocument,
    /// The bundle has no `entry`, or an empty one.
    #[error("the bundle has no entries")]
    NoEntries,
    /// A country config takes the record's id from the first entry, so it has to be there.
    #[error("the bundle's first entry has to be the Composition")]
    FirstEntryNotComposition,
    /// A part of the bundle that has to be understood is missing or of another type.
    #[error("{path} has to be {expected}")]
    Malformed {
        /// Where, as a JSON pointer.
        path: String,
        /// What should be there.
        expected: &'static str,
    },
    /// There are identifiers for the child, and no Patient that the section `child-details` refers to.
    #[error("the bundle has no child to give identifiers to")]
    NoChild,
    /// Each attachment needs its own URL.
    #[error("{attachments} attachments cannot take {urls} URLs")]
    UrlCount {
        /// How many attachments the declaration has.
        attachments: usize,
        /// How many URLs were given.
        urls: usize,
    },
}

/// The two shapes of a declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A FHIR R4 document bundle.
    Bundle,
    /// An object of fields that is not looked into.
    Flat,
}

/// What the service knows of a record and its declaration does not.
#[derive(Clone, Copy)]
pub struct Stamp<'a> {
    /// The record's id, which is the composition's too.
    pub record_id: Uuid,
    /// The event in lower case, as in `birth`.
    pub event: &'a str,
    /// What a citizen reads over the phone.
    pub tracking_id: &'a str,
    /// The OpenCRVS code of the status, as in `WAITING_VALIDATION`.
    pub status: &'a str,
    /// The registration number, once there is one.
    pub registration_number: Option<&'a str>,
    /// Identifiers of the child: a type's code and the value. The last of one type counts.
    pub identifiers: &'a [(String, String)],
}

/// An attachment whose bytes stand in the bundle itself.
pub struct Inline<'t> {
    /// What it proves: the first code of the document reference's type.
    pub kind: Option<String>,
    /// The media type it claims.
    pub content_type: Option<String>,
    /// The base64 as it was sent, lent out of the text where it has no escapes.
    pub data: Cow<'t, str>,
    /// Where its URL goes.
    place: Range<usize>,
    /// Where `data` stands, if the URL goes elsewhere.
    leftover: Option<Range<usize>>,
}

/// A declaration that was read, with the places that can be written to.
pub struct Declaration<'t> {
    text: &'t str,
    bundle: Option<Bundle<'t>>,
    inline: Vec<Inline<'t>>,
}

impl<'t> Declaration<'t> {
    /// Reads a declaration, and refuses at once what could not be stamped later.
    pub fn parse(text: &'t str) -> Result<Self, DeclarationError> {
        let root = Piece::of(text).and_then(Piece::object);
        let root = root.ok_or(DeclarationError::NotAnObject)?;
        let (bundle, inline) = if says(&root, "resourceType", "Bundle") {
            let (bundle, inline) = Bundle::read(&root)?;
            (Some(bundle), inline)
        } else {
            (None, Vec::new())
        };
        Ok(Self { text, bundle, inline })
    }

    /// Which of the two shapes it has.
    pub fn form(&self) -> Form {
        self.bundle.as_ref().map_or(Form::Flat, |_| Form::Bundle)
    }

    /// The attachments in it, in the order of the text.
    pub fn inline(&self) -> &[Inline<'t>] {
        &self.inline
    }

    /// The text with the record's facts in it and a URL for each of [`inline`](Self::inline), in that
    /// order. A flat declaration stays as it is: nobody looks for the facts in there.
    pub fn stamped(&self, stamp: &Stamp<'_>, urls: &[String]) -> Result<String, DeclarationError> {
        let (attachments, urls_given) = (self.inline.len(), urls.len());
        if attachments != urls_given {
            return Err(DeclarationError::UrlCount { attachments, urls: urls_given });
        }
        let mut edits = Edits::default();
        if let Some(bundle) = &self.bundle {
            bundle.stamp(stamp, &mut edits)?;
        }
        for (inline, url) in self.inline.iter().zip(urls) {
            let url = format!("\"url\":{}", Value::from(url.as_str()));
            edits.replace(inline.place.clone(), url);
            if let Some(leftover) = inline.leftover.clone() {
                edits.replace(leftover, String::new());
            }
        }
        Ok(edits.apply(self.text))
    }
}

/// An entry of a bundle.
struct Entry<'t> {
    path: String,
    full_url: Option<Cow<'t, str>>,
    kind: Cow<'t, str>,
    resource: Object<'t>,
}

impl<'t> Entry<'t> {
    fn read(index: usize, piece: Piece<'t>) -> Result<Self, DeclarationError> {
        let path = format!("/entry/{index}/resource");
        let entry = object(Some(piece), &format!("/entry/{index}"))?;
        let resource = object(entry.get("resource"), &path)?;
        let kind = resource.get("resourceType");
        let kind = string(kind, &format!("{path}/resourceType"))?;
        let full_url = entry.string("fullUrl");
        Ok(Self { path, full_url, kind, resource })
    }

    /// Whether a reference means this entry, by its full URL or by type and id.
    fn is_meant_by(&self, reference: &str) -> bool {
        let (kind, id) = reference.split_once('/').unwrap_or_default();
        self.full_url.as_deref() == Some(reference) || kind == self.kind && says(&self.resource, "id", id)
    }

    /// The attachments of a document reference whose bytes stand in it.
    fn attachments(&self) -> Result<Vec<Inline<'t>>, DeclarationError> {
        let Some(contents) = self.resource.get("content") else {
            return Ok(Vec::new());
        };
        let path = format!("{}/content", self.path);
        let kind = codings(&self.resource, "type");
        let kind = kind.first().and_then(|coding| coding.string("code"));
        let mut found = Vec::new();
        for (index, content) in array(contents, &path)?.elements.iter().enumerate() {
            let path = format!("{path}/{index}/attachment");
            let attachment = content.object().and_then(|content| content.get("attachment"));
            let attachment = object(attachment, &path)?;
            found.extend(Inline::read(&attachment, kind.as_deref(), &path)?);
        }
        Ok(found)
    }
}

impl<'t> Inline<'t> {
    fn read(attachment: &Object<'t>, kind: Option<&str>, path: &str) -> Result<Option<Self>, DeclarationError> {
        let Some(place) = attachment.place("data") else {
            return Ok(None);
        };
        let data = string(attachment.get("data"), &format!("{path}/data"))?;
        if is_stored_elsewhere(&data) {
            return Ok(None);
        }
        // Where there is a URL already it gives way to ours, and the bytes leave.
        let (place, leftover) = match attachment.place("url") {
            Some(url) => (url, attachment.place_with_comma("data")),
            None => (place, None),
        };
        let kind = kind.map(str::to_owned);
        let content_type = attachment.string("contentType").map(Cow::into_owned);
        Ok(Some(Self { kind, content_type, data, place, leftover }))
    }
}

/// OpenCRVS writes the path of an attachment that it stored itself into `data`. Such a path is not
/// ours to change; the hyphen and the full stop in it are what base64 never has.
fn is_stored_elsewhere(data: &str) -> bool {
    let path = data.strip_prefix("/ocrvs/");
    path.is_some_and(|path| path.contains(['-', '.']))
}

/// The parts of a bundle that are stamped.
struct Bundle<'t> {
    entries: Array<'t>,
    composition: Object<'t>,
    tasks: Vec<Identified<'t>>,
    child: Option<Identified<'t>>,
}

impl<'t> Bundle<'t> {
    fn read(root: &Object<'t>) -> Result<(Self, Vec<Inline<'t>>), DeclarationError> {
        if !says(root, "type", "document") {
            return Err(DeclarationError::NotADocument);
        }
        let list = array(root.get("entry").ok_or(DeclarationError::NoEntries)?, "/entry")?;
        let mut entries = list.elements.iter().enumerate();
        let (index, first) = entries.next().ok_or(DeclarationError::NoEntries)?;
        let first = Entry::read(index, *first)?;
        if first.kind != "Composition" {
            return Err(DeclarationError::FirstEntryNotComposition);
        }
        let child_reference = child_reference(&first.resource);
        let (mut tasks, mut child, mut inline) = (Vec::new(), None, Vec::new());
        for (index, piece) in entries {
            let entry = Entry::read(index, *piece)?;
            let is_child = || child_reference.as_deref().is_some_and(|child| entry.is_meant_by(child));
            match &*entry.kind {
                "Task" => tasks.push(Identified::of(entry)?),
                "DocumentReference" => inline.extend(entry.attachments()?),
                "Patient" if child.is_none() && is_child() => child = Some(Identified::of(entry)?),
                _ => {}
            }
        }
        Ok((Self { entries: list, composition: first.resource, tasks, child }, inline))
    }

    fn stamp(&self, stamp: &Stamp<'_>, edits: &mut Edits) -> Result<(), DeclarationError> {
        let id = stamp.record_id.to_string();
        edits.set(&self.composition, "id", &id);
        let focus = format!("Composition/{id}");
        let old_id = self.composition.string("id");
        let old_focus = old_id.map(|old_id| format!("Composition/{old_id}"));
        for task in &self.tasks {
            task.stamp(stamp, edits);
            if let (Some(object), Some(old)) = (task.resource.object("focus"), &old_focus)
                && says(&object, "reference", old)
            {
                edits.set(&object, "reference", &focus);
            }
        }
        if self.tasks.is_empty() {
            edits.append(&self.entries, &[new_task(stamp, &focus)]);
        }
        if !stamp.identifiers.is_empty() {
            let child = self.child.as_ref().ok_or(DeclarationError::NoChild)?;
            child.identify(&child_identifiers(stamp), edits);
        }
        Ok(())
    }
}

/// What the composition's section `child-details` refers to.
fn child_reference<'t>(composition: &Object<'t>) -> Option<Cow<'t, str>> {
    let mut sections = composition.objects("section").into_iter();
    let is_child = |coding: &Object<'_>| says(coding, "code", "child-details");
    let section = sections.find(|section| codings(section, "code").iter().any(is_child))?;
    section.objects("entry").first()?.string("reference")
}

/// A resource that has a list of identifiers: a Task or a Patient.
struct Identified<'t> {
    resource: Object<'t>,
    identifiers: Option<Array<'t>>,
}

impl<'t> Identified<'t> {
    fn of(entry: Entry<'t>) -> Result<Self, DeclarationError> {
        let path = format!("{}/identifier", entry.path);
        let found = entry.resource.get("identifier");
        let identifiers = found.map(|piece| array(piece, &path)).transpose()?;
        Ok(Self { resource: entry.resource, identifiers })
    }

    /// Updates the identifiers that are there, and adds those that are not.
    fn identify(&self, wanted: &[Identifier<'_>], edits: &mut Edits) {
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
    fn stamp(&self, stamp: &Stamp<'_>, edits: &mut Edits) {
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
struct Identifier<'a> {
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

    fn json(&self) -> Value {
        let value = self.value;
        match &self.name {
            Name::System(system) => json!({ "system": system, "value": value }),
            Name::Type(code) => json!({ "type": concept(IDENTIFIER_TYPE, code), "value": value }),
        }
    }
}

fn task_identifiers<'a>(stamp: &Stamp<'a>) -> Vec<Identifier<'a>> {
    let identifier = |what: &str, value| {
        let system = format!("http://opencrvs.org/specs/id/{}-{what}", stamp.event);
        Identifier { name: Name::System(system), value }
    };
    let number = stamp.registration_number;
    let number = number.map(|number| identifier("registration-number", number));
    std::iter::once(identifier("tracking-id", stamp.tracking_id)).chain(number).collect()
}

/// One of each type, since two would be written to the same place.
fn child_identifiers<'a>(stamp: &Stamp<'a>) -> Vec<Identifier<'a>> {
    let pairs = stamp.identifiers.iter().map(|(code, value)| (code.as_str(), value.as_str()));
    let last: BTreeMap<_, _> = pairs.collect();
    let identifiers = last.into_iter();
    identifiers.map(|(code, value)| Identifier { name: Name::Type(code), value }).collect()
}

/// The least that a country config accepts as a Task, for a bundle that came without one.
fn new_task(stamp: &Stamp<'_>, focus: &str) -> Value {
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
fn concept(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code }] })
}

/// The codings of a `CodeableConcept`, if there are any.
fn codings<'t>(object: &Object<'t>, concept: &str) -> Vec<Object<'t>> {
    let concept = object.object(concept);
    concept.map(|concept| concept.objects("coding")).unwrap_or_default()
}

fn codes(coding: &Object<'_>, system: &str, code: &str) -> bool {
    says(coding, "system", system) && says(coding, "code", code)
}

fn says(object: &Object<'_>, name: &str, value: &str) -> bool {
    object.string(name).as_deref() == Some(value)
}

/// What has to be an object; `path` says which, should it not be one. The others likewise.
fn object<'t>(piece: Option<Piece<'t>>, path: &str) -> Result<Object<'t>, DeclarationError> {
    let object = piece.and_then(Piece::object);
    object.ok_or_else(|| malformed(path, "an object"))
}

fn array<'t>(piece: Piece<'t>, path: &str) -> Result<Array<'t>, DeclarationError> {
    piece.array().ok_or_else(|| malformed(path, "an array"))
}

fn string<'t>(piece: Option<Piece<'t>>, path: &str) -> Result<Cow<'t, str>, DeclarationError> {
    let string = piece.and_then(Piece::string);
    string.ok_or_else(|| malformed(path, "a string"))
}

fn malformed(path: &str, expected: &'static str) -> DeclarationError {
    let path = path.to_owned();
    DeclarationError::Malformed { path, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x0197_5a3c_0000_7000_8000_0000_0000_00aa);
    const FULL: &str = r#" { "resourceType" : "Bundle", "type":"document", "total": 1.50e1, "entry" : [
        {"fullUrl":"urn:uuid:c","resource":{ "resourceType":"Composition", "id" : "old", "section":[
          {"code":{"coding":[{"code":"mother-details"}]},"entry":[{"reference":"Patient/m"}]},
          {"code":{"coding":[{"code":"child-details"}]},"entry":[{"reference":"Patient/k"}]}]}},
        {"resource":{"resourceType":"Patient","id":"m","identifier":[]}},
        {"resource":{"resourceType":"Patient","id":"k","identifier":[{"value":"1", "type":
          {"coding":[{"system":"http://opencrvs.org/specs/identifier-type","code":"A"}]}} ]}},
        {"resource":{"resourceType":"Task", "focus": {"reference" :"Composition/old"},
          "businessStatus":{"coding":[{"code":"DECLARED","system":"http://opencrvs.org/specs/reg-status"}]},
          "extension" : [ {"valueDecimal":7.00} ],
          "identifier":[ {"system":"http://opencrvs.org/specs/id/draft-id","value":"d"} ] }},
        {"resource":{"resourceType":"DocumentReference","type":{"coding":[{"code":"PROOF"}]},"content":[
          {"attachment":{"contentType":"image/png", "data" : "QUJD"}},
          {"attachment":{"data":"QU\/D","url":null}}, {"attachment":{"url":"x"}},
          {"attachment":{"data":"/ocrvs/3f0c-11.png"}} ]}}
      ] } "#;

    fn stamp() -> Stamp<'static> {
        Stamp {
            record_id: ID,
            event: "birth",
            tracking_id: "B7K2M9Q",
            status: "WAITING_VALIDATION",
            registration_number: None,
            identifiers: &[],
        }
    }

    fn stamped(text: &str, stamp: &Stamp<'_>, urls: &[&str]) -> Result<String, DeclarationError> {
        let urls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
        let result = Declaration::parse(text)?.stamped(stamp, &urls)?;
        crate::json::digest(result.as_bytes()).unwrap();
        Ok(result)
    }

    fn status(code: &str) -> String {
        concept(REG_STATUS, code).to_string()
    }

    fn after_composition(resource: &str) -> String {
        let composition = r#"{"resource":{"resourceType":"Composition","id":"c"}}"#;
        bundle(&format!(r#"{composition},{{"resource":{resource}}}"#))
    }

    fn bundle(entries: &str) -> String {
        format!(r#"{{"resourceType":"Bundle","type":"document","entry":[{entries}]}}"#)
    }

    fn refusal(text: &str) -> DeclarationError {
        Declaration::parse(text).err().unwrap()
    }

    #[test]
    fn stamping_changes_these_places_and_no_other_byte() {
        let mut expected = FULL.to_owned();
        let declared = r#"{"coding":[{"code":"DECLARED","system":"http://opencrvs.org/specs/reg-status"}]}"#;
        let waiting = status("WAITING_VALIDATION");
        let tracking = format!("\"value\":\"d\"}},{}", task_identifiers(&stamp())[0].json());
        for (from, to) in [
            (r#""id" : "old""#, r#""id" : "01975a3c-0000-7000-8000-0000000000aa""#),
            ("Composition/old", "Composition/01975a3c-0000-7000-8000-0000000000aa"),
            (declared, &waiting),
            (r#""value":"d"}"#, &tracking),
            (r#""data" : "QUJD""#, r#""url":"/a/1""#),
            (r#""data":"QU\/D","url":null"#, r#""url":"/a/\"2""#),
        ] {
            assert_eq!(expected.matches(from).count(), 1, "{from}");
            expected = expected.replace(from, to);
        }
        assert_eq!(stamped(FULL, &stamp(), &["/a/1", "/a/\"2"]).unwrap(), expected);
    }

    #[test]
    fn stamping_twice_with_the_same_facts_changes_nothing() {
        let identifiers = [("A".to_owned(), "2".to_owned()), ("B\"".to_owned(), "\u{e9}".to_owned())];
        let stamp = Stamp { registration_number: Some("2026\"1"), identifiers: &identifiers, ..stamp() };
        let once = stamped(FULL, &stamp, &["u", "v"]).unwrap();
        assert_eq!(stamped(&once, &stamp, &[]).unwrap(), once);
        let bare = bundle(r#"{"resource":{"resourceType":"Composition"}}"#);
        let stamp = Stamp { identifiers: &[], ..stamp };
        let once = stamped(&bare, &stamp, &[]).unwrap();
        assert_eq!(stamped(&once, &stamp, &[]).unwrap(), once);
    }

    #[test]
    fn another_status_changes_the_status_alone() {
        let once = stamped(FULL, &stamp(), &["u", "v"]).unwrap();
        let registered = Stamp { status: "REGISTERED", ..stamp() };
        let expected = once.replace("WAITING_VALIDATION", "REGISTERED");
        assert_eq!(stamped(&once, &registered, &[]).unwrap(), expected);
    }

    #[test]
    fn only_a_status_that_says_something_else_is_replaced() {
        let task = |status: &str| {
            let task = format!(r#"{{"resourceType":"Task","businessStatus":{status}}}"#);
            after_composition(&task)
        };
        let kept = status("WAITING_VALIDATION").replace("{\"coding\":", "{ \"text\":\"t\",\t\"coding\" : ");
        assert!(stamped(&task(&kept), &stamp(), &[]).unwrap().contains(&kept));
        let other_system = r#"{"coding":[{"code":"WAITING_VALIDATION"}]}"#;
        for other in ["{}", "null", r#"{"coding":[]}"#, other_system, &status("REGISTERED")] {
            let result = stamped(&task(other), &stamp(), &[]).unwrap();
            assert!(result.contains(&status("WAITING_VALIDATION")), "{result}");
        }
    }

    #[test]
    fn a_missing_task_is_appended_with_all_that_is_asked_of_one() {
        let text = "{\"type\":\"document\",\"resourceType\":\"Bundle\",\"entry\" :\r\n[ {\"resource\":{\"resourceType\":\"Composition\"}}\n]}";
        let stamp = Stamp { registration_number: Some("2026B7K2M9Q"), ..stamp() };
        let result = stamped(text, &stamp, &[]).unwrap();
        assert!(result.starts_with(&text[..57]) && result.ends_with("\n]}"), "{result}");
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(
            result["entry"][1]["resource"],
            json!({
                "resourceType": "Task",
                "status": "requested",
                "code": { "coding": [{ "system": "http://opencrvs.org/specs/types", "code": "BIRTH" }] },
                "focus": { "reference": "Composition/01975a3c-0000-7000-8000-0000000000aa" },
                "identifier": [
                    { "system": "http://opencrvs.org/specs/id/birth-tracking-id", "value": "B7K2M9Q" },
                    { "system": "http://opencrvs.org/specs/id/birth-registration-number", "value": "2026B7K2M9Q" },
                ],
                "extension": [],
                "businessStatus": { "coding": [
                    { "system": "http://opencrvs.org/specs/reg-status", "code": "WAITING_VALIDATION" }
                ] },
            })
        );
    }

    #[test]
    fn a_bare_task_gets_what_it_lacks_and_a_foreign_focus_stays() {
        let rest = r#""focus":{"reference":"Composition/z"},"resourceType":"Task"}"#;
        let result = stamped(&after_composition(&format!("{{{rest}")), &stamp(), &[]).unwrap();
        let (identifier, status) = (task_identifiers(&stamp())[0].json(), status("WAITING_VALIDATION"));
        let task = format!(r#"{{"identifier":[{identifier}],"extension":[],"businessStatus":{status},{rest}"#);
        assert!(result.contains(&task), "{result}");
    }

    #[test]
    fn the_numbers_of_a_task_are_updated_where_they_stand() {
        let text = FULL.replace("id/draft-id", "id/birth-tracking-id").replace(r#""value":"d""#, r#""value" : 5"#);
        let result = stamped(&text, &stamp(), &["u", "v"]).unwrap();
        let expected = r#"[ {"system":"http://opencrvs.org/specs/id/birth-tracking-id","value" : "B7K2M9Q"} ]"#;
        assert!(result.contains(expected), "{result}");
    }

    #[test]
    fn the_child_and_nobody_else_gets_identifiers() {
        let pair = |code: &str, value: &str| (code.to_owned(), value.to_owned());
        let identifiers = [pair("B", "0"), pair("A", "2"), pair("B", "3")];
        let stamp = Stamp { identifiers: &identifiers, ..stamp() };
        let added = child_identifiers(&stamp)[1].json();
        assert_eq!(added, json!({ "type": concept(IDENTIFIER_TYPE, "B"), "value": "3" }));
        let expected = FULL.replace(r#"{"value":"1", "type":"#, r#"{"value":"2", "type":"#);
        let expected = expected.replace("}} ]}},", &format!("}}}},{added} ]}}}},"));
        let patients = |text: &str| text[text.find("Patient\",").unwrap()..text.find("Task").unwrap()].to_owned();
        let result = stamped(FULL, &stamp, &["u", "v"]).unwrap();
        assert_eq!(patients(&result), patients(&expected));
    }

    #[test]
    fn the_child_is_found_by_its_full_url_and_needs_no_list_of_identifiers() {
        let text = FULL.replace("Patient/k", "urn:uuid:k").replace(
            r#"{"resource":{"resourceType":"Patient","id":"m","identifier":[]}}"#,
            r#"{"fullUrl":"urn:uuid:k","resource":{"resourceType":"Patient"}}"#,
        );
        let identifiers = [("A".to_owned(), "2".to_owned())];
        let result = stamped(&text, &Stamp { identifiers: &identifiers, ..stamp() }, &["u", "v"]).unwrap();
        assert!(result.contains(r#""resource":{"identifier":[{"type":{"coding":[{"#), "{result}");
    }

    #[test]
    fn identifiers_without_a_child_are_an_error() {
        let identifiers = [("A".to_owned(), "2".to_owned())];
        let stamp = Stamp { identifiers: &identifiers, ..stamp() };
        for (from, to) in
            [("child-details", "son-details"), ("Patient/k", "Patient/x"), ("Patient/k", "Composition/old")]
        {
            assert_eq!(stamped(&FULL.replace(from, to), &stamp, &["u", "v"]), Err(DeclarationError::NoChild));
        }
        let odd = bundle(r#"{"resource":{"resourceType":"Composition","section":[{},7,{"code":[]}]}}"#);
        assert_eq!(stamped(&odd, &stamp, &[]), Err(DeclarationError::NoChild));
    }

    #[test]
    fn attachments_are_found_with_what_they_claim_to_be() {
        let declaration = Declaration::parse(FULL).unwrap();
        assert_eq!(declaration.form(), Form::Bundle);
        let [png, other] = declaration.inline() else { panic!("two attachments have data") };
        assert_eq!((png.kind.as_deref(), png.content_type.as_deref()), (Some("PROOF"), Some("image/png")));
        assert_eq!((&*png.data, &*other.data, other.content_type.as_deref()), ("QUJD", "QU/D", None));
        let wrong = declaration.stamped(&stamp(), &[]);
        assert_eq!(wrong, Err(DeclarationError::UrlCount { attachments: 2, urls: 0 }));
    }

    #[test]
    fn data_leaves_with_its_comma_wherever_the_url_stands() {
        let document = |attachment: &str| {
            let content = format!(r#"[{{"attachment":{attachment}}}]"#);
            after_composition(&format!(r#"{{"resourceType":"DocumentReference","content":{content}}}"#))
        };
        for (from, to) in [
            (r#"{"url":"x" , "data":"A"}"#, r#"{"url":"u"}"#),
            (r#"{ "data":"A" , "url" : "x" }"#, r#"{ "url":"u" }"#),
            (r#"{"url":1,"t":"a","data":"A","z":0}"#, r#"{"url":"u","t":"a","z":0}"#),
            (r#"{"data":"A"}"#, r#"{"url":"u"}"#),
        ] {
            let result = stamped(&document(from), &stamp(), &["u"]).unwrap();
            assert!(result.contains(&format!("\"attachment\":{to}")), "{result}");
        }
    }

    #[test]
    fn a_flat_declaration_stays_as_it_is() {
        for text in [" { \"child.name\" : 1.0 }\n", "{}", r#"{"resourceType":"Patient"}"#] {
            let declaration = Declaration::parse(text).unwrap();
            assert_eq!((declaration.form(), declaration.inline().len()), (Form::Flat, 0));
            assert_eq!(declaration.stamped(&stamp(), &[]).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_declaration_is_refused() {
        for text in ["", "[]", "\"x\"", "null", "{", "{} {}"] {
            assert_eq!(refusal(text), DeclarationError::NotAnObject, "{text}");
        }
        assert_eq!(refusal(r#"{"resourceType":"Bundle"}"#), DeclarationError::NotADocument);
        assert_eq!(refusal(&bundle("").replace("document", "batch")), DeclarationError::NotADocument);
        assert_eq!(refusal(&bundle(" ")), DeclarationError::NoEntries);
        assert_eq!(refusal(r#"{"resourceType":"Bundle","type":"document"}"#), DeclarationError::NoEntries);
        let task = bundle(r#"{"resource":{"resourceType":"Task"}}"#);
        assert_eq!(refusal(&task), DeclarationError::FirstEntryNotComposition);
    }

    #[test]
    fn a_malformed_part_is_named_by_its_place() {
        let document = r#""resourceType":"DocumentReference","content""#;
        for (resource, place) in [
            ("7", ""),
            (r#"{"resourceType":1}"#, "/resourceType"),
            (r#"{"resourceType":"Task","identifier":{}}"#, "/identifier"),
            (&format!("{{{document}:{{}}}}"), "/content"),
            (&format!("{{{document}:[7]}}"), "/content/0/attachment"),
            (&format!("{{{document}:[{{\"attachment\":{{\"data\":7}}}}]}}"), "/content/0/attachment/data"),
        ] {
            let text = after_composition(resource);
            let DeclarationError::Malformed { path, .. } = refusal(&text) else { panic!("{place}") };
            assert_eq!(path, format!("/entry/1/resource{place}"));
        }
        let entries = r#"{"resourceType":"Bundle","type":"document","entry":{}}"#;
        assert_eq!(refusal(entries).to_string(), "/entry has to be an array");
        assert_eq!(refusal(&bundle("7")).to_string(), "/entry/0 has to be an object");
    }

    #[test]
    fn twenty_megabytes_of_attachment_are_lent_and_take_no_time() {
        let text = FULL.replace("QUJD", &"QUJD".repeat(5 << 20));
        let start = std::time::Instant::now();
        let declaration = Declaration::parse(&text).unwrap();
        let took = start.elapsed();
        assert!(matches!(declaration.inline()[0].data, Cow::Borrowed(data) if data.len() == 20 << 20));
        // Without optimisation the time says nothing.
        assert!(cfg!(debug_assertions) || took.as_millis() < 500, "{took:?}");
    }
}
