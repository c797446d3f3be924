//! OpenCRVS 1.9: the country config is told of every action, with the whole event, and may accept, amend, refuse or take
//! its time.

use crvs_outbox::outbox::Effect;
use crvs_outbox::outbox::destination::Format;
use crvs_outbox::records::model::Status;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::{method, path};
use wiremock::{Mock, Request, ResponseTemplate};

use crate::harness::{TestApp, flat};
use crate::peers::{by_hand, destination};

const CLERK: &str = "clerk";

/// A service whose country config is of 1.9: it gets triggers, and takes all of them.
async fn with_triggers() -> TestApp {
    let app = TestApp::with(by_hand(|settings| {
        let country = &mut destination(settings, "country-config").definition;
        country.format = Format::OpencrvsTrigger;
        country.effects = vec![Effect::Validation, Effect::Trigger];
    }))
    .await;
    for (action, status) in [("NOTIFY", 200), ("DECLARE", 200), ("VALIDATE", 200), ("REJECT", 200), ("ARCHIVE", 200)] {
        answer(&app, action, ResponseTemplate::new(status), 200).await;
    }
    answer(&app, "REGISTER", ResponseTemplate::new(202), 200).await;
    app
}

async fn answer(app: &TestApp, action: &str, response: ResponseTemplate, priority: u8) {
    let to = path(format!("/country-config/trigger/events/birth/actions/{action}"));
    Mock::given(method("POST")).and(to).respond_with(response).with_priority(priority).mount(&app.peers).await;
}

/// What the country config is asked, in order.
async fn asked(app: &TestApp) -> Vec<Request> {
    let mut requests = app.peers.received_requests().await.unwrap();
    requests.retain(|r| r.url.path().starts_with("/country-config/"));
    requests
}

fn actions(request: &Request) -> Vec<String> {
    let document: Value = serde_json::from_slice(&request.body).unwrap();
    let said = |a: &Value, name: &str| a[name].as_str().unwrap().to_owned();
    let actions = document["actions"].as_array().unwrap();
    actions.iter().map(|a| format!("{} {}", said(a, "type"), said(a, "status"))).collect()
}

fn claims(request: &Request) -> Value {
    let bearer = request.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    jsonwebtoken::dangerous::insecure_decode_claims(bearer).unwrap()
}

async fn submit(app: &TestApp, id: &str, action: &str) -> Uuid {
    let token = app.token(CLERK, &["register"]);
    let response = app.post("/records", &token, id, &flat(action)).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let body: Value = response.json().await.unwrap();
    body["record"]["id"].as_str().unwrap().parse().unwrap()
}

async fn declaration(app: &TestApp, of: Uuid) -> Value {
    let token = app.token(CLERK, &["record.read"]);
    let record: Value = app.get(&format!("/records/{of}"), &token).await.json().await.unwrap();
    record["declaration"].clone()
}

async fn history(app: &TestApp, of: Uuid) -> Vec<Value> {
    let token = app.token(CLERK, &["record.read"]);
    app.get(&format!("/records/{of}/history"), &token).await.json().await.unwrap()
}

