use serde_json::{Value, json};
use uuid::Uuid;

use super::{BuildError, Built, bundle};
use crate::records::fhir::{Declaration, Stamp};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";

/// A person with every member that a form may ask for.
fn person(of: &str) -> Value {
    json!({
        "name": [
            { "use": "en", "firstNames": format!("{of}-first"), "middleName": format!("{of}-middle"),
              "familyName": format!("{of}-family"), "marriedLastName": format!("{of}-married") },
            { "use": "ny", "firstNames": format!("{of}-ny") },
        ],
        "gender": "female", "birthDate": "1996-02-29", "age": 30.0, "ageOfIndividualInYears": 31,
        "exactDateOfBirthUnknown": true, "maritalStatus": "SEPARATED", "occupation": format!("{of}-weaver"),
        "detailsExist": true, "reasonNotApplying": format!("{of}-absent"), "dateOfMarriage": "2019-06-08",
        "multipleBirth": 2, "nationality": ["FAR", "ZMB"], "educationalAttainment": "PRIMARY_ISCED_1",
        "identifier": [
            { "id": format!("{of}-nid"), "type": "NATIONAL_ID", "fieldsModifiedByIdentity": ["firstNames", "gender"] },
            { "id": format!("{of}-other"), "type": "OTHER", "otherType": "village card" },
        ],
        "telecom": [{ "system": "phone", "use": "mobile", "value": format!("+2600{}", of.len()) }],
        "address": [{
            "type": "PRIMARY_ADDRESS", "use": "home", "text": format!("{of}-text"), "line": ["7", "", "Quay", null, "", "URBAN"],
            "city": "Tembo", "district": "d-1", "state": "s-1", "partOf": "d-1", "postalCode": "90210", "country": "FAR",
            "from": "2001-01-01", "to": "2020-12-31",
        }],
        "photo": [{ "contentType": "image/png", "data": format!("data:image/png;base64,{PNG}") }],
        "deceased": { "deceased": true, "deathDate": "2026-03-01" },
    })
}

fn registration(informant: &str) -> Value {
    json!({
        "draftId": "0d3f5c1a-draft", "trackingId": "BXXXXXX", "mosipAid": "aid-1", "registrationNumber": "number-1",
        "paperFormID": "form-1", "page": "page-1", "book": "book-1", "informantsSignature": "/ocrvs/signature-1.png",
        "groomSignature": "/ocrvs/signature-2.png", "brideSignature": "/ocrvs/signature-3.png",
        "witnessOneSignature": "/ocrvs/signature-4.png", "witnessTwoSignature": "/ocrvs/signature-5.png",
        "informantType": informant, "otherInformantType": "neighbour", "contactPhoneNumber": "+260970000001",
        "contactEmail": "someone@example.org", "type": "BIRTH", "inCompleteFields": "child/child-view-group/birthDate",
        "status": [{
            "timestamp": "2026-04-01T08:00:00.000Z", "timeLoggedMS": 61_234, "type": "DECLARED", "reason": "because",
            "comments": [{ "comment": "late, by flood", "createdAt": "2026-04-01T08:01:00.000Z", "user": { "device": "tablet" } }],
            "location": { "_fhirID": "office-1" },
        }],
        "attachments": [
            { "contentType": "image/png", "data": format!("data:image/png;base64,{PNG}"), "subject": "CHILD",
              "type": "NOTIFICATION_OF_BIRTH", "originalFileName": "scan.png", "systemFileName": "system.png",
              "description": "both sides", "status": "approved", "createdAt": "2026-04-01T07:00:00.000Z" },
            { "uri": "/ocrvs/3f0c-11.png", "subject": "MOTHER", "type": "NATIONAL_ID" },
        ],
        "certificates": [{ "hasShowedVerifiedDocument": true, "collector": { "relationship": "AUNT" } }],
        "changedValues": [{ "section": "child", "fieldName": "gender", "newValue": "other" }],
    })
}

fn place() -> Value {
    json!({
        "identifier": ["place-1"], "status": "active", "name": "Old Quay", "alias": ["Quay clinic"], "description": "by the water",
        "partOf": "Location/d-1", "type": "PRIVATE_HOME", "telecom": [{ "system": "email", "value": "quay@example.org" }],
        "address": { "line": ["2"], "country": "FAR" }, "longitude": 28.25, "latitude": -15.5, "altitude": 1200.0, "geoData": "geo",
    })
}

