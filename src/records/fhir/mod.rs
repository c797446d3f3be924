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

pub mod build;
mod identify;
mod person;
mod shape;
mod splice;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

pub use self::person::Person;

use self::identify::{Identified, child_identifiers, new_task};
use self::person::reference;
use self::shape::{array, codings, object, says, string};
use self::splice::{Array, Edits, Object, Piece};

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
    /// Where it stands, as a JSON pointer.
    pub path: String,
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

/// An attachment of a document reference that is elsewhere.
pub struct Elsewhere<'t> {
    /// Where its URL stands, as a JSON pointer.
    pub path: String,
    /// What it proves: the first code of the document reference's type.
    pub kind: Option<String>,
    /// The media type it claims.
    pub content_type: Option<String>,
    /// The URL.
    pub url: Cow<'t, str>,
}

/// The attachments of document references.
#[derive(Default)]
struct Attached<'t> {
    inline: Vec<Inline<'t>>,
    elsewhere: Vec<Elsewhere<'t>>,
}

/// A declaration that was read, with the places that can be written to.
pub struct Declaration<'t> {
    text: &'t str,
    json: &'t RawValue,
    bundle: Option<Bundle<'t>>,
    attached: Attached<'t>,
}

impl<'t> Declaration<'t> {
    /// Reads a declaration, and refuses at once what could not be stamped later.
    pub fn parse(text: &'t str) -> Result<Self, DeclarationError> {
        let json: &RawValue = serde_json::from_str(text).map_err(|_not_json| DeclarationError::NotAnObject)?;
        let root = Piece::whole(text, json).object().ok_or(DeclarationError::NotAnObject)?;
        let (bundle, attached) = if says(&root, "resourceType", "Bundle") {
            let (bundle, attached) = Bundle::read(&root)?;
            (Some(bundle), attached)
        } else {
            (None, Attached::default())
        };
        Ok(Self { text, json, bundle, attached })
    }

    /// The text as JSON that needs no second look.
    pub fn json(&self) -> &'t RawValue {
        self.json
    }

    /// Which of the two shapes it has.
    pub fn form(&self) -> Form {
        self.bundle.as_ref().map_or(Form::Flat, |_| Form::Bundle)
    }

    /// The attachments in it, in the order of the text.
    pub fn inline(&self) -> &[Inline<'t>] {
        &self.attached.inline
    }

    /// The attachments that it names by a URL and does not bring.
    pub fn elsewhere(&self) -> &[Elsewhere<'t>] {
        &self.attached.elsewhere
    }

    /// The text with a URL for each of [`inline`](Self::inline), in that order, and nothing else changed.
    pub fn detached(&self, urls: &[String]) -> Result<String, DeclarationError> {
        let mut edits = Edits::default();
        self.detach(urls, &mut edits)?;
        Ok(edits.apply(self.text))
    }

    /// The text with the record's facts in it and a URL for each of [`inline`](Self::inline), in that
    /// order. A flat declaration stays as it is: nobody looks for the facts in there.
    pub fn stamped(&self, stamp: &Stamp<'_>, urls: &[String]) -> Result<String, DeclarationError> {
        let mut edits = Edits::default();
        if let Some(bundle) = &self.bundle {
            bundle.stamp(stamp, &mut edits)?;
        }
        self.detach(urls, &mut edits)?;
        Ok(edits.apply(self.text))
    }

    /// The text of a flat declaration with the fields of an amendment in it, fields that are objects merged in turn, and
    /// nothing else changed. `None` for a bundle, which has no fields, and for an amendment that is no object.
    pub fn amended(&self, amendment: &str) -> Option<String> {
        if self.bundle.is_some() {
            return None;
        }
        let (into, from) = (Piece::of(self.text)?.object()?, Piece::of(amendment)?.object()?);
        let mut edits = Edits::default();
        edits.merge(&into, &from);
        Some(edits.apply(self.text))
    }

    fn detach(&self, urls: &[String], edits: &mut Edits) -> Result<(), DeclarationError> {
        let (attachments, urls_given) = (self.attached.inline.len(), urls.len());
        if attachments != urls_given {
            return Err(DeclarationError::UrlCount { attachments, urls: urls_given });
        }
        for (inline, url) in self.attached.inline.iter().zip(urls) {
            let url = format!("\"url\":{}", Value::from(url.as_str()));
            edits.replace(inline.place.clone(), url);
            if let Some(leftover) = inline.leftover.clone() {
                edits.replace(leftover, String::new());
            }
        }
        Ok(())
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

    /// The attachments of a document reference.
    fn attachments(&self, found: &mut Attached<'t>) -> Result<(), DeclarationError> {
        let Some(contents) = self.resource.get("content") else {
            return Ok(());
        };
        let path = format!("{}/content", self.path);
        let kind = codings(&self.resource, "type");
        let kind = kind.first().and_then(|coding| coding.string("code"));
        for (index, content) in array(contents, &path)?.elements.iter().enumerate() {
            let path = format!("{path}/{index}/attachment");
            let attachment = content.object().and_then(|content| content.get("attachment"));
            let attachment = object(attachment, &path)?;
            match Inline::read(&attachment, kind.as_deref(), &path)? {
                Some(inline) => found.inline.push(inline),
                None => found.elsewhere.extend(Elsewhere::read(&attachment, kind.as_deref(), &path)),
            }
        }
        Ok(())
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
        Ok(Some(Self { path: path.to_owned(), kind, content_type, data, place, leftover }))
    }
}

impl<'t> Elsewhere<'t> {
    fn read(attachment: &Object<'t>, kind: Option<&str>, path: &str) -> Option<Self> {
        let url = attachment.string("url")?;
        let content_type = attachment.string("contentType").map(Cow::into_owned);
        Some(Self { path: format!("{path}/url"), kind: kind.map(str::to_owned), content_type, url })
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
    fn read(root: &Object<'t>) -> Result<(Self, Attached<'t>), DeclarationError> {
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
        let child_reference = reference(&first.resource, "child-details");
        let (mut tasks, mut child, mut attached) = (Vec::new(), None, Attached::default());
        for (index, piece) in entries {
            let entry = Entry::read(index, *piece)?;
            let is_child = || child_reference.as_deref().is_some_and(|child| entry.is_meant_by(child));
            match &*entry.kind {
                "Task" => tasks.push(Identified::of(entry)?),
                "DocumentReference" => entry.attachments(&mut attached)?,
                "Patient" if child.is_none() && is_child() => child = Some(Identified::of(entry)?),
                _ => {}
            }
        }
        Ok((Self { entries: list, composition: first.resource, tasks, child }, attached))
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
