//! Clients of the queue's branch: they submit, and poll until the record is there; what they send again is not another.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Setup, TestApp};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";
const DRAFT: &str = "6d1d1f3c-6a61-4c34-b0a4-6a2f8ff3f9d1";
const STATUS: &str = "query fetchRecordStatus($draftId: ID!) {\n  fetchRecordStatus(draftId: $draftId) {\n    ... on RecordProcessing {\n      processed\n      __typename\n    }\n    ... on RecordProcessed {\n      processed\n      trackingId\n      hasPotentialDuplicates\n      recordId\n      __typename\n    }\n    __typename\n  }\n}\n";

/// What a client fills in for a birth.
fn birth() -> Value {
    json!({
        "createdAt": "2026-04-02T09:00:00.000Z",
        "registration": {
            "informantType": "MOTHER", "contact": "MOTHER", "otherInformantType": "", "contactPhoneNumber": "+260970000001",
            "contactRelationship": "Mother", "draftId": DRAFT,
            "status": [{ "timestamp": "2026-04-02T08:50:00.000Z", "timeLoggedMS": 143_484_000 }],
            "attachments": [{
                "contentType": "image/png", "data": format!("data:image/png;base64,{PNG}"), "subject": "CHILD",
                "type": "NOTIFICATION_OF_BIRTH",
            }],
        },
        "father": { "detailsExist": false, "reasonNotApplying": "unknown" },
        "child": {
            "name": [{ "use": "en", "firstNames": "Liseli", "familyName": "Wanjala" }], "gender": "female",
            "birthDate": "2026-02-27", "multipleBirth": 3,
        },
        "mother": {
            "name": [{ "use": "en", "firstNames": "Thandeka", "familyName": "Wanjala" }], "birthDate": "1997-11-05",
            "identifier": [{ "id": "4190073312", "type": "NATIONAL_ID" }], "nationality": ["FAR"], "maritalStatus": "MARRIED",
            "address": [{ "country": "FAR", "state": "s-1", "district": "d-1", "type": "PRIMARY_ADDRESS", "line": ["7", "", "", "URBAN"] }],
        },
        "attendantAtBirth": "PHYSICIAN", "birthType": "SINGLE", "weightAtBirth": 1.2,
        "eventLocation": { "_fhirID": "5c6abc88-0000-4834-a1a6-2992807e3a72" },
    })
}

fn creation(event: &str, details: &Value) -> Value {
    let query = format!(
        "mutation create{event}Registration($details: {event}RegistrationInput!) {{\n  create{event}Registration(details: $details)\n}}\n"
    );
    json!({ "operationName": format!("create{event}Registration"), "variables": { "details": details }, "query": query })
}