fn input(event: &str) -> Value {
    let common = json!({
        "registration": registration(match event { "birth" => "MOTHER", "death" => "SON", _ => "OTHER" }),
        "eventLocation": place(), "createdAt": "2026-04-02T09:00:00.000Z", "updatedAt": "2026-04-03T10:00:00.000Z",
        "questionnaire": [{ "fieldId": "birth.child.tribe", "value": "a tribe" }],
        "informant": { "relationship": "COUSIN", "otherRelationship": "of a kind", "name": [{ "firstNames": "Tells" }],
                       "affidavit": [{ "data": PNG, "contentType": "image/png" }], "exactDateOfBirthUnknown": false },
    });
    let own = match event {
        "birth" => json!({
            "child": person("child"), "mother": person("mother"), "father": person("father"), "birthType": "TWIN",
            "weightAtBirth": 3.0, "attendantAtBirth": "OTHER", "otherAttendantAtBirth": "a passer-by",
            "childrenBornAliveToMother": 4, "foetalDeathsToMother": 1, "lastPreviousLiveBirth": "2022-05-05",
            "_fhirIDMap": { "composition": "c-1", "encounter": "e-1", "observation": { "birthType": "o-1", "causeOfDeath": "o-2" } },
        }),
        "death" => json!({
            "deceased": person("deceased"), "mother": person("mother"), "father": person("father"), "spouse": person("spouse"),
            "mannerOfDeath": "ACCIDENT", "deathDescription": "fell", "causeOfDeathEstablished": "true",
            "causeOfDeathMethod": "VERBAL_AUTOPSY", "causeOfDeath": "W19", "maleDependentsOfDeceased": 2.0,
            "femaleDependentsOfDeceased": 3.0,
            "medicalPractitioner": { "name": "Dr. Amara", "qualification": "MD", "lastVisitDate": "2026-02-27" },
        }),
        _ => json!({
            "bride": person("bride"), "groom": person("groom"), "typeOfMarriage": "MONOGAMY",
            "witnessOne": person("one"), "witnessTwo": person("two"),
        }),
    };
    let mut all = common;
    all.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    all
}

fn built(event: &str, input: &Value) -> (String, Value) {
    let Built { text, .. } = bundle(event, input).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

/// Every scalar of a value, as text; what is left of the input is looked into.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => found.push(flag.to_string()),
        Value::Number(number) => found.push(number.as_f64().unwrap().to_string()),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ Value::Object(_)) => leaves(&inner, found),
            _ => found.push(text.clone()),
        },
        Value::Array(list) => list.iter().for_each(|item| leaves(item, found)),
        Value::Object(members) => members.values().for_each(|item| leaves(item, found)),
    }
}

/// The resource of a kind, or the one that a section refers to.
fn resources<'v>(bundle: &'v Value, kind: &str) -> Vec<&'v Value> {
    let all = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
    all.filter(|resource| resource["resourceType"] == kind).collect()
}

fn section<'v>(bundle: &'v Value, code: &str) -> Option<&'v Value> {
    let sections = bundle["entry"][0]["resource"]["section"].as_array().unwrap();
    let section = sections.iter().find(|section| section["code"]["coding"][0]["code"] == code)?;
    let (kind, id) = section["entry"][0]["reference"].as_str()?.split_once('/')?;
    resources(bundle, kind).into_iter().find(|resource| resource["id"] == id)
}

fn extension<'v>(resource: &'v Value, url: &str) -> Option<&'v Value> {
    let list = resource["extension"].as_array()?.iter();
    list.clone().find(|extension| extension["url"].as_str().unwrap().ends_with(url))
}

#[test]
fn whatever_the_client_sent_is_in_the_bundle() {
    for event in ["birth", "death", "marriage"] {
        let input = input(event);
        let (mut sent, mut kept) = (Vec::new(), Vec::new());
        leaves(&input, &mut sent);
        leaves(&built(event, &input).1, &mut kept);
        for leaf in sent {
            // A reference has its kind before the id, and a data: URL its base64 after the type.
            assert!(
                kept.iter()
                    .any(|k| *k == leaf || k.ends_with(&format!("/{leaf}")) || leaf.ends_with(&format!(";base64,{k}"))),
                "{event}: {leaf}"
            );
        }
    }
}

#[test]
fn one_input_makes_one_text_whose_ids_are_the_drafts() {
    let mut input = input("birth");
    let (first, value) = built("birth", &input);
    assert_eq!(built("birth", &input).0, first);
    let ids = |value: &Value| -> Vec<String> {
        value["entry"].as_array().unwrap().iter().map(|e| e["resource"]["id"].to_string()).collect()
    };
    assert_eq!(ids(&value).iter().collect::<std::collections::BTreeSet<_>>().len(), ids(&value).len());
    input["createdAt"] = json!("2026-05-05T05:05:05.000Z");
    assert_eq!(ids(&built("birth", &input).1), ids(&value));
    input["registration"]["draftId"] = json!("another-draft");
    assert!(ids(&built("birth", &input).1).iter().filter(|id| ids(&value).contains(id)).count() <= 2, "two were given");
}