#[tokio::test]
async fn every_action_is_told_with_the_whole_event_and_a_token_of_its_own() {
    let app = with_triggers().await;
    let birth = submit(&app, "draft-0001", "register").await;
    app.drain().await;
    let requests = asked(&app).await;
    let paths: Vec<&str> = requests.iter().map(|r| r.url.path()).collect();
    let at = |action| format!("/country-config/trigger/events/birth/actions/{action}");
    assert_eq!(paths, [at("DECLARE"), at("REGISTER")]);
    assert_eq!(actions(&requests[0]), ["CREATE Accepted", "DECLARE Requested"]);
    assert_eq!(actions(&requests[1]), ["CREATE Accepted", "DECLARE Accepted", "REGISTER Requested"]);
    for request in &requests {
        let document: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&document["id"], &document["type"]), (&json!(birth), &json!("birth")));
        let last = document["actions"].as_array().unwrap().last().unwrap();
        let claims = claims(request);
        assert_eq!((&claims["eventId"], &claims["actionId"]), (&document["id"], &last["id"]));
        assert_eq!(claims.get("recordId"), None);
        assert_eq!(claims["scope"], json!(["record.confirm-registration", "record.reject-registration"]));
        assert_eq!(last["transactionId"], "draft-0001");
        assert_eq!(document["actions"][1]["declaration"], flat("register")["declaration"]);
    }
    assert_eq!(app.status(birth).await, Status::WaitingValidation);
    let token = app.token(CLERK, &["register"]);
    let back = json!({"reason": "the village is not there"});
    assert_eq!(app.post(&format!("/records/{birth}/reject"), &token, "reject-0001", &back).await.status(), 202);
    let away = app.post(&format!("/records/{birth}/archive"), &token, "archive-0001", &json!({})).await;
    assert_eq!(away.status(), StatusCode::ACCEPTED);
    app.drain().await;
    let requests = asked(&app).await;
    // The request that was superseded is not shown as open.
    let before = ["CREATE Accepted", "DECLARE Accepted"];
    assert_eq!(actions(&requests[2]), [before.as_slice(), &["REJECT Requested"]].concat());
    assert_eq!(actions(&requests[3]), [before.as_slice(), &["REJECT Accepted", "ARCHIVE Requested"]].concat());
    let document: Value = serde_json::from_slice(&requests[2].body).unwrap();
    assert_eq!(document["actions"][2]["content"], back);
    app.done().await;
}

#[tokio::test]
async fn an_acceptance_registers_and_amends_the_declaration() {
    let app = with_triggers().await;
    let answered = json!({"registrationNumber": "9M2XW0000001", "declaration": {"child.nid": "1234567890"},
                          "annotation": {"checkedBy": "the national register"}});
    answer(&app, "REGISTER", ResponseTemplate::new(200).set_body_json(&answered), 100).await;
    let birth = submit(&app, "draft-0001", "register").await;
    app.drain().await;
    assert_eq!(app.status(birth).await, Status::Registered);
    let mut expected = flat("register")["declaration"].clone();
    expected["child.nid"] = json!("1234567890");
    assert_eq!(declaration(&app, birth).await, expected);
    let number: String = sqlx::query_scalar("select registration_number from record").fetch_one(&app.db).await.unwrap();
    assert_eq!(number, "9M2XW0000001");
    let noted: Value = sqlx::query_scalar("select annotation from record_action where annotation is not null")
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(noted, answered["annotation"]);
    app.done().await;
}

/// The stock country config draws a new number each time it is asked: the first that was accepted stays, for good.
#[tokio::test]
async fn a_peer_that_draws_a_new_number_each_time_gives_one() {
    let app = with_triggers().await;
    let birth = submit(&app, "draft-0001", "register").await;
    app.drain().await;
    for number in ["FIRST0000001", "SECOND000002"] {
        let answered = ResponseTemplate::new(200).set_body_json(json!({"registrationNumber": number}));
        answer(&app, "REGISTER", answered, if number.starts_with('F') { 90 } else { 80 }).await;
        app.execute("update record_action set callback_due_at = now() where status = 'requested'").await;
        crvs_outbox::workers::callbacks::run_once(&app.app().context).await.unwrap();
        app.drain().await;
    }
    let number: String = sqlx::query_scalar("select registration_number from record").fetch_one(&app.db).await.unwrap();
    assert_eq!(number, "FIRST0000001");
    assert_eq!(app.status(birth).await, Status::Registered);
    app.done().await;
}

#[tokio::test]
async fn an_acceptance_without_a_number_is_asked_again() {
    let app = with_triggers().await;
    answer(&app, "REGISTER", ResponseTemplate::new(200), 100).await;
    let birth = submit(&app, "draft-0001", "register").await;
    app.drain().await;
    let message = app.told("country-config", "event-registration__register_draft-0001").await;
    assert_eq!((message.state.as_str(), message.because.as_deref()), ("retrying", Some("no-registration-number")));
    assert_eq!(app.status(birth).await, Status::WaitingValidation);
    let answered = ResponseTemplate::new(200).set_body_json(json!({"registrationNumber": "9M2XW0000001"}));
    answer(&app, "REGISTER", answered, 50).await;
    app.make_due().await;
    app.drain().await;
    assert_eq!(app.status(birth).await, Status::Registered);
    app.done().await;
}

