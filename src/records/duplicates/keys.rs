//! What of a declaration is compared with others'.
//!
//! | event | subject | day | identifiers | names that are searched |
//! |---|---|---|---|---|
//! | birth | the child; and the mother | the child's birth | the mother's | child, mother, father |
//! | death | the deceased | the death | the deceased's | the deceased |
//! | marriage | nobody | | | groom, bride |
//!
//! Any other event has none of it, and neither a marriage nor any other event has possible duplicates. What a declaration
//! does not say, or not in a form that is known, is unknown; it never refuses a declaration. Personal data: no `Debug`.

use std::collections::BTreeSet;

use time::Date;
use time::macros::format_description;

use super::fold::fold;
use super::score::Face;
use super::trigrams::{self, Bits};
use crate::records::fhir::{Declaration, Person};

/// What is written down of a declaration.
#[derive(Clone)]
pub struct Keys {
    /// What is compared.
    pub(crate) face: Face,
    /// The folded names of the people that the record is about.
    pub(crate) names: String,
    /// Their trigrams.
    pub(crate) trigrams: Vec<i32>,
}

impl Keys {
    /// Reads a declaration of an event.
    pub fn of(event: &str, declaration: &Declaration<'_>) -> Self {
        let person = |role: &str| declaration.person(role);
        match event {
            "birth" => {
                let (child, mother, father) = (person("child"), person("mother"), person("father"));
                let face = Face {
                    day: child.as_ref().and_then(|p| day(p.born.as_deref())),
                    subject: bits(child.as_ref()),
                    mother: bits(mother.as_ref()),
                    identifiers: identifiers(mother.as_ref()),
                };
                Self::with(face, &[child, mother, father])
            }
            "death" => {
                let deceased = person("deceased");
                let face = Face {
                    day: deceased.as_ref().and_then(|p| day(p.died.as_deref())),
                    subject: bits(deceased.as_ref()),
                    mother: None,
                    identifiers: identifiers(deceased.as_ref()),
                };
                Self::with(face, &[deceased])
            }
            "marriage" => Self::with(Face::default(), &[person("groom"), person("bride")]),
            _ => Self::with(Face::default(), &[]),
        }
    }

    fn with(face: Face, people: &[Option<Person>]) -> Self {
        let names: Vec<String> =
            people.iter().flatten().map(|p| fold(&p.name)).filter(|name| !name.is_empty()).collect();
        let names = names.join(" ");
        Self { face, trigrams: trigrams::indexed(&names), names }
    }
}

/// The trigrams to look for in `record_match.trigrams`, for a search by name; empty if the text has no letter.
pub fn searched(text: &str) -> Vec<i32> {
    trigrams::searched(&fold(text))
}

fn bits(person: Option<&Person>) -> Option<Bits> {
    Bits::of(&fold(&person?.name))
}

/// The day of a date or of a date and time; one without a day is unknown.
fn day(text: Option<&str>) -> Option<Date> {
    Date::parse(text?.trim().get(..10)?, format_description!("[year]-[month]-[day]")).ok()
}

/// As `type:value`. Too short, without a digit or all one character: a placeholder, and no identifier.
fn identifiers(person: Option<&Person>) -> Vec<String> {
    let packed = |text: &str| fold(text).replace(' ', "");
    let given = person.map(|p| p.identifiers.as_slice()).unwrap_or_default();
    let known: BTreeSet<String> = given
        .iter()
        .map(|(kind, value)| (packed(kind), packed(value)))
        .filter(|(_, value)| is_identifier(value))
        .map(|(kind, value)| format!("{kind}:{value}"))
        .collect();
    known.into_iter().collect()
}

fn is_identifier(value: &str) -> bool {
    let first = value.chars().next();
    value.chars().count() >= 4 && value.contains(char::is_numeric) && value.chars().any(|c| Some(c) != first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn keys(event: &str, text: &str) -> Keys {
        Keys::of(event, &Declaration::parse(text).unwrap())
    }

    fn same(a: &Keys, b: &Keys) -> bool {
        a.face == b.face
    }

    #[test]
    fn a_bundle_and_a_flat_declaration_of_the_same_birth_have_the_same_keys() {
        let bundle = keys("birth", samples::BIRTH);
        let flat = keys(
            "birth",
            r#"{"child.name": {"firstname": "Liseli", "surname": "WANJALA"}, "child.dob": "2026-02-27T10:00:00Z",
                "mother.firstName": "Thandeka", "mother.middleName": "Rose", "mother.lastName": "Wanjala", "mother.nid": 4190073312}"#,
        );
        assert!(same(&bundle, &flat));
        assert_eq!(bundle.face.identifiers, ["nationalid:4190073312"]);
        assert_eq!(bundle.names, "liseli wanjala thandeka rose wanjala kofi wanjala");
        assert!(bundle.face.day.is_some() && bundle.face.subject.is_some() && bundle.face.mother.is_some());
    }

    #[test]
    fn a_death_is_known_by_the_deceased() {
        let bundle = keys("death", samples::DEATH);
        let flat = keys(
            "death",
            r#"{"deceased.name": "Baraka Elias Okonda", "eventDetails.date": "2026-02-16", "deceased.nationalId": "104 228-0075"}"#,
        );
        assert!(same(&bundle, &flat));
        assert!(bundle.face.day.is_some() && !bundle.face.identifiers.is_empty());
    }

    #[test]
    fn a_marriage_can_be_searched_for_and_has_nothing_to_compare() {
        let marriage = keys("marriage", samples::MARRIAGE);
        assert_eq!(marriage.names, "desire makori imani sefu");
        assert!(marriage.face == Face::default());
        assert!(keys("adoption", r#"{"child.name": "Ada"}"#).names.is_empty());
    }

    #[test]
    fn what_is_not_said_or_makes_no_sense_is_unknown() {
        for text in [
            "{}",
            r#"{"child.name": 7, "child.dob": "soon", "mother.nid": "0000000000"}"#,
            r#"{"child.name": {"firstname": []}, "child.dob": "2026-02", "mother.nid": "unknown"}"#,
            r#"{"child.name": "---", "child.dob": "2026-02-30", "mother.nid": "12"}"#,
            r#"{"child.dob": "২০২৬-০২-২৭"}"#,
        ] {
            assert!(keys("birth", text).face == Face::default(), "{text}");
        }
    }
}
