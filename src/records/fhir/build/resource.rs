//! The bundle while it grows: its resources, their ids, and the composition's sections.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::input::wrong;
use super::{BuildError, Built, Event};
use crate::records::fhir::identify::concept;

pub(super) const SPECS: &str = "http://opencrvs.org/specs";

/// Where a part of a record is listed for people (OpenCRVS has two systems of section codes).
pub(super) const PEOPLE: &str = "http://opencrvs.org/doc-sections";
/// And for everything else.
pub(super) const SECTIONS: &str = "http://opencrvs.org/specs/sections";

/// What the client sent and OpenCRVS has no place for in FHIR, as JSON text.
const REST: &str = "urn:crvs-outbox:input";

/// A FHIR resource.
pub(super) struct Resource {
    kind: &'static str,
    id: String,
    members: Map<String, Value>,
}

impl Resource {
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.to_owned(), value.into());
    }

    pub(super) fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// A list, unless it is empty.
    pub(super) fn list(&mut self, name: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.set(name, list);
        }
    }

    /// An extension of OpenCRVS's.
    pub(super) fn extend(&mut self, name: &str, kind: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.add_extension(json!({ "url": format!("{SPECS}/extension/{name}"), kind: value.into() }));
        }
    }

    pub(super) fn add_extension(&mut self, extension: Value) {
        let list = self.members.entry("extension").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(extension);
        }
    }

    /// Keeps what nobody took.
    pub(super) fn keep(&mut self, rest: Option<Value>) {
        if let Some(rest) = rest {
            self.add_extension(json!({ "url": REST, "valueString": rest.to_string() }));
        }
    }

    fn entry(self) -> Value {
        let Self { kind, id, mut members } = self;
        let url = format!("/fhir/{kind}/{id}");
        members.insert("resourceType".to_owned(), kind.into());
        members.insert("id".to_owned(), id.into());
        json!({ "fullUrl": url, "resource": members })
    }
}

/// The bundle without its composition, which needs all of it.
pub(super) struct Bundle<'v> {
    pub(super) event: Event,
    /// When the client says it declared.
    pub(super) created: Option<&'v str>,
    draft: Uuid,
    ids: BTreeSet<String>,
    sections: Vec<Value>,
    entries: Vec<Value>,
    places: BTreeMap<usize, String>,
    /// The people by their member's name.
    pub(super) people: BTreeMap<&'static str, String>,
}

impl<'v> Bundle<'v> {
    pub(super) fn new(event: Event, draft_id: &str, created: Option<&'v str>) -> Self {
        let draft = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("urn:crvs-outbox:draft:{draft_id}").as_bytes());
        Self {
            event,
            created,
            draft,
            ids: BTreeSet::new(),
            sections: Vec::new(),
            entries: Vec::new(),
            places: BTreeMap::new(),
            people: BTreeMap::new(),
        }
    }

    /// The id of a part: the same in every bundle that is built of a draft.
    pub(super) fn id_of(&self, part: &str) -> String {
        Uuid::new_v5(&self.draft, part.as_bytes()).to_string()
    }

    /// A resource for a part, under the id that the client gave it, if it did.
    pub(super) fn resource(
        &mut self,
        kind: &'static str,
        part: &str,
        given: Option<(&str, String)>,
    ) -> Result<Resource, BuildError> {
        let (id, place) = given.map_or_else(|| (self.id_of(part), String::new()), |(id, place)| (id.to_owned(), place));
        if !self.ids.insert(id.clone()) {
            return Err(wrong(&place, "an id that nothing else of the declaration has"));
        }
        Ok(Resource { kind, id, members: Map::new() })
    }

    pub(super) fn add(&mut self, resource: Resource) {
        self.entries.push(resource.entry());
    }

    /// Adds a document that was built of what stands at `place`.
    pub(super) fn add_document(&mut self, resource: Resource, place: String) {
        self.places.insert(self.entries.len() + 1, place);
        self.add(resource);
    }

    pub(super) fn section(&mut self, system: &str, code: &str, title: &str, references: &[String]) {
        let mut codes = concept(system, code);
        codes["text"] = title.into();
        let entries: Vec<Value> = references.iter().map(|reference| json!({ "reference": reference })).collect();
        self.sections.push(json!({ "title": title, "code": codes, "entry": entries }));
    }

    /// The document: the composition first.
    pub(super) fn finish(self, rest: Option<Value>) -> Built {
        let (word, title) = self.event.document();
        let mut class = concept("http://opencrvs.org/doc-classes", "crvs-document");
        class["text"] = "CRVS Document".into();
        let mut kind = concept("http://opencrvs.org/doc-types", word);
        kind["text"] = title.into();
        let id = self.id_of(COMPOSITION);
        let mut composition = Resource { kind: "Composition", id: id.clone(), members: Map::new() };
        composition.set("identifier", json!({ "system": "urn:ietf:rfc:3986", "value": id }));
        composition.set("status", "preliminary");
        composition.set("type", kind);
        composition.set("class", class);
        composition.set("title", title);
        composition.set("section", self.sections);
        composition.set("subject", json!({}));
        composition.set("author", json!([]));
        composition.set_some("date", self.created);
        composition.keep(rest);
        let entries: Vec<Value> = std::iter::once(composition.entry()).chain(self.entries).collect();
        let mut bundle = json!({ "resourceType": "Bundle", "type": "document", "entry": entries });
        if let Some(created) = self.created {
            bundle["meta"] = json!({ "lastUpdated": created });
        }
        Built { text: bundle.to_string(), places: self.places }
    }
}

/// The part that is the record itself.
pub(super) const COMPOSITION: &str = "composition";
