//! The event itself: where it took place, who attended, and what was observed.

use serde_json::{Value, json};

use super::input::Input;
use super::person::{address, location};
use super::resource::{Bundle, Resource, SECTIONS, SPECS};
use super::{BuildError, Event};
use crate::records::fhir::identify::concept;

/// How a value is written into an Observation.
#[derive(Clone, Copy)]
enum Kind {
    /// A word or a number in `valueQuantity.value`, where OpenCRVS puts both.
    Quantity,
    Kilograms,
    Text,
    DateTime,
    /// A code of the system `http://opencrvs.org/specs/{observation}`.
    Concept(&'static str),
    /// A number that OpenCRVS keeps as a text.
    Count,
}

/// What is observed: the client's member, whether it is a vital sign (or else a procedure), code, what it means.
type Observation = (&'static str, bool, &'static str, &'static str, Kind);

const BIRTH: [Observation; 6] = [
    ("birthType", false, "57722-1", "Birth plurality of Pregnancy", Kind::Quantity),
    ("weightAtBirth", true, "3141-9", "Body weight Measured", Kind::Kilograms),
    ("attendantAtBirth", false, "73764-3", "Birth attendant title", Kind::Text),
    ("childrenBornAliveToMother", true, "num-born-alive", "Number born alive to mother", Kind::Quantity),
    ("foetalDeathsToMother", true, "num-foetal-death", "Number foetal deaths to mother", Kind::Quantity),
    ("lastPreviousLiveBirth", true, "68499-3", "Date last live birth", Kind::DateTime),
];

const DEATH: [Observation; 7] = [
    (
        "mannerOfDeath",
        true,
        "uncertified-manner-of-death",
        "Uncertified manner of death",
        Kind::Concept("manner-of-death"),
    ),
    (
        "deathDescription",
        false,
        "lay-reported-or-verbal-autopsy-description",
        "Lay reported or verbal autopsy description",
        Kind::Text,
    ),
    (
        "causeOfDeathEstablished",
        true,
        "cause-of-death-established",
        "Cause of death established",
        Kind::Concept("cause-of-death-established"),
    ),
    (
        "causeOfDeathMethod",
        true,
        "cause-of-death-method",
        "Cause of death method",
        Kind::Concept("cause-of-death-method"),
    ),
    ("causeOfDeath", true, "ICD10", "Cause of death", Kind::Concept("cause-of-death")),
    (
        "maleDependentsOfDeceased",
        false,
        "num-male-dependents-on-deceased",
        "Number of male dependents on Deceased",
        Kind::Count,
    ),
    (
        "femaleDependentsOfDeceased",
        false,
        "num-female-dependents-on-deceased",
        "Number of female dependents on Deceased",
        Kind::Count,
    ),
];

const MARRIAGE: [Observation; 1] =
    [("typeOfMarriage", false, "partnership", "Types of marriage partnerships", Kind::Quantity)];

/// Adds the encounter with all that belongs to it. `ids` are those that the client knows of an earlier time.
pub(super) fn encounter<'v>(
    bundle: &mut Bundle<'v>,
    details: &mut Input<'v>,
    ids: &mut Option<Input<'v>>,
) -> Result<(), BuildError> {
    let given = given(ids, "encounter")?;
    let given = given.as_ref().map(|(id, place)| (id.as_str(), place.clone()));
    let mut encounter = bundle.resource("Encounter", "encounter", given)?;
    let reference = encounter.reference();
    encounter.set("status", "finished");
    if let Some(place) = details.object("eventLocation")?.filter(|place| !place.is_empty()) {
        let place = event_location(bundle, place, &mut encounter)?;
        encounter.set("location", json!([{ "location": { "reference": place } }]));
    }
    if let Some(practitioner) = details.object("medicalPractitioner")?.filter(|person| !person.is_empty()) {
        let participant = participant(bundle, practitioner)?;
        encounter.set("participant", json!([participant]));
    }
    let (code, title) = bundle.event.encounter();
    bundle.section(SECTIONS, code, title, std::slice::from_ref(&reference));
    bundle.add(encounter);
    observations(bundle, details, ids, &reference)?;
    questionnaire(bundle, details, ids, &reference)
}

/// An id of the client's map, and where it stands.
fn given(ids: &mut Option<Input<'_>>, name: &'static str) -> Result<Option<(String, String)>, BuildError> {
    let Some(ids) = ids else { return Ok(None) };
    Ok(ids.id(name)?.map(|id| (id.to_owned(), ids.place(name))))
}

fn observations<'v>(
    bundle: &mut Bundle<'v>,
    details: &mut Input<'v>,
    ids: &mut Option<Input<'v>>,
    encounter: &str,
) -> Result<(), BuildError> {
    let list: &[Observation] = match bundle.event {
        Event::Birth => &BIRTH,
        Event::Death => &DEATH,
        Event::Marriage => &MARRIAGE,
    };
    let mut known = match ids.as_mut() {
        Some(ids) => ids.object("observation")?,
        None => None,
    };
    for (name, vital, code, display, kind) in list {
        let Some((member, value)) = observed(details, name, *kind)? else { continue };
        let given = given(&mut known, name)?;
        let given = given.as_ref().map(|(id, place)| (id.as_str(), place.clone()));
        let mut observation = bundle.resource("Observation", name, given)?;
        let category = if *vital { ("vital-signs", "Vital Signs") } else { ("procedure", "Procedure") };
        observation.set("status", "final");
        observation.set("context", json!({ "reference": encounter }));
        let category = coded("http://hl7.org/fhir/observation-category", category.0, category.1);
        observation.set("category", json!([category]));
        observation.set("code", coded("http://loinc.org", code, display));
        observation.set(member, value);
        bundle.add(observation);
    }
    if let (Some(ids), Some(rest)) = (ids.as_mut(), known.and_then(|known| known.rest())) {
        ids.leave("observation", rest);
    }
    Ok(())
}