#[tokio::test]
async fn a_refused_registration_keeps_its_reason_and_can_be_corrected_and_sent_again() {
    let app = with_triggers().await;
    let refusal = ResponseTemplate::new(400).set_body_json(json!({"reason": "mother's number is not known"}));
    answer(&app, "REGISTER", refusal, 100).await;
    let birth = submit(&app, "draft-0001", "register").await;
    app.drain().await;
    assert_eq!(app.status(birth).await, Status::Rejected);
    let last = history(&app, birth).await.pop().unwrap();
    assert_eq!((&last["action"], &last["status"]), (&json!("register"), &json!("rejected")));
    assert_eq!(last["reason"], "mother's number is not known");
    let token = app.token(CLERK, &["register"]);
    let corrected = json!({"declaration": flat("declare")["declaration"]});
    for (step, id, body) in [("declare", "correct-0001", &corrected), ("register", "again-0001", &json!({}))] {
        let done = app.post(&format!("/records/{birth}/{step}"), &token, id, body).await;
        assert_eq!(done.status(), StatusCode::ACCEPTED, "{step}");
    }
    let answered = ResponseTemplate::new(200).set_body_json(json!({"registrationNumber": "9M2XW0000001"}));
    answer(&app, "REGISTER", answered, 50).await;
    app.drain().await;
    assert_eq!(app.status(birth).await, Status::Registered);
    app.done().await;
}

#[tokio::test]
async fn a_refusal_of_another_action_rejects_the_record_with_its_reason_and_asks_no_further() {
    let app = with_triggers().await;
    let refusal = ResponseTemplate::new(400).set_body_json(json!({"reason": "the mother is twelve"}));
    answer(&app, "DECLARE", refusal, 100).await;
    let birth = submit(&app, "draft-0001", "register").await;
    app.drain().await;
    assert_eq!(app.status(birth).await, Status::Rejected);
    assert_eq!(asked(&app).await.len(), 1, "it is not asked for a number then");
    let last = history(&app, birth).await.pop().unwrap();
    assert_eq!((&last["action"], &last["status"]), (&json!("declare"), &json!("rejected")));
    assert_eq!(
        (&last["reason"], &last["createdBy"]),
        (&json!("the mother is twelve"), &json!("destination/country-config"))
    );
    let rejected = "select count(*) from outbox where transaction_id like '%\\_\\_reject\\_draft-0001'";
    assert_eq!(app.count(rejected).await, 4, "search, metrics, audit and notification are told");
    app.done().await;
}

#[tokio::test]
async fn a_refusal_that_comes_after_a_correction_is_too_late() {
    let app = with_triggers().await;
    answer(&app, "DECLARE", ResponseTemplate::new(503), 100).await;
    let birth = submit(&app, "draft-0001", "declare").await;
    app.drain().await;
    let token = app.token(CLERK, &["register"]);
    let corrected = json!({"declaration": {"child.firstName": "Corrected"}});
    let done = app.post(&format!("/records/{birth}/declare"), &token, "correct-0001", &corrected).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
    answer(&app, "DECLARE", ResponseTemplate::new(200), 60).await;
    let refusal = ResponseTemplate::new(400).set_body_json(json!({"reason": "no"}));
    let to = path("/country-config/trigger/events/birth/actions/DECLARE");
    Mock::given(method("POST"))
        .and(to)
        .respond_with(refusal)
        .up_to_n_times(1)
        .with_priority(50)
        .mount(&app.peers)
        .await;
    app.make_due().await;
    app.drain().await;
    assert_eq!(app.status(birth).await, Status::Declared);
    let message = app.told("country-config", "trigger-declare__declare_draft-0001").await;
    assert_eq!((message.state.as_str(), message.because.as_deref()), ("delivered", Some("http-400")));
    let kept = history(&app, birth).await.pop().unwrap();
    assert_eq!((&kept["status"], &kept["reason"]), (&json!("rejected"), &json!("no")), "it is kept all the same");
    app.done().await;
}