#[test]
fn a_country_config_finds_what_it_looks_for() {
    let (_, birth) = built("birth", &input("birth"));
    assert_eq!(birth["type"], "document");
    assert_eq!(birth["entry"][0]["resource"]["type"]["coding"][0]["code"], "birth-declaration");
    assert!(birth["entry"].as_array().unwrap().iter().all(|entry| entry["fullUrl"].is_string()));
    let child = section(&birth, "child-details").unwrap();
    assert_eq!(
        child["name"][0],
        json!({
            "use": "en", "given": ["child-first", "child-middle"], "family": "child-family", "suffix": ["child-married"],
        })
    );
    assert_eq!((&child["multipleBirthInteger"], &child["birthDate"]), (&json!(2), &json!("1996-02-29")));
    let identifier = &child["identifier"][0];
    assert_eq!(
        identifier["type"]["coding"][0],
        json!({
            "system": "http://opencrvs.org/specs/identifier-type", "code": "NATIONAL_ID",
        })
    );
    assert_eq!(
        (&identifier["value"], &child["maritalStatus"]["coding"][0]["code"]),
        (&json!("child-nid"), &json!("L"))
    );
    assert_eq!(child["address"][0]["line"], json!(["7", "", "Quay", "", "", "URBAN"]));
    let mother = section(&birth, "mother-details").unwrap();
    let informant = section(&birth, "informant-details").unwrap();
    assert_eq!(informant["patient"]["reference"], format!("Patient/{}", mother["id"].as_str().unwrap()));
    assert_eq!(informant["relationship"]["coding"][0]["code"], "MOTHER");
    let encounter = section(&birth, "birth-encounter").unwrap();
    let location = resources(&birth, "Location")[0];
    let reference = format!("Location/{}", location["id"].as_str().unwrap());
    assert_eq!(encounter["location"][0]["location"]["reference"], reference);
    assert_eq!(location["type"]["coding"][0]["code"], "PRIVATE_HOME");
    let weight =
        resources(&birth, "Observation").into_iter().find(|o| o["code"]["coding"][0]["code"] == "3141-9").unwrap();
    assert_eq!(weight["valueQuantity"]["value"].to_string(), "3");
    let task = resources(&birth, "Task")[0];
    assert_eq!(
        task["identifier"][0],
        json!({ "system": "http://opencrvs.org/specs/id/draft-id", "value": "0d3f5c1a-draft" })
    );
    assert_eq!(extension(task, "/contact-person").unwrap()["valueString"], "MOTHER");
    assert_eq!(extension(task, "/timeLoggedMS").unwrap()["valueInteger"], 61_234);
    assert!(!task["identifier"].to_string().contains("number-1"), "a client gives no registration number");
    let (_, death) = built("death", &input("death"));
    assert_eq!(section(&death, "deceased-details").unwrap()["deceasedDateTime"], "2026-03-01");
    let informant = section(&death, "informant-details").unwrap();
    let son = resources(&death, "Patient").into_iter().find(|p| p["name"][0]["given"] == json!(["Tells"])).unwrap();
    assert_eq!(informant["patient"]["reference"], format!("Patient/{}", son["id"].as_str().unwrap()));
    let (_, marriage) = built("marriage", &input("marriage"));
    for code in ["bride-details", "groom-details", "witness-one-details", "witness-two-details", "marriage-encounter"] {
        assert!(section(&marriage, code).is_some(), "{code}");
    }
    let other = section(&marriage, "informant-details").unwrap();
    assert_eq!(
        (&other["relationship"]["coding"][0]["code"], &other["relationship"]["text"]),
        (&json!("OTHER"), &json!("neighbour"))
    );
}