async fn graphql(app: &TestApp, token: &str, request: &Value) -> Value {
    let answer = app.http.post(format!("{}/graphql", app.base)).bearer_auth(token).json(request).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

async fn create(app: &TestApp, token: &str, details: &Value) -> Value {
    graphql(app, token, &creation("Birth", details)).await
}

async fn poll(app: &TestApp, token: &str, draft: &str) -> Value {
    let request = json!({ "operationName": "fetchRecordStatus", "variables": { "draftId": draft }, "query": STATUS });
    graphql(app, token, &request).await["data"]["fetchRecordStatus"].clone()
}

/// The code of the only error.
fn code(answer: &Value) -> &str {
    assert_eq!(answer["errors"].as_array().unwrap().len(), 1, "{answer}");
    answer["errors"][0]["extensions"]["code"].as_str().unwrap()
}

async fn assert_nothing_was_written(app: &TestApp) {
    for count in [
        app.count("select count(*) from client_transaction").await,
        app.count("select count(*) from record").await,
        app.count("select count(*) from attachment").await,
    ] {
        assert_eq!(count, 0);
    }
}

fn done() -> Value {
    json!({ "data": { "createBirthRegistration": {} } })
}

fn processing() -> Value {
    json!({ "__typename": "RecordProcessing", "processed": false })
}

#[tokio::test]
async fn a_client_submits_and_polls_and_a_resend_with_new_stamps_is_the_same() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register", "demo"]);
    assert_eq!(poll(&app, &token, DRAFT).await, processing());
    assert_eq!(create(&app, &token, &birth()).await, done());
    let status = poll(&app, &token, DRAFT).await;
    let record_id = status["recordId"].as_str().unwrap().to_owned();
    assert_eq!(
        (&status["__typename"], &status["processed"], &status["hasPotentialDuplicates"]),
        (&json!("RecordProcessed"), &json!(true), &json!(false))
    );
    let mut again = birth();
    again["createdAt"] = json!("2026-04-09T19:30:00.000Z");
    again["updatedAt"] = json!("2026-04-09T19:31:00.000Z");
    again["registration"]["status"][0] = json!({ "timestamp": "2026-04-09T19:29:00.000Z", "timeLoggedMS": 7 });
    assert_eq!(create(&app, &token, &again).await, done());
    assert_eq!(poll(&app, &token, DRAFT).await, status);
    assert_eq!(app.count("select count(*) from record").await, 1);
    app.drain().await;
    let sent = app.peers.received_requests().await.unwrap();
    let bundle = sent.iter().find(|r| r.url.path() == "/country-config/event-registration").unwrap();
    let bundle: Value = serde_json::from_slice(&bundle.body).unwrap();
    assert_eq!(bundle["entry"][0]["resource"]["id"], record_id.as_str());
    assert_eq!(bundle["entry"][0]["resource"]["date"], "2026-04-02T09:00:00.000Z", "what came first stays");
    let text = bundle.to_string();
    assert!(text.contains(r#"{"contentType":"image/png","url":"/attachments/"#), "{text}");
    assert!(text.contains(status["trackingId"].as_str().unwrap()) && !text.contains(PNG));
    app.done().await;
}

#[tokio::test]
async fn deaths_and_marriages_are_declared_as_far_as_the_scopes_allow() {
    let app = TestApp::start().await;
    let death = json!({
        "registration": { "draftId": "draft-of-a-death", "informantType": "SPOUSE" },
        "deceased": { "name": [{ "familyName": "Okonda" }], "deceased": { "deceased": true, "deathDate": "2026-02-18" } },
        "mannerOfDeath": "NATURAL_CAUSES", "maleDependentsOfDeceased": 2,
    });
    let marriage = json!({
        "registration": { "draftId": "draft-of-a-marriage", "inCompleteFields": "groom/groom-view-group/birthDate" },
        "bride": { "name": [{ "familyName": "Sefu" }] }, "typeOfMarriage": "MONOGAMY",
    });
    for (event, details, scope) in [("Death", death, "validate"), ("Marriage", marriage, "record.register")] {
        let token = app.token("agent", &[scope]);
        let answer = graphql(&app, &token, &creation(event, &details)).await;
        assert_eq!(answer["data"][format!("create{event}Registration")], json!({}), "{answer}");
    }
    let stati: Vec<(String, String)> =
        sqlx::query_as("select event, status::text from record order by event").fetch_all(&app.db).await.unwrap();
    let expected = [("death", "validated"), ("marriage", "in_progress")];
    assert_eq!(stati, expected.map(|(event, status)| (event.to_owned(), status.to_owned())));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn without_a_draft_id_or_with_one_that_is_none_nothing_is_written() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    for draft in [Value::Null, json!(""), json!("short"), json!("has a space in it"), json!("undefined/null")] {
        let mut details = birth();
        details["registration"]["draftId"] = draft;
        let answer = create(&app, &token, &details).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT");
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("draftId"), "{answer}");
    }
    let mut details = birth();
    details.as_object_mut().unwrap().remove("registration");
    assert_eq!(code(&create(&app, &token, &details).await), "BAD_USER_INPUT");
    assert_nothing_was_written(&app).await;
    app.done().await;
}

#[tokio::test]
async fn an_attachment_that_is_not_what_it_says_is_named_by_its_place_and_nothing_is_written() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    for (data, content_type) in [
        (format!("data:image/jpeg;base64,{PNG}"), "image/jpeg"),
        (format!("data:application/pdf;base64,{PNG}"), "image/png"),
        ("data:image/png;base64,c2VjcmV0IHRleHQ=".to_owned(), "image/png"),
        ("data:image/png;base64,secret!".to_owned(), "image/png"),
    ] {
        let mut details = birth();
        let good = details["registration"]["attachments"][0].clone();
        details["registration"]["attachments"] = json!([good, { "data": data, "contentType": content_type }]);
        let answer = create(&app, &token, &details).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT");
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("/registration/attachments/1: "), "{message}");
        assert!(!answer.to_string().contains("ecret"), "{answer}");
    }
    assert_nothing_was_written(&app).await;
    app.done().await;
}