#[tokio::test]
async fn what_the_country_notes_is_kept_with_every_action() {
    let app = with_triggers().await;
    let noted = json!({"annotation": {"seenBy": "the register"}});
    for action in ["NOTIFY", "DECLARE", "VALIDATE", "REJECT", "ARCHIVE"] {
        answer(&app, action, ResponseTemplate::new(200).set_body_json(&noted), 100).await;
    }
    let birth = submit(&app, "draft-0001", "notify").await;
    let token = app.token(CLERK, &["register"]);
    let declaration = json!({"declaration": {"child.firstName": "Ada"}});
    let steps = [
        ("declare", &declaration),
        ("validate", &json!({})),
        ("reject", &json!({"reason": "because"})),
        ("archive", &json!({})),
    ];
    for (step, body) in steps {
        app.drain().await;
        let done = app.post(&format!("/records/{birth}/{step}"), &token, &format!("{step}-0001"), body).await;
        assert_eq!(done.status(), StatusCode::ACCEPTED, "{step}");
    }
    app.drain().await;
    assert_eq!(app.count("select count(*) from record_action where annotation is not null").await, 5);
    app.done().await;
}

/// What the country says of one action is not an action of somebody else's.
#[tokio::test]
async fn an_acceptance_that_comes_late_does_not_make_a_later_refusal_late() {
    let app = with_triggers().await;
    answer(&app, "DECLARE", ResponseTemplate::new(503), 100).await;
    let birth = submit(&app, "draft-0001", "declare").await;
    app.drain().await;
    let token = app.token(CLERK, &["register"]);
    let done = app.post(&format!("/records/{birth}/validate"), &token, "validate-0001", &json!({})).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
    let noted = json!({"annotation": {"seenBy": "the register"}, "declaration": {"child.nid": "1234567890"}});
    answer(&app, "DECLARE", ResponseTemplate::new(200).set_body_json(&noted), 50).await;
    let refusal = ResponseTemplate::new(400).set_body_json(json!({"reason": "no"}));
    answer(&app, "VALIDATE", refusal, 100).await;
    app.make_due().await;
    app.drain().await;
    assert_eq!(declaration(&app, birth).await["child.nid"], "1234567890", "nobody has declared anything else since");
    assert_eq!(app.status(birth).await, Status::Rejected);
    app.done().await;
}

#[tokio::test]
async fn an_amended_declaration_is_a_new_version_and_the_next_action_shows_it() {
    let app = with_triggers().await;
    let amended = json!({"declaration": {"child.nid": "1234567890"}});
    answer(&app, "DECLARE", ResponseTemplate::new(200).set_body_json(&amended), 100).await;
    let birth = submit(&app, "draft-0001", "declare").await;
    app.drain().await;
    let mut expected = flat("declare")["declaration"].clone();
    expected["child.nid"] = json!("1234567890");
    assert_eq!(declaration(&app, birth).await, expected);
    let token = app.token(CLERK, &["register"]);
    let done = app.post(&format!("/records/{birth}/register"), &token, "register-0001", &json!({})).await;
    assert_eq!(done.status(), StatusCode::ACCEPTED);
    app.drain().await;
    let requests = asked(&app).await;
    let document: Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(document["actions"][2]["declaration"], expected);
    assert_eq!(document["actions"][2]["originalActionId"], document["actions"][1]["id"]);
    app.done().await;
}

/// A 5xx or a time-out never rejects and never strands: the message is tried until the country answers.
#[tokio::test]
async fn a_country_config_that_fails_is_asked_until_it_answers() {
    let app = with_triggers().await;
    for (priority, status) in [(90, 500), (80, 503), (70, 401)] {
        answer(&app, "REGISTER", ResponseTemplate::new(status), priority).await;
        if priority == 90 {
            submit(&app, "draft-0001", "register").await;
        }
        app.make_due().await;
        app.drain().await;
        assert_eq!(app.count("select count(*) from record where status = 'waiting_validation'").await, 1, "{status}");
        assert_eq!(app.count("select count(*) from outbox_message where state = 'retrying'").await, 1, "{status}");
    }
    let answered = ResponseTemplate::new(200).set_body_json(json!({"registrationNumber": "9M2XW0000001"}));
    answer(&app, "REGISTER", answered, 50).await;
    app.make_due().await;
    app.drain().await;
    assert_eq!(app.count("select count(*) from record where status = 'registered'").await, 1);
    app.done().await;
}
