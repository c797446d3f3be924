use serde_json::json;

use super::identify::{IDENTIFIER_TYPE, REG_STATUS, concept, task_identifiers};
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
    for (from, to) in [("child-details", "son-details"), ("Patient/k", "Patient/x"), ("Patient/k", "Composition/old")] {
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