#[tokio::test]
async fn a_draft_of_somebody_else_or_with_other_content_is_a_conflict_and_nothing_is_told_of_it() {
    let app = TestApp::start().await;
    let (mary, joe) = (app.token("mary", &["declare"]), app.token("joe", &["register", "record.read"]));
    assert_eq!(create(&app, &mary, &birth()).await, done());
    let status = poll(&app, &mary, DRAFT).await;
    let mut other = birth();
    other["child"]["gender"] = json!("male");
    for (token, details) in [(&joe, &birth()), (&mary, &other)] {
        let answer = create(&app, token, details).await;
        assert_eq!(code(&answer), "CONFLICT");
        assert!(!answer.to_string().contains(status["trackingId"].as_str().unwrap()));
    }
    assert_eq!(poll(&app, &joe, DRAFT).await, processing(), "as if it were not there");
    assert_eq!(poll(&app, &joe, "no-such-draft").await, processing());
    assert_eq!(app.count("select count(*) from record").await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn who_may_not_declare_is_told_so_and_nothing_is_written() {
    let app = TestApp::start().await;
    let token = app.token("clerk", &["performance", "record.read"]);
    assert_eq!(code(&create(&app, &token, &birth()).await), "FORBIDDEN");
    let request = json!({ "variables": { "draftId": DRAFT }, "query": STATUS });
    assert_eq!(code(&graphql(&app, &token, &request).await), "FORBIDDEN");
    let token = app.token("clerk", &["certify"]);
    assert_eq!(poll(&app, &token, DRAFT).await, processing());
    assert_nothing_was_written(&app).await;
    app.done().await;
}

#[tokio::test]
async fn what_is_no_input_of_the_schema_is_refused_without_its_values() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut unknown = birth();
    unknown["child"]["secretMember"] = json!("a secret");
    let mut other_type = birth();
    other_type["child"]["multipleBirth"] = json!("a secret");
    let mut no_text = birth();
    no_text["child"]["name"][0]["firstNames"] = json!({ "a": "secret" });
    let mut nul = birth();
    nul["child"]["name"][0]["firstNames"] = json!("a\u{0}secret");
    for details in [unknown, other_type, no_text, nul] {
        let request = app.http.post(format!("{}/graphql", app.base)).bearer_auth(&token);
        let text = request.json(&creation("Birth", &details)).send().await.unwrap().text().await.unwrap();
        assert!(text.contains("\"errors\"") && !text.contains("a secret") && !text.contains("secret\""), "{text}");
    }
    let mut id = birth();
    id["mother"]["_fhirID"] = json!("a secret");
    let answer = create(&app, &token, &id).await;
    assert!(answer["errors"][0]["message"].as_str().unwrap().starts_with("/mother/_fhirID has to be "), "{answer}");
    assert_nothing_was_written(&app).await;
    app.done().await;
}

#[tokio::test]
async fn a_resembling_birth_is_said_to_be_a_potential_duplicate() {
    let app =
        TestApp::with(Setup { change: Box::new(|settings| settings.duplicates.enabled = true), ..Setup::default() })
            .await;
    let token = app.token("registrar", &["register"]);
    assert_eq!(create(&app, &token, &birth()).await, done());
    let mut twin = birth();
    twin["registration"]["draftId"] = json!("another-draft");
    assert_eq!(create(&app, &token, &twin).await, done());
    assert_eq!(poll(&app, &token, "another-draft").await["hasPotentialDuplicates"], true);
    app.drain().await;
    app.done().await;
}

/// async-graphql walks a fragment at each place that names it, before it counts anything.
#[tokio::test]
async fn a_document_that_would_grow_without_bounds_is_refused_at_once_and_nothing_is_written() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let fragments = (0..40).map(|n| format!(" fragment f{n} on Query {{ ...f{0} ...f{0} }}", n + 1));
    let doubling = format!("{{ ...f0 }}{} fragment f40 on Query {{ __typename }}", fragments.collect::<String>());
    let copies = "mutation($n: HumanNameInput) { createBirthRegistration(details: {registration: {draftId: \"draft-0001\"}, child: {name: [$n, $n, $n]}}) }";
    let long = format!("{{ __typename }} #{}", "x".repeat(70_000));
    for query in [doubling.as_str(), copies, &long] {
        let body = json!({"query": query, "variables": {"n": {"use": "en", "firstNames": "Liseli"}}});
        let request = app.http.post(format!("{}/graphql", app.base)).bearer_auth(&token).json(&body);
        let answer = tokio::time::timeout(crate::harness::PATIENCE, request.send()).await.expect("no answer").unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let said: Value = answer.json().await.unwrap();
        assert!(said["errors"][0]["message"].as_str().unwrap().contains("document"), "{said}");
    }
    assert_nothing_was_written(&app).await;
    app.done().await;
}