/// The member of an Observation, and what is in it.
fn observed(
    details: &mut Input<'_>,
    name: &'static str,
    kind: Kind,
) -> Result<Option<(&'static str, Value)>, BuildError> {
    Ok(match kind {
        // A word for some, a number for others: what it is was said by GraphQL.
        Kind::Quantity if details.peek(name).is_some() => {
            details.word(name)?.map(|word| ("valueQuantity", json!({ "value": word })))
        }
        Kind::Quantity => details.number(name)?.map(|number| ("valueQuantity", json!({ "value": number }))),
        Kind::Kilograms => details.number(name)?.map(|number| {
            let unit = "http://unitsofmeasure.org";
            ("valueQuantity", json!({ "value": number, "unit": "kg", "system": unit, "code": "kg" }))
        }),
        Kind::Text => details.text(name)?.map(|text| ("valueString", text.into())),
        Kind::DateTime => details.text(name)?.map(|text| ("valueDateTime", text.into())),
        Kind::Concept(system) => {
            details.text(name)?.map(|code| ("valueCodeableConcept", concept(&format!("{SPECS}/{system}"), code)))
        }
        Kind::Count => details.number(name)?.map(|number| ("valueString", number.to_string().into())),
    })
}

fn coded(system: &str, code: &str, display: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code, "display": display }] })
}

/// A place that the country knows is referred to; any other is described.
fn event_location<'v>(
    bundle: &mut Bundle<'v>,
    mut place: Input<'v>,
    encounter: &mut Resource,
) -> Result<String, BuildError> {
    if let Some(known) = place.id("_fhirID")? {
        encounter.keep(place.rest());
        return Ok(location(known));
    }
    let mut here = bundle.resource("Location", "eventLocation", None)?;
    here.set("mode", "instance");
    for name in ["status", "name", "description"] {
        here.set_some(name, place.text(name)?);
    }
    here.set_some("partOf", place.word("partOf")?.map(|part_of| json!({ "reference": location(part_of) })));
    here.set_some("type", place.text("type")?.map(|kind| concept(&format!("{SPECS}/location-type"), kind)));
    here.list("alias", place.texts("alias")?.into_iter().map(Value::from).collect());
    let identifiers = place.texts("identifier")?.into_iter().map(|id| json!({ "value": id }));
    here.list("identifier", identifiers.collect());
    let telecom = place.each("telecom", |t| t.copy(&[("system", "system"), ("value", "value"), ("use", "use")]))?;
    here.list("telecom", telecom.into_iter().map(Value::Object).collect());
    if let Some(mut input) = place.object("address")? {
        here.set("address", address(&mut input)?);
        if let Some(rest) = input.rest() {
            place.leave("address", rest);
        }
    }
    let mut position = serde_json::Map::new();
    for name in ["longitude", "latitude", "altitude"] {
        position.extend(place.number(name)?.map(|number| (name.to_owned(), number)));
    }
    if !position.is_empty() {
        here.set("position", position);
    }
    here.keep(place.rest());
    let reference = here.reference();
    bundle.add(here);
    Ok(reference)
}

/// Who attended a death.
fn participant<'v>(bundle: &mut Bundle<'v>, mut person: Input<'v>) -> Result<Value, BuildError> {
    let mut practitioner = bundle.resource("Practitioner", "medicalPractitioner", None)?;
    practitioner.set("active", true);
    practitioner.set_some("name", person.text("name")?.map(|name| json!([{ "use": "en", "family": name }])));
    let degree = |code| json!([{ "code": concept(&format!("{SPECS}/practitioner-degree"), code) }]);
    practitioner.set_some("qualification", person.text("qualification")?.map(degree));
    let mut participant = json!({ "individual": { "reference": practitioner.reference() } });
    if let Some(visit) = person.text("lastVisitDate")? {
        participant["period"] = json!({ "start": visit });
    }
    practitioner.keep(person.rest());
    bundle.add(practitioner);
    Ok(participant)
}

/// The questions that a country added to the form. OpenCRVS tells them by `text`; FHIR wants a `linkId` too.
fn questionnaire<'v>(
    bundle: &mut Bundle<'v>,
    details: &mut Input<'v>,
    ids: &mut Option<Input<'v>>,
    encounter: &str,
) -> Result<(), BuildError> {
    let items = details.each("questionnaire", |question| {
        let field = question.text("fieldId")?.unwrap_or_default();
        let mut item = json!({ "text": field, "linkId": field });
        if let Some(value) = question.text("value")? {
            item["answer"] = json!([{ "valueString": value }]);
        }
        Ok(item)
    })?;
    if items.is_empty() {
        return Ok(());
    }
    let given = given(ids, "questionnaireResponse")?;
    let given = given.as_ref().map(|(id, place)| (id.as_str(), place.clone()));
    let mut response = bundle.resource("QuestionnaireResponse", "questionnaire", given)?;
    response.set("status", "completed");
    response.set("subject", json!({ "reference": encounter }));
    response.list("item", items);
    bundle.add(response);
    Ok(())
}
