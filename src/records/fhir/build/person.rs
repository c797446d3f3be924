//! People: a Patient each, and a `RelatedPerson` for who has no other part in the event than to tell of it.

use serde_json::{Map, Value, json};
use time::Date;
use time::macros::format_description;

use super::BuildError;
use super::documents::document;
use super::input::Input;
use super::resource::{Bundle, PEOPLE, Resource, SPECS};
use crate::records::fhir::identify::{IDENTIFIER_TYPE, concept};

const HL7: &str = "http://hl7.org/fhir/StructureDefinition";
const RELATIONSHIP: &str = "http://hl7.org/fhir/ValueSet/relatedperson-relationshiptype";

/// Who declares when the form has no section for them: the informant is one of the people of the event.
const INFORMANTS: [(&str, &str); 5] =
    [("MOTHER", "mother"), ("FATHER", "father"), ("SPOUSE", "spouse"), ("BRIDE", "bride"), ("GROOM", "groom")];

/// Adds the people that the event is about, each in a section of their own.
pub(super) fn people<'v>(bundle: &mut Bundle<'v>, details: &mut Input<'v>) -> Result<(), BuildError> {
    for &(name, code, title) in bundle.event.people() {
        let Some(mut person) = details.object(name)?.filter(|person| !person.is_empty()) else { continue };
        let given = person.id("_fhirID")?.map(|id| (id, person.place("_fhirID")));
        let mut patient = bundle.resource("Patient", name, given)?;
        fill(bundle, &mut patient, &mut person)?;
        patient.keep(person.rest());
        bundle.section(PEOPLE, code, title, &[patient.reference()]);
        bundle.people.insert(name, patient.reference());
        bundle.add(patient);
    }
    Ok(())
}

/// Adds the informant: who they are is said by the registration, and the rest by themselves.
pub(super) fn informant<'v>(
    bundle: &mut Bundle<'v>,
    details: &mut Input<'v>,
    registration: &mut Input<'v>,
) -> Result<(), BuildError> {
    let person = details.object("informant")?.filter(|person| !person.is_empty());
    let kind = registration.peek("informantType").filter(|kind| !kind.is_empty());
    let other = registration.peek("otherInformantType").filter(|other| !other.is_empty());
    if person.is_none() && kind.is_none() {
        return Ok(());
    }
    let nobody = Value::Object(Map::new());
    let place = details.place("informant");
    let section = ("informant", "informant-details", "Informant's details");
    match person {
        Some(person) => related(bundle, person, section, kind, other),
        None => related(bundle, Input::new(&nobody, place)?, section, kind, other),
    }
}

/// Adds the witnesses of a marriage.
pub(super) fn witnesses<'v>(bundle: &mut Bundle<'v>, details: &mut Input<'v>) -> Result<(), BuildError> {
    for section in [
        ("witnessOne", "witness-one-details", "Witness One's details"),
        ("witnessTwo", "witness-two-details", "Witness Two's details"),
    ] {
        if let Some(person) = details.object(section.0)?.filter(|person| !person.is_empty()) {
            related(bundle, person, section, None, None)?;
        }
    }
    Ok(())
}