#[test]
fn it_is_a_declaration_that_takes_stamps_and_gives_its_people() {
    for (event, role) in [("birth", "child"), ("birth", "mother"), ("death", "deceased"), ("marriage", "groom")] {
        let (text, _) = built(event, &input(event));
        crate::json::digest(text.as_bytes()).unwrap();
        let declaration = Declaration::parse(&text).unwrap();
        let person = declaration.person(role).unwrap();
        assert_eq!(person.name, format!("{role}-first {role}-middle {role}-family"));
        assert_eq!(person.identifiers[0], ("NATIONAL_ID".to_owned(), format!("{role}-nid")));
        assert_eq!((person.born.as_deref(), person.died.as_deref()), (Some("1996-02-29"), Some("2026-03-01")));
        let inline = declaration.inline();
        assert!(inline.iter().all(|a| a.data == PNG && a.content_type.as_deref() == Some("image/png")));
        assert!(inline.iter().any(|a| a.kind.as_deref() == Some("NOTIFICATION_OF_BIRTH")));
        let stamp = Stamp {
            record_id: Uuid::from_u128(7),
            event,
            tracking_id: "B7K2M9Q",
            status: "WAITING_VALIDATION",
            registration_number: None,
            identifiers: &[],
        };
        let urls: Vec<String> = inline.iter().map(|_| "/attachments/x".to_owned()).collect();
        let stamped: Value = serde_json::from_str(&declaration.stamped(&stamp, &urls).unwrap()).unwrap();
        let task = resources(&stamped, "Task")[0];
        assert_eq!(task["focus"]["reference"], format!("Composition/{}", Uuid::from_u128(7)));
        let system = format!("http://opencrvs.org/specs/id/{event}-tracking-id");
        assert!(task["identifier"].as_array().unwrap().contains(&json!({ "system": system, "value": "B7K2M9Q" })));
        assert!(stamped.to_string().contains("/ocrvs/3f0c-11.png"), "what OpenCRVS stored stays where it is");
    }
}

#[test]
fn a_known_place_is_referred_to_and_an_age_alone_makes_a_day_of_birth() {
    let mut input = input("death");
    input["eventLocation"] = json!({ "_fhirID": "hospital-1" });
    for (who, born) in [("mother", json!({})), ("deceased", json!({ "deathDate": "2024-02-29" }))] {
        input[who]["birthDate"] = Value::Null;
        input[who]["deceased"] = born;
    }
    let (_, death) = built("death", &input);
    assert!(resources(&death, "Location").is_empty());
    let encounter = section(&death, "death-encounter").unwrap();
    assert_eq!(encounter["location"][0]["location"]["reference"], "Location/hospital-1");
    assert_eq!(section(&death, "mother-details").unwrap()["birthDate"], "1995-01-01");
    assert_eq!(section(&death, "deceased-details").unwrap()["birthDate"], "1993-02-28");
}

#[test]
fn what_is_of_another_type_is_named_by_its_place_and_not_by_its_value() {
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut input = input("birth");
        change(&mut input);
        let error = bundle("birth", &input).err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
        let BuildError::Wrong { place, .. } = error else { panic!("another error") };
        place
    };
    assert_eq!(wrong(&|i| i["child"]["name"][0]["familyName"] = json!({ "secret": 1 })), "/child/name/0/familyName");
    assert_eq!(wrong(&|i| i["weightAtBirth"] = json!("secret")), "/weightAtBirth");
    assert_eq!(wrong(&|i| i["mother"] = json!(["secret"])), "/mother");
    assert_eq!(wrong(&|i| i["mother"]["_fhirID"] = json!("secret/../x")), "/mother/_fhirID");
    assert_eq!(
        wrong(&|i| i["registration"]["status"][0]["timeLoggedMS"] = json!(1.5)),
        "/registration/status/0/timeLoggedMS"
    );
    assert_eq!(wrong(&|i| i["registration"]["attachments"][1]["uri"] = Value::Null), "/registration/attachments/1");
    assert_eq!(wrong(&|i| i["registration"]["draftId"] = Value::Null), "/registration/draftId");
    assert_eq!(wrong(&|i| i["registration"] = Value::Null), "/registration");
    let same = |i: &mut Value| {
        i["mother"]["_fhirID"] = json!("same");
        i["father"]["_fhirID"] = json!("same");
    };
    assert_eq!(wrong(&same), "/father/_fhirID");
    assert_eq!(bundle("adoption", &json!({})).err(), Some(BuildError::UnknownEvent));
}

#[test]
fn a_data_url_that_contradicts_itself_is_left_for_who_decodes_it() {
    let data = |data: &str, content_type: Option<&str>| {
        let mut input = input("birth");
        input["registration"]["attachments"][0] = json!({ "data": data, "contentType": content_type });
        let Built { text, places } = bundle("birth", &input).unwrap();
        let (at, _) = places.iter().find(|(_, place)| *place == "/registration/attachments/0").unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        value["entry"][at]["resource"]["content"][0]["attachment"].clone()
    };
    assert_eq!(data("data:image/png;base64,QUJD", None), json!({ "contentType": "image/png", "data": "QUJD" }));
    assert_eq!(data("DATA:;base64,QUJD", Some("image/png")), json!({ "contentType": "image/png", "data": "QUJD" }));
    let whole = "data:application/pdf;base64,QUJD";
    assert_eq!(data(whole, Some("image/png")), json!({ "contentType": "image/png", "data": whole }));
    assert_eq!(data("data:,QUJD", None)["data"], "data:,QUJD");
    let ours = "/attachments/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    assert_eq!(data(ours, None), json!({ "url": ours }));
}
