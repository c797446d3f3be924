//! Reading the people of a declaration.

use std::borrow::Cow;

use super::shape::{codings, says};
use super::splice::{Object, Piece};
use super::{Declaration, Entry};

/// What a declaration says of a person, as it was sent. Personal data: no `Debug`.
pub struct Person {
    /// All of the name; empty if none is given.
    pub name: String,
    /// The date of birth.
    pub born: Option<String>,
    /// The date of death.
    pub died: Option<String>,
    /// Identifiers: a type's code and the value.
    pub identifiers: Vec<(String, String)>,
}

/// Members of a name, in a flat declaration's object or behind a person's role and a full stop.
const NAMES: [&str; 9] = [
    "firstname",
    "firstName",
    "firstNames",
    "middlename",
    "middleName",
    "surname",
    "lastName",
    "familyName",
    "familyname",
];

/// Identifiers in a flat declaration.
const IDENTIFIERS: [(&str, &str); 4] = [
    ("nid", "NATIONAL_ID"),
    ("nationalId", "NATIONAL_ID"),
    ("passport", "PASSPORT"),
    ("brn", "BIRTH_REGISTRATION_NUMBER"),
];

impl Declaration<'_> {
    /// The person in a role: of a bundle the Patient that the section `{role}-details` refers to, of a flat declaration
    /// the fields `{role}.…`. `None` if there is nothing of them.
    pub fn person(&self, role: &str) -> Option<Person> {
        let Some(bundle) = &self.bundle else {
            return flat(&Piece::of(self.text)?.object()?, role);
        };
        let reference = reference(&bundle.composition, &format!("{role}-details"))?;
        let mut entries = bundle.entries.elements.iter().enumerate();
        let patient = entries.find_map(|(index, piece)| {
            Entry::read(index, *piece).ok().filter(|e| e.kind == "Patient" && e.is_meant_by(&reference))
        })?;
        Some(patient_of(&patient.resource))
    }
}

/// What the composition's section of this code refers to.
pub(super) fn reference<'t>(composition: &Object<'t>, code: &str) -> Option<Cow<'t, str>> {
    let mut sections = composition.objects("section").into_iter();
    let is_it = |coding: &Object<'_>| says(coding, "code", code);
    let section = sections.find(|section| codings(section, "code").iter().any(is_it))?;
    section.objects("entry").first()?.string("reference")
}

fn patient_of(patient: &Object<'_>) -> Person {
    let text = |name: &str| patient.string(name).map(Cow::into_owned);
    // A person may have a name in each of several scripts: one of them is compared, and always the same.
    let names = patient.objects("name");
    let name = names.iter().find(|name| says(name, "use", "en")).or_else(|| names.first());
    let identifiers = patient.objects("identifier").into_iter().filter_map(|identifier| {
        let kind = codings(&identifier, "type").first().and_then(|coding| coding.string("code"));
        let kind = kind.or_else(|| identifier.string("type")).unwrap_or_default();
        Some((kind.into_owned(), identifier.string("value")?.into_owned()))
    });
    Person {
        name: name.map(human_name).unwrap_or_default(),
        born: text("birthDate"),
        died: text("deceasedDateTime"),
        identifiers: identifiers.collect(),
    }
}

/// Given names first. Older bundles have the family's name as a list.
fn human_name(name: &Object<'_>) -> String {
    let parts =
        ["given", "family"].into_iter().filter_map(|part| name.get(part)).flat_map(|piece| match piece.array() {
            Some(list) => list.elements,
            None => vec![piece],
        });
    parts.filter_map(Piece::string).collect::<Vec<_>>().join(" ")
}

fn flat(root: &Object<'_>, role: &str) -> Option<Person> {
    let field = |name: &str| root.get(&format!("{role}.{name}"));
    let first = |names: &[&str]| names.iter().find_map(|name| field(name)).and_then(Piece::string).map(Cow::into_owned);
    let name = match field("name") {
        Some(piece) => match piece.object() {
            Some(parts) => joined(|part| parts.get(part)),
            None => piece.string().map(Cow::into_owned).unwrap_or_default(),
        },
        None => joined(field),
    };
    let died = first(&["dateOfDeath", "deathDate"]);
    let died = died.or_else(|| root.string("eventDetails.date").filter(|_| role == "deceased").map(Cow::into_owned));
    let identifiers = IDENTIFIERS.into_iter().filter_map(|(name, kind)| Some((kind.to_owned(), scalar(field(name)?)?)));
    let person =
        Person { name, born: first(&["dob", "dateOfBirth", "birthDate"]), died, identifiers: identifiers.collect() };
    let known =
        !person.name.is_empty() || person.born.is_some() || person.died.is_some() || !person.identifiers.is_empty();
    known.then_some(person)
}

fn joined<'t>(part: impl Fn(&str) -> Option<Piece<'t>>) -> String {
    NAMES.into_iter().filter_map(part).filter_map(Piece::string).collect::<Vec<_>>().join(" ")
}

/// A text, or a number as it is written.
fn scalar(piece: Piece<'_>) -> Option<String> {
    piece.string().map(Cow::into_owned).or_else(|| piece.number().map(str::to_owned))
}