fn related(
    bundle: &mut Bundle<'_>,
    mut person: Input<'_>,
    (name, code, title): (&'static str, &str, &str),
    kind: Option<&str>,
    other: Option<&str>,
) -> Result<(), BuildError> {
    let given = person.id("_fhirID")?.map(|id| (id, person.place("_fhirID")));
    let mut related = bundle.resource("RelatedPerson", &format!("{name}-related"), given)?;
    // What the registration says of the informant comes before what the informant says; both are kept.
    let own = if kind.is_none() { person.word("relationship")? } else { None };
    let own_other = if other.is_none() { person.word("otherRelationship")? } else { None };
    related.set_some("relationship", relationship(kind.or(own), other.or(own_other)));
    let part = INFORMANTS.iter().find(|(informant, _)| kind.or(own) == Some(informant));
    let known = part.and_then(|(_, part)| bundle.people.get(part)).filter(|_| name == "informant").cloned();
    let reference = match known {
        // Somebody who is described already; what the informant adds stays with the informant.
        Some(reference) => reference,
        None => patient_of(bundle, &mut person, name)?,
    };
    related.set("patient", json!({ "reference": reference }));
    person.each("affidavit", |affidavit| document(bundle, affidavit, None).map(drop))?;
    related.keep(person.rest());
    bundle.section(PEOPLE, code, title, &[related.reference()]);
    bundle.add(related);
    Ok(())
}

fn patient_of(bundle: &mut Bundle<'_>, person: &mut Input<'_>, name: &'static str) -> Result<String, BuildError> {
    let given = person.id("_fhirIDPatient")?.map(|id| (id, person.place("_fhirIDPatient")));
    let mut patient = bundle.resource("Patient", name, given)?;
    fill(bundle, &mut patient, person)?;
    let reference = patient.reference();
    bundle.add(patient);
    Ok(reference)
}

fn relationship(kind: Option<&str>, other: Option<&str>) -> Option<Value> {
    let other_value = format!("{SPECS}/extension/other-informant-value");
    let mut relationship = match (kind, other) {
        (None, None) => return None,
        (Some(kind), None) => concept(RELATIONSHIP, kind),
        (Some(kind), Some(_)) if kind != "OTHER" => concept(RELATIONSHIP, kind),
        (Some(_) | None, Some(_)) => concept(&other_value, "OTHER"),
    };
    if let Some(other) = other {
        relationship["text"] = other.into();
    }
    Some(relationship)
}

/// Everything that a form asks of a person.
fn fill(bundle: &mut Bundle<'_>, patient: &mut Resource, person: &mut Input<'_>) -> Result<(), BuildError> {
    patient.set("active", person.flag("detailsExist")?.unwrap_or(true));
    // OpenCRVS's readers take these two lists for granted.
    patient.set("extension", json!([]));
    patient.set("name", person.each("name", human_name)?);
    patient.list("identifier", person.each("identifier", identifier)?);
    let telecom = person.each("telecom", |t| t.copy(&[("system", "system"), ("value", "value"), ("use", "use")]))?;
    patient.list("telecom", telecom.into_iter().map(Value::Object).collect());
    patient.list("address", person.each("address", address)?);
    patient.set_some("gender", person.text("gender")?);
    patient.set_some("multipleBirthInteger", person.integer("multipleBirth")?);
    if let Some(status) = person.text("maritalStatus")? {
        let mut concept = concept(&format!("{HL7}/marital-status"), marital_status(status));
        concept["text"] = status.into();
        patient.set("maritalStatus", concept);
    }
    dates(bundle, patient, person)?;
    patient.extend("patient-occupation", "valueString", person.text("occupation")?);
    patient.extend("reason-not-applying", "valueString", person.text("reasonNotApplying")?);
    patient.extend("educational-attainment", "valueString", person.text("educationalAttainment")?);
    patient.extend("date-of-marriage", "valueDateTime", person.text("dateOfMarriage")?);
    patient.extend("age", "valueInteger", person.number("age")?);
    for country in person.texts("nationality")? {
        patient.add_extension(nationality(country));
    }
    let about = patient.reference();
    person.each("photo", |photo| document(bundle, photo, Some(&about)).map(drop))?;
    Ok(())
}

/// Birth and death. Where only an age is known, the day of birth is assumed, as OpenCRVS does: so many years before the
/// death, or else the first day of the year.
fn dates(bundle: &Bundle<'_>, patient: &mut Resource, person: &mut Input<'_>) -> Result<(), BuildError> {
    let mut died = None;
    if let Some(mut deceased) = person.object("deceased")? {
        died = deceased.text("deathDate")?;
        patient.set_some("deceasedBoolean", deceased.flag("deceased")?);
        patient.set_some("deceasedDateTime", died);
        if let Some(rest) = deceased.rest() {
            person.leave("deceased", rest);
        }
    }
    let born = person.word("birthDate")?.map(str::to_owned);
    let age = person.integer("ageOfIndividualInYears")?;
    patient.extend("age-of-individual-in-years", "valueInteger", age);
    let assumed = || age.and_then(|age| assumed_birth(age, died, bundle.created));
    patient.set_some("birthDate", born.or_else(assumed));
    Ok(())
}

fn assumed_birth(age: i64, died: Option<&str>, created: Option<&str>) -> Option<String> {
    const DAY: &[time::format_description::BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
    let day = |text: &str| text.get(..10).and_then(|day| Date::parse(day, DAY).ok());
    let (day, from_death) = match died.and_then(day) {
        Some(day) => (day, true),
        None => (created.and_then(day)?, false),
    };
    let year = i32::try_from(age).ok().and_then(|age| day.year().checked_sub(age))?;
    let first = || Date::from_ordinal_date(year, 1).ok();
    let born = if from_death {
        // Nobody is born on a 29 February that the year does not have.
        day.replace_year(year).or_else(|_| day.replace_day(28).and_then(|d| d.replace_year(year))).ok()
    } else {
        first()
    };
    born.and_then(|born| born.format(DAY).ok())
}

fn human_name(name: &mut Input<'_>) -> Result<Value, BuildError> {
    let mut human = name.copy(&[("use", "use"), ("familyName", "family")])?;
    let given = [name.text("firstNames")?, name.word("middleName")?];
    let given: Vec<&str> = given.into_iter().flatten().collect();
    if !given.is_empty() {
        human.insert("given".to_owned(), given.into());
    }
    if let Some(married) = name.text("marriedLastName")? {
        human.insert("suffix".to_owned(), json!([married]));
    }
    Ok(human.into())
}

fn identifier(identity: &mut Input<'_>) -> Result<Value, BuildError> {
    let mut identifier = identity.copy(&[("id", "value"), ("otherType", "otherType")])?;
    if let Some(kind) = identity.text("type")? {
        identifier.insert("type".to_owned(), concept(IDENTIFIER_TYPE, kind));
    }
    if identity.has("fieldsModifiedByIdentity") {
        let fields = identity.texts("fieldsModifiedByIdentity")?;
        identifier.insert("fieldsModifiedByIdentity".to_owned(), fields.into());
    }
    Ok(identifier.into())
}

/// An address of a person or of a place; its lines keep their places, which is how OpenCRVS tells them apart.
pub(super) fn address(input: &mut Input<'_>) -> Result<Value, BuildError> {
    let mut address = input.copy(&[
        ("use", "use"),
        ("type", "type"),
        ("text", "text"),
        ("city", "city"),
        ("district", "district"),
        ("state", "state"),
        ("postalCode", "postalCode"),
        ("country", "country"),
    ])?;
    if input.has("line") {
        address.insert("line".to_owned(), input.texts("line")?.into());
    }
    let period = input.copy(&[("from", "start"), ("to", "end")])?;
    if !period.is_empty() {
        address.insert("period".to_owned(), period.into());
    }
    if let Some(part_of) = input.word("partOf")? {
        let reference = json!({ "reference": location(part_of) });
        let extension = json!([{ "url": format!("{SPECS}/extension/part-of"), "valueReference": reference }]);
        address.insert("extension".to_owned(), extension);
    }
    Ok(address.into())
}

/// A reference to a location, of its id or of what is a reference already.
pub(super) fn location(id: &str) -> String {
    if id.starts_with("Location/") { id.to_owned() } else { format!("Location/{id}") }
}

fn nationality(country: &str) -> Value {
    json!({
        "url": format!("{HL7}/patient-nationality"),
        "extension": [
            { "url": "code", "valueCodeableConcept": concept("urn:iso:std:iso:3166", country) },
            { "url": "period", "valuePeriod": { "start": "", "end": "" } },
        ],
    })
}

/// The codes of HL7 for OpenCRVS's words.
fn marital_status(word: &str) -> &'static str {
    match word {
        "SINGLE" => "S",
        "MARRIED" => "M",
        "WIDOWED" => "W",
        "DIVORCED" => "D",
        "SEPARATED" => "L",
        _ => "UNK",
    }
}
