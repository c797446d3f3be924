//! From what an OpenCRVS client sends (its GraphQL input for a birth, a death or a marriage, as JSON) to the FHIR R4
//! document bundle that a country config reads: OpenCRVS's sections, codes, identifier systems and extensions.
//!
//! Promises: one input makes one text, byte for byte, since every id is derived from `registration.draftId` and the name of
//! the part; whatever the client sent is in it; and [`Declaration::parse`](super::Declaration::parse) takes it. What
//! OpenCRVS has no place for – a certificate's collector, the device of a user, a member that is newer than this – stands as
//! JSON in an extension `urn:crvs-outbox:input` of the resource it was said of. Not kept as they were: several
//! `timeLoggedMS` are added up, several `reason`s joined, an empty text may be left out, a document's `status` is in FHIR's
//! spelling, the dependants of who died are counted in text, and a `data:` URL is its base64 and its type.
//!
//! It does not check what is said: not dates, not codes, not bytes. Errors name places in the input, never a value.

mod documents;
mod encounter;
mod input;
mod person;
mod resource;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use self::input::Input;
use self::resource::Bundle;

/// Why an input makes no bundle.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// OpenCRVS has three events.
    #[error("the event has to be birth, death or marriage")]
    UnknownEvent,
    /// Something is of another type than it has to be.
    #[error("{place} has to be {expected}")]
    Wrong {
        /// Where, as a JSON pointer into the input.
        place: String,
        /// What should be there.
        expected: &'static str,
    },
}

/// A bundle, and where its documents come from.
pub struct Built {
    /// The bundle as JSON.
    pub text: String,
    /// For the index of a document's entry: where its attachment stands in the input, as a JSON pointer.
    pub places: BTreeMap<usize, String>,
}

/// Builds the bundle of an event (`birth`, `death` or `marriage`).
pub fn bundle(event: &str, details: &Value) -> Result<Built, BuildError> {
    let event = Event::of(event)?;
    let mut details = Input::new(details, String::new())?;
    let needed = |place: &str, expected| input::wrong(place, expected);
    let registration = details.object("registration")?;
    let mut registration = registration.ok_or_else(|| needed("/registration", "an object"))?;
    let draft_id = registration.peek("draftId").filter(|id| !id.is_empty());
    let draft_id = draft_id.ok_or_else(|| needed("/registration/draftId", "the id of the draft"))?;
    let mut bundle = Bundle::new(event, draft_id, details.word("createdAt")?);
    let mut ids = details.object("_fhirIDMap")?;
    encounter::encounter(&mut bundle, &mut details, &mut ids)?;
    person::people(&mut bundle, &mut details)?;
    person::informant(&mut bundle, &mut details, &mut registration)?;
    if event == Event::Marriage {
        person::witnesses(&mut bundle, &mut details)?;
    }
    documents::attachments(&mut bundle, &mut registration)?;
    task::task(&mut bundle, &mut registration)?;
    if let Some(rest) = ids.and_then(|ids| ids.rest()) {
        details.leave("_fhirIDMap", rest);
    }
    Ok(bundle.finish(details.rest()))
}

/// What OpenCRVS registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Birth,
    Death,
    Marriage,
}

/// A member of the input, the code of a section of people, and its title.
type Section = (&'static str, &'static str, &'static str);

const MOTHER: Section = ("mother", "mother-details", "Mother's details");
const FATHER: Section = ("father", "father-details", "Father's details");

impl Event {
    fn of(event: &str) -> Result<Self, BuildError> {
        match event {
            "birth" => Ok(Self::Birth),
            "death" => Ok(Self::Death),
            "marriage" => Ok(Self::Marriage),
            _ => Err(BuildError::UnknownEvent),
        }
    }

    /// As a task says it.
    fn code(self) -> &'static str {
        match self {
            Self::Birth => "BIRTH",
            Self::Death => "DEATH",
            Self::Marriage => "MARRIAGE",
        }
    }

    /// The composition's type and title.
    fn document(self) -> (&'static str, &'static str) {
        match self {
            Self::Birth => ("birth-declaration", "Birth Declaration"),
            Self::Death => ("death-declaration", "Death Declaration"),
            Self::Marriage => ("marriage-declaration", "Marriage Declaration"),
        }
    }

    /// The section of the encounter, and its title.
    fn encounter(self) -> (&'static str, &'static str) {
        match self {
            Self::Birth => ("birth-encounter", "Birth encounter"),
            Self::Death => ("death-encounter", "Death encounter"),
            Self::Marriage => ("marriage-encounter", "Marriage encounter"),
        }
    }

    /// Whom it is about.
    fn people(self) -> &'static [Section] {
        match self {
            Self::Birth => &[("child", "child-details", "Child details"), MOTHER, FATHER],
            Self::Death => &[
                ("deceased", "deceased-details", "Deceased details"),
                MOTHER,
                FATHER,
                ("spouse", "spouse-details", "Spouse's details"),
            ],
            Self::Marriage => {
                &[("bride", "bride-details", "Bride's details"), ("groom", "groom-details", "Groom's details")]
            }
        }
    }
}
